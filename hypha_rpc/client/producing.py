"""Steps generators that wait, one task each, for as long as somebody pulls (extensions §3 ``pull``).

Which items go into which answer is decided by `endpoint.streams.Flow`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final

from hypha_rpc.endpoint.streams import Flow, PlainProducer, Producer

__all__ = ["Producers"]

Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]

_TURN_S: Final = 0.001
_clock: Final = time.perf_counter


class Producers:
    """Makes the producers of one client (`endpoint.streams.ProducerFactory`).

    Args:
        spawn: makes a task that its owner cancels and awaits.
    """

    def __init__(self, spawn: Spawn) -> None:
        self._spawn = spawn

    def __call__(self, source: Any, forget: Callable[[], None]) -> Producer:
        """The producer of *source*, a plain or asynchronous iterator."""
        if hasattr(type(source), "__anext__"):
            return _AsyncProducer(source, forget, self._spawn)
        return PlainProducer(source, forget, _clock)


class _AsyncProducer:
    """Steps an asynchronous iterator in a task of its own, which begins with the first pull."""

    def __init__(self, source: Any, forget: Callable[[], None], spawn: Spawn) -> None:
        self._source = source
        self._flow = Flow(forget)
        self._spawn = spawn
        self._task: asyncio.Task[None] | None = None
        self._wanted: asyncio.Future[None] | None = None
        self._closing = False

    def pull(self, most: Any = None) -> Any:
        """See `endpoint.streams.Producer.pull`."""
        waiter = asyncio.get_running_loop().create_future()
        there, answer = self._flow.pull(most, waiter, _clock())
        self._go_on()
        return answer if there else waiter

    def _go_on(self) -> None:
        """Let the task look again; make it if there is none yet."""
        if self._task is None:
            if not self._closing:
                self._task = self._spawn(self._drive())
        elif self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)

    async def _drive(self) -> None:
        try:
            await self._steps()
        except StopAsyncIteration:
            self._closing = True
            self._flow.finish()
        except asyncio.CancelledError:
            self._flow.close()
            raise
        except Exception as error:  # noqa: BLE001 - supervision boundary: user code, its error is the consumer's
            self._closing = True
            self._flow.finish(error)
        finally:
            await self._end_source()

    async def _steps(self) -> None:
        source: Any = self._source
        flow, step, suspends = self._flow, source.__anext__, self._flow.flush
        turn = _clock()
        while not flow.over:
            while flow.wants_step():
                began = _clock()
                item = await _Step(step(), suspends)
                now = _clock()
                flow.add(item, began, now)
                if now - turn > _TURN_S:
                    # Others get their turn; whoever made the item may have waited, which does not matter.
                    await asyncio.sleep(0)
                    turn = _clock()
            flow.flush()
            if flow.wants_step():
                continue
            self._wanted = asyncio.get_running_loop().create_future()
            await self._wanted
            turn = _clock()

    async def _end_source(self) -> None:
        """End the source, once; a generator that has ended already does nothing."""
        source, self._source = self._source, None
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()

    async def close(self) -> bool:
        """See `endpoint.streams.Producer.close`: the running step is cancelled and awaited."""
        task, self._closing = self._task, True
        if task is None:
            await self._end_source()
        elif not task.done():
            task.cancel()
            await asyncio.wait([task])
        self._flow.close()
        if task is not None and not task.cancelled() and (error := task.exception()) is not None:
            # What its ``finally`` raised.
            raise error
        return True

    def abandon(self) -> None:
        """See `endpoint.streams.Producer.abandon`."""
        self._flow.abandon()
        if self._closing:
            return
        self._closing = True
        if self._task is None:
            if self._source is not None:
                self._task = self._spawn(self._end_source())
        elif not self._task.done():
            self._task.cancel()


class _Step:
    """One step of an iterator, awaited; tells the moment it suspends."""

    __slots__ = ("_step", "_suspends")

    def __init__(self, step: Any, suspends: Callable[[], None]) -> None:
        self._step = step
        self._suspends = suspends

    def __await__(self) -> Generator[Any, Any, Any]:
        running = self._step.__await__()
        try:
            yielded = next(running)
        except StopIteration as done:
            return done.value
        self._suspends()
        while True:
            try:
                sent = yield yielded
            except BaseException as error:  # noqa: BLE001 - passed into the step, whatever it is
                step = _throw(running, error)
            else:
                step = _send(running, sent)
            over, yielded = step
            if over:
                return yielded


def _send(running: Any, value: Any) -> tuple[bool, Any]:
    try:
        return False, running.send(value)
    except StopIteration as done:
        return True, done.value


def _throw(running: Any, error: BaseException) -> tuple[bool, Any]:
    try:
        return False, running.throw(error)
    except StopIteration as done:
        return True, done.value
