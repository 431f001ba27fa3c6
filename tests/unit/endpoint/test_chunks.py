"""Big frames as chunks under credit between peers of level 1 (extensions §3, security S47)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy
import pytest

from hypha_rpc import errors
from hypha_rpc.areas import area
from hypha_rpc.endpoint import Reference
from hypha_rpc.endpoint.chunks_in import MIB, WINDOW_ALL, WINDOW_MOST
from hypha_rpc.endpoint.chunks_out import KEEP_S, PIECE, STARTING, STARTING_ALL
from hypha_rpc.wire import FrameWriter
from hypha_rpc.wire.frame import read_header
from tests.unit.endpoint.world import Later, Outcome, Peer, Wire, World

BIG = b"x" * (3 * MIB)
ROOM = {"areas": area}


class Pumping:
    """Hands out the pieces of a peer: all at once, or as many as a test says."""

    def __init__(self, world: World, peer: Peer) -> None:
        self._world, self._peer = world, peer
        self.automatic = True
        peer.endpoint.big.outgoing.pump = self.wake

    def wake(self) -> None:
        if self.automatic:
            self.give(1_000_000)

    def give(self, count: int = 1) -> int:
        """Send some pieces; returns how many there were."""
        for done in range(count):
            parts = self._peer.endpoint.next_piece(self._world.now)
            if parts is None:
                return done
            self._peer.send(b"".join(parts))
        return count


@pytest.fixture
def cons(world: World) -> Peer:
    return world.peer("ws/cons", **ROOM)


@pytest.fixture
def prov(world: World) -> Peer:
    peer = world.peer("ws/prov", **ROOM)
    peer.offer("demo", {"size": len, "make": lambda n: b"y" * n, "echo": lambda value: value, "later": _later})
    peer.offer("private", {"size": len}, visibility="protected")
    return peer


@pytest.fixture
def out(world: World, cons: Peer, prov: Peer) -> Pumping:
    """The consumer's pieces; both know each other."""
    cons.endpoint.core.levels["ws/prov"] = prov.endpoint.core.levels["ws/cons"] = 1
    Pumping(world, prov)
    return Pumping(world, cons)


def _later(value: Any = None) -> Later:
    return Later()


def empty(*peers: Peer) -> bool:
    return not any(any(peer.stats().values()) for peer in peers)


def kinds(wire: Wire, sender: str) -> Counter[str]:
    return Counter(header["type"] for by, header, _ in wire.frames if by == sender)


def credits_of(wire: Wire) -> list[int]:
    return [header["upto"] for _, header, _ in wire.frames if header["type"] == "credit"]


# -- there and back --------------------------------------------------------------------------


def test_a_big_argument_goes_as_chunks_and_is_acknowledged(world: World, cons: Peer, prov: Peer, out: Pumping) -> None:
    wire = Wire(world)
    assert cons.ask("ws/prov", "services.demo.size", BIG) == len(BIG)
    chunks = [(header, extra) for _, header, extra in wire.frames if header["type"] == "chunk"]
    assert kinds(wire, "ws/cons") == {"chunk": len(chunks)}
    total = chunks[0][0]["of"]
    assert [header["at"] for header, _ in chunks] == list(range(0, total, PIECE))
    assert {(header["of"], header["session"]) for header, _ in chunks} == {(total, chunks[0][0]["session"])}
    assert all(len(extra["b"]) == PIECE for _, extra in chunks[:-1])
    *granted, last = credits_of(wire)
    assert granted == sorted(set(granted)) and last == total
    assert total not in granted, "exactly the end means that all has arrived"
    assert empty(cons, prov)


@pytest.mark.parametrize("promise", ["*", True, False])
@pytest.mark.parametrize("value", [BIG, numpy.arange(MIB), {"deep": [b"z" * MIB, 1]}])
def test_big_both_ways(world: World, cons: Peer, prov: Peer, out: Pumping, promise: Any, value: Any) -> None:
    outcome = cons.call("ws/prov", "services.demo.echo", value, promise=promise)
    world.run()
    assert repr(outcome.value()) == repr(value if promise else None)
    assert empty(cons, prov)


