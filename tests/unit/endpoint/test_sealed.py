"""Sealed calls between two endpoints: who may call, what is refused, what a bad switch can do (security S48)."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypha_rpc.client.encryption import generate_encryption_keypair
from hypha_rpc.endpoint import Reference, Service
from hypha_rpc.errors import RemoteException
from hypha_rpc.wire.frame import FrameWriter, read_extra, read_header
from hypha_rpc.wire.sealing import Sealer, SealingError

from .world import Later, Outcome, Peer, Wire, World

ALICE, BOB, EVE = "w/alice", "w/bob", "w/eve"


@pytest.fixture
def world() -> World:
    return World()


def sealing_peer(world: World, address: str) -> Peer:
    peer = world.peer(address)
    numbers = itertools.count(1)
    pair = generate_encryption_keypair()
    peer.endpoint.core.sealer = Sealer(*pair, lambda size: next(numbers).to_bytes(size, "big"))
    return peer


def key_of(peer: Peer) -> bytes:
    assert peer.endpoint.core.sealer is not None
    return peer.endpoint.core.sealer.public_key


@pytest.fixture
def pair(world: World) -> tuple[Peer, Peer]:
    alice, bob = sealing_peer(world, ALICE), sealing_peer(world, BOB)
    bob.offer("calc", {"echo": lambda value: value, "fail": fail, "who": who}, require_context=["who"])
    return alice, bob


def fail() -> None:
    raise KeyError("lost")


def who(context: Any) -> Any:
    return {name: context[name] for name in ("encryption", "caller_public_key") if name in context}


def start(peer: Peer, method: str, *args: Any, key: bytes | None, target: str = BOB, promise: Any = "*") -> Outcome:
    outcome = Outcome()
    reference = Reference(target, f"services.calc.{method}", promise, key=key)
    peer.endpoint.call(reference, args, None, outcome, peer.world.now)
    return outcome


def ask(peer: Peer, method: str, *args: Any, key: bytes | None, target: str = BOB) -> Any:
    outcome = start(peer, method, *args, key=key, target=target)
    peer.world.run()
    return outcome.value()


def test_requests_and_answers_are_sealed(world: World, pair: tuple[Peer, Peer]) -> None:
    alice, bob = pair
    wire = Wire(world)
    assert ask(alice, "echo", {"a": [1]}, key=key_of(bob)) == {"a": [1]}
    with pytest.raises(KeyError):
        ask(alice, "fail", key=key_of(bob))
    assert [set(extra) for _, _, extra in wire.frames] == [{"_enc", "data"}] * 4


def test_the_context_tells_the_key_of_the_caller(pair: tuple[Peer, Peer]) -> None:
    alice, bob = pair
    assert ask(alice, "who", key=key_of(bob)) == {"encryption": True, "caller_public_key": key_of(alice).hex()}
    assert ask(alice, "who", key=None) == {}


def test_the_header_cannot_claim_encryption(world: World, pair: tuple[Peer, Peer]) -> None:
    _, bob = pair
    seen: list[Any] = []
    bob.offer("spy", {"see": lambda context: seen.append(dict(context))}, require_context=True)
    claims = {"encryption": True, "caller_public_key": "ab" * 32}
    world.inject(ALICE, {"type": "method", "to": BOB, "method": "services.spy.see", **claims}, {"args": [], **claims})
    assert len(seen) == 1 and not claims.keys() & seen[0].keys()


def test_a_heartbeat_is_plain_and_keeps_a_sealed_call_alive(world: World, pair: tuple[Peer, Peer]) -> None:
    alice, bob = pair
    later = Later()
    bob.offer("calc", {"wait": lambda: later})
    outcome = start(alice, "wait", key=key_of(bob))
    world.advance(100)
    later.answer(7)
    world.run()
    assert outcome.value() == 7


def test_trusted_keys_are_asked_for_on_every_path(pair: tuple[Peer, Peer]) -> None:
    alice, bob = pair
    bob.offer("calc", {"echo": lambda value: value, "deep": {"echo": lambda value: value}}, trusted_keys=["AB" * 32])
    for method in ("echo", "deep.echo"):
        with pytest.raises(PermissionError, match="Encryption required"):
            ask(alice, method, 1, key=None)
        with pytest.raises(PermissionError, match="not in the trusted keys list"):
            ask(alice, method, 1, key=key_of(bob))
    bob.offer("calc", {"echo": lambda value: value}, trusted_keys=["ab" * 32, key_of(alice).hex().upper()])
    assert ask(alice, "echo", 1, key=key_of(bob)) == 1


def test_a_protected_service_with_trusted_keys_stays_protected(world: World, pair: tuple[Peer, Peer]) -> None:
    alice, bob = pair
    stranger = sealing_peer(world, "other/alice")
    config = {"visibility": "protected", "trusted_keys": [key_of(stranger).hex(), key_of(alice).hex()]}
    bob.endpoint.exports.add(Service("calc", {"echo": lambda value: value}, config))
    assert ask(alice, "echo", 1, key=key_of(bob)) == 1
    with pytest.raises(PermissionError, match="workspace mismatch"):
        ask(stranger, "echo", 1, key=key_of(bob))


def test_a_request_for_another_key_is_rejected_at_once(pair: tuple[Peer, Peer]) -> None:
    alice, _ = pair
    with pytest.raises(RemoteException, match="Decryption failed for method w/alice:services.calc.echo. Invalid key"):
        ask(alice, "echo", 1, key=key_of(alice))


def test_a_callee_without_keys_rejects_at_once(world: World, pair: tuple[Peer, Peer]) -> None:
    alice, bob = pair
    world.peer(EVE).offer("calc", {"echo": lambda value: value})
    with pytest.raises(RemoteException, match="connected without encryption"):
        ask(alice, "echo", 1, key=key_of(bob), target=EVE)


def test_a_caller_without_keys_is_told(world: World, pair: tuple[Peer, Peer]) -> None:
    _, bob = pair
    plain = world.peer(EVE)
    with pytest.raises(SealingError, match="connected without encryption"):
        start(plain, "echo", 1, key=key_of(bob))
    assert not any(plain.stats().values())


def test_fire_and_forget_is_sealed_and_a_bad_one_is_dropped(world: World, pair: tuple[Peer, Peer]) -> None:
    alice, bob = pair
    told: list[Any] = []
    bob.offer("calc", {"tell": told.append})
    start(alice, "tell", 1, key=key_of(bob), promise=False)
    start(alice, "tell", 2, key=key_of(alice), promise=False)
    world.run()
    assert told == [1]
    assert "Decryption failed" in bob.drops[0]


class Switch:
    """A bad switch: remembers the sealed frames and sends others in their place."""

    def __init__(self, world: World) -> None:
        self.seen: list[bytes] = []
        self.change: Any = lambda header, extra: None
        world.intercept = self

    def __call__(self, sender: str, frame: bytes) -> list[bytes]:
        header, offset = read_header(frame)
        extra = dict(read_extra(frame, offset))
        self.seen.append(frame)
        self.change(header, extra)
        return [FrameWriter().write(header, extra)]


@pytest.mark.parametrize("field", ["method", "session"])
def test_a_payload_in_another_frame_is_refused(world: World, pair: tuple[Peer, Peer], field: str) -> None:
    alice, bob = pair
    ran: list[Any] = []
    bob.offer("calc", {"small": ran.append, "great": ran.append})
    switch = Switch(world)
    outcome = start(alice, "small", 1, key=key_of(bob))

    def change(header: dict[str, Any], extra: dict[str, Any]) -> None:
        if header["to"] == BOB and field == "method":
            header["method"] = "services.calc.great"
        elif header["to"] == BOB:
            header["session"] = "another"

    switch.change = change
    world.run()
    assert ran == []
    if field == "method":
        with pytest.raises(RemoteException, match="belongs to another message"):
            outcome.value()


def test_an_answer_to_another_call_is_refused(world: World, pair: tuple[Peer, Peer]) -> None:
    alice, bob = pair
    later = [Later(), Later()]
    jobs = iter(later)
    bob.offer("calc", {"wait": lambda: next(jobs)})
    first, second = (start(alice, "wait", key=key_of(bob)) for _ in range(2))
    world.run()
    answers: dict[str, dict[str, Any]] = {}

    def swap(header: dict[str, Any], extra: dict[str, Any]) -> None:
        answers[header["method"]] = dict(extra)
        if len(answers) == 2:
            extra.update(next(iter(answers.values())))

    Switch(world).change = swap
    later[0].answer("first")
    world.run()
    later[1].answer("second")
    world.run()
    assert first.value() == "first"
    with pytest.raises(SealingError, match="has come before|belongs to another"):
        second.value()


@pytest.mark.parametrize("forged", [{"args": ["forged"]}, {"args": ["forged"], "x": 1}])
def test_a_plain_result_of_a_sealed_call_is_refused(
    world: World, pair: tuple[Peer, Peer], forged: dict[str, Any]
) -> None:
    alice, bob = pair

    def change(header: dict[str, Any], extra: dict[str, Any]) -> None:
        if header["to"] == ALICE:
            extra.clear()
            extra.update(forged)

    Switch(world).change = change
    with pytest.raises(SealingError, match="it is not encrypted"):
        ask(alice, "echo", 1, key=key_of(bob))


def test_a_result_sealed_with_another_key_is_refused(world: World, pair: tuple[Peer, Peer]) -> None:
    alice, bob = pair
    right = key_of(bob)
    mallory = sealing_peer(world, EVE)

    def change(header: dict[str, Any], extra: dict[str, Any]) -> None:
        if header["to"] == ALICE:
            payload = FrameWriter().write({"args": ["forged"]})
            assert mallory.endpoint.core.sealer is not None
            forged = mallory.endpoint.core.sealer.seal(payload, key_of(alice))
            extra.clear()
            extra.update(forged)

    Switch(world).change = change
    with pytest.raises(SealingError, match="another key"):
        ask(alice, "echo", 1, key=right)


def test_a_replayed_request_runs_once(world: World, pair: tuple[Peer, Peer]) -> None:
    alice, bob = pair
    ran: list[int] = []
    bob.offer("calc", {"run": ran.append})
    switch = Switch(world)
    ask(alice, "run", 1, key=key_of(bob))
    world.post(ALICE, switch.seen[0])
    world.run()
    assert ran == [1]


def test_an_envelope_in_an_envelope_is_no_call(world: World, pair: tuple[Peer, Peer]) -> None:
    alice, bob = pair
    sealer = alice.endpoint.core.sealer
    assert sealer is not None
    payload = FrameWriter().write({"args": [1]})
    for _ in range(3):
        payload = FrameWriter().write(sealer.seal(payload, key_of(bob)))
    world.inject(ALICE, {"type": "method", "to": BOB, "method": "services.calc.echo"}, read_extra(payload, 0))
    assert not any(bob.stats().values())


def test_a_callback_sent_sealed_must_be_called_sealed(world: World, pair: tuple[Peer, Peer]) -> None:
    alice, bob = pair
    called: list[Any] = []
    got: list[Any] = []
    later = Later()
    bob.offer("calc", {"take": lambda function: (got.append(function), later)[1]})
    start(alice, "take", called.append, key=key_of(bob))
    world.run()
    reference: Reference = got[0].reference
    assert reference.key == key_of(alice)
    plain, sealed = Outcome(), got[0](1)
    bob.endpoint.call(reference._replace(key=None), [2], None, plain, world.now)
    world.run()
    assert sealed.value() is None and called == [1]
    with pytest.raises(PermissionError, match="Encryption required"):
        plain.value()


def test_a_callback_in_a_plain_call_tells_its_key(world: World, pair: tuple[Peer, Peer]) -> None:
    alice, bob = pair
    got: list[Any] = []
    later = Later()
    bob.offer("calc", {"take": lambda function: (got.append(function), later)[1]})
    start(alice, "take", lambda value: value, key=None)
    world.run()
    assert got[0].reference.key == key_of(alice)
    outcome = got[0](5)
    world.run()
    assert outcome.value() == 5


def test_peers_without_keys_are_sent_none_and_heed_none(world: World) -> None:
    alice, bob = world.peer(ALICE), sealing_peer(world, BOB)
    got: list[Any] = []
    alice.offer("calc", {"take": got.append})
    wire = Wire(world)
    ask(bob, "take", lambda: None, key=None, target=ALICE)
    assert got[0].reference.key is None
    assert "_enc" not in wire.frames[0][2]


def test_a_big_sealed_message_goes_in_pieces(world: World, pair: tuple[Peer, Peer]) -> None:
    alice, bob = pair
    block = bytes(range(256)) * 8192
    wire = Wire(world)
    assert ask(alice, "echo", block, key=key_of(bob)) == block
    assert len(wire.frames) > 8


def test_nothing_is_left_of_sealed_calls(world: World, pair: tuple[Peer, Peer]) -> None:
    alice, bob = pair
    for _ in range(20):
        ask(alice, "echo", [1], key=key_of(bob))
    assert not any(alice.stats().values()) and not any(bob.stats().values())


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.binary(max_size=40) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(envelope=ANY, data=ANY, session=st.none() | st.just("s1") | st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_no_envelope_ends_its_receiver(envelope: Any, data: Any, session: Any) -> None:
    world = World()
    alice, bob = sealing_peer(world, ALICE), sealing_peer(world, BOB)
    header = {"type": "method", "to": BOB, "method": "services.calc.echo"}
    if session is not None:
        header["session"] = session
    world.inject(ALICE, header, {"_enc": envelope, "data": data})
    world.inject(BOB, {"type": "method", "to": ALICE, "method": "none.resolve"}, {"_enc": envelope, "data": data})
    assert not any(bob.stats().values()) and not any(alice.stats().values())
    bob.offer("calc", {"echo": lambda value: value})
    assert ask(alice, "echo", 1, key=key_of(bob)) == 1
