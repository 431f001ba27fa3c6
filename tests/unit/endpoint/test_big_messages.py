"""Frames in pieces, both ends (protocol §5, security S47)."""

from __future__ import annotations

from typing import Any

import pytest

from hypha_rpc import errors
from hypha_rpc.wire import FrameWriter
from tests.unit.endpoint.world import Later, Peer, Wire, World

BIG = b"x" * 20_000
CACHE = "services.built-in.message_cache."


@pytest.fixture
def cons(world: World) -> Peer:
    return world.peer("ws/cons", chunk_size=1000)


@pytest.fixture
def prov(world: World) -> Peer:
    peer = world.peer("ws/prov", chunk_size=1000)
    peer.offer("demo", {"size": len, "make": lambda n: b"y" * n, "echo": lambda value: value, "later": _later})
    return peer


def _later(value: Any = None) -> Later:
    return Later()


def empty(*peers: Peer) -> bool:
    return not any(any(peer.stats().values()) for peer in peers)


# -- sending ---------------------------------------------------------------------------------


def test_a_frame_up_to_the_slack_is_sent_whole(world: World, cons: Peer, prov: Peer) -> None:
    wire = Wire(world)
    assert cons.ask("ws/prov", "services.demo.size", b"x" * 1900) == 1900
    assert len(wire.frames) == 2
    assert cons.ask("ws/prov", "services.demo.size", b"x" * 2100) == 2100
    assert len(wire.frames) > 4


@pytest.mark.parametrize("size", [2100, 3000, 20_000, 64_000])
def test_a_big_argument_arrives(world: World, cons: Peer, prov: Peer, size: int) -> None:
    wire = Wire(world)
    assert cons.ask("ws/prov", "services.demo.size", b"x" * size) == size
    steps = [header["method"].removeprefix(CACHE) for by, header, _ in wire.frames if by == "ws/cons"]
    assert steps[0] == "create" and steps[-1] == "process"
    pieces = [extra["args"] for by, header, extra in wire.frames if header["method"] == CACHE + "set"]
    assert [args[1] for args in pieces] == list(range(len(pieces)))
    assert all(len(args[2]) == 1000 for args in pieces[:-1])
    assert {args[3] for args in pieces} == {False}, "a request restarts no clock at its receiver"
    assert empty(cons, prov)


def test_a_big_result_arrives_under_the_key_of_its_call(world: World, cons: Peer, prov: Peer) -> None:
    wire = Wire(world)
    assert cons.ask("ws/prov", "services.demo.make", 50_000) == b"y" * 50_000
    session = wire.frames[0][1]["session"]
    steps = [
        extra["args"] for by, header, extra in wire.frames if by == "ws/prov" and header["method"].startswith(CACHE)
    ]
    assert {args[0] for args in steps} == {session}
    assert {args[-1] for args in steps} == {True}, "an answer restarts the clock of its call"
    assert empty(cons, prov)


@pytest.mark.parametrize("promise", ["*", True, False])
def test_big_both_ways_in_every_form(world: World, cons: Peer, prov: Peer, promise: Any) -> None:
    outcome = cons.call("ws/prov", "services.demo.echo", BIG, promise=promise)
    world.run()
    assert outcome.value() == (BIG if promise else None)
    assert empty(cons, prov)


def test_a_big_error_arrives(world: World, cons: Peer, prov: Peer) -> None:
    def fail() -> None:
        raise ValueError("z" * 30_000)

    prov.offer("bad", {"fail": fail})
    with pytest.raises(ValueError, match="zzz"):
        cons.ask("ws/prov", "services.bad.fail")
    assert empty(cons, prov)


def test_callbacks_with_big_arguments_do_not_collide(world: World, cons: Peer, prov: Peer) -> None:
    sizes: list[int] = []

    def both(callback: Any) -> None:
        callback(b"1" * 5000)
        callback(b"2" * 6000)

    prov.offer("two", {"both": both, "later": lambda callback: (both(callback), Later())[1]})
    outcome = cons.call("ws/prov", "services.two.later", lambda data: sizes.append(len(data)))
    world.run()
    assert sizes == [5000, 6000]
    prov.later[0].answer(None)
    world.run()
    assert outcome.settled == 1
    assert empty(cons, prov)


