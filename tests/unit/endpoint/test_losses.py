"""Peers and links that go and come back; cancel and query (extensions §3)."""

from __future__ import annotations

import pytest

from hypha_rpc import errors
from hypha_rpc.wire import FrameWriter
from tests.unit.endpoint.world import Outcome, Peer, Wire, World


def start(world: World, cons: Peer, *args: object) -> Outcome:
    """A call that is running at the provider; both know each other's level."""
    cons.ask("ws/prov", "services.demo.add", 1)
    outcome = cons.call("ws/prov", "services.demo.later", *args)
    world.run()
    return outcome


def session_of(cons: Peer, outcome: Outcome) -> str:
    return next(call.id for call in cons.endpoint.caller.calls if call.waiter is outcome)


# -- the callee goes -------------------------------------------------------------------------


def test_calls_to_a_lost_peer_fail_at_once_and_others_do_not(world: World, cons: Peer, prov: Peer) -> None:
    world.peer("ws/other").offer("demo", {"add": lambda: 1})
    lost = [cons.call("ws/prov", "services.demo.later", promise=promise) for promise in ("*", True)]
    kept = cons.call("ws/other", "services.demo.add")
    cons.endpoint.peer_gone("ws/prov", world.now)
    for outcome in lost:
        with pytest.raises(ConnectionError, match="Client disconnected: ws/prov") as caught:
            outcome.value()
        assert isinstance(caught.value, errors.PeerGone)
        assert caught.value.may_have_run
    world.run()
    assert kept.value() == 1
    assert not any(cons.stats().values())


def test_losing_a_stranger_changes_nothing(world: World, cons: Peer, prov: Peer) -> None:
    outcome = start(world, cons)
    assert cons.endpoint.peer_gone("ws/unknown", world.now) == 0
    cons.endpoint.peer_resumed("ws/unknown")
    assert not outcome.done()


# -- the caller goes -------------------------------------------------------------------------


def test_what_runs_for_a_lost_caller_is_cancelled_after_three_seconds(world: World, cons: Peer, prov: Peer) -> None:
    start(world, cons)
    prov.endpoint.peer_gone("ws/cons", world.now)
    assert prov.endpoint.tick(world.now) == world.now + 3
    world.advance(2.5)
    assert not prov.later[0].cancelled
    world.advance(1)
    assert prov.later[0].cancelled
    assert prov.stats()["running"] == 0
    wire = Wire(world)
    prov.later[0].answer("too late")
    world.run()
    assert wire.frames == []


def test_what_runs_for_a_resumed_caller_goes_on(world: World, cons: Peer, prov: Peer) -> None:
    outcome = start(world, cons)
    prov.endpoint.peer_gone("ws/cons", world.now)
    world.advance(2)
    prov.endpoint.peer_resumed("ws/cons")
    world.advance(20)
    assert not prov.later[0].cancelled
    prov.later[0].answer("still here")
    world.run()
    assert outcome.value() == "still here"


def test_only_the_lost_callers_work_is_cancelled(world: World, cons: Peer, prov: Peer) -> None:
    other = world.peer("ws/other")
    start(world, cons)
    start(world, other)
    prov.endpoint.peer_gone("ws/cons", world.now)
    world.advance(4)
    assert [later.cancelled for later in prov.later] == [True, False]


# -- cancel ----------------------------------------------------------------------------------


def test_an_abandoned_call_is_cancelled_at_a_callee_that_understands(world: World, cons: Peer, prov: Peer) -> None:
    outcome = start(world, cons)
    cons.endpoint.abandon(session_of(cons, outcome))
    world.run()
    assert prov.later[0].cancelled
    prov.later[0].fail(errors.CallCancelled("stopped"))
    world.run()
    assert outcome.settled == 0
    assert not any(cons.stats().values()) and not any(prov.stats().values())


def test_a_public_callee_is_sent_nothing_it_does_not_know(world: World, cons: Peer) -> None:
    outcome = cons.call("ws/public", "services.demo.later")
    world.run()
    wire = Wire(world)
    cons.endpoint.abandon(session_of(cons, outcome))
    cons.endpoint.abandon("unknown")
    cons.call("ws/public", "services.demo.later")
    cons.endpoint.link_down(world.now)
    cons.endpoint.link_up(world.now, resumed=False)
    world.advance(5)
    assert wire.methods() == ["later"]


def test_only_the_caller_can_cancel(world: World, cons: Peer, prov: Peer) -> None:
    outcome = start(world, cons)
    session = session_of(cons, outcome)
    world.inject("ws/thief", {"type": "cancel", "to": "ws/prov", "session": session})
    world.inject("ws/cons", {"type": "cancel", "to": "ws/prov", "session": "unknown"})
    world.inject("ws/cons", {"type": "cancel", "to": "ws/prov"})
    assert not prov.later[0].cancelled
    world.inject("ws/cons", {"type": "cancel", "to": "ws/prov", "session": session})
    assert prov.later[0].cancelled


# -- query -----------------------------------------------------------------------------------


def test_a_query_for_a_running_call_is_answered_by_a_sign_of_life(world: World, cons: Peer, prov: Peer) -> None:
    outcome = start(world, cons)
    wire = Wire(world)
    world.inject("ws/cons", {"type": "query", "to": "ws/prov", "session": session_of(cons, outcome)})
    assert wire.methods("ws/prov") == ["heartbeat"]
    assert not outcome.done()


