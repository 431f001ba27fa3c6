"""Methods about workspaces as such: describe, list, create, delete (server §3.1)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import Any, Final

from hypha.audit import audit
from hypha.auth import permissions
from hypha.auth.identity import is_valid_workspace_id
from hypha.manager.core import Caller, ManagerCore
from hypha.manager.visibility import visible
from hypha.manager.workspace_config import WorkspaceRequest, check_name
from hypha.manager.workspaces import Workspace
from hypha.store import StoreError

__all__ = ["WorkspaceMethods"]

_log = logging.getLogger("hypha.manager")

_MAX_PAGE: Final = 256
_SUMMARY: Final = ("id", "name", "type", "description", "config")


class WorkspaceMethods:
    """Methods that describe and change workspaces.

    Args:
        core: what all methods share.
    """

    def __init__(self, core: ManagerCore) -> None:
        self._core = core

    def get_workspace_info(self, workspace: str | None = None, *, context: Mapping[str, Any]) -> dict[str, Any]:
        """Describe a workspace.

        Args:
            workspace: its id; the caller's own if not given.
        """
        caller = self._core.caller(context)
        found = self._core.workspace(workspace or caller.workspace)
        self._core.check(caller, "get_workspace_info", found.id)
        return self._shown(found, caller)

    def list_workspaces(
        self,
        match: dict[str, Any] | None = None,
        offset: int = 0,
        limit: int = 256,
        *,
        context: Mapping[str, Any],
    ) -> list[dict[str, Any]]:
        """List the workspaces that the caller may read or owns.

        Args:
            match: values that the entries must have, such as {"persistent": true}.
            offset: how many to skip.
            limit: how many to return at most.
        """
        core = self._core
        caller = core.caller(context)
        core.check(caller, "list_workspaces")
        _check_page(offset, limit)
        wanted = match or {}
        if not isinstance(wanted, dict):
            raise TypeError(f"match must be a map, not {type(wanted).__name__}")
        entries = [
            workspace.entry(emails=core.has_right(caller, workspace.id, "a"))
            for workspace in core.workspaces
            if core.may_read(caller, workspace.id)
        ]
        found = [entry for entry in entries if all(entry.get(key) == value for key, value in wanted.items())]
        return found[offset : offset + limit]

    async def create_workspace(
        self, config: dict[str, Any], overwrite: bool = False, *, context: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Create a workspace owned by the caller.

        Args:
            config: id (lower case, with a hyphen), name, description, persistent, owners, read_only, icon, covers,
                docs, config.
            overwrite: change a workspace that exists; what config does not name stays.
        """
        core = self._core
        caller = core.caller(context)
        request = WorkspaceRequest.parse(config)
        existing = core.workspaces.get(request.id)
        if existing is None or not overwrite:
            # Who may change one is told by the row of its own in security §3.
            core.check(caller, "create_workspace")
        if existing is not None:
            return await self._overwrite(existing, request, caller, allowed=overwrite)
        check_name(request.id, _mounts(core.settings.static_mounts))
        self._check_quota(caller)
        owners = dict.fromkeys((caller.family, *(request.owners or ())))
        created = Workspace(request.id, request.id, owners=list(owners))
        created.change(request.given())
        core.workspaces.add(created)
        try:
            await core.keeper.keep(created)
        except StoreError:
            # Who asks for a persistent one gets that or none; trying again must not find half of it.
            core.forget_workspace(created.id)
            raise
        _log.info("workspace %s was created", created.id)
        audit("workspace_created", workspace=created.id, user=caller.user.id)
        info = self._shown(created, caller)
        core.publish(caller.workspace, "workspace_loaded", created.info())
        return info

    async def _overwrite(
        self, existing: Workspace, request: WorkspaceRequest, caller: Caller, *, allowed: bool
    ) -> dict[str, Any]:
        core = self._core
        if not allowed:
            raise RuntimeError(f"Workspace already exists: {existing.id}")
        core.check(caller, "create_workspace.over", existing.id, subject=existing.id)
        if request.owners is not None and not request.owners:
            raise ValueError("A workspace must keep at least one owner.")
        if existing.id in permissions.SYSTEM_WORKSPACES and request.given().keys() & {"persistent", "read_only"}:
            raise ValueError(f"Workspace {existing.id} belongs to the server: only its texts can be changed.")
        existing.change(request.given())
        if request.owners:
            existing.owners[:] = request.owners
            _log.info("owners of workspace %s were changed", existing.id)
            audit("owners_changed", workspace=existing.id, user=caller.user.id, owners=" ".join(existing.owners))
        await core.keeper.keep(existing)
        core.publish(existing.id, "workspace_changed", existing.info())
        return self._shown(existing, caller)

    def _check_quota(self, caller: Caller) -> None:
        limit = self._core.settings.limits.max_workspaces_per_user
        count = len(self._core.workspaces.owned_by(caller.family))
        if count >= limit:
            raise RuntimeError(
                f"Workspace quota exceeded: user {caller.family} already owns {count} workspaces (max {limit}). "
                "Delete unused workspaces before creating new ones."
            )

    async def delete_workspace(self, workspace: str, *, context: Mapping[str, Any]) -> None:
        """Delete a workspace with everything in it; its clients are disconnected.

        Args:
            workspace: its id.
        """
        core = self._core
        caller = core.caller(context)
        if not is_valid_workspace_id(workspace):
            raise ValueError(f"Invalid workspace name: {workspace!r:.128}")
        found = core.workspace(workspace)
        core.check(caller, "delete_workspace", workspace)
        core.forget_workspace(workspace)
        _log.info("workspace %s was deleted", workspace)
        audit("workspace_deleted", workspace=workspace, user=caller.user.id)
        info = found.info()
        for where in dict.fromkeys((workspace, caller.workspace)):
            core.publish(where, "workspace_deleted", info)
        try:
            await core.keeper.forget(workspace)
        finally:
            # Later, so that a caller inside gets its answer first.
            asyncio.get_running_loop().call_soon(self._evict, workspace)

    def _evict(self, workspace: str) -> None:
        if self._core.workspaces.exists(workspace):
            return
        for connection in list(self._core.router.workspaces.get(workspace, {}).values()):
            audit("kick", client=connection.address, reason="Workspace was deleted")
            connection.outlet.close(1008, "Workspace was deleted")
            connection.outlet.abort_later()

    def get_summary(self, *, context: Mapping[str, Any]) -> dict[str, Any]:
        """Summarise the caller's workspace: its clients and services."""
        core = self._core
        caller = core.caller(context)
        core.check(caller, "get_summary")
        workspace = core.workspace(caller.workspace)
        records = core.directory.of_workspace(workspace.id)
        clients = [record.address for record in records if record.name == "built-in"]
        listed = [visible(record, caller, core) for record in records if record.visibility != "unlisted"]
        return {
            "name": workspace.name,
            "description": workspace.description,
            "client_count": len(clients),
            "clients": clients,
            "service_count": len(listed),
            "services": [{key: info.get(key) for key in _SUMMARY} for info in listed],
        }

    def _shown(self, workspace: Workspace, caller: Caller) -> dict[str, Any]:
        """The record as *caller* may see it: no variables for readers, e-mail addresses from `a` up (security S12)."""
        core = self._core
        writer = core.has_right(caller, workspace.id, "rw")
        return workspace.info(environs=writer, emails=core.has_right(caller, workspace.id, "a"))


def _check_page(offset: Any, limit: Any) -> None:
    if not isinstance(offset, int) or not isinstance(limit, int):
        raise TypeError("offset and limit must be numbers")
    if offset < 0:
        raise ValueError("Offset number must be greater than or equal to 0")
    if not 0 < limit <= _MAX_PAGE:
        raise ValueError("Limit must be greater than 0 and less than 256")


def _mounts(static_mounts: Collection[str]) -> frozenset[str]:
    """First path segments of ``/mount:directory`` pairs."""
    return frozenset(mount.strip("/").partition(":")[0].partition("/")[0] for mount in static_mounts)
