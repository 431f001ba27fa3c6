"""A pipe inside one process: two transports joined, and a connector that opens one against a callback.

The ends may live on different event loops (each on its own thread). Frames are
delivered by the receiving loop, in order, never from within ``send``. Knows no
sockets and no JSON: control messages are handed over as they are.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from hypha_rpc.transports.base import (
    HIGH_WATER,
    LOW_WATER,
    Buffer,
    Closed,
    Credentials,
    Limits,
    OpenOptions,
    OpenTimeout,
    Receiver,
    Transport,
    Unavailable,
)
from hypha_rpc.transports.pipe import CUT, Pipe

__all__ = ["Acceptor", "MemoryConnector", "MemoryTransport", "memory_pair"]

#: Items delivered in one turn of the loop, so that a fast sender does not starve it.
BATCH = 64

Acceptor = Callable[[Transport, Mapping[str, Any]], "dict[str, Any] | Awaitable[dict[str, Any]]"]
_Item = bytes | Mapping[str, Any] | Closed


class _Lane:
    """One direction: a queue between two ends, safe to use from both threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.items: deque[_Item] = deque()
        self.size = 0
        self.scheduled = False
        self.choked = False


class MemoryTransport(Pipe):
    """One end of a pair; made by `memory_pair`, used on the loop it was made on."""

    def __init__(self, limits: Limits, inbound: _Lane, outbound: _Lane) -> None:
        super().__init__(limits)
        self._in = inbound
        self._out = outbound
        self._peer: MemoryTransport | None = None

    @property
    def writable(self) -> bool:
        """Whether less than `HIGH_WATER` bytes wait for the other end to take them."""
        return not self._out.choked

    @property
    def waiting(self) -> int:
        """Bytes that wait for the other end to take them."""
        return self._out.size

    # ------------------------------------------------------------------ sending

    def send_control(self, message: Mapping[str, Any]) -> None:
        """Send a copy of *message*; dropped once closing."""
        if not self._closing:
            self._put(dict(message), 0)

    def _write_frame(self, parts: Sequence[Buffer]) -> None:
        frame = b"".join(parts)
        self._put(frame, len(frame))

    def _write_close(self, code: int, reason: str) -> None:
        self._put(Closed(code, reason), 0)
        # The other end needs no time to answer.
        self._loop.call_soon(self._ended, Closed(code, reason))

    def _hang_up(self) -> None:
        self._cut()

    def _cut(self) -> None:
        self._loop.call_soon(self._ended, CUT)

    def _put(self, item: _Item, size: int) -> None:
        lane, peer = self._out, self._peer
        if peer is None:
            return
        with lane.lock:
            lane.items.append(item)
            lane.size += size
            lane.choked = lane.choked or lane.size > HIGH_WATER
            wake, lane.scheduled = not lane.scheduled, True
        if wake and not _call_on(peer, peer._drain):
            self._loop.call_soon(self._ended, CUT)

    # ------------------------------------------------------------------ receiving

    def start(self, receiver: Receiver) -> None:
        """Begin delivering to *receiver*; call once."""
        super().start(receiver)
        # Until now the lane kept everything back, the end included.
        with self._in.lock:
            self._in.scheduled = True
        self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        """Deliver a batch of what the other end has sent."""
        if self._receiver is None and not self._closing:
            with self._in.lock:
                self._in.scheduled = False
            return
        for _ in range(BATCH):
            item = self._take()
            if item is None:
                return
            if isinstance(item, Closed):
                self._peer_left()
                self._ended(item)
                self._peer = None
            elif isinstance(item, bytes):
                self._frame(item)
            elif self._live:
                self._control(item)
        self._loop.call_soon(self._drain)

    def _take(self) -> _Item | None:
        """Take the next item; tells the sender when the lane has become empty enough."""
        lane = self._in
        with lane.lock:
            if not lane.items:
                lane.scheduled = False
                return None
            item = lane.items.popleft()
            lane.size -= len(item) if isinstance(item, bytes) else 0
            relieved = lane.choked and lane.size < LOW_WATER
            if relieved:
                lane.choked = False
        if relieved and self._peer is not None:
            _call_on(self._peer, self._peer._drained)
        return item


def memory_pair(limits: Limits | None = None) -> tuple[MemoryTransport, MemoryTransport]:
    """Return two joined transports of the running loop, neither of them started."""
    one, two = _Lane(), _Lane()
    return _join(MemoryTransport(limits or Limits(), one, two), MemoryTransport(limits or Limits(), two, one))


class MemoryConnector:
    """Opens transports against a callback of this process."""

    def __init__(
        self, accept: Acceptor, *, loop: asyncio.AbstractEventLoop | None = None, limits: Limits | None = None
    ) -> None:
        """Say who answers.

        Args:
            accept: called with the other end (not started) and the credentials
                message; returns ``connection_info``, or raises `Refused` or
                `Unavailable`. May be a coroutine function.
            loop: the loop that *accept* and its end run on; the connecting one by default.
            limits: what the transports carry.
        """
        self._accept = accept
        self._accept_loop = loop
        self._limits = limits or Limits()

    async def open(self, options: OpenOptions, credentials: Credentials) -> tuple[Transport, dict[str, Any]]:
        """Open against the callback; see `base.Connector`.

        Cancellation:
            The other end is told that this one is gone.
        """
        message = credentials.as_message()
        one, two = _Lane(), _Lane()
        near = MemoryTransport(self._limits, one, two)
        try:
            async with asyncio.timeout(options.timeout_s):
                info = await self._answer(near, message)
        except BaseException as error:
            await near.discard()
            if isinstance(error, TimeoutError) and not isinstance(error, Unavailable):
                raise OpenTimeout(f"Not accepted within {options.timeout_s:g} seconds") from error
            raise
        return near, info

    async def _answer(self, near: MemoryTransport, message: Mapping[str, Any]) -> dict[str, Any]:
        loop = self._accept_loop
        if loop is None or loop is asyncio.get_running_loop():
            return await self._accept_here(near, message)
        accepting = self._accept_here(near, message)
        try:
            answer = asyncio.run_coroutine_threadsafe(accepting, loop)
        except RuntimeError as error:
            accepting.close()
            raise Unavailable("The event loop of the other end is closed") from error
        return await asyncio.wrap_future(answer)

    async def _accept_here(self, near: MemoryTransport, message: Mapping[str, Any]) -> dict[str, Any]:
        """Run on the accepting loop: make its end there and ask the callback."""
        far = MemoryTransport(self._limits, near._out, near._in)
        _join(near, far)
        try:
            info = self._accept(far, message)
            return await info if inspect.isawaitable(info) else info
        except BaseException:
            await far.discard()
            raise


def _join(one: MemoryTransport, two: MemoryTransport) -> tuple[MemoryTransport, MemoryTransport]:
    one._peer, two._peer = two, one
    return one, two


def _call_on(end: MemoryTransport, callback: Callable[[], None]) -> bool:
    """Schedule *callback* on the loop of *end*; False if that loop is closed."""
    try:
        if end._loop is _running_loop():
            end._loop.call_soon(callback)
        else:
            end._loop.call_soon_threadsafe(callback)
    except RuntimeError:
        return False
    return True


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
