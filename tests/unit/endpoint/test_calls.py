"""A call and its one answer (protocol §4.1-§4.3, §4.7)."""

from __future__ import annotations

from typing import Any

import pytest

from hypha_rpc import errors
from hypha_rpc.endpoint import Reference
from tests.unit.endpoint.world import Later, Outcome, Peer, Wire, World

PROMISES = pytest.mark.parametrize("promise", ["*", True], ids=["compact", "explicit"])


@PROMISES
def test_a_result_comes_back(cons: Peer, prov: Peer, promise: Any) -> None:
    assert cons.ask("ws/prov", "services.demo.add", 1, 2, promise=promise) == 3
    assert cons.ask("ws/prov", "services.demo.add", 1, b=5, promise=promise) == 6
    assert cons.ask("ws/prov", "services.demo.echo", promise=promise) is None
    assert cons.stats() == prov.stats() == dict.fromkeys(cons.stats(), 0)


@PROMISES
def test_an_exception_comes_back_as_the_same_builtin(cons: Peer, prov: Peer, promise: Any) -> None:
    with pytest.raises(ValueError, match="bad") as caught:
        cons.ask("ws/prov", "services.demo.boom", promise=promise)
    error = caught.value
    assert isinstance(error, errors.RemoteException)
    assert (error.peer, error.method, error.may_have_run) == ("ws/prov", "services.demo.boom", True)
    assert "in boom" in error.remote_traceback


@PROMISES
def test_an_answer_may_come_later(world: World, cons: Peer, prov: Peer, promise: Any) -> None:
    outcome = cons.call("ws/prov", "services.demo.later", promise=promise)
    world.run()
    assert not outcome.done()
    assert prov.stats()["running"] == 1
    prov.later[0].answer(["done"])
    world.run()
    assert outcome.value() == ["done"]
    assert prov.stats()["running"] == 0


def test_fire_and_forget_settles_at_once_and_is_never_answered(world: World, cons: Peer, prov: Peer) -> None:
    wire = Wire(world)
    for method in ("add", "boom", "missing", "later"):
        outcome = cons.call("ws/prov", f"services.demo.{method}", promise=False)
        assert outcome.value() is None
    world.run()
    prov.later[0].answer(1)
    world.advance(100)
    assert {sender for sender, _, _ in wire.frames} == {"ws/cons"}
    assert all("session" not in header and "promise" not in extra for _, header, extra in wire.frames)
    assert not any(prov.stats().values()) and not any(cons.stats().values())


def test_the_compact_form_always_has_a_session_and_an_interval(world: World, cons: Peer, prov: Peer) -> None:
    wire = Wire(world)
    cons.ask("ws/prov", "services.demo.add", 1)
    _, header, extra = wire.frames[0]
    assert isinstance(header["session"], str) and "." not in header["session"]
    assert (extra["promise"], extra["t"]) == ("*", 15.0)
    assert header["to"] == "ws/prov"


def test_the_explicit_form_names_the_three_answers(world: World, cons: Peer, prov: Peer) -> None:
    wire = Wire(world)
    cons.ask("ws/prov", "services.built-in.ping", "ping", promise=True)
    _, header, extra = wire.frames[0]
    session = header["session"]
    assert {name: extra["promise"][name]["_rmethod"] for name in ("resolve", "reject", "heartbeat")} == {
        name: f"{session}.{name}" for name in ("resolve", "reject", "heartbeat")
    }
    assert extra["promise"]["interval"] == 15.0
    assert not extra["promise"]["resolve"]["_rpromise"]


def test_an_answer_has_one_argument_the_callers_session_as_parent_and_no_session(
    world: World, cons: Peer, prov: Peer
) -> None:
    wire = Wire(world)
    cons.call("ws/prov", "services.demo.add", 1)
    cons.call("ws/prov", "services.demo.boom")
    world.run()
    requests = [header["session"] for sender, header, _ in wire.frames if sender == "ws/cons"]
    answers = [(header, extra) for sender, header, extra in wire.frames if sender == "ws/prov"]
    assert [header["parent"] for header, _ in answers] == requests
    assert [header["method"] for header, _ in answers] == [f"{requests[0]}.resolve", f"{requests[1]}.reject"]
    for header, extra in answers:
        assert len(extra["args"]) == 1
        assert "session" not in header and "promise" not in extra
    assert answers[1][1]["args"][0]["_rtype"] == "error"
    assert isinstance(answers[1][1]["args"][0]["_rvalue"], str)


