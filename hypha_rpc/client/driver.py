"""The asyncio side of an endpoint's port: sends, runs, wakes, keeps answers while the link is down."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from hypha_rpc.client.proxies import RemoteFunction, RemoteGenerator
from hypha_rpc.client.runner import Runner
from hypha_rpc.client.ticker import Ticker

if TYPE_CHECKING:
    from hypha_rpc.client.rpc import RPC
    from hypha_rpc.endpoint import Reference, Running
    from hypha_rpc.endpoint.leases import LeaseKey
    from hypha_rpc.transports.base import Buffer

__all__ = ["Driver"]

_KEEP_FRAMES: Final = 1024
_KEEP_BYTES: Final = 64 * 1024 * 1024


class Pipe(Protocol):
    """What frames go into while there is a connection: a transport."""

    def send(self, parts: Sequence[Buffer]) -> None:
        """Send the concatenation of *parts* as one frame."""


class Driver:
    """`Port` for one `RPC`."""

    def __init__(self, rpc: RPC) -> None:
        self._rpc = rpc
        self._ticker = Ticker(self._tick)
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self.runner = Runner()
        self._unused: deque[LeaseKey] = deque()
        self.pipe: Pipe | None = None
        self.refused = 0

    # -- Port --------------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        """Send, or keep for the next connection (within bounds: the oldest goes first)."""
        pipe = self.pipe
        if pipe is not None:
            pipe.send((frame,))
            return
        self._kept.append(frame)
        self._kept_bytes += len(frame)
        while len(self._kept) > _KEEP_FRAMES or self._kept_bytes > _KEEP_BYTES:
            self._kept_bytes -= len(self._kept.popleft())

    def start(self, job: Running, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Run a function of ours."""
        self.runner.start(self._rpc.endpoint, job, args, kwargs)

    def cancel(self, job: Running) -> None:
        """Stop a function of ours."""
        self.runner.cancel(job)

    def wake(self, at: float) -> None:
        """Tick at about *at*; one timer serves them all."""
        self._ticker.wake(at)

    def event(self, header: dict[str, Any], extra: dict[str, Any]) -> None:
        """An event arrived."""
        self._rpc.events.received(header, extra)

    def proxy(self, reference: Reference) -> Callable[..., Any]:
        """A remote function."""
        return RemoteFunction(self._rpc, reference)

    def stream(self, pull: Reference, close: Reference | None) -> RemoteGenerator:
        """A generator of a peer."""
        return RemoteGenerator(self._rpc, pull, close)

    def unused(self, key: LeaseKey) -> None:
        """Something held is not referred to any more; those that end together are told together."""
        loop = self._rpc.bound_loop
        if loop is None or loop.is_closed() or self._rpc.endpoint.closed is not None:
            return
        self._unused.append(key)
        if len(self._unused) == 1:
            # In any thread, at any moment, also while the collector runs: nothing but this.
            loop.call_soon_threadsafe(self._release)

    def _release(self) -> None:
        keys: list[LeaseKey] = []
        while self._unused:
            keys.append(self._unused.popleft())
        self._rpc.endpoint.release(keys, self._rpc.loop.time())

    def dropped(self, reason: str) -> None:
        """A frame was refused; the first few are worth a line."""
        self.refused += 1
        if self.refused <= 10:
            self._rpc.log.warning("a received frame was dropped: %.200s", reason)

    # -- life --------------------------------------------------------------------

    def connect(self, pipe: Pipe) -> None:
        """The link is up: send over *pipe* from now on, first the answers that were kept."""
        self.pipe = pipe
        kept, self._kept, self._kept_bytes = self._kept, deque(), 0
        for frame in kept:
            self.send(frame)

    def close(self) -> list[asyncio.Task[None]]:
        """Stop the timer and all functions; returns their tasks to await."""
        self._ticker.close()
        self._kept.clear()
        self._unused.clear()
        self.pipe = None
        return self.runner.close()

    def _tick(self, now: float) -> float | None:
        wishes = (self._rpc.endpoint.tick(now), self._rpc.expire(now))
        return min((at for at in wishes if at is not None), default=None)
