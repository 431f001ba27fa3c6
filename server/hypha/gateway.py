"""One endpoint for all HTTP calls: a request becomes one routed call with its caller's identity.

No client object is made for a request. Every caller (user and workspace) has an
`Origin` whose address routes back here.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from hypha.auth.identity import User
from hypha.broker.origin import Origin
from hypha.broker.router import Router
from hypha_rpc.client.ticker import Ticker
from hypha_rpc.endpoint import Endpoint, EndpointOptions, Reference, Running
from hypha_rpc.wire.frame import read_header

__all__ = ["Gateway"]

_MAX_ORIGINS: Final = 1024


class Gateway:
    """`Port` and `LocalPeer` of the endpoint behind the web routes.

    Args:
        router: forwards its frames.
        server_url: public URL, for references.
    """

    def __init__(self, router: Router, server_url: str) -> None:
        self._router = router
        self._loop = asyncio.get_running_loop()
        self._origins: OrderedDict[tuple[str, str], Origin] = OrderedDict()
        self._addresses: dict[str, Origin] = {}
        self._origin: Origin | None = None
        options = EndpointOptions(share_traces=False, connection_type="http", max_pending=100_000)
        address = f"ws-anonymous/gateway-{secrets.token_hex(8)}"
        self.endpoint = Endpoint(self, address, secrets.token_hex(14), options=options, server_url=server_url)
        self._ticker = Ticker(self.endpoint.tick)

    def call(
        self, user: User, workspace: str, target: tuple[str, str], args: list[Any], kwargs: dict[str, Any]
    ) -> asyncio.Future[Any]:
        """Call a service function as *user*.

        Args:
            user: the authenticated caller.
            workspace: the workspace it calls from.
            target: address of the provider, and the method id.
            args: positional arguments.
            kwargs: keyword arguments.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        self._origin = self._origin_of(user, workspace)
        try:
            self.endpoint.call(Reference(*target), args, kwargs, future, self._loop.time())
        finally:
            self._origin = None
        return future

    def _origin_of(self, user: User, workspace: str) -> Origin:
        key = (user.id, workspace)
        origin = self._origins.get(key)
        if origin is None:
            origin = self._origins[key] = Origin(f"{workspace}/client-{secrets.token_hex(8)}", workspace, user)
            self._router.locals[origin.address] = self
            self._addresses[origin.address] = origin
            if len(self._origins) > _MAX_ORIGINS:
                _, oldest = self._origins.popitem(last=False)
                del self._router.locals[oldest.address]
                del self._addresses[oldest.address]
        self._origins.move_to_end(key)
        return origin

    # -- LocalPeer -----------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take one stamped frame; what it causes to be sent is sent by whom it came to."""
        header, _ = read_header(data)
        self._origin = self._addresses.get(str(header.get("to")))
        try:
            self.endpoint.receive(data, self._loop.time())
        finally:
            self._origin = None

    # -- Port ------------------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        """Forward a frame as the caller it belongs to."""
        if self._origin is not None:
            self._router.send_from_local(frame, self._origin, self)

    def start(self, job: Running, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Serve the built-in service, the only one here: big answers come in pieces through it (protocol §5)."""
        try:
            result = job.target.function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - supervision boundary: becomes the caller's error
            self.endpoint.fail(job, error, self._loop.time())
        else:
            self.endpoint.reply(job, result, self._loop.time())

    def cancel(self, job: Running) -> None:
        """Nothing runs here."""

    def wake(self, at: float) -> None:
        """Tick at about *at*."""
        self._ticker.wake(at)

    def event(self, header: dict[str, Any], extra: dict[str, Any]) -> None:
        """Events are not for the gateway."""

    def proxy(self, reference: Reference) -> Callable[..., Any]:
        """A function in a result: shown by its description, not callable over one HTTP call."""
        return _Described(reference)

    def stream(self, pull: Reference, close: Reference | None) -> Any:
        """A generator of a client, as its reference."""
        return _Described(pull)

    def dropped(self, reason: str) -> None:
        """A frame was refused."""

    def close(self, error: BaseException) -> None:
        """Fail what is under way."""
        self._ticker.close()
        self.endpoint.close(error)


class _Described:
    """A remote function as it appears in a JSON answer."""

    def __init__(self, reference: Reference) -> None:
        self.__rpc_object__ = dict(reference.wire)

    def __call__(self) -> None:
        raise TypeError("a function in the result of an HTTP call cannot be called")
