"""Heartbeats when due and only then; silence ends a call (protocol §4.3, security S43)."""

from __future__ import annotations

from typing import Any

import pytest

from hypha_rpc import errors
from hypha_rpc.endpoint import Reference
from tests.unit.endpoint.world import Later, Outcome, Peer, Wire, World

PROMISES = pytest.mark.parametrize("promise", ["*", True], ids=["compact", "explicit"])


def beats(wire: Wire) -> int:
    return wire.methods("ws/prov").count("heartbeat")


@PROMISES
def test_a_long_call_gives_signs_of_life_until_it_is_answered(
    world: World, cons: Peer, prov: Peer, promise: Any
) -> None:
    wire = Wire(world)
    outcome = cons.call("ws/prov", "services.demo.later", promise=promise)
    world.run()
    world.advance(7)
    assert beats(wire) == 0, "the first is due after half the interval"
    world.advance(1)
    assert beats(wire) == 1
    world.advance(92)
    assert 13 <= beats(wire) <= 14
    assert not outcome.done(), "each one restarts the silence"
    prov.later[0].answer("at last")
    world.run()
    assert outcome.value() == "at last"
    before = beats(wire)
    world.advance(100)
    assert beats(wire) == before


def test_a_call_that_answers_at_once_never_beats(world: World, cons: Peer, prov: Peer) -> None:
    wire = Wire(world)
    for method in ("add", "boom", "missing"):
        cons.call("ws/prov", f"services.demo.{method}", 1)
    world.run()
    world.advance(100)
    assert beats(wire) == 0


@pytest.mark.parametrize(
    ("asked", "seconds", "expected"),
    [
        (1, 10, 20),
        (1.0, 10, 20),
        (0, 10, 20),
        (0.0001, 10, 20),
        (-5, 10, 20),
        (True, 10, 20),
        (float("inf"), 3000, 1),
        (1e300, 3000, 1),
        (2**63, 3000, 1),
        (float("nan"), 100, 0),
        (None, 100, 0),
        ("15", 100, 0),
        ([1], 100, 0),
    ],
    ids=repr,
)
@pytest.mark.parametrize("form", ["compact", "explicit"])
def test_the_interval_is_clamped(
    world: World, cons: Peer, prov: Peer, form: str, asked: Any, seconds: float, expected: int
) -> None:
    wire = Wire(world)
    header = {"type": "method", "to": "ws/prov", "method": "services.demo.later", "session": "s1"}
    named = {name: {"_rmethod": f"s1.{name}"} for name in ("resolve", "reject", "heartbeat")}
    extra = {"promise": "*", "t": asked} if form == "compact" else {"promise": {**named, "interval": asked}}
    world.inject("ws/cons", header, extra)
    step = 0.25 if seconds < 1000 else 100
    world.advance(seconds, step)
    # Between the asked interval and twice as often; never more than twice a second (or as rarely as nothing).
    assert expected // 2 <= beats(wire) <= max(expected * 2, expected)
    prov.later[0].answer(1)
    world.run()


def test_an_explicit_promise_without_heartbeat_gets_none(world: World, cons: Peer, prov: Peer) -> None:
    wire = Wire(world)
    header = {"type": "method", "to": "ws/prov", "method": "services.demo.later", "session": "s1"}
    named = {name: {"_rmethod": f"s1.{name}"} for name in ("resolve", "reject")}
    world.inject("ws/cons", header, {"promise": {**named, "interval": 1}})
    world.advance(20)
    prov.later[0].answer(1)
    world.run()
    assert wire.methods("ws/prov") == ["resolve"]


def test_silence_fails_the_call_with_the_known_text(world: World, cons: Peer, prov: Peer) -> None:
    Wire(world, lose=lambda header: True)
    outcome = cons.call("ws/prov", "services.demo.add", 1)
    world.run()
    world.advance(30)
    assert not outcome.done()
    world.advance(1)
    with pytest.raises(TimeoutError, match=r"^Method call timed out: ws/prov:services.demo.add, context: ") as caught:
        outcome.value()
    assert isinstance(caught.value, errors.CallTimeout)
    assert (caught.value.peer, caught.value.method) == ("ws/prov", "services.demo.add")
    assert not any(cons.stats().values())


def test_a_late_answer_after_silence_is_ignored(world: World, cons: Peer, prov: Peer) -> None:
    wire = Wire(world, lose=lambda header: header["method"].endswith("heartbeat"))
    outcome = cons.call("ws/prov", "services.demo.later")
    world.run()
    world.advance(40)
    assert outcome.settled == 1
    prov.later[0].answer(1)
    world.run()
    assert "resolve" in wire.methods()
    assert outcome.settled == 1
    assert cons.drops == []


def test_a_call_may_have_its_own_limit(world: World, cons: Peer) -> None:
    quick = Outcome()
    cons.endpoint.call(Reference("ws/nobody", "services.a.b"), [], None, quick, world.now, silence_s=2)
    interface = cons.call("ws/nobody", "services._rintf_x.f")
    world.run()
    world.advance(3)
    assert isinstance(quick.errors[0], errors.CallTimeout)
    assert not interface.done()
    world.advance(8)
    assert isinstance(interface.errors[0], errors.CallTimeout), "interfaces have 10 s"


def test_the_port_is_woken_in_time_for_everything(world: World, cons: Peer, prov: Peer) -> None:
    cons.call("ws/prov", "services.demo.later")
    world.run()
    assert min(cons.wishes) <= world.now + 30
    assert min(prov.wishes) <= world.now + 7.5
    assert cons.endpoint.tick(world.now) == world.now + 30
    assert prov.endpoint.tick(world.now) == world.now + 7.5
    prov.later[0].answer(1)
    world.run()
    assert cons.endpoint.tick(world.now) is None
    assert prov.endpoint.tick(world.now) is None


def test_an_earlier_deadline_wakes_the_port_earlier(world: World, cons: Peer) -> None:
    for silence in (50.0, 20.0, 40.0, 5.0):
        cons.endpoint.call(Reference("ws/nobody", "a.b"), [], None, Outcome(), world.now, silence_s=silence)
    assert min(cons.wishes) == world.now + 5
    cons.endpoint.tick(world.now)
    cons.wishes.clear()
    cons.endpoint.call(Reference("ws/nobody", "a.b"), [], None, Outcome(), world.now, silence_s=1)
    assert cons.wishes == [world.now + 1]


def test_two_calls_of_one_caller_beat_each_on_their_own(world: World, cons: Peer, prov: Peer) -> None:
    wire = Wire(world)
    cons.call("ws/prov", "services.demo.later")
    cons.call("ws/prov", "services.demo.later")
    world.run()
    world.advance(8)
    sessions = {header["parent"] for _, header, _ in wire.frames if header["method"].endswith(".heartbeat")}
    assert len(sessions) == 2
    prov.later[0].answer(1)
    world.run()
    wire.frames.clear()
    world.advance(8)
    assert beats(wire) == 1


def test_nothing_beats_for_a_function_that_answered_while_it_was_being_tracked(
    world: World, cons: Peer, prov: Peer
) -> None:
    class Eager(Later):
        """Answers before the driver has told the endpoint that it goes on."""

    prov.offer("e", {"f": Eager})
    outcome = cons.call("ws/prov", "services.e.f")
    world.run()
    later = prov.later[0]
    later.answer(1)
    assert later.job is not None
    prov.endpoint.track(later.job, world.now)
    world.advance(20)
    assert outcome.value() == 1
    assert prov.stats()["running"] == 0
