"""Which workspaces outlive the process, and how they become records (server §2.2).

A persistent workspace is kept in pieces, so that a small change is a small write:
its own members, each variable, each type of services, the bookmarks. The table in
memory is what counts; the store is written after it.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any, Final

import msgpack

from hypha.manager.workspaces import Workspace, WorkspaceTable
from hypha.store import Delete, DeleteBelow, Put, Store, StoreError, kept
from hypha.store.base import Change

__all__ = ["WorkspaceKeeper"]

_RECORD: Final = "workspace"
_VARIABLE: Final = "workspace-variable"
_TYPE: Final = "workspace-type"
_BOOKMARKS: Final = "workspace-bookmarks"
_MEMBERS: Final = ("name", "description", "persistent", "owners", "read_only", "icon", "covers", "docs", "config")


class WorkspaceKeeper:
    """Writes persistent workspaces through to a store.

    Args:
        store: where they are kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: set[str] = set()

    def load(self, table: WorkspaceTable) -> None:
        """Bring back what was kept; waits for the disk, for the start only.

        Raises:
            StoreError: it cannot be read.
        """
        for workspace_id, record in self._store.load(_RECORD).items():
            workspace = table.get(workspace_id) or Workspace(workspace_id, workspace_id)
            workspace.change(_unpacked(record))
            table.add(workspace)
            self._known.add(workspace_id)
        for place, record in self._store.load(_VARIABLE).items():
            workspace_id, _, key = place.partition("/")
            if (found := table.get(workspace_id)) is not None:
                found.environment[key] = _unpacked(record)
        for place, record in self._store.load(_TYPE).items():
            workspace_id, _, key = place.partition("/")
            if (found := table.get(workspace_id)) is not None:
                found.service_types[key] = _unpacked(record)
        for workspace_id, record in self._store.load(_BOOKMARKS).items():
            if (found := table.get(workspace_id)) is not None:
                found.bookmarks[:] = _unpacked(record)

    def note(self, workspace: Workspace) -> None:
        """Keep a new workspace without waiting: who comes in must not wait for a disk."""
        if workspace.persistent:
            write = self._store.write([self._record(workspace)])
            write.add_done_callback(functools.partial(self._noted, workspace.id))

    def _noted(self, workspace_id: str, write: asyncio.Future[None]) -> None:
        if not write.cancelled() and write.exception() is not None:
            # Written whole with its next change.
            self._known.discard(workspace_id)

    async def keep(self, workspace: Workspace) -> None:
        """Keep a workspace that was created or changed; drop one that is not persistent any more.

        Raises:
            StoreError: it is not kept.
        """
        if workspace.persistent:
            await self._write(workspace, self._whole(workspace))
        elif workspace.id in self._known:
            await self.forget(workspace.id)

    async def keep_variable(self, workspace: Workspace, key: str) -> None:
        """Keep a variable that was set or deleted.

        Raises:
            StoreError: it is not kept.
        """
        place = f"{workspace.id}/{key}"
        value = workspace.environment.get(key)
        await self._keep(
            workspace, Delete(_VARIABLE, place) if value is None else Put(_VARIABLE, place, _packed(value))
        )

    async def keep_type(self, workspace: Workspace, type_id: str) -> None:
        """Keep a type of services that was registered.

        Raises:
            StoreError: it is not kept.
        """
        record = _packed(workspace.service_types[type_id])
        await self._keep(workspace, Put(_TYPE, f"{workspace.id}/{type_id}", record))

    async def keep_bookmarks(self, workspace: Workspace) -> None:
        """Keep the bookmarks.

        Raises:
            StoreError: they are not kept.
        """
        await self._keep(workspace, Put(_BOOKMARKS, workspace.id, _packed(workspace.bookmarks)))

    async def forget(self, workspace_id: str) -> None:
        """Drop everything about a workspace; one that was not kept needs no disk.

        Raises:
            StoreError: it would come back.
        """
        if workspace_id not in self._known:
            return
        self._known.discard(workspace_id)
        try:
            await kept(self._store.write(_nothing(workspace_id)))
        except StoreError as error:
            raise StoreError(f"Workspace {workspace_id} is gone, but only until the server ends: {error}") from error

    async def _keep(self, workspace: Workspace, change: Change) -> None:
        if workspace.persistent:
            changes = [change] if workspace.id in self._known else self._whole(workspace)
            try:
                await self._write(workspace, changes)
            except StoreError as error:
                raise StoreError(f"The change holds, but only until the server ends: {error}") from error

    async def _write(self, workspace: Workspace, changes: list[Change]) -> None:
        try:
            await kept(self._store.write(changes))
        except StoreError:
            # Written whole with its next change.
            self._known.discard(workspace.id)
            raise

    def _whole(self, workspace: Workspace) -> list[Change]:
        where = workspace.id
        variables = workspace.environment.items()
        types = workspace.service_types.items()
        return [
            *_nothing(where),
            self._record(workspace),
            *(Put(_VARIABLE, f"{where}/{key}", _packed(value)) for key, value in variables),
            *(Put(_TYPE, f"{where}/{key}", _packed(value)) for key, value in types),
            Put(_BOOKMARKS, where, _packed(workspace.bookmarks)),
        ]

    def _record(self, workspace: Workspace) -> Put:
        self._known.add(workspace.id)
        members = {name: getattr(workspace, name) for name in _MEMBERS}
        return Put(_RECORD, workspace.id, _packed(members))


def _nothing(workspace_id: str) -> list[Change]:
    # Ids of workspaces have no slash, so no other one begins like this.
    below = f"{workspace_id}/"
    return [
        Delete(_RECORD, workspace_id),
        DeleteBelow(_VARIABLE, below),
        DeleteBelow(_TYPE, below),
        Delete(_BOOKMARKS, workspace_id),
    ]


def _packed(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed


def _unpacked(record: bytes) -> Any:
    return msgpack.unpackb(record, strict_map_key=False)