def test_ten_at_once_take_turns(world: World, cons: Peer, prov: Peer, out: Pumping) -> None:
    out.automatic = False
    outcomes = [cons.call("ws/prov", "services.demo.size", BIG[:STARTING]) for _ in range(5)]
    wire = Wire(world)
    assert out.give(5) == 5
    world.run()
    assert len({header["session"] for by, header, _ in wire.frames if by == "ws/cons"}) == 5
    out.automatic = True
    out.wake()
    world.run()
    assert [outcome.value() for outcome in outcomes] == [STARTING] * 5


def test_small_calls_go_between_the_pieces(world: World, cons: Peer, prov: Peer, out: Pumping) -> None:
    out.automatic = False
    big = cons.call("ws/prov", "services.demo.size", BIG)
    out.give(1)
    assert cons.ask("ws/prov", "services.demo.echo", 5) == 5
    assert not big.done()
    out.automatic = True
    out.wake()
    world.run()
    assert big.value() == len(BIG)


def test_towards_peers_that_have_shown_no_level_the_steps_of_the_protocol_are_taken(
    world: World, cons: Peer, prov: Peer, out: Pumping
) -> None:
    cons.endpoint.core.levels.clear()
    wire = Wire(world)
    outcome = cons.call("ws/prov", "services.demo.size", BIG)
    world.run()
    assert outcome.value() == len(BIG)
    assert kinds(wire, "ws/cons")["chunk"] == 0


def test_progress_is_told_in_both_directions(world: World, cons: Peer, prov: Peer, out: Pumping) -> None:
    out.automatic = False
    outcome, seen = Outcome(), []
    call_id = cons.endpoint.call(Reference("ws/prov", "services.demo.echo"), (BIG,), None, outcome, world.now)
    assert call_id is not None
    cons.endpoint.watch(call_id, lambda done, total: seen.append((done, total)))
    out.automatic = True
    out.wake()
    world.run()
    cons.endpoint.unwatch(call_id)
    assert outcome.value() == BIG
    sent, received = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    for half in (sent, received):
        assert [done for done, _ in half] == sorted({done for done, _ in half})
        assert half[-1][0] == half[-1][1] > len(BIG)


# -- credit ----------------------------------------------------------------------------------


def test_before_the_first_credit_only_a_little_is_sent(world: World, cons: Peer, prov: Peer, out: Pumping) -> None:
    out.automatic = False
    for _ in range(20):
        cons.call("ws/prov", "services.demo.size", BIG)
    assert out.give(1000) == STARTING_ALL // PIECE
    world.run()
    assert out.give(1) == 1


def test_one_transfer_sends_half_a_mebibyte_ahead(world: World, cons: Peer, prov: Peer, out: Pumping) -> None:
    out.automatic = False
    cons.call("ws/prov", "services.demo.size", BIG)
    assert out.give(1000) == STARTING // PIECE


def test_a_slow_sender_keeps_a_small_window_and_a_fast_one_gets_a_large_one(
    world: World, cons: Peer, prov: Peer, out: Pumping
) -> None:
    out.automatic = False
    wire = Wire(world)
    cons.call("ws/prov", "services.demo.size", b"x" * (90 * MIB))
    for _ in range(40):
        out.give(1)
        world.run()
        world.now += 0.15
    received = 40 * PIECE
    assert received + MIB >= credits_of(wire)[-1]
    for _ in range(180):
        out.give(1)
        world.run()
        world.now += 0.001
    received += 180 * PIECE
    assert 0.5 * WINDOW_MOST < credits_of(wire)[-1] - received <= WINDOW_MOST


