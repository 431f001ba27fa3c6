"""Puts the manager together: state, methods, peer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hypha.broker.connections import Connection
from hypha.manager.basics import BasicMethods
from hypha.manager.core import ManagerCore
from hypha.manager.listing import ListingMethods
from hypha.manager.lookup import LookupMethods
from hypha.manager.peer import ManagerPeer
from hypha.manager.registration import RegistrationMethods
from hypha_rpc.endpoint.catalog import describe_service

__all__ = ["Manager"]


class Manager:
    """The workspace manager.

    Args:
        core: its state.
        peer: its endpoint.
        config: what ``server.config`` shows besides (server §1.5).
    """

    def __init__(self, core: ManagerCore, peer: ManagerPeer, config: dict[str, Any]) -> None:
        self.core = core
        self.peer = peer
        core.peers = peer
        lookup = self.lookup = LookupMethods(core, self._itself)
        self.groups: tuple[Any, ...] = (
            BasicMethods(core),
            RegistrationMethods(core),
            lookup,
            ListingMethods(core, lookup),
        )
        peer.offer(self.methods(), config)

    def methods(self) -> dict[str, Callable[..., Any]]:
        """Every method by its name."""
        found: dict[str, Callable[..., Any]] = {}
        for group in self.groups:
            for name in dir(type(group)):
                if not name.startswith("_") and name not in ("visible",):
                    found[name] = getattr(group, name)
        return found

    def _itself(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """The manager's own service, for the query ``~``."""
        service = self.peer.endpoint.exports.services["default"]
        return describe_service(self.peer.endpoint.core, service, str(context["to"]))

    def left(self, connection: Connection) -> None:
        """A client is gone: its registrations vanish, and its workspace if it was the last (server §2.3)."""
        core = self.core
        core.directory.remove_client(connection.address)
        self.peer.endpoint.peer_gone(connection.address, core.clock())
        if connection.workspace not in core.router.workspaces and core.workspaces.emptied(connection.workspace):
            core.publish("public", "workspace_unloaded", {"id": connection.workspace, "name": connection.workspace})