def test_session_ids_are_unique_and_begin_with_the_prefix(world: World, cons: Peer, prov: Peer) -> None:
    wire = Wire(world)
    for _ in range(50):
        cons.call("ws/prov", "services.demo.add", 1)
    world.run()
    sessions = [header["session"] for sender, header, _ in wire.frames if sender == "ws/cons"]
    assert len(set(sessions)) == 50
    assert all(session.startswith(cons.endpoint.core.id_prefix) for session in sessions)


def test_only_the_first_answer_counts(world: World, cons: Peer, prov: Peer) -> None:
    outcome = cons.call("ws/prov", "services.demo.later")
    world.run()
    later = prov.later[0]
    later.answer(1)
    later.answer(2)
    later.fail(ValueError("3"))
    world.run()
    assert outcome.value() == 1


def answer(session: str, name: str, *args: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    header = {"type": "method", "to": "ws/cons", "method": f"{session}.{name}", "parent": session}
    return header, {"args": list(args)} if args else {}


def test_late_and_repeated_answers_are_ignored_silently(world: World, cons: Peer, prov: Peer) -> None:
    wire = Wire(world)
    outcome = cons.call("ws/prov", "services.demo.add", 1, 2)
    world.run()
    session = wire.frames[0][1]["session"]
    before = len(wire.frames)
    for name in ("resolve", "reject", "heartbeat"):
        header, extra = answer(session, name, 5)
        world.inject("ws/prov", {**header, "session": "s9"}, {**extra, "promise": "*", "t": 1.0})
    assert outcome.value() == 3
    assert len(wire.frames) == before + 3
    assert cons.drops == []


@pytest.mark.parametrize(("args", "result"), [((), None), ((7,), 7), ((7, 8), 7)], ids=["none", "one", "two"])
def test_a_resolve_with_any_number_of_arguments_settles(world: World, cons: Peer, args: Any, result: Any) -> None:
    outcome = cons.call("ws/silent", "services.demo.x")
    session = _session(world)
    world.inject("ws/silent", *answer(session, "resolve", *args))
    assert outcome.value() == result


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("plain text",), "plain text"),
        ((), "None"),
        ((None,), "None"),
        (({"code": 5},), "code"),
        (({"_rtype": "error", "_rvalue": "bad"},), "bad"),
        (({"_rtype": "error", "_rvalue": None},), "value of an error"),
        (({"_rtype": "error", "_rvalue": "TypeError: js"},), "js"),
    ],
)
def test_a_reject_of_any_form_raises(world: World, cons: Peer, args: Any, text: str) -> None:
    outcome = cons.call("ws/silent", "services.demo.x")
    world.inject("ws/silent", *answer(_session(world), "reject", *args))
    with pytest.raises(errors.HyphaError, match=text):
        outcome.value()


def test_a_method_that_is_named_like_an_answer_can_be_called(world: World, cons: Peer, prov: Peer) -> None:
    prov.offer("odd", {"resolve": lambda: "mine", "heartbeat": lambda: "too"})
    assert cons.ask("ws/prov", "services.odd.resolve") == "mine"
    assert cons.ask("ws/prov", "services.odd.heartbeat") == "too"


def _session(world: World) -> str:
    """The session of the one request under way; it reaches nobody."""
    wire = Wire(world)
    world.run()
    session = wire.frames[-1][1]["session"]
    assert isinstance(session, str)
    return session


def test_an_answer_that_cannot_be_read_settles_its_call(world: World, cons: Peer) -> None:
    outcome = cons.call("ws/silent", "services.demo.x")
    header, _ = answer(_session(world), "resolve")
    world.inject_broken("ws/silent", header)
    with pytest.raises(errors.ProtocolError):
        outcome.value()
    assert not any(cons.stats().values())