def test_many_transfers_share_what_one_receiver_takes(world: World, cons: Peer, prov: Peer, out: Pumping) -> None:
    out.automatic = False
    granted: dict[str, int] = {}
    had: Counter[str] = Counter()
    wire = Wire(world)
    for _ in range(12):
        cons.call("ws/prov", "services.demo.size", b"x" * (20 * MIB))
    for _ in range(300):
        out.give(6)
        world.run()
    for _, header, extra in wire.frames:
        if header["type"] == "chunk":
            had[header["session"]] += len(extra["b"])
        elif header["type"] == "credit":
            granted[header["key"]] = header["upto"]
    ahead = [min(upto, 20 * MIB) - had[key] for key, upto in granted.items()]
    assert sum(ahead) <= WINDOW_ALL + 12 * PIECE


def test_a_receiver_of_one_piece_after_the_other_is_enough(world: World, cons: Peer, prov: Peer, out: Pumping) -> None:
    """A peer that grants a piece at a time gets everything, too."""
    receiver = world.peer("ws/strange")
    cons.endpoint.core.levels["ws/strange"] = 1
    received: list[int] = []

    def take(sender: str, frame: bytes) -> list[bytes]:
        header, _ = read_header(frame)
        if header["type"] == "chunk":
            received.append(header["at"])
            upto = min(header["at"] + 2 * PIECE, header["of"])
            receiver.send(FrameWriter().write({"type": "credit", "to": sender, "key": header["session"], "upto": upto}))
            return []
        return [frame]

    world.intercept = take
    cons.call("ws/strange", "services.demo.size", BIG)
    world.run()
    assert received == list(range(0, len(BIG) + 1, PIECE))


# -- refusals --------------------------------------------------------------------------------


def test_what_the_caller_may_not_call_is_refused_at_the_first_piece(
    world: World, cons: Peer, prov: Peer, out: Pumping
) -> None:
    stranger = world.peer("else/where", **ROOM)
    stranger.endpoint.core.levels["ws/prov"] = 1
    pumping = Pumping(world, stranger)
    wire = Wire(world)
    for method, kind in (("private.size", PermissionError), ("nothing.here", AttributeError)):
        outcome = stranger.call("ws/prov", f"services.{method}", BIG)
        pumping.wake()
        world.run()
        with pytest.raises(kind):
            outcome.value()
    assert not credits_of(wire)
    assert empty(stranger, prov)


def test_an_answer_nobody_waits_for_is_refused_at_the_first_piece(
    world: World, cons: Peer, prov: Peer, out: Pumping
) -> None:
    outcome = cons.call("ws/prov", "services.demo.later", 1)
    world.run()
    cons.endpoint.caller.calls.pop(next(iter(cons.endpoint.caller.calls)).id)
    prov.later[0].answer(BIG)
    world.run()
    assert not outcome.done()
    assert empty(cons, prov)


@pytest.mark.parametrize(
    ("header", "piece"),
    [
        ({"at": 5, "of": 10}, b"x"),
        ({"at": 0, "of": 10}, b""),
        ({"at": 0, "of": 3}, b"more"),
        ({"at": -1, "of": 3}, b"x"),
        ({"at": 0, "of": 2**60}, b"x"),
        ({"at": "0", "of": 3}, b"x"),
        ({"at": 0, "of": 5}, b"no frame"),
        ({"at": 0, "of": 300_000}, b"x" * (PIECE + 1)),
        ({"at": 0, "of": 300_000}, b"\x81\xa4type\xa5event"),
    ],
)
def test_impossible_chunks_are_rejected(world: World, prov: Peer, header: dict[str, Any], piece: bytes) -> None:
    wire = Wire(world)
    world.peer("ws/bad")
    world.inject("ws/bad", {"type": "chunk", "to": "ws/prov", "session": "k", **header}, {"b": piece})
    assert [header["method"] for by, header, _ in wire.frames if by == "ws/prov"] == ["k.reject"]
    assert empty(prov)


