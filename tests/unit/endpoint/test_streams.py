"""Which items go into which answer, and when the next step is wanted (extensions §3 ``pull``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypha_rpc.endpoint.streams import (
    BATCH_BYTES,
    MOST_ITEMS,
    Flow,
    PlainProducer,
    plain_producer,
    rough_size,
)
from hypha_rpc.errors import CallbackExpired, SerializationError
from tests.unit.endpoint.world import Later, Outcome, Peer, World

FAST = 0.00001


def answer(items: list[Any], *, end: bool = False) -> dict[str, Any]:
    return {"_rtype": "items", "_rvalue": items, "_rend": end}


class Bench:
    """A flow, a clock, and a count of how often it was forgotten."""

    def __init__(self) -> None:
        self.now = 0.0
        self.forgotten = 0
        self.flow = Flow(self._forget)

    def _forget(self) -> None:
        self.forgotten += 1

    def pull(self, most: Any) -> Outcome:
        outcome = Outcome()
        try:
            there, value = self.flow.pull(most, outcome, self.now)
        except BaseException as error:  # noqa: BLE001 - what a pull raises is its outcome
            outcome.set_exception(error)
        else:
            if there:
                outcome.set_result(value)
        return outcome

    def step(self, item: Any, took: float = FAST) -> None:
        began, self.now = self.now, self.now + took
        self.flow.add(item, began, self.now)

    def steps(self, *items: Any) -> None:
        for item in items:
            self.step(item)


@pytest.fixture
def bench() -> Bench:
    return Bench()


# -- batches ---------------------------------------------------------------------------------


def test_a_batch_ends_at_the_number_asked_for(bench: Bench) -> None:
    outcome = bench.pull(3)
    bench.steps(1, 2)
    assert not outcome.done()
    bench.step(3)
    assert outcome.value() == answer([1, 2, 3])


def test_a_batch_ends_where_a_step_suspends(bench: Bench) -> None:
    outcome = bench.pull(10)
    bench.steps(1, 2)
    bench.flow.flush()
    assert outcome.value() == answer([1, 2])


def test_a_step_that_suspends_before_the_first_item_answers_nothing(bench: Bench) -> None:
    outcome = bench.pull(10)
    bench.flow.flush()
    assert not outcome.done()
    bench.step(1, took=5.0)
    assert outcome.value() == answer([1]), "after a step longer than a millisecond"


def test_a_batch_ends_when_it_is_a_millisecond_old(bench: Bench) -> None:
    outcome = bench.pull(500)
    for number in range(20):
        bench.step(number, took=0.0001)
        if outcome.done():
            break
    assert outcome.value() == answer(list(range(11)))


def test_a_batch_ends_at_256_kib_unless_one_item_is_larger(bench: Bench) -> None:
    outcomes = [bench.pull(500) for _ in range(3)]
    bench.steps(*[bytes(100_000)] * 3)
    assert [len(outcome.value()["_rvalue"]) for outcome in outcomes[:2]] == [2, 1]
    bench.step(bytes(2 * BATCH_BYTES))
    assert [len(item) for item in outcomes[2].value()["_rvalue"]] == [2 * BATCH_BYTES]


def test_a_ready_item_never_waits_for_a_fuller_batch(bench: Bench) -> None:
    bench.pull(2)
    bench.steps(1, 2, 3)
    assert bench.pull(500).value() == answer([3])


@pytest.mark.parametrize("most", [0, -5, 10**9])
def test_nobody_gets_more_or_less_than_makes_sense(bench: Bench, most: int) -> None:
    outcome = bench.pull(most)
    for number in range(MOST_ITEMS):
        bench.step(number, took=0.0)
    assert len(outcome.value()["_rvalue"]) == (1 if most < 1 else MOST_ITEMS)


# -- running ahead ---------------------------------------------------------------------------


def test_nothing_is_made_before_the_first_pull_and_nothing_ahead_of_single_items(bench: Bench) -> None:
    assert not bench.flow.wants_step()
    bench.pull(1)
    assert bench.flow.wants_step()
    bench.step(1)
    assert not bench.flow.wants_step()


def test_while_no_pull_waits_as_many_items_are_made_as_the_last_one_wanted(bench: Bench) -> None:
    bench.pull(4)
    bench.steps(1, 2, 3, 4)
    made = 0
    while bench.flow.wants_step():
        bench.step(made)
        made += 1
    assert made == 4
    assert bench.pull(4).value() == answer([0, 1, 2, 3])


def test_no_more_than_256_kib_are_made_ahead(bench: Bench) -> None:
    bench.pull(100)
    bench.flow.flush()
    bench.step(b"", took=1.0)
    made = 0
    while bench.flow.wants_step():
        bench.step(bytes(100_000))
        made += 1
    assert made == 3


def test_after_two_big_answers_a_new_pull_is_wanted_first(bench: Bench) -> None:
    outcomes = [bench.pull(2) for _ in range(5)]
    for _ in range(5):
        if bench.flow.wants_step():
            bench.step(bytes(2 * BATCH_BYTES))
    assert [outcome.done() for outcome in outcomes] == [True, True, False, False, False]
    assert not bench.flow.wants_step()
    bench.pull(2)
    assert bench.flow.wants_step()


# -- ends ------------------------------------------------------------------------------------


def test_the_end_comes_after_the_items_and_to_every_pull(bench: Bench) -> None:
    outcomes = [bench.pull(2) for _ in range(3)]
    bench.step(1)
    bench.flow.finish()
    assert outcomes[0].value() == answer([1], end=True)
    assert [outcome.value() for outcome in outcomes[1:]] == [answer([], end=True)] * 2
    assert bench.forgotten == 1


def test_what_was_made_ahead_is_delivered_before_the_end(bench: Bench) -> None:
    bench.pull(2)
    bench.steps(1, 2, 3)
    bench.flow.finish()
    assert bench.forgotten == 0
    assert bench.pull(2).value() == answer([3], end=True)
    assert bench.forgotten == 1


def test_an_error_comes_after_the_items_to_one_pull(bench: Bench) -> None:
    bench.pull(2)
    bench.steps(1, 2, 3)
    bench.flow.finish(KeyError("bad"))
    assert bench.pull(2).value() == answer([3])
    with pytest.raises(KeyError):
        bench.pull(2).value()
    assert bench.pull(2).value() == answer([], end=True)
    assert bench.forgotten == 1


def test_an_error_rejects_the_pull_that_waits(bench: Bench) -> None:
    first, second = bench.pull(2), bench.pull(2)
    bench.flow.finish(KeyError("bad"))
    with pytest.raises(KeyError):
        first.value()
    assert second.value() == answer([], end=True)


def test_closing_tells_waiting_pulls_the_end_and_drops_the_items(bench: Bench) -> None:
    bench.pull(2)
    bench.steps(1, 2, 3)
    bench.flow.close()
    waiting = bench.pull(2)
    assert waiting.value() == answer([], end=True)
    assert bench.forgotten == 1
    assert not bench.flow.wants_step()


def test_the_end_of_its_call_rejects_waiting_pulls(bench: Bench) -> None:
    outcome = bench.pull(2)
    bench.flow.abandon()
    with pytest.raises(CallbackExpired):
        outcome.value()
    assert bench.forgotten == 1


def test_items_of_a_pull_that_was_given_up_go_to_the_next(bench: Bench) -> None:
    gone, next_one = bench.pull(1), bench.pull(1)
    gone.set_result("cancelled")
    bench.step(1)
    assert next_one.value() == answer([1])


def test_public_peers_get_one_item_and_then_the_end(bench: Bench) -> None:
    first = bench.pull(None)
    bench.step("item")
    assert first.value() == "item"
    second = bench.pull(None)
    bench.flow.finish()
    assert second.value() == {"_rtype": "stop_iteration"}
    assert bench.forgotten == 1


def checked(outcomes: list[tuple[int, Outcome]]) -> tuple[list[bytes], bool]:
    """The items of answers that keep to the rules, and whether the end was told."""
    received: list[bytes] = []
    over = False
    for count, outcome in outcomes:
        if not outcome.done():
            continue
        got = outcome.value()
        assert len(got["_rvalue"]) <= count
        assert got["_rvalue"] or got["_rend"]
        assert len(got["_rvalue"]) == 1 or sum(map(rough_size, got["_rvalue"])) <= BATCH_BYTES
        assert not (over and got["_rvalue"])
        over = over or got["_rend"]
        received += got["_rvalue"]
    return received, over


@given(
    st.lists(st.integers(0, 300_000), max_size=40),
    st.lists(st.tuples(st.integers(1, 20), st.sampled_from(["step", "pull", "suspend", "slow"])), max_size=120),
)
def test_items_arrive_once_and_in_order_whatever_happens(sizes: list[int], events: list[tuple[int, str]]) -> None:
    bench, items, outcomes = Bench(), iter([bytes(size) for size in sizes]), []
    made: list[bytes] = []

    def step(took: float) -> None:
        if bench.flow.wants_step():
            item = next(items, None)
            if item is None:
                bench.flow.finish()
            else:
                made.append(item)
                bench.step(item, took)

    for count, event in events:
        if event == "pull":
            outcomes.append((count, bench.pull(count)))
        elif event == "suspend":
            bench.flow.flush()
        else:
            step(0.002 if event == "slow" else FAST)
    for _ in range(2 * len(sizes) + 2):
        outcomes.append((5, bench.pull(5)))
        step(FAST)
        bench.flow.flush()
    received, over = checked(outcomes)
    assert received == made[: len(received)]
    assert over == bool(bench.forgotten)
    if over:
        assert len(received) == len(sizes)


# -- plain iterators, over the wire ----------------------------------------------------------


def numbers(count: int, log: list[str], fail_at: int | None = None) -> Iterator[int]:
    try:
        for number in range(count):
            if number == fail_at:
                raise KeyError("bad")
            yield number
    finally:
        log.append("closed")


def producer(source: Iterator[Any]) -> PlainProducer:
    made = plain_producer(source, lambda: None)
    assert isinstance(made, PlainProducer)
    return made


def test_a_plain_generator_is_stepped_inside_the_pull() -> None:
    log: list[str] = []
    made = producer(numbers(5, log))
    assert made.pull(3) == answer([0, 1, 2])
    assert made.pull(3) == answer([3, 4], end=True)
    assert log == ["closed"]


def test_a_slow_plain_generator_does_not_hold_items_back() -> None:
    times = iter(range(100))
    made = PlainProducer(iter("abc"), lambda: None, lambda: float(next(times)))
    assert [made.pull(10)["_rvalue"] for _ in range(3)] == [["a"], ["b"], ["c"]]
    assert made.pull(10) == answer([], end=True)


def test_the_error_of_a_plain_generator_comes_after_its_items() -> None:
    made = producer(numbers(5, [], fail_at=2))
    assert made.pull(5) == answer([0, 1])
    with pytest.raises(KeyError):
        made.pull(5)


@pytest.mark.parametrize("end", ["close", "abandon"])
def test_a_plain_generator_that_is_left_runs_its_finally(end: str) -> None:
    log: list[str] = []
    made = producer(numbers(5, log))
    made.pull(1)
    getattr(made, end)()
    assert log == ["closed"]
    assert made.pull(1) == answer([], end=True)


def test_one_by_one_for_public_peers() -> None:
    made = producer(iter([1, 2]))
    assert [made.pull(), made.pull(), made.pull()] == [1, 2, {"_rtype": "stop_iteration"}]


def test_what_waits_needs_a_driver() -> None:
    async def waits() -> Any:
        yield 1

    with pytest.raises(SerializationError, match="asynchronous"):
        plain_producer(waits(), lambda: None)


def test_a_generator_in_an_argument_ends_with_its_call(world: World, cons: Peer, prov: Peer) -> None:
    log: list[str] = []
    streams: list[Any] = []

    def take(stream: Any) -> Later:
        streams.append(stream)
        return Later()

    prov.offer("taker", {"take": take})
    call = cons.call("ws/prov", "services.taker.take", numbers(5, log))
    world.run()
    first = streams[0](2)
    world.run()
    assert first.value().items == [0, 1]
    prov.later[0].answer("done")
    world.run()
    assert (call.value(), log) == ("done", ["closed"])
    late = streams[0](2)
    world.run()
    with pytest.raises(CallbackExpired):
        late.value()
    assert not any(cons.stats().values())


def test_a_generator_in_a_result_is_gone_after_its_end(world: World, cons: Peer, prov: Peer) -> None:
    prov.offer("giver", {"give": lambda: numbers(3, [])})
    stream = cons.ask("ws/prov", "services.giver.give")
    assert prov.stats()["sessions"] == 1
    outcome = stream(10)
    world.run()
    assert outcome.value().items == [0, 1, 2]
    assert outcome.value().end
    assert prov.stats()["sessions"] == 0


# -- sizes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        (1, 1, 20),
        (b"x" * 1000, 1000, 1100),
        ("x" * 1000, 1000, 1100),
        ([b"x" * 500] * 4, 2000, 2200),
        ({"key": {"deep": [b"x" * 1000]}}, 1000, 1200),
        (object(), 1, 100),
        (memoryview(bytes(5000)), 5000, 5100),
    ],
)
def test_a_rough_size_is_about_right(value: Any, least: int, most: int) -> None:
    assert least <= rough_size(value) <= most