def test_an_answer_that_describes_no_value_settles_its_call_with_the_path(world: World, cons: Peer) -> None:
    outcome = cons.call("ws/silent", "services.demo.x")
    world.inject("ws/silent", *answer(_session(world), "resolve", {"a": [{"_rtype": "set", "_rvalue": 5}]}))
    with pytest.raises(errors.SerializationError, match=r"result\[0\]\['a'\]\[0\]"):
        outcome.value()


def test_a_call_that_cannot_be_read_is_rejected_at_once(world: World, cons: Peer, prov: Peer) -> None:
    wire = Wire(world)
    header = {"type": "method", "to": "ws/prov", "method": "services.demo.add", "session": "s1"}
    world.inject_broken("ws/cons", header)
    _, rejected, extra = wire.frames[-1]
    assert rejected["method"] == "s1.reject"
    assert extra["args"][0]["_rerr"]["may_have_run"] is False
    world.inject_broken("ws/cons", {**header, "session": None})
    assert len(prov.drops) == 1


@pytest.mark.parametrize(
    "extra",
    [
        {"args": "text"},
        {"args": {"a": 1}},
        {"args": 5},
        {"args": [], "with_kwargs": True},
        {"args": [1], "with_kwargs": True},
        {"args": [{"_rtype": "set", "_rvalue": 1}]},
        {"args": [1, 2, 3, 4]},
    ],
    ids=repr,
)
def test_arguments_that_make_no_sense_are_rejected(world: World, cons: Peer, prov: Peer, extra: Any) -> None:
    wire = Wire(world)
    header = {"type": "method", "to": "ws/prov", "method": "services.demo.add", "session": "s1"}
    world.inject("ws/cons", header, {**extra, "promise": "*", "t": 15})
    assert wire.frames[-1][1]["method"] == "s1.reject"
    assert not any(prov.stats().values())


@pytest.mark.parametrize("args", [None, [], "absent"])
def test_absent_or_null_arguments_are_none(world: World, cons: Peer, prov: Peer, args: Any) -> None:
    wire = Wire(world)
    header = {"type": "method", "to": "ws/prov", "method": "services.demo.echo", "session": "s1"}
    extra = {"promise": "*", "t": 15} if args == "absent" else {"promise": "*", "t": 15, "args": args}
    world.inject("ws/cons", header, extra)
    assert wire.frames[-1][1]["method"] == "s1.resolve"


def test_a_merged_frame_is_a_call_too(world: World, cons: Peer, prov: Peer) -> None:
    wire = Wire(world)
    header = {"type": "method", "to": "ws/prov", "method": "services.demo.add", "session": "s1"}
    world.inject("ws/cons", {**header, "args": [1, 2], "promise": "*", "t": 15.0, "unknown": 1})
    assert wire.frames[-1][2]["args"] == [3]


@pytest.mark.parametrize("promise", [{}, {"resolve": 5}, {"reject": {"_rmethod": 5}}, "yes", 5, True, []])
def test_a_promise_that_makes_no_sense_is_no_promise(world: World, cons: Peer, prov: Peer, promise: Any) -> None:
    wire = Wire(world)
    header = {"type": "method", "to": "ws/prov", "method": "services.demo.add", "session": "s1"}
    world.inject("ws/cons", header, {"args": [1, 2], "promise": promise, "t": 15.0})
    assert len(wire.frames) == 1
    assert not any(prov.stats().values())


def test_a_result_that_cannot_be_encoded_is_a_rejection_with_its_path(world: World, cons: Peer, prov: Peer) -> None:
    for value in (object(), {"a": [2**70]}, ["\ud800"], {1: 2}):
        prov.offer("bad", {"get": lambda value=value: value})
        with pytest.raises(errors.RemoteException, match=r"result\[0\]"):
            cons.ask("ws/prov", "services.bad.get")
    assert not any(prov.stats().values())


def test_an_argument_that_cannot_be_encoded_sends_nothing_and_leaves_nothing(
    world: World, cons: Peer, prov: Peer
) -> None:
    for value in (object(), {"a": [2**70]}, "\ud800", {1: 2}, [len, object()], {"f": len, "n": 2**70}):
        with pytest.raises(errors.SerializationError, match=r"args\[0\]"):
            cons.call("ws/prov", "services.demo.echo", value)
        with pytest.raises(errors.SerializationError, match=r"args\[0\]\['key'\]"):
            cons.call("ws/prov", "services.demo.echo", key=value)
    assert not world.frames
    assert not any(cons.stats().values())


