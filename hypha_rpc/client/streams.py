"""The consuming end of a generator: an async iterator that pulls what it needs (python-client §10, extensions §3).

From a peer of level 1 several items a pull and several pulls at once, so that items
flow without waiting for each round trip; from a public peer one item a pull.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NoReturn

from hypha_rpc.endpoint.ports import Reference
from hypha_rpc.endpoint.streams import BATCH_BYTES, MOST_ITEMS, rough_size
from hypha_rpc.errors import CallbackExpired
from hypha_rpc.wire.forms.generators import STOP, Items

if TYPE_CHECKING:
    from hypha_rpc.client.rpc import RPC

__all__ = ["RemoteGenerator"]

_MOST_PULLS: Final = 16
_ENDED: Final = Reference("", "")


class _Intake:
    """Pulls under way and items that have come, in the order of the pulls.

    Knows nothing of who iterates, so that an abandoned iterator is collected while
    pulls are under way.

    Attributes:
        over: the answer that ends the stream has been taken.
        error: what the stream ended with, until it was raised.
        waiter: set when something has come.
    """

    def __init__(self, rpc: RPC, pull: Reference) -> None:
        self._rpc = rpc
        self._pull = pull
        self._flights: deque[tuple[asyncio.Future[Any], int]] = deque()
        self._most = 1
        self._width = 1
        self._held = 0
        self.items: deque[tuple[Any, int]] = deque()
        self.over = False
        self.error: BaseException | None = None
        self.waiter: asyncio.Future[None] | None = None

    def take(self) -> Any:
        """The next item, which is there."""
        item, size = self.items.popleft()
        self._held -= size
        return item

    def more(self) -> None:
        """Pull, as far as there is room for what may come."""
        flights = self._flights
        while (
            len(flights) < self._width and not self.over and len(self.items) <= self._most and self._held <= BATCH_BYTES
        ):
            flight = self._rpc.call(self._pull, (self._most,), {})
            flights.append((flight, self._most))
            flight.add_done_callback(self._arrived)

    def widen(self) -> None:
        """The second item is wanted: from now on the next pull is under way before the last was answered."""
        self._width = max(self._width, 2)

    def _arrived(self, _: asyncio.Future[Any]) -> None:
        """Answers have come; they are taken in the order of their pulls, a big one is overtaken."""
        while self._flights and self._flights[0][0].done():
            flight, asked = self._flights.popleft()
            self._take_answer(flight, asked)
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            if self.items or self.over:
                if not waiter.done():
                    waiter.set_result(None)
            else:
                self.waiter = waiter

    def _take_answer(self, flight: asyncio.Future[Any], asked: int) -> None:
        error = asyncio.CancelledError() if flight.cancelled() else flight.exception()
        if self.over:
            return
        if error is not None:
            self.over, self.error = True, error
            return
        answer = flight.result()
        items, end = (answer.items, answer.end) if isinstance(answer, Items) else ([answer], answer is STOP)
        if answer is STOP:
            items = []
        for item in items:
            size = rough_size(item)
            self.items.append((item, size))
            self._held += size
        self.over = end
        if asked == self._most and not end:
            self._adapt(len(items))

    def _adapt(self, count: int) -> None:
        """Ask for more at once while answers are full, keep more pulls under way while they are not."""
        waiting = self.waiter is not None and not self.waiter.done()
        if waiting and count == self._most:
            self._most = min(2 * self._most, MOST_ITEMS)
        elif waiting and count >= 2:
            self._width = min(self._width + 1, _MOST_PULLS)
        elif len(self.items) >= 2 * self._most:
            self._most = max(self._most // 2, 1)

    def stop(self) -> None:
        """Nothing more is wanted; what still comes is not looked at."""
        self.over = True
        self.items.clear()
        self._held = 0
        self._pull = _ENDED


class RemoteGenerator:
    """A generator of a peer, as an async iterator.

    Left early, it closes the peer's generator: by ``aclose``, by a cancelled wait, or
    when it is collected, also if it was never started (X26).
    """

    def __init__(self, rpc: RPC, pull: Reference, close: Reference | None) -> None:
        self._rpc = rpc
        self._pull = pull
        self._close: Reference | None = close
        self._intake = _Intake(rpc, pull) if pull.level >= 1 else None
        self._started = False

    def __aiter__(self) -> RemoteGenerator:
        return self

    def __iter__(self) -> NoReturn:
        raise TypeError("items of a remote generator come one by one over the network: write `async for`")

    async def __anext__(self) -> Any:
        """The next item.

        Raises:
            StopAsyncIteration: there is none.
            RuntimeError: another task waits for the next item.

        Cancellation:
            The peer's generator is closed, as one of this process would be; that of a public peer goes on.
        """
        intake = self._intake
        if intake is None:
            return await self._one()
        if self._started:
            intake.widen()
        self._started = True
        if not intake.items:
            if not intake.over:
                await self._wait(intake)
            if not intake.items:
                self._end()
                error, intake.error = intake.error, None
                raise error if error is not None else StopAsyncIteration
        item = intake.take()
        if not intake.over:
            intake.more()
        return item

    async def _wait(self, intake: _Intake) -> None:
        """Wait until an item has come or the stream is over."""
        if intake.waiter is not None:
            raise RuntimeError("another task waits for the next item")
        waiter = intake.waiter = self._rpc.loop.create_future()
        intake.more()
        try:
            await waiter
        except asyncio.CancelledError:
            close = self._close
            self._end()
            if close is not None:
                self._rpc.tell(close)
            raise
        finally:
            intake.waiter = None

    async def _one(self) -> Any:
        """One item a call, from a public peer."""
        if self._pull is _ENDED:
            raise StopAsyncIteration
        try:
            item = await self._rpc.call(self._pull, (), {})
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._end()
            raise
        if item is STOP:
            self._end()
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        """Close the peer's generator; its ``finally`` has run when this returns."""
        close = self._close
        self._end()
        if close is not None and self._rpc.endpoint.closed is None:
            # What was pulled ahead may have been its end: then there is nothing to close any more.
            with contextlib.suppress(CallbackExpired):
                await self._rpc.call(close, (), {})

    def _end(self) -> None:
        self._close, self._pull = None, _ENDED
        if self._intake is not None:
            self._intake.stop()

    def __del__(self) -> None:
        close, rpc = self._close, self._rpc
        if close is not None and rpc.endpoint.closed is None and not rpc.loop.is_closed():
            # May run in any thread, at any moment: the call is made by the loop, its outcome does not matter.
            rpc.loop.call_soon_threadsafe(rpc.tell, close)