def test_many_at_once_arrive_each_as_itself(world: World, cons: Peer, prov: Peer) -> None:
    values = [bytes([n]) * (2000 + 500 * n) for n in range(20)]
    outcomes = [cons.call("ws/prov", "services.demo.echo", value) for value in values]
    world.run()
    assert [outcome.value() for outcome in outcomes] == values
    assert empty(cons, prov)


def test_at_most_thirty_steps_are_unanswered(world: World, cons: Peer, prov: Peer) -> None:
    cons.call("ws/prov", "services.demo.size", b"x" * 100_000)
    most = 0
    while world.frames:
        most = max(most, len(world.frames))
        world.deliver_one()
    assert 25 <= most <= 31


def slowly(world: World, *, seconds: float, least: int) -> None:
    """Deliver what is under way, one frame in so many seconds."""
    delivered = 0
    while world.frames:
        world.deliver_one()
        delivered += 1
        world.now += seconds
        for peer in world.peers.values():
            peer.endpoint.tick(world.now)
    assert delivered >= least


def test_the_clock_of_a_call_stands_while_its_request_is_under_way(world: World, cons: Peer, prov: Peer) -> None:
    outcome = cons.call("ws/prov", "services.demo.later", b"x" * 100_000)
    # Each piece is answered after 54 s, but something is answered all the time.
    slowly(world, seconds=0.9, least=200)
    assert not outcome.done()
    prov.later[0].answer("in time")
    world.run()
    assert outcome.value() == "in time"
    assert empty(cons, prov)


def test_each_step_of_an_answer_restarts_the_clock_of_the_call(world: World, cons: Peer, prov: Peer) -> None:
    outcome = cons.call("ws/prov", "services.demo.make", 100_000)
    slowly(world, seconds=0.9, least=200)
    assert len(outcome.value()) == 100_000
    assert empty(cons, prov)


@pytest.mark.parametrize("lost", ["create", "set", "process"])
def test_a_lost_step_fails_the_call_by_silence_and_frees_both_ends(
    world: World, cons: Peer, prov: Peer, lost: str
) -> None:
    Wire(world, lose=lambda header: header["method"] == CACHE + lost)
    outcome = cons.call("ws/prov", "services.demo.size", BIG)
    world.run()
    world.advance(62)
    assert isinstance(outcome.errors[0], errors.CallTimeout)
    world.advance(130)
    assert empty(cons, prov)


def test_a_refused_step_fails_the_call_at_once(world: World, cons: Peer) -> None:
    world.peer("ws/small", max_partial_own=5000).offer("demo", {"size": len})
    outcome = cons.call("ws/small", "services.demo.size", BIG)
    world.run()
    with pytest.raises(errors.RemoteException, match="message exceeds 5000 bytes"):
        outcome.value()
    assert empty(cons, world.peers["ws/small"])


def test_a_peer_that_is_not_there_is_told_by_the_switch(world: World, cons: Peer) -> None:
    wire = Wire(world)
    outcome = cons.call("ws/nobody", "services.demo.size", BIG)
    world.run()
    session = wire.frames[0][1]["session"]
    gone = {"_rtype": "error", "_rvalue": "Target peer ws/nobody is not connected", "_rtrace": ""}
    world.inject("ws/nobody", {"type": "method", "to": "ws/cons", "method": f"{session}.reject"}, {"args": [gone]})
    assert isinstance(outcome.errors[0], errors.PeerGone)
    assert empty(cons)