def test_a_piece_out_of_order_is_dropped_and_a_changed_size_ends_it(world: World, prov: Peer) -> None:
    world.peer("ws/bad")
    frame = FrameWriter().write({"type": "method", "method": "services.demo.size"}, {"args": [b"x" * 100]})

    def send(at: int, of: int, piece: bytes) -> None:
        header = {"type": "chunk", "to": "ws/prov", "session": "k", "at": at, "of": of}
        world.inject("ws/bad", header, {"b": piece})

    send(0, len(frame), frame[:50])
    send(80, len(frame), frame[80:])
    assert prov.stats()["partial_messages"] == 1
    send(50, len(frame) + 1, frame[50:60])
    assert empty(prov)


def test_bounds_of_one_message_and_of_one_sender(world: World, cons: Peer) -> None:
    tight = world.peer("ws/tight", max_partial_own=MIB, max_partial_per_sender=2, **ROOM)
    tight.offer("demo", {"size": len})
    cons.endpoint.core.levels["ws/tight"] = 1
    out = Pumping(world, cons)
    with pytest.raises(errors.RemoteException, match="exceeds"):
        cons.ask("ws/tight", "services.demo.size", BIG)
    out.automatic = False
    outcomes = [cons.call("ws/tight", "services.demo.size", b"x" * 600_000) for _ in range(3)]
    out.give(3)
    world.run()
    with pytest.raises(errors.RemoteException, match="too many"):
        outcomes[2].value()
    assert tight.stats()["partial_messages"] == 2


def test_an_answer_the_caller_cannot_take_fails_its_call_at_once(world: World, prov: Peer) -> None:
    small = world.peer("ws/small", max_partial_own=MIB, **ROOM)
    prov.endpoint.core.levels["ws/small"] = 1
    Pumping(world, prov)
    with pytest.raises(errors.MessageTooLarge):
        small.ask("ws/prov", "services.demo.make", len(BIG))
    assert empty(small)


def test_without_files_what_exceeds_the_memory_is_refused(world: World, cons: Peer, out: Pumping) -> None:
    browser = world.peer("abroad/browser", max_partial_abroad=2**30)
    browser.offer("demo", {"size": len})
    cons.endpoint.core.levels["abroad/browser"] = 1
    with pytest.raises(errors.RemoteException, match="room"):
        cons.ask("abroad/browser", "services.demo.size", b"x" * 33_000_000)
    assert empty(cons, browser)


def test_the_switch_says_that_the_receiver_takes_no_chunks(world: World, cons: Peer, prov: Peer, out: Pumping) -> None:
    """A stale level: nothing has run, the frame goes by the steps of the protocol."""

    def switch(sender: str, frame: bytes) -> list[bytes]:
        header, _ = read_header(frame)
        if header["type"] == "chunk":
            error = {"_rtype": "error", "_rvalue": "takes no chunks", "_rtrace": "", "_rerr": {"type": "NoChunks"}}
            answer = {"type": "method", "to": sender, "method": f"{header['session']}.reject"}
            prov.send(FrameWriter().write(answer, {"args": [error]}))
            return []
        return [frame]

    world.intercept = switch
    ran = cons.call("ws/prov", "services.demo.size", BIG)
    world.run()
    assert ran.value() == len(BIG)
    assert cons.endpoint.core.levels.get("ws/prov") == 1, "its answer shows a level again"
    assert empty(cons, prov)


# -- cancelling ------------------------------------------------------------------------------


def abandon(peer: Peer) -> None:
    (call,) = peer.endpoint.caller.calls
    peer.endpoint.abandon(call.id)


def test_abandoning_a_call_frees_the_pieces(world: World, cons: Peer, prov: Peer, out: Pumping) -> None:
    out.automatic = False
    cons.call("ws/prov", "services.demo.size", BIG)
    out.give(2)
    world.run()
    assert prov.stats()["partial_messages"] == 1
    abandon(cons)
    world.run()
    assert empty(cons, prov)
    assert out.give(10) == 0


