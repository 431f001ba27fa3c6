"""What all manager methods share: who calls, what exists, what may be done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hypha.auth import permissions
from hypha.auth.identity import User
from hypha.auth.tokens import TokenService
from hypha.broker.connections import Connection
from hypha.broker.presence import Presence
from hypha.broker.router import Router
from hypha.manager.directory import Directory
from hypha.manager.workspaces import WorkspaceTable
from hypha.settings import Settings
from hypha_rpc.endpoint import Reference

__all__ = ["Caller", "ManagerCore", "Peers"]


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


class Peers:
    """Calls of the manager to clients."""

    def ask(self, reference: Reference, *args: Any) -> asyncio.Future[Any]:
        """Call a function of a client."""
        raise NotImplementedError


class ManagerCore:
    """The state behind the methods."""

    def __init__(
        self,
        settings: Settings,
        server_id: str,
        tokens: TokenService,
        router: Router,
        presence: Presence,
        workspaces: WorkspaceTable,
        clock: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.server_id = server_id
        self.tokens = tokens
        self.router = router
        self.presence = presence
        self.directory = Directory()
        self.workspaces = workspaces
        self.public_url = settings.public_url()
        self.clock = clock
        self.peers: Peers = Peers()

    def caller(self, context: Mapping[str, Any]) -> Caller:
        """Who made the call with this *context*.

        Raises:
            RuntimeError: the caller's connection is gone.
        """
        address = str(context["from"])
        connection = self.router.connections.get(address)
        if connection is None:
            client = address.partition("/")[2]
            raise RuntimeError(f"Connection has already been closed (client: {context.get('ws')}/{client})")
        user: Any = connection.user
        return Caller(address, connection.workspace, user, connection)

    def owners(self, workspace: str) -> Any:
        """The owners of *workspace*."""
        return self.workspaces.owners(workspace)

    def check(
        self, caller: Caller, action: str, workspace: str | None = None, *, subject: str = "", text: str | None = None
    ) -> permissions.Verdict:
        """Let *caller* do *action*, or raise (`hypha.auth.permissions` decides)."""
        where = workspace or caller.workspace
        return permissions.check(caller.user, action, where, self.owners(where), subject=subject, text=text)

    def may_read(self, caller: Caller, workspace: str) -> bool:
        """Whether *caller* may look into *workspace*."""
        return permissions.has_right(caller.user, workspace, "r", self.owners(workspace))

    def publish(self, workspace: str, kind: str, data: dict[str, Any], *, about: str | None = None) -> None:
        """Send an event of the server to the subscribers in *workspace*."""
        self.router.publish(workspace, kind, data, about=about)