def test_an_abandoned_request_is_taken_back(world: World, cons: Peer, prov: Peer) -> None:
    wire = Wire(world)
    outcome = cons.call("ws/prov", "services.demo.size", b"x" * 100_000)
    for _ in range(20):
        world.deliver_one()
    assert prov.stats()["partial_messages"] == 1
    (call,) = [call for call in cons.endpoint.caller.calls if call.waiter is outcome]
    cons.endpoint.abandon(call.id)
    world.run()
    assert "remove" in wire.methods("ws/cons")
    assert "process" not in wire.methods("ws/cons")
    assert outcome.settled == 0
    assert empty(cons, prov)


def test_an_abandoned_answer_is_taken_back(world: World, cons: Peer, prov: Peer) -> None:
    outcome = cons.call("ws/prov", "services.demo.make", 100_000)
    for _ in range(20):
        world.deliver_one()
    assert cons.stats()["partial_messages"] == 1
    (call,) = [call for call in cons.endpoint.caller.calls if call.waiter is outcome]
    cons.endpoint.abandon(call.id)
    world.run()
    assert empty(cons, prov)


@pytest.mark.parametrize("after", [1, 2, 20, 70])
@pytest.mark.parametrize("method", ["size", "make"])
def test_a_peer_that_goes_in_the_middle_leaves_nothing(
    world: World, cons: Peer, prov: Peer, after: int, method: str
) -> None:
    argument = b"x" * 100_000 if method == "size" else 100_000
    outcome = cons.call("ws/prov", f"services.demo.{method}", argument)
    for _ in range(after):
        world.deliver_one()
    world.leave("ws/prov")
    world.run()
    assert isinstance(outcome.errors[0], errors.PeerGone)
    assert empty(cons)


@pytest.mark.parametrize("after", [1, 2, 20, 70])
@pytest.mark.parametrize("method", ["size", "make"])
def test_a_caller_that_goes_in_the_middle_leaves_nothing(
    world: World, cons: Peer, prov: Peer, after: int, method: str
) -> None:
    argument = b"x" * 100_000 if method == "size" else 100_000
    cons.call("ws/prov", f"services.demo.{method}", argument)
    for _ in range(after):
        world.deliver_one()
    world.leave("ws/cons")
    world.run()
    assert empty(prov)


# -- receiving -------------------------------------------------------------------------------


def step(world: World, sender: str, name: str, *args: Any) -> dict[str, Any]:
    """One step made by hand; returns the payload of the answer."""
    wire = Wire(world)
    header = {"type": "method", "to": "ws/prov", "method": CACHE + name, "session": "s1"}
    world.inject(sender, header, {"args": list(args), "promise": "*", "t": 15})
    extra = wire.frames[-1][2]
    return {"rejected": wire.frames[-1][1]["method"] == "s1.reject", "value": extra["args"][0]}


def rejected(answer: dict[str, Any]) -> str:
    assert answer["rejected"], answer
    text = answer["value"]["_rvalue"]
    assert isinstance(text, str)
    return text


def frame_of(header: dict[str, Any], extra: dict[str, Any]) -> bytes:
    return FrameWriter().write(header, extra)


def test_every_step_answers_nil_and_the_order_of_pieces_is_free(world: World, prov: Peer, cons: Peer) -> None:
    got: list[Any] = []
    prov.offer("sink", {"take": lambda value, context: got.append((value, context["from"]))}, require_context=True)
    frame = frame_of(
        {"type": "method", "method": "services.sink.take", "from": "ws/root", "to": "x/y", "user": {"id": "root"}},
        {"args": ["hello"], "ws": "root"},
    )
    assert step(world, "ws/cons", "create", "k", False) == {"rejected": False, "value": None}
    for index in (2, 0, 1):
        piece = frame[index * 40 : (index + 1) * 40] if index < 2 else frame[80:]
        assert step(world, "ws/cons", "set", "k", index, piece, False)["value"] is None
    assert step(world, "ws/cons", "process", "k", False) == {"rejected": False, "value": None}
    assert got == [("hello", "ws/cons")], "the identity is that of who completed it"
    assert empty(prov)


