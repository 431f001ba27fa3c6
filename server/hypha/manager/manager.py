"""Puts the manager together: state, methods, peer; and what happens when a client leaves."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from hypha.broker.connections import Connection
from hypha.manager.basics import BasicMethods
from hypha.manager.client_methods import ClientMethods
from hypha.manager.core import Caller, LocalContext, ManagerCore
from hypha.manager.event_methods import EventMethods
from hypha.manager.listing import ListingMethods
from hypha.manager.lookup import LookupMethods
from hypha.manager.method import Method
from hypha.manager.peer import ManagerPeer
from hypha.manager.registration import RegistrationMethods
from hypha.manager.token_methods import TokenMethods
from hypha.manager.workspace_data import WorkspaceDataMethods
from hypha.manager.workspace_methods import WorkspaceMethods

__all__ = ["METHODS", "Manager"]

_log = logging.getLogger("hypha.manager")

METHODS: Final = tuple(
    """echo log log_event get_event_stats get_events register_service unregister_service list_workspaces list_services
    search_services list_clients register_service_type get_service_type list_service_types get_service_info get_service
    generate_token revoke_token parse_token create_workspace delete_workspace bookmark unbookmark get_workspace_info
    get_summary ping cleanup check_status set_env get_env subscribe unsubscribe""".split()
)
"""The methods of the manager service (protocol §6.3)."""


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
        self.lookup = LookupMethods(core, peer.described)
        groups = (
            BasicMethods(core),
            ClientMethods(core),
            EventMethods(core, core.events, core.now),
            ListingMethods(core),
            RegistrationMethods(core),
            TokenMethods(core),
            WorkspaceDataMethods(core, self.lookup),
            WorkspaceMethods(core),
            self.lookup,
        )
        self.methods = {name: Method(_function(groups, name), name) for name in METHODS}
        self._unloading: dict[str, asyncio.TimerHandle] = {}
        peer.offer(self.methods, config)

    async def call(
        self, caller: Caller, method: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a method from inside this process, with the rights of *caller*.

        Args:
            caller: who asks, for example by HTTP; it needs no connection.
            method: one of `METHODS`.
            args: positional arguments.
            kwargs: keyword arguments; a ``context`` among them is dropped.

        Raises:
            KeyError: there is no such method.
            Exception: whatever the method raises.
        """
        function = self.methods.get(method)
        if function is None:
            raise KeyError(f"{method:.128} not found.")
        given = {key: value for key, value in (kwargs or {}).items() if key != "context"}
        result = function(*args, **given, context=LocalContext(caller))
        return await result if inspect.isawaitable(result) else result

    def left(self, connection: Connection) -> None:
        """A client is gone: its registrations vanish, and its workspace if it was the last (server §2.2, §2.3)."""
        core = self.core
        core.directory.remove_client(connection.address)
        core.load.stop(connection.address)
        self.peer.endpoint.peer_gone(connection.address, core.clock())
        workspace = connection.workspace
        if workspace in core.router.workspaces or not core.workspaces.goes_when_empty(workspace):
            return
        patience = self._patience(connection)
        if patience <= 0:
            self._unload(workspace)
            return
        self._keep(workspace)
        self._unloading[workspace] = asyncio.get_running_loop().call_later(patience, self._unload, workspace)

    def _patience(self, connection: Connection) -> float:
        """How long the workspace waits for somebody.

        Whoever lost its link without a good-bye comes back to the same workspace
        or, if that was created by somebody, could not come back at all.
        """
        limits = self.core.settings.limits
        grace = limits.workspace_unload_grace_period
        lost = connection.address in self.core.router.mailboxes
        return max(grace, limits.hold_client_id) if lost else grace

    def _keep(self, workspace: str) -> None:
        timer = self._unloading.pop(workspace, None)
        if timer is not None:
            timer.cancel()

    def _unload(self, workspace: str) -> None:
        """The workspace ends, unless somebody came in the meantime."""
        core = self.core
        self._keep(workspace)
        found = core.workspaces.get(workspace)
        if found is None or workspace in core.router.workspaces or not core.workspaces.goes_when_empty(workspace):
            return
        core.forget_workspace(workspace)
        _log.info("workspace %s was unloaded", workspace)
        core.publish("public", "workspace_unloaded", found.info())

    async def close(self, error: BaseException) -> None:
        """Stop everything; idempotent.

        Args:
            error: what calls under way end with.
        """
        for workspace in list(self._unloading):
            self._keep(workspace)
        await self.peer.close(error)


def _function(groups: Sequence[object], name: str) -> Callable[..., Any]:
    """The one function of that name among the groups."""
    found: list[Callable[..., Any]] = [getattr(group, name) for group in groups if hasattr(group, name)]
    (function,) = found
    return function
