"""The consuming end of a generator and the producing end of one that waits, joined without a socket."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from hypha_rpc.client.producing import Producers
from hypha_rpc.client.streams import RemoteGenerator
from hypha_rpc.endpoint.ports import Reference
from hypha_rpc.endpoint.streams import BATCH_BYTES, MOST_ITEMS
from hypha_rpc.wire.forms.generators import STOP, Items

PULL, CLOSE = Reference("ws/p", "g.0", level=1), Reference("ws/p", "g.0:close", level=1)


class Wire:
    """Stands for an `RPC`: pulls go straight to a producer, or wait for the test."""

    def __init__(self, source: Any = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.endpoint = self
        self.closed: BaseException | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self.forgotten = 0
        self.pulls: list[tuple[int, asyncio.Future[Any]]] = []
        self.told: list[Reference] = []
        self.producer = Producers(self.spawn)(source, self.forget) if source is not None else None

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self.loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def forget(self) -> None:
        self.forgotten += 1

    def call(self, reference: Reference, args: tuple[Any, ...], kwargs: dict[str, Any]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self.loop.create_future()
        if reference is CLOSE:
            self.told.append(reference)
        if self.producer is None:
            self.pulls.append((args[0] if args else 0, future))
            return future
        task = self.spawn(self._answer(future, self.producer.close if reference is CLOSE else self.producer.pull, args))
        assert task is not None
        return future

    async def _answer(self, future: asyncio.Future[Any], method: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            result = method(*args)
            if hasattr(result, "__await__"):
                result = await result
        except BaseException as error:  # noqa: BLE001 - the way an error goes over the wire
            if not future.done():
                future.set_exception(error)
                future.exception()
            return
        if isinstance(result, dict):
            ended = STOP if result["_rtype"] == "stop_iteration" else None
            result = ended or Items(result["_rvalue"], result["_rend"])
        if not future.done():
            future.set_result(result)

    def tell(self, reference: Reference) -> None:
        self.call(reference, (), {})

    def give(self, *items: Any, end: bool = False) -> None:
        """Answer the oldest pull."""
        self.pulls.pop(0)[1].set_result(Items(list(items), end))

    def asked(self) -> list[int]:
        return [most for most, _ in self.pulls]

    async def quiet(self) -> None:
        while self.tasks:
            await asyncio.wait(self.tasks, timeout=5)


def stream(wire: Any) -> RemoteGenerator:
    return RemoteGenerator(wire, PULL, CLOSE)


async def collect(wire: Wire, got: list[Any]) -> None:
    """Put the items into *got*, also those before an error."""
    async for item in stream(wire):
        got.append(item)  # noqa: PERF401 - see above


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Source:
    """An asynchronous generator that says what became of it."""

    def __init__(self, count: int, *, every: int = 0, fail_at: int = -1) -> None:
        self.made = 0
        self.events: list[str] = []
        self._count, self._every, self._fail_at = count, every, fail_at

    async def items(self) -> AsyncIterator[int]:
        try:
            for number in range(self._count):
                if self._every and number % self._every == 0:
                    await asyncio.sleep(0)
                if number == self._fail_at:
                    raise KeyError("bad")
                self.made += 1
                yield number
        except asyncio.CancelledError:
            self.events.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0)
            self.events.append("closed")


# -- both ends -------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [0, 1, 3, 100])
async def test_all_items_arrive_in_order(every: int) -> None:
    source = Source(5000, every=every)
    wire = Wire(source.items())
    assert [item async for item in stream(wire)] == list(range(5000))
    await wire.quiet()
    assert (source.events, wire.forgotten) == (["closed"], 1)


@pytest.mark.parametrize("every", [0, 1])
async def test_an_error_comes_after_the_items(every: int) -> None:
    source = Source(100, every=every, fail_at=40)
    wire = Wire(source.items())
    got: list[int] = []
    with pytest.raises(KeyError):
        await collect(wire, got)
    assert got == list(range(40))
    await wire.quiet()
    assert wire.forgotten == 1


async def test_closing_early_runs_the_finally_before_it_returns() -> None:
    source = Source(10**9)
    wire = Wire(source.items())
    items = stream(wire)
    assert [await anext(items) for _ in range(3)] == [0, 1, 2]
    await items.aclose()
    assert source.events[-1] == "closed"
    with pytest.raises(StopAsyncIteration):
        await anext(items)
    await wire.quiet()
    assert wire.forgotten == 1


async def test_closing_cancels_the_step_that_runs() -> None:
    started = asyncio.Event()
    events: list[str] = []

    async def waiting() -> AsyncIterator[int]:
        try:
            started.set()
            await asyncio.Event().wait()
            yield 1
        finally:
            events.append("closed")

    wire = Wire(waiting())
    items = stream(wire)
    wait = asyncio.ensure_future(anext(items))
    await started.wait()
    wait.cancel()
    await asyncio.wait([wait])
    await wire.quiet()
    assert (events, wire.told) == (["closed"], [CLOSE])


async def test_a_stalled_consumer_stops_the_producer() -> None:
    source = Source(10**9)
    wire = Wire(source.items())
    items = stream(wire)
    for _ in range(2000):
        await anext(items)
    await settle()
    made = source.made
    await settle()
    assert source.made == made <= 2000 + 18 * MOST_ITEMS
    await items.aclose()


async def test_a_generator_that_was_dropped_is_closed_even_while_pulls_are_under_way() -> None:
    source = Source(10**9)
    wire = Wire(source.items())
    items = stream(wire)
    await anext(items)
    await anext(items)
    del items
    gc.collect()
    await settle()
    await wire.quiet()
    assert source.events[-1] == "closed"


async def test_a_generator_that_never_started_is_closed() -> None:
    closed: list[str] = []

    class Iterator:
        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> int:
            return 1

        async def aclose(self) -> None:
            closed.append("closed")

    wire = Wire(Iterator())
    stream(wire)
    gc.collect()
    await settle()
    await wire.quiet()
    assert closed == ["closed"]


async def test_a_time_limit_inside_the_generator_works_across_items() -> None:
    """All steps run in one task, so that what is bound to a task holds over them."""

    async def limited() -> AsyncIterator[str]:
        async with asyncio.timeout(0.05):
            yield "first"
            await asyncio.sleep(30)
        yield "never"

    wire = Wire(limited())
    got: list[str] = []
    with pytest.raises(TimeoutError):
        await collect(wire, got)
    assert got == ["first"]


async def test_waiting_pulls_of_an_abandoned_generator_are_rejected() -> None:
    source = Source(1, every=1)
    wire = Wire(source.items())
    assert wire.producer is not None
    waiting = wire.producer.pull(5)
    wire.producer.abandon()
    with pytest.raises(ReferenceError):
        await waiting
    await wire.quiet()
    assert wire.forgotten == 1


async def test_what_the_finally_raises_is_told_to_who_closes() -> None:
    async def bad() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            raise ValueError("in finally")

    wire = Wire(bad())
    items = stream(wire)
    await anext(items)
    with pytest.raises(ValueError, match="in finally"):
        await items.aclose()


async def test_one_item_a_pull_for_public_consumers() -> None:
    wire = Wire(Source(3).items())
    items = RemoteGenerator(wire, PULL._replace(level=0), CLOSE)  # type: ignore[arg-type]
    assert [item async for item in items] == [0, 1, 2]
    await wire.quiet()


# -- how the consumer pulls ------------------------------------------------------------------


async def test_first_one_item_is_pulled_then_two_pulls_are_under_way() -> None:
    wire = Wire()
    items = stream(wire)
    first = asyncio.ensure_future(anext(items))
    await settle()
    assert wire.asked() == [1]
    wire.give("a")
    assert await first == "a"
    second = asyncio.ensure_future(anext(items))
    await settle()
    assert len(wire.asked()) == 2
    wire.give("b")
    wire.give("c", end=True)
    assert await second == "b"
    assert [item async for item in items] == ["c"]
    assert wire.told == [], "what has ended needs no closing"


async def test_full_answers_to_one_who_waits_double_the_pulls() -> None:
    wire = Wire()
    items = stream(wire)
    largest = 0
    for _ in range(40):
        waiting = asyncio.ensure_future(anext(items))
        await settle()
        while not waiting.done():
            largest = max(largest, wire.pulls[0][0])
            wire.give(*range(wire.pulls[0][0]))
            await settle()
        await waiting
        while items._intake is not None and items._intake.items:
            await anext(items)
    assert largest == MOST_ITEMS


async def test_answers_that_are_not_full_bring_more_pulls() -> None:
    wire = Wire()
    items = stream(wire)
    await _eat(wire, items, rounds=6, size=lambda most: most)
    before = len(wire.asked())
    await _eat(wire, items, rounds=40, size=lambda most: 2)
    assert before <= 2 < len(wire.asked()) <= 16


async def _eat(wire: Wire, items: RemoteGenerator, *, rounds: int, size: Callable[[int], int]) -> None:
    """Wait for items and answer the pulls with so many."""
    for _ in range(rounds):
        waiting = asyncio.ensure_future(anext(items))
        await settle()
        if not waiting.done():
            wire.give(*range(size(wire.pulls[0][0])))
        await waiting
        assert items._intake is not None
        while items._intake.items:
            await anext(items)


async def test_who_holds_a_lot_does_not_pull() -> None:
    wire = Wire()
    items = stream(wire)
    await _eat(wire, items, rounds=3, size=lambda most: most)
    waiting = asyncio.ensure_future(anext(items))
    await settle()
    while wire.pulls:
        wire.give(bytes(BATCH_BYTES + 1))
    await waiting
    await settle()
    assert wire.asked() == []


async def test_answers_are_taken_in_the_order_of_the_pulls() -> None:
    """A big answer is overtaken by a small one."""
    wire = Wire()
    items = stream(wire)
    await _eat(wire, items, rounds=2, size=lambda most: most)
    waiting = asyncio.ensure_future(anext(items))
    await settle()
    assert len(wire.pulls) == 2
    wire.pulls.pop(1)[1].set_result(Items(["second"], end=True))
    await settle()
    assert not waiting.done()
    wire.give("first")
    assert [await waiting, *[item async for item in items]] == ["first", "second"]


async def test_two_tasks_cannot_wait_at_once() -> None:
    wire = Wire()
    items = stream(wire)
    first = asyncio.ensure_future(anext(items))
    await settle()
    with pytest.raises(RuntimeError, match="another task"):
        await anext(items)
    wire.give("a", end=True)
    assert await first == "a"


async def test_a_cancelled_wait_closes_the_generator() -> None:
    wire = Wire()
    items = stream(wire)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(items), 0.01)
    assert wire.told == [CLOSE]
    with pytest.raises(StopAsyncIteration):
        await anext(items)


async def test_the_loss_of_the_producer_ends_the_iteration_with_an_error() -> None:
    wire = Wire()
    items = stream(wire)
    waiting = asyncio.ensure_future(anext(items))
    await settle()
    wire.pulls.pop(0)[1].set_exception(ConnectionError("gone"))
    with pytest.raises(ConnectionError):
        await waiting
    with pytest.raises(StopAsyncIteration):
        await anext(items)