def test_a_query_for_a_lost_answer_settles_the_call(world: World, cons: Peer, prov: Peer) -> None:
    outcome = start(world, cons)
    Wire(world, lose=lambda header: header.get("method", "").endswith(".resolve"))
    prov.later[0].answer("lost")
    world.run()
    world.inject("ws/cons", {"type": "query", "to": "ws/prov", "session": session_of(cons, outcome)})
    with pytest.raises(errors.HyphaError, match="answer to this call was lost") as caught:
        outcome.value()
    assert caught.value.may_have_run  # type: ignore[attr-defined]
    assert not any(cons.stats().values())


def test_a_query_while_the_answer_is_on_its_way_in_pieces_is_a_sign_of_life(world: World) -> None:
    cons, prov = world.peer("ws/cons", chunk_size=1000), world.peer("ws/prov", chunk_size=1000)
    prov.offer("big", {"make": lambda: b"x" * 50_000})
    outcome = cons.call("ws/prov", "services.big.make")
    for _ in range(10):
        world.deliver_one()
    wire = Wire(world)
    world.post("ws/cons", _query(session_of(cons, outcome)))
    world.run()
    assert len(outcome.value()) == 50_000
    assert "heartbeat" in wire.methods("ws/prov")
    assert not any(cons.stats().values()) and not any(prov.stats().values())


def _query(session: str) -> bytes:
    return FrameWriter().write({"type": "query", "to": "ws/prov", "session": session})


# -- our own link ----------------------------------------------------------------------------


def test_while_the_link_is_down_the_silence_clock_stands(world: World, cons: Peer, prov: Peer) -> None:
    outcome = start(world, cons)
    cons.endpoint.link_down(world.now)
    Wire(world, lose=lambda header: True)
    world.advance(300)
    assert not outcome.done()
    assert cons.endpoint.tick(world.now) is None, "nothing to wake for: a wish in the past would spin"
    Wire(world)
    cons.endpoint.link_up(world.now, resumed=True)
    world.advance(20)
    assert not outcome.done(), "silence begins anew"
    prov.later[0].answer("back")
    world.run()
    assert outcome.value() == "back"


@pytest.mark.parametrize(("resumed", "delay"), [(True, 0.0), (False, 2.0)])
def test_after_the_link_is_back_callees_are_asked(
    world: World, cons: Peer, prov: Peer, resumed: bool, delay: float
) -> None:
    outcome = start(world, cons)
    session = session_of(cons, outcome)
    cons.endpoint.link_down(world.now)
    wire = Wire(world)
    cons.wishes.clear()
    cons.endpoint.link_up(world.now, resumed=resumed)
    assert min(cons.wishes) == world.now + delay
    assert cons.endpoint.tick(world.now + delay - 0.01) is not None
    assert "query" not in wire.methods()
    cons.endpoint.tick(world.now + delay)
    world.run()
    assert [header["session"] for _, header, _ in wire.frames if header["type"] == "query"] == [session]
    assert wire.methods("ws/prov") == ["heartbeat"]


def test_a_call_whose_answer_was_lost_with_the_link_is_settled_soon(world: World, cons: Peer, prov: Peer) -> None:
    outcome = start(world, cons)
    cons.endpoint.link_down(world.now)
    Wire(world, lose=lambda header: True)
    prov.later[0].answer("lost")
    world.run()
    Wire(world)
    cons.endpoint.link_up(world.now, resumed=False)
    world.advance(3)
    assert "lost" in str(outcome.errors[0])


@pytest.mark.parametrize("resumed", [True, False])
def test_calls_to_the_manager_survive_only_a_resumed_link(world: World, cons: Peer, resumed: bool) -> None:
    outcome = cons.call("*/manager", "services.default.echo")
    cons.endpoint.link_down(world.now)
    assert not outcome.done()
    cons.endpoint.link_up(world.now, resumed=resumed)
    assert outcome.done() is not resumed
    if not resumed:
        assert isinstance(outcome.errors[0], errors.PeerGone)


@pytest.mark.parametrize("after", [0, 1, 5, 30])
def test_a_request_in_pieces_fails_with_the_link_and_did_not_run(world: World, prov: Peer, after: int) -> None:
    cons = world.peer("ws/chunky", chunk_size=1000)
    outcome = cons.call("ws/prov", "services.demo.echo", b"x" * 50_000)
    for _ in range(after):
        world.deliver_one()
    cons.endpoint.link_down(world.now)
    with pytest.raises(errors.PeerGone) as caught:
        outcome.value()
    assert not caught.value.may_have_run
    assert not any(cons.stats().values()), "its steps are forgotten with it"
    world.frames.clear()
    cons.endpoint.link_up(world.now, resumed=True)
    prov.endpoint.peer_gone("ws/chunky", world.now)
    world.run()
    world.advance(1)
    assert not any(cons.stats().values()) and not any(prov.stats().values())


def test_heartbeats_go_on_for_our_callers_while_our_link_is_down(world: World, cons: Peer, prov: Peer) -> None:
    start(world, cons)
    prov.endpoint.link_down(world.now)
    wire = Wire(world)
    world.advance(8)
    assert wire.methods("ws/prov") == ["heartbeat"], "what becomes of them is the port's business"


def test_the_levels_of_peers_do_not_pile_up(world: World, prov: Peer) -> None:
    header = {"type": "method", "to": "ws/prov", "method": "services.demo.add"}
    for number in range(10_050):
        world.inject(f"abroad/c{number}", header, {"args": [1], "x": 1})
    assert len(prov.endpoint.core.levels) == 10_050
    world.advance(61, 61)
    assert len(prov.endpoint.core.levels) == 0
