"""What up and down mean to a client: who we are, services registered again, subscriptions, ready.

On every connection, before ``ready``: the endpoint learns of the new link, the
built-in service and all announced services are registered, subscriptions are
restored, the manager's service is fetched. Calls that users make meanwhile wait
until then, so that nobody meets an empty registry (server §9.1).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from hypha_rpc.client.services import announcement
from hypha_rpc.endpoint.ports import Reference
from hypha_rpc.errors import CallError, ConnectionFailed, ConnectionLost

if TYPE_CHECKING:
    from hypha_rpc.client.rpc import RPC
    from hypha_rpc.endpoint import Service

__all__ = ["Session"]


_PEER_EVENTS: Final = "client_disconnected"
_RESUME_EVENTS: Final = "client_connected"


class Session:
    """The registered state of one client at its server.

    Args:
        rpc: whose session this is.
        silent: announce nothing (X02).
    """

    def __init__(self, rpc: RPC, *, silent: bool) -> None:
        self._rpc = rpc
        self._silent = silent
        self._subscriptions: set[str] = set()
        self._connected_before = False
        self.ready_since = float("-inf")
        self.manager: dict[str, Any] | None = None

    # -- up ----------------------------------------------------------------------

    async def start(self, info: dict[str, Any]) -> None:
        """Set everything up on a fresh link.

        Raises:
            ConnectionFailed: the server did not take it; the link shall try again.
        """
        rpc = self._rpc
        again, self._connected_before = self._connected_before, True
        rpc.endpoint.link_up(rpc.loop.time(), resumed=info.get("resumed") is True)
        services = [] if self._silent else [entry for entry in rpc.endpoint.exports.services.values() if entry.announce]
        try:
            manager, _ = await asyncio.gather(self._fetch_manager(), self._subscribe_again())
            failed = await self._announce(services)
        except (CallError, ConnectionLost) as error:
            raise ConnectionFailed(f"the server did not take the registration: {error}") from error
        self._report(services, failed)
        if failed and again:
            raise ConnectionFailed(f"services could not be registered again: {', '.join(failed)}")
        self.manager = manager
        self.ready_since = rpc.loop.time()
        rpc.outbox.release()

    async def _fetch_manager(self) -> dict[str, Any]:
        reference = Reference(self._rpc.manager_address, "services.built-in.get_service", promise=True)
        manager = await self._rpc.call_now(reference, "default")
        if not isinstance(manager, dict):
            raise ConnectionFailed("the server has no workspace manager")
        return manager

    async def _subscribe_again(self) -> None:
        events = sorted({_PEER_EVENTS, *self._subscriptions})
        if self._rpc.server_level >= 1:
            events.append(_RESUME_EVENTS)
        await self.ask("subscribe", events)

    async def _announce(self, services: list[Service]) -> list[str]:
        """Register *services*, the built-in one first; returns the ids that failed."""
        failed: list[str] = []
        if services:
            # Its registration is what makes this client exist (protocol §1.9).
            try:
                await self.announce(services[0])
            except PermissionError:
                # A reader calls and provides nothing: the registry has no place for it (server §4.2).
                return [service.id for service in services[1:]]
        results = await asyncio.gather(*map(self.announce, services[1:]), return_exceptions=True)
        for service, result in zip(services[1:], results, strict=True):
            if isinstance(result, (ConnectionLost, asyncio.CancelledError)):
                raise result
            if isinstance(result, BaseException):
                self._rpc.log.warning("registering %s again failed: %s", service.id, result)
                failed.append(service.id)
        return failed

    def _report(self, services: list[Service], failed: list[str]) -> None:
        counts = {"total": len(services), "registered": len(services) - len(failed), "failed": failed}
        if failed:
            problem = {"error": f"failed: {', '.join(failed)}", "total_services": len(services)}
            self._rpc.events.emit_local("services_registration_failed", problem)
        self._rpc.events.emit_local("services_registered", counts)

    async def announce(self, service: Service) -> None:
        """Tell the server about one service."""
        rpc = self._rpc
        await self.ask("register_service", announcement(service, rpc.endpoint.address, rpc.app_id))

    async def ask(self, method: str, *args: Any) -> Any:
        """Call a method of the manager, also before the session is ready."""
        return await self._rpc.call_now(Reference(self._rpc.manager_address, f"services.default.{method}"), *args)

    # -- subscriptions -----------------------------------------------------------

    def subscribed(self, events: Any, *, add: bool) -> None:
        """Remember what the application subscribed to, to restore it."""
        names = {event for event in ([events] if isinstance(events, str) else events or []) if isinstance(event, str)}
        if add:
            self._subscriptions |= names
        else:
            self._subscriptions -= names
