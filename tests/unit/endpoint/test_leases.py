"""What is sent for keeping lives for its holder: counted, renewed, released (extensions §3)."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from hypha_rpc import keep
from hypha_rpc.endpoint.leases import MAX_IDS, Kept
from tests.unit.endpoint.world import Later, Peer, Proxy, Wire, World


@pytest.fixture
def maker(prov: Peer) -> Peer:
    """Offers functions that return functions."""
    prov.offer(
        "make",
        {
            "adder": lambda n: lambda x: x + n,
            "two": lambda: [lambda: 1, lambda: 2],
            "numbers": lambda: iter([1, 2, 3]),
        },
    )
    return prov


def settle(world: World, *peers: Peer) -> None:
    """Let holders notice what they no longer refer to."""
    gc.collect()
    for peer in peers:
        peer.let_go()
    world.run()


def outcome_of(world: World, proxy: Any, *args: Any) -> Any:
    outcome = proxy(*args)
    world.run()
    return outcome.value()


# -- release ---------------------------------------------------------------------------------


def test_a_function_of_a_result_is_released_with_its_last_reference(world: World, cons: Peer, maker: Peer) -> None:
    wire = Wire(world)
    adder = cons.ask("ws/prov", "services.make.adder", 10)
    assert (cons.stats()["held"], maker.stats()["sessions"]) == (1, 1)
    method = adder.reference.method
    assert outcome_of(world, adder, 1) == 11
    del adder
    settle(world, cons)
    assert (cons.stats()["held"], maker.stats()["sessions"]) == (0, 0)
    sent = [(header["to"], extra) for _, header, extra in wire.frames if header["type"] == "release"]
    assert sent == [("ws/prov", {"ids": [method]})]


def test_what_ends_together_is_told_in_one_frame(world: World, cons: Peer, maker: Peer) -> None:
    pair = cons.ask("ws/prov", "services.make.two")
    first = pair.pop(0)
    wire = Wire(world)
    pair.clear()
    settle(world, cons)
    assert maker.stats()["sessions"] == 1
    assert outcome_of(world, first) == 1
    del first
    adders = [cons.ask("ws/prov", "services.make.adder", n) for n in range(3)]
    adders.clear()
    settle(world, cons)
    assert maker.stats()["sessions"] == 0
    released = [extra["ids"] for _, header, extra in wire.frames if header["type"] == "release"]
    assert [len(ids) for ids in released] == [1, 4]


def test_every_sending_has_a_fresh_id(world: World, cons: Peer, prov: Peer) -> None:
    def same() -> int:
        return 5

    prov.offer("make", {"same": lambda: same})
    first, second = (cons.ask("ws/prov", "services.make.same") for _ in range(2))
    assert first.reference.method != second.reference.method
    del first
    settle(world, cons)
    assert outcome_of(world, second) == 5


def test_a_pending_call_keeps_what_it_calls(world: World, cons: Peer, prov: Peer) -> None:
    prov.offer("make", {"slow": lambda: Later})
    slow = cons.ask("ws/prov", "services.make.slow")
    wire = Wire(world)
    outcome = slow()
    world.run()
    del slow
    # The waiter of a client keeps the reference; here the endpoint's own record must not be the only one.
    settle(world, cons)
    prov.later[0].answer("done")
    world.run()
    assert outcome.value() == "done"
    assert "release" in [header["type"] for _, header, _ in wire.frames]


def test_a_generator_is_closed_by_its_release(world: World, cons: Peer, prov: Peer) -> None:
    closed: list[str] = []

    def numbers() -> Any:
        try:
            yield 1
            yield 2
        finally:
            closed.append("closed")

    prov.offer("make", {"numbers": numbers})
    stream = cons.ask("ws/prov", "services.make.numbers")
    assert outcome_of(world, stream) == 1
    del stream
    settle(world, cons)
    assert closed == ["closed"]
    assert prov.stats()["sessions"] == 0


def test_an_interface_is_disposed_of_when_no_function_of_it_is_referred_to(
    world: World, cons: Peer, prov: Peer
) -> None:
    disposed: list[bool] = []
    held: list[Any] = []
    prov.offer("hub", {"subscribe": held.append})
    listener = {"_rintf": True, "on": lambda x: x, "off": lambda: None, "_dispose": lambda: disposed.append(True)}
    cons.ask("ws/prov", "services.hub.subscribe", listener)
    services = cons.endpoint.stats()["services"]
    on = held.pop()["on"]
    settle(world, prov)
    assert cons.endpoint.stats()["services"] == services
    assert outcome_of(world, on, 4) == 4
    del on
    settle(world, prov)
    assert cons.endpoint.stats()["services"] == services - 1
    assert disposed == [True]


def test_the_answer_nobody_waits_for_is_let_go(world: World, cons: Peer, prov: Peer) -> None:
    prov.offer("make", {"later": Later})
    cons.call("ws/prov", "services.make.later")
    world.run()
    [call] = cons.endpoint.caller.calls
    wire = Wire(world)
    wire.lose = lambda header: header["type"] == "cancel"
    cons.endpoint.abandon(call.id)
    prov.later[0].answer([{"deep": lambda: 1}, iter([1]), {"_rintf": True, "f": lambda: 1}])
    world.run()
    [ids] = [extra["ids"] for _, header, extra in wire.frames if header["type"] == "release"]
    assert len(ids) == 3
    assert prov.stats()["sessions"] == 0
    assert prov.endpoint.stats()["services"] == 3


def test_dispose_withdraws_at_once(world: World, cons: Peer, maker: Peer) -> None:
    adder = cons.ask("ws/prov", "services.make.adder", 10)
    cons.endpoint.dispose(adder.reference, world.now)
    world.run()
    assert maker.stats()["sessions"] == 0
    with pytest.raises(ReferenceError, match="Session not found"):
        outcome_of(world, adder, 1)
    del adder
    wire = Wire(world)
    settle(world, cons)
    assert not wire.frames


def test_nobody_releases_what_others_hold(world: World, cons: Peer, maker: Peer) -> None:
    adder = cons.ask("ws/prov", "services.make.adder", 10)
    world.peer("ws/other")
    for sender in ("ws/other", "other/cons"):
        world.inject(sender, {"type": "release", "to": "ws/prov"}, {"ids": [adder.reference.method]})
    assert outcome_of(world, adder, 1) == 11


@pytest.mark.parametrize("kind", ["release", "lease"])
@pytest.mark.parametrize("ids", [None, 5, "x", [1, None, [], "nope", "no.thing", ""], ["x"] * (MAX_IDS + 1)])
def test_nonsense_is_ignored(world: World, cons: Peer, maker: Peer, kind: str, ids: Any) -> None:
    adder = cons.ask("ws/prov", "services.make.adder", 10)
    world.inject("ws/cons", {"type": kind, "to": "ws/prov"}, {"ids": ids})
    assert outcome_of(world, adder, 1) == 11


def test_many_ids_travel_in_bounded_frames(world: World, cons: Peer, prov: Peer) -> None:
    prov.offer("make", {"many": lambda: [lambda: 1 for _ in range(MAX_IDS + 10)]})
    functions = cons.ask("ws/prov", "services.make.many")
    wire = Wire(world)
    functions.clear()
    settle(world, cons)
    assert [len(extra["ids"]) for _, _, extra in wire.frames] == [MAX_IDS, 10]
    assert prov.stats()["sessions"] == 0


# -- renewal ---------------------------------------------------------------------------------


def test_a_held_function_outlives_ten_idle_minutes(world: World, cons: Peer, maker: Peer) -> None:
    adder = cons.ask("ws/prov", "services.make.adder", 10)
    world.advance(3000, 10)
    assert outcome_of(world, adder, 1) == 11


def test_a_held_interface_outlives_ten_idle_minutes_and_no_more_without_its_holder(
    world: World, cons: Peer, prov: Peer
) -> None:
    held: list[Any] = []
    prov.offer("hub", {"subscribe": held.append})
    before = cons.endpoint.stats()["services"]
    cons.ask("ws/prov", "services.hub.subscribe", {"_rintf": True, "on": lambda: 1})
    world.advance(3000, 10)
    assert outcome_of(world, held[0]["on"]) == 1
    Wire(world).lose = lambda header: header["type"] == "lease"
    world.advance(700, 10)
    assert cons.endpoint.stats()["services"] == before


def test_leases_wait_while_the_link_is_down(world: World, cons: Peer, maker: Peer) -> None:
    adder = cons.ask("ws/prov", "services.make.adder", 10)
    wire = Wire(world)
    cons.endpoint.link_down(world.now)
    world.advance(500, 10)
    assert not wire.frames
    cons.endpoint.link_up(world.now, resumed=True)
    world.advance(20, 10)
    assert [header["type"] for _, header, _ in wire.frames] == ["lease"]
    assert outcome_of(world, adder, 1) == 11


# -- holders that are lost -------------------------------------------------------------------


def test_the_functions_of_a_lost_holder_live_three_seconds_longer(world: World, cons: Peer, maker: Peer) -> None:
    adder = cons.ask("ws/prov", "services.make.adder", 10)
    assert maker.endpoint.peer_gone("ws/cons", world.now, may_resume=True) == 1
    world.advance(2.5)
    maker.endpoint.peer_resumed("ws/cons")
    world.advance(10)
    assert outcome_of(world, adder, 1) == 11
    maker.endpoint.peer_gone("ws/cons", world.now, may_resume=True)
    world.advance(3.5)
    assert maker.stats()["sessions"] == 0


def test_the_interface_of_a_lost_holder_lives_three_seconds_longer(world: World, cons: Peer, prov: Peer) -> None:
    held: list[Any] = []
    disposed: list[bool] = []
    prov.offer("hub", {"subscribe": held.append})
    listener = {"_rintf": True, "on": lambda: 1, "_dispose": lambda: disposed.append(True)}
    cons.ask("ws/prov", "services.hub.subscribe", listener)
    cons.endpoint.peer_gone("ws/prov", world.now, may_resume=True)
    world.advance(2.5)
    cons.endpoint.peer_resumed("ws/prov")
    world.advance(10)
    assert outcome_of(world, held[0]["on"]) == 1
    cons.endpoint.peer_gone("ws/prov", world.now, may_resume=True)
    world.advance(3.5)
    assert disposed == [True]


def test_a_holder_that_said_good_bye_loses_everything_at_once(world: World, cons: Peer, maker: Peer) -> None:
    cons.ask("ws/prov", "services.make.adder", 10)
    assert maker.endpoint.peer_gone("ws/cons", world.now) == 1
    assert maker.stats()["sessions"] == 0


# -- keep ------------------------------------------------------------------------------------


def test_a_kept_callback_outlives_its_call(world: World, cons: Peer, prov: Peer) -> None:
    held: list[Any] = []
    prov.offer("hub", {"subscribe": held.append})
    cons.ask("ws/prov", "services.hub.subscribe", keep(lambda x: x * 2))
    world.advance(3000, 10)
    assert outcome_of(world, held[0], 4) == 8
    held.clear()
    settle(world, prov)
    assert cons.stats()["sessions"] == 0


def test_one_can_be_kept_beside_one_that_is_not(world: World, cons: Peer, prov: Peer) -> None:
    held: list[Proxy] = []
    prov.offer("hub", {"subscribe": held.extend})
    cons.ask("ws/prov", "services.hub.subscribe", [keep(lambda: 1), lambda: 2])
    kept, passing = held
    assert outcome_of(world, kept) == 1
    with pytest.raises(ReferenceError, match=r"send keep\(function\)"):
        outcome_of(world, passing)


def test_disposing_of_a_kept_function_withdraws_all_its_sendings(world: World, cons: Peer, prov: Peer) -> None:
    held: list[Any] = []
    prov.offer("hub", {"subscribe": held.append})
    listener = keep(lambda: 1)
    for _ in range(40):
        cons.ask("ws/prov", "services.hub.subscribe", listener)
    assert cons.stats()["sessions"] == 40
    listener.dispose()
    listener.dispose()
    assert cons.stats()["sessions"] == 0
    with pytest.raises(ReferenceError):
        outcome_of(world, held[0])
    cons.ask("ws/prov", "services.hub.subscribe", listener)
    assert outcome_of(world, held[-1]) == 1


def test_a_kept_function_that_was_not_sent_is_not_exported(world: World, cons: Peer) -> None:
    with pytest.raises(TypeError, match="Unsupported data type"):
        cons.call("ws/prov", "services.hub.subscribe", keep(lambda: 1), object())
    assert cons.stats()["sessions"] == 0


def test_keep_looks_like_the_function(world: World) -> None:
    def on_event(value: int) -> int:
        """Handle an event."""
        return value + 1

    listener = keep(on_event)
    assert isinstance(listener, Kept)
    assert keep(listener) is listener
    assert (listener.__name__, listener.__doc__) == ("on_event", "Handle an event.")
    assert listener(1) == 2
    with pytest.raises(TypeError, match="keep\\(\\) takes a function, not int"):
        keep(5)  # type: ignore[arg-type]
