"""A blocking connection: an async one in the shared loop, with the forms that convert what crosses."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar, cast

from hypha_rpc.client.rpc import RPC
from hypha_rpc.sync import lifetime, portal
from hypha_rpc.sync.crossing import Crossing, handed_over
from hypha_rpc.sync.portal import Portal, User
from hypha_rpc.sync.proxies import BlockingFunction, to_blocking

__all__ = ["Connection", "run_once"]

T = TypeVar("T")

_log = logging.getLogger("hypha_rpc.sync")

DEFAULT_WORKERS: Final = 256
_LEAVE_S: Final = 1.5


def _join(user: User) -> Portal:
    """The portal for *user*.

    Raises:
        RuntimeError: there are no threads here.
    """
    if sys.platform == "emscripten":
        raise RuntimeError(
            "hypha_rpc.sync needs threads, which Python in the browser does not have; use the async API: "
            "`from hypha_rpc import connect_to_server` and `server = await connect_to_server(...)`"
        )
    lifetime.watch()
    return portal.acquire(user)


class Connection(User):
    """One connection and its place in the shared loop.

    Args:
        workers: how many functions of its services may run at once.
    """

    def __init__(self, workers: Any = None) -> None:
        if workers is None:
            workers = DEFAULT_WORKERS
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise ValueError(f"sync_max_workers must be a number above 0, not {workers!r}")
        self._portal = _join(self)
        self._crossing = Crossing(self._portal, self, limit=workers, failed=self._handler_failed)
        self._rpc: RPC | None = None
        self._ending: asyncio.Task[None] | None = None
        self._closing = False
        self.released = False

    def open(self, connecting: Callable[[], Awaitable[tuple[RPC, T]]]) -> T:
        """Connect; failing or interrupted leaves nothing behind.

        Args:
            connecting: connects and returns the client and what is made of it.
        """
        try:
            found: Any = self._portal.run(self._open, connecting)
        except BaseException:
            if self._rpc is not None:
                self._portal.post(self._rpc.close)
            self._release()
            raise
        return cast(T, found)

    async def _open(self, connecting: Callable[[], Awaitable[tuple[RPC, T]]]) -> T:
        rpc, found = await connecting()
        # In the same step, so that nothing can arrive before.
        self._crossing.install(rpc.endpoint.core.forms)
        rpc.on("disconnected", self._ended)
        self._rpc = rpc
        return found

    def members(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """What the async API gave, blocking."""
        return {key: self._member(key, value) for key, value in dict.items(dict(found))}

    def _member(self, name: str, value: Any) -> Any:
        if isinstance(value, RPC):
            return value
        converted = to_blocking(self, value)
        if converted is not value or not callable(value):
            return converted
        if name == "disconnect":
            return _Disconnect(self, value)
        crossing = self._crossing
        prepared = {
            "register_service": (0, "service", crossing.service),
            "register_probes": (0, "probes", crossing.service),
            "export": (0, "api", crossing.service),
            "on": (1, "handler", crossing.handler),
            "once": (1, "handler", crossing.handler),
            "off": (1, "handler", crossing.handler),
        }
        if name in prepared:
            return _Prepared(self, value, *prepared[name])
        return BlockingFunction(self, value)

    # -- Host --------------------------------------------------------------------

    def run(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call an async function in the loop, wait, return its result."""
        __tracebackhide__ = True  # notebooks and pytest show the caller's line, not this one
        return to_blocking(self, self._portal.run(function, *args, **kwargs))

    def handler(self, function: Any) -> Any:
        """A user's function that is told about events."""
        return self._crossing.handler(function)

    def disconnect(self) -> None:
        """Disconnect for good; nothing is left when this returns. Idempotent."""
        if self.released or self._rpc is None:
            return
        self._closing = True
        try:
            self._portal.run(self._rpc.disconnect)
        finally:
            self._release()

    # -- User --------------------------------------------------------------------

    def serves(self) -> bool:
        """Whether services are registered."""
        rpc = self._rpc
        if rpc is None or rpc.endpoint.closed is not None:
            return False
        return any(not name.startswith("_rintf_") and name != "built-in" for name in rpc.get_all_local_services())

    def close(self) -> None:
        """The interpreter ends: say good-bye, if that takes no longer than a moment."""
        rpc = self._rpc
        if rpc is not None and not self.released:
            self._closing = True
            try:
                self._portal.run(_leave, rpc)
            except (TimeoutError, ConnectionError):
                _log.debug("the connection was left without a good-bye")
        self._release()

    # -- end ---------------------------------------------------------------------

    def _ended(self, _: Any) -> None:
        """The client is closed for good (in the loop)."""
        if not self._closing and self._rpc is not None:
            self._closing = True
            self._ending = self._portal.loop.create_task(self._clean_up(self._rpc))

    async def _clean_up(self, rpc: RPC) -> None:
        try:
            await rpc.disconnect()
        finally:
            self._release()

    def _release(self) -> None:
        self.released = True
        portal.release(self._portal, self)

    def _handler_failed(self, error: BaseException) -> None:
        _log.warning("An event handler failed: %s: %s", type(error).__name__, error)
        if self._rpc is not None and self._rpc.endpoint.closed is None:
            self._rpc.events.emit_local("error", error)


class _Disconnect(BlockingFunction):
    """``server.disconnect``: also lets go of the loop."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> None:
        self._host.disconnect()


class _Prepared(BlockingFunction):
    """A function of the connection one of whose arguments holds functions of the user."""

    def __init__(
        self, host: Connection, function: Callable[..., Any], at: int, name: str, prepare: Callable[[Any], Any]
    ) -> None:
        super().__init__(host, function)
        self._at = at
        self._name = name
        self._prepare = prepare

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        at, name = self._at, self._name
        if len(args) > at:
            args = (*args[:at], self._prepare(args[at]), *args[at + 1 :])
        elif name in kwargs:
            kwargs[name] = self._prepare(kwargs[name])
        return super().__call__(*args, **kwargs)


async def _leave(rpc: RPC) -> None:
    await asyncio.wait_for(rpc.disconnect(), _LEAVE_S)


def run_once(function: Callable[[dict[str, Any]], Awaitable[T]], config: Mapping[str, Any]) -> T:
    """Run an async function that opens and closes connections of its own; nothing is left afterwards."""
    user = User()
    joined = _join(user)
    try:
        return joined.run(function, handed_over(joined, config))
    finally:
        portal.release(joined, user)