def test_older_peers_append(world: World, prov: Peer, cons: Peer) -> None:
    got: list[Any] = []
    prov.offer("sink", {"take": got.append})
    frame = frame_of({"type": "method", "method": "services.sink.take"}, {"args": ["hello"]})
    step(world, "ws/cons", "create", "k")
    for at in range(0, len(frame), 10):
        assert not step(world, "ws/cons", "append", "k", frame[at : at + 10])["rejected"]
    assert step(world, "ws/cons", "process", "k")["value"] is None
    assert got == ["hello"]


@pytest.mark.parametrize("inner", ["services.demo.missing", "services.demo.size"])
def test_the_step_that_completes_answers_nil_when_the_inner_call_fails(
    world: World, prov: Peer, cons: Peer, inner: str
) -> None:
    frame = frame_of({"type": "method", "method": inner}, {"args": [5]})
    step(world, "ws/cons", "create", "k")
    step(world, "ws/cons", "set", "k", 0, frame)
    assert step(world, "ws/cons", "process", "k") == {"rejected": False, "value": None}


@pytest.mark.parametrize("name", ["append", "set", "process", "remove"])
def test_an_unknown_key_is_said_in_the_known_words(world: World, prov: Peer, cons: Peer, name: str) -> None:
    args = {"append": [b"x"], "set": [0, b"x"]}.get(name, [])
    assert "Message with key k does not exists." in rejected(step(world, "ws/cons", name, "k", *args))


def test_a_key_that_exists_is_said_in_the_known_words_and_may_be_overwritten(
    world: World, prov: Peer, cons: Peer
) -> None:
    step(world, "ws/cons", "create", "k")
    text = rejected(step(world, "ws/cons", "create", "k"))
    assert text.startswith("Message with the same key (k) already exists in the cache store")
    assert not step(world, "ws/cons", "create", "k", False, True)["rejected"]


@pytest.mark.parametrize("name", ["append", "set", "process", "remove"])
def test_a_message_belongs_to_its_sender(world: World, prov: Peer, cons: Peer, name: str) -> None:
    step(world, "ws/cons", "create", "k")
    args = {"append": [b"x"], "set": [0, b"x"]}.get(name, [])
    assert "does not exists" in rejected(step(world, "ws/thief", name, "k", *args))
    assert not step(world, "ws/thief", "create", "k")["rejected"], "keys of different senders do not collide"
    assert prov.stats()["partial_messages"] == 2


@pytest.mark.parametrize("key", [5, None, "", ["k"], {"a": 1}])
def test_a_key_must_be_text(world: World, prov: Peer, cons: Peer, key: Any) -> None:
    assert step(world, "ws/cons", "create", key)["rejected"]
    assert empty(prov)


@pytest.mark.parametrize("piece", ["text", 5, None, [b"x"]])
def test_a_piece_must_be_binary(world: World, prov: Peer, cons: Peer, piece: Any) -> None:
    step(world, "ws/cons", "create", "k")
    assert "binary" in rejected(step(world, "ws/cons", "set", "k", 0, piece))


@pytest.mark.parametrize("index", [-1, 65_536, "x", None])
def test_an_index_must_be_in_bounds(world: World, prov: Peer, cons: Peer, index: Any) -> None:
    step(world, "ws/cons", "create", "k")
    assert step(world, "ws/cons", "set", "k", index, b"x")["rejected"]


def test_a_heartbeat_needs_a_call_to_the_sender(world: World, cons: Peer, prov: Peer) -> None:
    assert "session does not exist anymore: k" in rejected(step(world, "ws/cons", "create", "k", True))
    outcome = prov.call("ws/other", "services.a.b")
    (call,) = prov.endpoint.caller.calls
    assert rejected(step(world, "ws/cons", "create", call.id, True))
    for name, args in (("create", []), ("set", [0, b"x"]), ("append", [b"x"])):
        extra = [True] if name == "create" else [*args, True]
        world.now += 20
        wire = Wire(world)
        header = {"type": "method", "to": "ws/prov", "method": CACHE + name, "session": f"s-{name}"}
        world.inject("ws/other", header, {"args": [call.id, *extra], "promise": "*", "t": 15})
        assert wire.frames[-1][1]["method"].endswith(".resolve")
        assert call.heard == world.now
    outcome.set_result(None)


