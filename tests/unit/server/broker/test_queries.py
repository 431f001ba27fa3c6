"""What the switch answers to who asks after a call of a peer that is not there (extensions §3)."""

from __future__ import annotations

from tests.unit.server.broker.conftest import World, frame


def test_a_query_for_somebody_absent_is_rejected_as_a_call_that_may_have_run(world: World) -> None:
    source, back = world.connect("c1", level=1)
    world.router.route(source, frame({"type": "query", "to": "ws/gone", "session": "s1"}))
    ((header, extra),) = back.frames
    assert (header["method"], header["from"]) == ("s1.reject", "ws/gone")
    (error,) = extra["args"]
    assert error["_rerr"]["type"] == "PeerGone"
    # Else its caller would make it again, and it would run twice.
    assert error["_rerr"]["may_have_run"] is True


def test_a_call_to_somebody_absent_is_rejected_as_one_that_did_not_run(world: World) -> None:
    source, back = world.connect("c1", level=1)
    world.router.route(source, frame({"type": "method", "to": "ws/gone", "method": "services.s.f", "session": "s1"}))
    ((_, extra),) = back.frames
    assert extra["args"][0]["_rerr"]["may_have_run"] is False
