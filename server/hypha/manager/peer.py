"""The manager as a peer: an endpoint at ``*/manager-<server id>`` inside the switch."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

from hypha.auth.identity import root_user
from hypha.broker.router import Router
from hypha.manager.core import Peers
from hypha.manager.method import Method
from hypha.settings import Limits
from hypha_rpc.areas import area
from hypha_rpc.client.runner import Runner
from hypha_rpc.client.ticker import Ticker
from hypha_rpc.endpoint import Endpoint, EndpointOptions, Reference, Running, Service
from hypha_rpc.endpoint.catalog import describe_service
from hypha_rpc.endpoint.leases import LeaseKey

__all__ = ["ManagerPeer"]

_log = logging.getLogger("hypha.manager")

# Clients of former runs call at former addresses (protocol §1.8), strangers at any that begins right.
_MAX_PREPARED: Final = 16


class _Proxy:
    """A function of a client, as the manager passes it on."""

    __slots__ = ("__rpc_object__", "_peer", "_reference")

    def __init__(self, peer: ManagerPeer, reference: Reference) -> None:
        self._peer = peer
        self._reference = reference
        self.__rpc_object__ = dict(reference.wire)

    def __call__(self, *args: Any) -> asyncio.Future[Any]:
        return self._peer.ask(self._reference, *args)


class ManagerPeer(Peers):
    """`Port` and `LocalPeer` of the manager's endpoint.

    Args:
        address: ``*/manager-<server id>``.
        router: forwards what the manager sends.
        limits: bounds.
        server_url: public URL, for references.
    """

    def __init__(self, address: str, router: Router, limits: Limits, server_url: str) -> None:
        self._router = router
        self._user = root_user()
        self._runner = Runner()
        self._loop = asyncio.get_running_loop()
        self._prepared: dict[str, bytes] = {}
        self.address = address
        options = EndpointOptions(
            max_partial_own=limits.partial_bytes_manager,
            max_partial_abroad=limits.partial_bytes_manager,
            max_partial_per_sender=limits.partial_per_sender,
            partial_idle_s=limits.partial_idle,
            max_pending=1_000_000,
            areas=area,
            share_traces=False,
        )
        self.endpoint = Endpoint(self, address, secrets.token_hex(14), options=options, server_url=server_url)
        self._ticker = Ticker(self.endpoint.tick)
        self._get_service = self.endpoint.exports.find_service_method("services.built-in.get_service")

    def offer(self, methods: Mapping[str, Method], config: dict[str, Any]) -> None:
        """Register the manager's service ``default``."""
        self._prepared.clear()
        members: dict[str, Any] = dict(methods)
        info = {
            "name": "Default workspace management service",
            "type": "generic",
            "description": "Services of this server",
        }
        self.endpoint.exports.add(
            Service("default", members, {"require_context": True, "visibility": "public", **config}, info)
        )

    def described(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """The manager's own service for a caller with this *context*: not to be changed.

        Its functions are at the address the caller used (protocol §1.8).
        """
        address = str(context.get("to") or self.address)
        service = self.endpoint.exports.services["default"]
        return describe_service(self.endpoint.core, service, address)

    # -- LocalPeer -----------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take one stamped frame."""
        self.endpoint.receive(data, self._loop.time())

    # -- Peers -----------------------------------------------------------------------

    def ask(self, reference: Reference, *args: Any) -> asyncio.Future[Any]:
        """Call a function of a client."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self.endpoint.call(reference, args, None, future, self._loop.time())
        return future

    # -- Port ------------------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        """Forward a frame of the manager."""
        self._router.send_from_manager(frame, self.address, self._user)

    def start(self, job: Running, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Run a method."""
        # An argument is anything a peer sent: comparing an array gives no answer but an error.
        if len(args) == 1 and type(args[0]) is str and args[0] == "default" and job.target is self._get_service:
            self.endpoint.reply_prepared(job, self._prepared_at(job.me), self._loop.time())
            return
        self._runner.start(self.endpoint, job, args, kwargs)

    def _prepared_at(self, address: str) -> bytes:
        """The manager's own service, packed for those who call at *address* (protocol §6.3).

        Every client asks for it when it connects, public ones before each registration
        as well; to describe and pack it takes longer than all the rest of the call.
        """
        prepared = self._prepared.get(address)
        if prepared is None:
            if len(self._prepared) >= _MAX_PREPARED:
                self._prepared.clear()
            prepared = self._prepared[address] = self.endpoint.prepare(self.described({"to": address}))
        return prepared

    def cancel(self, job: Running) -> None:
        """Stop a method."""
        self._runner.cancel(job)

    def wake(self, at: float) -> None:
        """Tick at about *at*."""
        self._ticker.wake(at)

    def event(self, header: dict[str, Any], extra: dict[str, Any]) -> None:
        """The manager takes calls only."""

    def proxy(self, reference: Reference) -> Callable[..., Any]:
        """A function of a client, to be passed on."""
        return _Proxy(self, reference)

    def stream(self, pull: Reference, close: Reference | None) -> Any:
        """A generator of a client, as its reference."""
        return _Proxy(self, pull)

    def unused(self, key: LeaseKey) -> None:
        """A function of a client is not referred to any more; the manager only passes them on."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._release, key)

    def _release(self, key: LeaseKey) -> None:
        self.endpoint.release([key], self._loop.time())

    def dropped(self, reason: str) -> None:
        """A frame to the manager was refused."""
        _log.debug("a frame to the manager was dropped: %.200s", reason)

    async def close(self, error: BaseException) -> None:
        """Stop everything."""
        self._ticker.close()
        self.endpoint.close(error)
        tasks = self._runner.close()
        if tasks:
            await asyncio.wait(tasks, timeout=2.0)