def test_aborting_what_has_arrived_cancels_the_call_it_made(world: World, cons: Peer, prov: Peer, out: Pumping) -> None:
    wire = Wire(world, lose=lambda header: header["type"] in ("credit", "cancel"))
    cons.call("ws/prov", "services.demo.later", BIG[: STARTING - 1000])
    world.run()
    assert len(prov.later) == 1
    abandon(cons)
    world.run()
    assert prov.later[0].cancelled
    assert any(header.get("of") == 0 for _, header, _ in wire.frames)


def test_a_big_answer_that_is_not_wanted_any_more_is_not_sent_on(
    world: World, cons: Peer, prov: Peer, out: Pumping
) -> None:
    provs = Pumping(world, prov)
    provs.automatic = False
    cons.call("ws/prov", "services.demo.make", len(BIG))
    world.run()
    provs.give(2)
    world.run()
    assert cons.stats()["partial_messages"] == 1
    abandon(cons)
    world.run()
    provs.give(10)
    world.run()
    assert empty(cons, prov)


def test_an_answer_waits_for_callbacks_that_are_still_on_their_way(
    world: World, cons: Peer, prov: Peer, out: Pumping
) -> None:
    """Chunks may be overtaken by everything else, also by the answer that ends the life of the callback."""
    provs = Pumping(world, prov)
    provs.automatic = False
    heard: list[int] = []
    prov.offer("caller", {"tell": lambda callback: (callback(BIG), "told")[1]})
    outcome = cons.call("ws/prov", "services.caller.tell", lambda data: heard.append(len(data)))
    world.run()
    assert not outcome.done()
    provs.automatic = True
    provs.wake()
    world.run()
    assert heard == [len(BIG)]
    assert outcome.value() == "told"
    assert empty(cons, prov)


def test_a_deadline_counts_from_the_first_piece(world: World, cons: Peer, prov: Peer, out: Pumping) -> None:
    out.automatic = False
    outcomes = []
    for timeout_s in (2.0, 5.0):
        outcome = Outcome()
        reference, until = Reference("ws/prov", "services.demo.later"), world.now + timeout_s
        cons.endpoint.call(reference, (BIG[:300_000],), None, outcome, world.now, deadline=until)
        outcomes.append(outcome)
    out.give(2)
    world.run()
    world.now += 3.0
    out.give(2)
    world.run()
    assert len(prov.later) == 1, "the other one is rejected unstarted"
    assert prov.later[0].job is not None
    assert prov.later[0].job.deadline == world.now + 2.0
    with pytest.raises(TimeoutError):
        outcomes[0].value()


# -- losses ----------------------------------------------------------------------------------


def test_a_request_whose_link_breaks_has_not_run(world: World, cons: Peer, prov: Peer, out: Pumping) -> None:
    out.automatic = False
    outcome = cons.call("ws/prov", "services.demo.size", BIG)
    out.give(2)
    world.run()
    cons.endpoint.link_down(world.now)
    with pytest.raises(errors.PeerGone) as caught:
        outcome.value()
    assert not caught.value.may_have_run
    prov.endpoint.peer_gone("ws/cons", world.now)
    assert empty(cons, prov)


def test_a_request_of_which_everything_was_sent_may_have_run(
    world: World, cons: Peer, prov: Peer, out: Pumping
) -> None:
    Wire(world, lose=lambda header: header["type"] == "credit")
    outcome = cons.call("ws/prov", "services.demo.later", BIG[: STARTING - 1000])
    world.run()
    cons.endpoint.peer_gone("ws/prov", world.now)
    with pytest.raises(errors.PeerGone) as caught:
        outcome.value()
    assert caught.value.may_have_run


def test_an_answer_that_broke_off_is_sent_again_when_its_caller_asks(
    world: World, cons: Peer, prov: Peer, out: Pumping
) -> None:
    provs = Pumping(world, prov)
    provs.automatic = False
    outcome = cons.call("ws/prov", "services.demo.make", len(BIG))
    world.run()
    provs.give(2)
    world.run()
    cons.endpoint.link_down(world.now)
    world.frames.clear()
    prov.endpoint.peer_gone("ws/cons", world.now)
    cons.endpoint.link_up(world.now, resumed=True)
    provs.automatic = True
    world.advance(1.0)
    assert outcome.value() == b"y" * len(BIG)
    assert empty(cons, prov)