def test_a_missing_piece_is_a_rejection_and_frees_the_rest(world: World, prov: Peer, cons: Peer) -> None:
    step(world, "ws/cons", "create", "k")
    step(world, "ws/cons", "set", "k", 1, b"x")
    assert "missing" in rejected(step(world, "ws/cons", "process", "k"))
    assert empty(prov)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"hello", b"\x81\xa1a"])
def test_pieces_that_are_no_frame_are_a_rejection(world: World, prov: Peer, cons: Peer, data: bytes) -> None:
    step(world, "ws/cons", "create", "k")
    step(world, "ws/cons", "set", "k", 0, data)
    assert rejected(step(world, "ws/cons", "process", "k"))
    assert empty(prov)


def test_a_sender_has_a_limit_of_unfinished_messages(world: World) -> None:
    prov = world.peer("ws/prov", max_partial_per_sender=2)
    for key in ("a", "b"):
        step(world, "ws/cons", "create", key)
    assert "too many incomplete messages" in rejected(step(world, "ws/cons", "create", "c"))
    assert not step(world, "ws/cons", "create", "b", False, True)["rejected"]
    assert not step(world, "ws/other", "create", "c")["rejected"]
    step(world, "ws/cons", "remove", "a")
    assert not step(world, "ws/cons", "create", "c")["rejected"]
    assert prov.stats()["partial_messages"] == 3


@pytest.mark.parametrize(("sender", "limit"), [("ws/cons", 100), ("abroad/cons", 10)])
def test_a_message_has_a_limit_by_where_its_sender_is(world: World, sender: str, limit: int) -> None:
    prov = world.peer("ws/prov", max_partial_own=100, max_partial_abroad=10)
    step(world, sender, "create", "k")
    assert not step(world, sender, "set", "k", 0, b"x" * limit)["rejected"]
    assert f"exceeds {limit} bytes" in rejected(step(world, sender, "set", "k", 1, b"x"))
    assert empty(prov), "what broke the bound is freed at once"


def test_what_makes_no_progress_is_dropped(world: World, prov: Peer, cons: Peer) -> None:
    step(world, "ws/cons", "create", "idle")
    step(world, "ws/cons", "create", "busy")
    for _ in range(4):
        world.advance(50)
        step(world, "ws/cons", "append", "busy", b"x")
    assert prov.stats()["partial_messages"] == 1
    assert "does not exists" in rejected(step(world, "ws/cons", "append", "idle", b"x"))


def test_a_lost_sender_frees_its_pieces_only(world: World, prov: Peer, cons: Peer) -> None:
    for sender in ("ws/cons", "ws/other"):
        step(world, sender, "create", "k")
    prov.endpoint.peer_gone("ws/cons", world.now)
    assert prov.stats()["partial_messages"] == 1


def test_our_own_lost_link_frees_all_pieces(world: World, prov: Peer, cons: Peer) -> None:
    step(world, "ws/cons", "create", "k")
    prov.endpoint.link_down(world.now)
    assert prov.stats()["partial_messages"] == 0


def test_two_answers_to_different_callers_with_the_same_session_do_not_mix(world: World, prov: Peer) -> None:
    first, second = world.peer("ws/a", chunk_size=1000), world.peer("ws/b", chunk_size=1000)
    prov.offer("big", {"of": lambda text: text * 5000})
    outcomes = []
    for peer, text in ((first, "1"), (second, "2")):
        # Two clients that chose the same ids.
        peer.endpoint.core.id_prefix = "same"
        outcomes.append(peer.call("ws/prov", "services.big.of", text))
    world.run()
    assert [outcome.value()[:3] for outcome in outcomes] == ["111", "222"]
    assert empty(first, second, prov)
