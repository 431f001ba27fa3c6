"""A call's own time limit: it settles the call here and ends the function there (extensions §2)."""

from __future__ import annotations

import pytest

from hypha_rpc.endpoint import Reference
from hypha_rpc.errors import CallCancelled, CallTimeout, DeadlineExceeded
from hypha_rpc.wire.frame import read_frame
from tests.unit.endpoint.world import Later, Outcome, Peer, Wire, World


@pytest.fixture
def slow(prov: Peer) -> Peer:
    """Offers a function that answers later."""
    prov.offer("slow", {"later": Later, "now": lambda: 1})
    return prov


def limited(peer: Peer, method: str, seconds: float) -> Outcome:
    """A call with a deadline *seconds* from now."""
    outcome, now = Outcome(), peer.world.now
    peer.endpoint.call(Reference("ws/prov", method), (), None, outcome, now, deadline=now + seconds)
    return outcome


def test_the_call_fails_when_its_deadline_passes_although_the_callee_lives(
    world: World, cons: Peer, slow: Peer
) -> None:
    outcome = limited(cons, "services.slow.later", 40)
    world.advance(39)
    assert not outcome.done()
    world.advance(2)
    with pytest.raises(DeadlineExceeded, match=r"Method call timed out: ws/prov:services\.slow\.later") as caught:
        outcome.value()
    assert caught.value.may_have_run
    assert isinstance(caught.value, CallTimeout)
    assert isinstance(caught.value, TimeoutError)
    assert cons.stats()["calls"] == 0


def test_the_function_is_cancelled_at_the_deadline_even_if_its_caller_is_silent(
    world: World, cons: Peer, slow: Peer
) -> None:
    wire = Wire(world)
    limited(cons, "services.slow.later", 5)
    world.run()
    [(_, _, extra)] = wire.frames
    assert extra["d"] == 5
    [running] = slow.later
    world.advance(4.5)
    assert not running.cancelled
    world.advance(1)
    assert running.cancelled
    running.fail(CallCancelled("stopped"))
    world.run()
    assert slow.stats()["running"] == 0
    assert "cancel" not in wire.methods("ws/cons")


def test_a_call_that_arrives_too_late_is_not_started(world: World, cons: Peer, slow: Peer) -> None:
    for left in (0, -1.5):
        outcome = cons.call("ws/prov", "services.slow.now")
        frames = list(world.frames)
        world.frames.clear()
        [(sender, frame)] = frames
        header, extra = read_frame(frame)
        world.inject(sender, header, {**extra, "d": left})
        with pytest.raises(TimeoutError, match="The deadline of the call had passed") as caught:
            outcome.value()
        assert caught.value.may_have_run is False  # type: ignore[attr-defined]
    assert not slow.later


def test_a_deadline_that_has_passed_sends_nothing(world: World, cons: Peer, slow: Peer) -> None:
    wire = Wire(world)
    with pytest.raises(DeadlineExceeded) as caught:
        limited(cons, "services.slow.now", 0)
    world.run()
    assert caught.value.may_have_run is False
    assert not wire.frames
    assert cons.stats()["calls"] == 0


@pytest.mark.parametrize("left", [None, "5", [], float("nan"), True])
def test_a_senseless_deadline_is_none(world: World, cons: Peer, slow: Peer, left: object) -> None:
    cons.call("ws/prov", "services.slow.later")
    [(sender, frame)] = list(world.frames)
    world.frames.clear()
    header, extra = read_frame(frame)
    world.inject(sender, header, {**extra, "d": left})
    assert slow.later[0].job is not None
    assert slow.later[0].job.until is None


def test_the_deadline_stands_while_the_link_is_down(world: World, cons: Peer, slow: Peer) -> None:
    outcome = limited(cons, "services.slow.later", 5)
    world.run()
    cons.endpoint.link_down(world.now)
    world.advance(6)
    with pytest.raises(DeadlineExceeded):
        outcome.value()


def test_a_context_shows_what_is_left(world: World, cons: Peer, prov: Peer) -> None:
    prov.offer("ctx", {"left": lambda context: context.get("deadline")}, require_context=True)
    outcome = limited(cons, "services.ctx.left", 7)
    world.run()
    assert outcome.value() == 7
    assert cons.ask("ws/prov", "services.ctx.left") is None


def test_a_public_callee_gets_the_key_and_no_more(world: World, cons: Peer, prov: Peer) -> None:
    """It ignores ``d``: the call settles here, a late answer is dropped."""
    prov.offer("slow", {"later": Later})
    outcome = limited(cons, "services.slow.later", 1)
    world.run()
    [running] = prov.later
    assert running.job is not None
    running.job.deadline = None
    world.advance(2)
    with pytest.raises(DeadlineExceeded):
        outcome.value()
    running.answer(1)
    world.run()
    assert outcome.settled == 1
    assert not cons.drops
