"""What all manager methods share: who calls, what exists, what may be done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hypha.auth import permissions
from hypha.auth.identity import Right, User
from hypha.auth.tokens import TokenService
from hypha.broker.connections import Connection
from hypha.broker.presence import Presence
from hypha.broker.router import Router
from hypha.manager.directory import Directory
from hypha.manager.event_log import EventLog
from hypha.manager.keeping import WorkspaceKeeper
from hypha.manager.load import LoadMeter
from hypha.manager.workspaces import Workspace, WorkspaceTable
from hypha.settings import Settings
from hypha.store import MemoryStore, Store
from hypha_rpc.endpoint import Reference

__all__ = ["Caller", "LocalContext", "ManagerCore", "Peers"]

_LOG_BYTES: Final = 4 * 1024 * 1024
_LOG_TOTAL_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls a manager method.

    Attributes:
        address: stamped sender.
        workspace: where it is connected.
        connection: its connection; None for callers without one (HTTP).
    """

    address: str
    workspace: str
    user: User
    connection: Connection | None

    @property
    def family(self) -> str:
        """Id of the user that a chain of minted tokens started from."""
        return self.user.parent or self.user.id


class LocalContext(dict[str, Any]):
    """The context of a call from inside this process, which brings its caller along.

    Nothing that comes over the wire is of this class.
    """

    def __init__(self, caller: Caller) -> None:
        super().__init__({"from": caller.address, "ws": caller.workspace, "user": caller.user.to_wire()})
        self.caller = caller


class Peers:
    """Calls of the manager to clients."""

    def ask(self, reference: Reference, *args: Any) -> asyncio.Future[Any]:
        """Call a function of a client."""
        raise NotImplementedError


class ManagerCore:
    """The state behind the methods.

    Args:
        settings: the operator's decisions.
        server_id: of this process.
        tokens: signs and reads tokens.
        router: who is connected.
        presence: how they came.
        workspaces: which there are.
        clock: monotonic seconds.
        now: seconds since the epoch.
        store: where persistent workspaces are kept; asked here.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        server_id: str,
        tokens: TokenService,
        router: Router,
        presence: Presence,
        workspaces: WorkspaceTable,
        clock: Callable[[], float],
        now: Callable[[], float] = time.time,
        store: Store | None = None,
    ) -> None:
        self.settings = settings
        self.server_id = server_id
        self.tokens = tokens
        self.router = router
        self.presence = presence
        self.directory = Directory()
        self.workspaces = workspaces
        self.keeper = WorkspaceKeeper(store or MemoryStore())
        self.keeper.load(workspaces)
        self.events = EventLog(count=settings.limits.max_events, size=_LOG_BYTES, total=_LOG_TOTAL_BYTES)
        self.load = LoadMeter()
        self.public_url = settings.public_url()
        self.clock = clock
        self.now = now
        self.peers: Peers = Peers()

    def caller(self, context: Mapping[str, Any]) -> Caller:
        """Who made the call with this *context*.

        Raises:
            RuntimeError: the caller's connection is gone.
        """
        if isinstance(context, LocalContext):
            return context.caller
        address = str(context["from"])
        connection = self.router.connections.get(address)
        if connection is None:
            client = address.partition("/")[2]
            raise RuntimeError(f"Connection has already been closed (client: {context.get('ws')}/{client})")
        user: Any = connection.user
        return Caller(address, connection.workspace, user, connection)

    def owners(self, workspace: str) -> Collection[str]:
        """Ids and e-mails of the owners of *workspace*."""
        return self.workspaces.owners(workspace)

    def workspace(self, workspace_id: str) -> Workspace:
        """The workspace of this id.

        Raises:
            KeyError: there is none.
        """
        found = self.workspaces.get(workspace_id) if isinstance(workspace_id, str) else None
        if found is None:
            raise KeyError(f"Workspace ({workspace_id!s:.128}) not found or is not accessible")
        return found

    def forget_workspace(self, workspace_id: str) -> None:
        """Drop a workspace with its registrations and events."""
        self.workspaces.remove(workspace_id)
        self.events.forget(workspace_id)
        for record in self.directory.of_workspace(workspace_id):
            self.directory.remove(record.id)

    def check(
        self, caller: Caller, action: str, workspace: str | None = None, *, subject: str = "", text: str | None = None
    ) -> permissions.Verdict:
        """Let *caller* do *action*, or raise (`hypha.auth.permissions` decides)."""
        where = workspace or caller.workspace
        return permissions.check(caller.user, action, where, self.owners(where), subject=subject, text=text)

    def allows(self, caller: Caller, action: str, workspace: str) -> bool:
        """Whether *caller* may do *action* in *workspace*."""
        found = permissions.verdict(caller.user, action, workspace, self.owners(workspace))
        return found is permissions.Verdict.YES

    def has_right(self, caller: Caller, workspace: str, least: Right) -> bool:
        """Whether *caller* has at least the right *least* on *workspace*."""
        return permissions.has_right(caller.user, workspace, least, self.owners(workspace))

    def may_read(self, caller: Caller, workspace: str) -> bool:
        """Whether *caller* may look into *workspace*."""
        return self.has_right(caller, workspace, "r")

    def publish(self, workspace: str, kind: str, data: dict[str, Any], *, about: str | None = None) -> None:
        """Send an event of the server to the subscribers in *workspace*."""
        self.router.publish(workspace, kind, data, about=about)