def test_a_broken_answer_is_kept_for_a_while_only(world: World, cons: Peer, prov: Peer, out: Pumping) -> None:
    provs = Pumping(world, prov)
    provs.automatic = False
    outcome = cons.call("ws/prov", "services.demo.make", len(BIG))
    world.run()
    prov.endpoint.peer_gone("ws/cons", world.now)
    cons.endpoint.link_down(world.now)
    world.now += KEEP_S
    prov.endpoint.tick(world.now)
    cons.endpoint.link_up(world.now, resumed=True)
    world.advance(1.0)
    with pytest.raises(errors.RemoteException, match="lost"):
        outcome.value()


def test_an_answer_under_way_is_alive_and_goes_again_when_it_breaks_after_the_question(
    world: World, cons: Peer, prov: Peer, out: Pumping
) -> None:
    provs = Pumping(world, prov)
    provs.automatic = False
    outcome = cons.call("ws/prov", "services.demo.make", len(BIG))
    world.run()
    provs.give(2)
    world.run()
    cons.endpoint.link_down(world.now)
    cons.endpoint.link_up(world.now, resumed=True)
    world.advance(0.5)
    provs.automatic = True
    provs.give(1)
    world.run()
    assert outcome.value() == b"y" * len(BIG)


def test_an_unfinished_message_is_freed_with_its_sender_or_after_a_while(
    world: World, cons: Peer, prov: Peer, out: Pumping
) -> None:
    out.automatic = False
    for end in (lambda: prov.endpoint.peer_gone("ws/cons", world.now), lambda: world.advance(62.0, 5.0)):
        outcome = cons.call("ws/prov", "services.demo.size", BIG)
        out.give(1)
        world.run()
        assert prov.endpoint.core.storage.ram > len(BIG)
        end()
        assert prov.stats()["partial_messages"] == prov.endpoint.core.storage.ram == 0
        cons.endpoint.caller.transfers.chunks.clear()
        assert outcome is not None


def test_a_receiver_that_falls_silent_fails_the_call(world: World, cons: Peer, prov: Peer, out: Pumping) -> None:
    Wire(world, lose=lambda header: header["type"] == "credit")
    outcome = cons.call("ws/prov", "services.demo.size", BIG)
    world.run()
    world.advance(35.0)
    with pytest.raises(errors.CallTimeout) as caught:
        outcome.value()
    assert not caught.value.may_have_run
    assert empty(cons)


# -- through a public server -----------------------------------------------------------------


def test_through_a_public_server_the_last_piece_waits_for_the_first_credit(
    world: World, cons: Peer, prov: Peer, out: Pumping
) -> None:
    cons.endpoint.core.server_level = 0
    wire = Wire(world, lose=lambda header: header["type"] == "chunk")
    outcome = cons.call("ws/prov", "services.demo.size", BIG[:300_000])
    world.run()
    assert [header["at"] for _, header, _ in wire.frames] == [0]
    world.advance(6.0)
    assert outcome.value() == 300_000, "no credit in 5 s: by the steps of the protocol"
    assert kinds(wire, "ws/cons")["chunk"] == 2, "and an abort"


def test_through_a_public_server_pieces_are_paced(world: World, cons: Peer, prov: Peer, out: Pumping) -> None:
    cons.endpoint.core.server_level = 0
    wire = Wire(world)
    outcome = cons.call("ws/prov", "services.demo.size", b"x" * (80 * MIB))
    world.run()
    assert min(cons.wishes) <= world.now + 0.01, "who is out of allowance asks to be woken"
    began = world.now
    while not outcome.done() and world.now < began + 60:
        world.advance(0.01, 0.01)
    assert outcome.value() == 80 * MIB
    count = kinds(wire, "ws/cons")["chunk"]
    assert count / (world.now - began) < 170