def test_a_schema_that_cannot_be_sent_is_refused_and_leaves_nothing(world: World, cons: Peer, prov: Peer) -> None:
    def odd() -> None:
        return None

    odd.__schema__ = {"type": int}  # type: ignore[attr-defined]
    with pytest.raises(errors.SerializationError):
        cons.call("ws/prov", "services.demo.echo", odd)
    assert not any(cons.stats().values())


def test_as_many_calls_as_the_limit_may_be_pending(world: World, prov: Peer) -> None:
    cons = world.peer("ws/busy", max_pending=3)
    for _ in range(3):
        cons.call("ws/prov", "services.demo.later")
    with pytest.raises(errors.TooManyPending):
        cons.call("ws/prov", "services.demo.later")
    world.run()
    prov.later[0].answer(1)
    world.run()
    cons.call("ws/prov", "services.demo.later")


def test_an_abandoned_waiter_is_not_told(world: World, cons: Peer, prov: Peer) -> None:
    class Cancelled(Outcome):
        def done(self) -> bool:
            return True

    outcome = Cancelled()
    cons.endpoint.call(Reference("ws/prov", "services.demo.add"), [1], None, outcome, world.now)
    world.run()
    assert outcome.settled == 0
    assert not any(cons.stats().values())


def test_a_call_running_already_is_dropped(world: World, cons: Peer, prov: Peer) -> None:
    header = {"type": "method", "to": "ws/prov", "method": "services.demo.later", "session": "s1"}
    for _ in range(3):
        world.inject("ws/cons", header, {"promise": "*", "t": 15})
    assert len(prov.later) == 1
    assert len(prov.drops) == 2
    world.inject("ws/other", header, {"promise": "*", "t": 15})
    assert len(prov.later) == 2, "another caller's session of the same name is another call"


def test_lists_and_nested_maps_are_reached_by_index_and_key(cons: Peer, prov: Peer) -> None:
    assert cons.ask("ws/prov", "services.demo.list.0", "x") == "x"
    assert cons.ask("ws/prov", "services.demo.list.1.deep", 2, 3) == 5


def test_ten_thousand_calls_of_which_half_fail_leave_nothing(world: World, cons: Peer, prov: Peer) -> None:
    outcomes = []
    for number in range(10_000):
        method = "add" if number % 2 else "boom"
        outcomes.append(cons.call("ws/prov", f"services.demo.{method}", number))
        if number % 100 == 99:
            world.run()
    assert sum(bool(outcome.results) for outcome in outcomes) == 5000
    assert all(outcome.settled == 1 for outcome in outcomes)
    assert not any(cons.stats().values()) and not any(prov.stats().values())
    assert not prov.endpoint.exports.sessions


def test_after_closing_everything_fails_and_nothing_is_sent(world: World, cons: Peer, prov: Peer) -> None:
    outcomes = [cons.call("ws/prov", "services.demo.later", promise=promise) for promise in ("*", True)]
    world.run()
    reason = errors.ConnectionLost("closed by us")
    cons.endpoint.close(reason)
    cons.endpoint.close(errors.ConnectionLost("again"))
    assert [outcome.errors for outcome in outcomes] == [[reason], [reason]]
    with pytest.raises(errors.ConnectionLost):
        cons.call("ws/prov", "services.demo.add", 1)
    prov.endpoint.close(reason)
    assert all(later.cancelled for later in prov.later)
    prov.later[0].answer(1)
    world.run()
    for peer in (cons, prov):
        assert peer.endpoint.stats() == dict.fromkeys(peer.endpoint.stats(), 0)
        assert peer.endpoint.tick(world.now) is None
    assert [outcome.settled for outcome in outcomes] == [1, 1]
    assert isinstance(cons.endpoint.closed, errors.ConnectionLost)


def test_a_later_function_that_returns_at_once_is_not_tracked(cons: Peer, prov: Peer) -> None:
    assert isinstance(prov.later, list) and not prov.later
    assert cons.ask("ws/prov", "services.demo.echo", "now") == "now"
    assert Later not in map(type, prov.later)
