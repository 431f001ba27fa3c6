"""Functions in arguments and results: how long they live and who may call them (protocol §4.4; S7, S8)."""

from __future__ import annotations

from typing import Any

import pytest

from hypha_rpc import errors
from hypha_rpc.endpoint import Reference
from tests.unit.endpoint.world import Later, Outcome, Peer, Proxy, Wire, World, is_proxy


@pytest.fixture
def kept(prov: Peer) -> list[Proxy]:
    """What callers gave to ``keep.give``."""
    held: list[Any] = []
    prov.offer("keep", {"give": held.append, "give_later": _Keeper(held)})
    return held


class _Keeper:
    def __init__(self, held: list[Any]) -> None:
        self._held = held

    def __call__(self, value: Any) -> Any:
        self._held.append(value)
        return Later()


def called(world: World, proxy: Any, *args: Any) -> Any:
    outcome = proxy(*args)
    world.run()
    return outcome.value()


# -- arguments -------------------------------------------------------------------------------


def test_a_callback_can_be_called_while_its_call_runs(world: World, cons: Peer, prov: Peer, kept: list[Proxy]) -> None:
    wire = Wire(world)
    outcome = cons.call("ws/prov", "services.keep.give_later", {"deep": [lambda x: x + 1]})
    world.run()
    callback = kept[0]["deep"][0]  # type: ignore[index]
    assert is_proxy(callback)
    assert called(world, callback, 1) == 2
    assert called(world, callback, 5) == 6
    session = wire.frames[0][1]["session"]
    invocation = next(header for sender, header, _ in wire.frames if sender == "ws/prov")
    assert invocation["parent"] == session
    assert invocation["method"].startswith(f"{session}.")
    assert invocation["session"] != session
    prov.later[0].answer(None)
    world.run()
    assert outcome.settled == 1


def test_a_callback_dies_with_its_call(world: World, cons: Peer, prov: Peer, kept: list[Proxy]) -> None:
    cons.ask("ws/prov", "services.keep.give", lambda: 1)
    assert cons.stats()["sessions"] == 0
    with pytest.raises(ReferenceError) as caught:
        called(world, kept[0])
    assert f"Session not found: ws/prov:{kept[0].reference.method}" in str(caught.value)


@pytest.mark.parametrize("end", ["result", "error", "silence", "abandoned", "gone", "closed"])
def test_however_a_call_ends_its_callbacks_end_too(
    world: World, cons: Peer, prov: Peer, kept: list[Proxy], end: str
) -> None:
    wire = Wire(world)
    cons.call("ws/prov", "services.keep.give_later", lambda: 1)
    world.run()
    assert cons.stats()["sessions"] == 1
    if end == "result":
        prov.later[0].answer(1)
    elif end == "error":
        prov.later[0].fail(ValueError("x"))
    elif end == "silence":
        wire.lose = lambda header: True
        world.advance(31)
    elif end == "abandoned":
        cons.endpoint.abandon(wire.frames[0][1]["session"])
    elif end == "gone":
        cons.endpoint.peer_gone("ws/prov", world.now)
    else:
        cons.endpoint.close(errors.ConnectionLost("closed"))
    world.run()
    assert cons.stats()["sessions"] == 0


def test_only_the_client_it_was_given_to_may_call_it(world: World, cons: Peer, prov: Peer, kept: list[Proxy]) -> None:
    cons.call("ws/prov", "services.keep.give_later", lambda: 1)
    world.run()
    method = kept[0].reference.method
    for thief in (world.peer("ws/thief"), world.peer("other/prov"), world.peer("*/manager")):
        with pytest.raises(errors.RemoteException) as caught:
            thief.ask("ws/cons", method)
        expected = f"Access denied for method call ({thief.address}:{method}) from {thief.address} to target ws/prov"
        assert expected in str(caught.value)
    assert called(world, kept[0]) == 1


def test_a_wrong_or_missing_parent_does_not_matter(world: World, cons: Peer, prov: Peer, kept: list[Proxy]) -> None:
    cons.call("ws/prov", "services.keep.give_later", lambda: 7)
    world.run()
    for parent in (None, "unknown"):
        outcome = Outcome()
        prov.endpoint.call(Reference("ws/cons", kept[0].reference.method, "*", parent), [], None, outcome, world.now)
        world.run()
        assert outcome.value() == 7


def test_a_callback_may_take_and_return_callbacks(world: World, cons: Peer, prov: Peer, kept: list[Proxy]) -> None:
    outcomes: list[Outcome] = []

    def callback(inner: Any) -> Any:
        outcomes.append(inner(20))
        return lambda: "returned"

    cons.call("ws/prov", "services.keep.give_later", callback)
    world.run()
    outcome = kept[0](lambda x: x + 1)
    world.run()
    assert outcomes[0].value() == 21, "it was called before the callback's answer was sent"
    assert called(world, outcome.value()) == "returned"


# -- results ---------------------------------------------------------------------------------


def test_a_function_in_a_result_lives_on_and_is_called_without_parent(world: World, cons: Peer, prov: Peer) -> None:
    prov.offer("make", {"adder": lambda n: {"add": lambda x: x + n}})
    adder = cons.ask("ws/prov", "services.make.adder", 10)["add"]
    wire = Wire(world)
    assert called(world, adder, 1) == 11
    assert "parent" not in wire.frames[0][1]
    assert prov.stats()["sessions"] == 1


def test_it_dies_600_seconds_after_its_last_use(world: World, cons: Peer, prov: Peer) -> None:
    prov.offer("make", {"adder": lambda n: lambda x: x + n})
    Wire(world).lose = lambda header: header["type"] == "lease"
    adder = cons.ask("ws/prov", "services.make.adder", 10)
    for _ in range(3):
        world.advance(590, 10)
        assert called(world, adder, 1) == 11
    world.advance(670, 10)
    assert prov.stats()["sessions"] == 0
    with pytest.raises(ReferenceError):
        called(world, adder, 1)


def test_a_function_in_an_argument_does_not_expire_while_its_call_runs(
    world: World, cons: Peer, prov: Peer, kept: list[Proxy]
) -> None:
    cons.call("ws/prov", "services.keep.give_later", lambda: 7)
    world.run()
    world.advance(2000, 5)
    assert called(world, kept[0]) == 7


def test_a_function_in_a_result_is_for_the_caller_only(world: World, cons: Peer, prov: Peer) -> None:
    prov.offer("make", {"adder": lambda n: lambda x: x + n})
    adder = cons.ask("ws/prov", "services.make.adder", 10)
    with pytest.raises(errors.RemoteException, match="Access denied"):
        world.peer("ws/thief").ask("ws/prov", adder.reference.method, 1)


def test_it_dies_with_its_holder(world: World, cons: Peer, prov: Peer) -> None:
    prov.offer("make", {"adder": lambda n: lambda x: x + n})
    cons.ask("ws/prov", "services.make.adder", 10)
    assert prov.endpoint.peer_gone("ws/cons", world.now) == 1
    assert prov.endpoint.peer_gone("ws/cons", world.now) == 0
    assert prov.stats()["sessions"] == 0


def test_a_callback_in_a_fire_and_forget_call_lives_like_one_in_a_result(
    world: World, cons: Peer, prov: Peer, kept: list[Proxy]
) -> None:
    cons.call("ws/prov", "services.keep.give", lambda: 3, promise=False)
    world.run()
    assert called(world, kept[0]) == 3
    world.advance(670, 10)
    assert called(world, kept[0]) == 3
    kept.clear()
    prov.let_go()
    world.run()
    assert cons.stats()["sessions"] == 0


def test_a_result_that_fails_after_naming_functions_leaves_none(world: World, cons: Peer, prov: Peer) -> None:
    prov.offer("make", {"bad": lambda: [lambda: 1, iter([1]), {"_rintf": True, "f": len}, object()]})
    services = prov.endpoint.stats()["services"]
    with pytest.raises(errors.RemoteException, match="Unsupported data type"):
        cons.ask("ws/prov", "services.make.bad")
    assert prov.stats()["sessions"] == 0
    assert prov.endpoint.stats()["services"] == services


# -- passing on (S8) -------------------------------------------------------------------------


def method_map(target: str, method: str, **more: Any) -> dict[str, Any]:
    return {"_rtype": "method", "_rtarget": target, "_rmethod": method, "_rpromise": "*", **more}


def sent(world: World, sender: str, reference: dict[str, Any], *, to: str = "ws/prov") -> dict[str, Any]:
    """What the receiver answers to *reference* as an argument of a harmless method."""
    wire = Wire(world)
    header = {"type": "method", "to": to, "method": "services.keep.give", "session": "s1"}
    world.inject(sender, header, {"args": [reference], "promise": "*", "t": 15})
    return wire.frames[-1][1] | {"args": wire.frames[-1][2]["args"]}


def test_a_relative_target_is_completed_with_the_senders_workspace(world: World, prov: Peer, kept: list[Proxy]) -> None:
    world.peer("other/guest")
    sent(world, "other/guest", method_map("guest", "s1.f"))
    assert kept[0].reference.target == "other/guest"
    assert kept[0].__rpc_object__["_rtarget"] == "other/guest"


def test_the_manager_speaks_for_the_workspace_of_its_receiver(world: World, prov: Peer, kept: list[Proxy]) -> None:
    world.peer("*/manager-1")
    sent(world, "*/manager-1", method_map("somebody", "services.a.b"))
    assert kept[0].reference.target == "ws/somebody"


@pytest.mark.parametrize(
    ("sender", "target", "method"),
    [
        ("other/guest", "*/manager-1", "services.default.generate_token"),
        ("ws/cons", "*/manager-1", "services.default.generate_token"),
        ("other/guest", "ws/third", "services.a.b"),
        ("other/guest", "ws/prov", "services.private.f"),
        ("other/guest", "prov/../ws", "x.y"),
        ("ws/cons", "ws/prov", "s9.f"),
        ("ws/cons", "ws/prov", "services.missing.f"),
    ],
)
def test_a_foreign_reference_is_refused_where_it_stands(
    world: World, prov: Peer, kept: list[Proxy], sender: str, target: str, method: str
) -> None:
    prov.offer("private", {"f": lambda: "secret"}, visibility="protected")
    for address in (sender, "*/manager-1"):
        world.peers.get(address) or world.peer(address)
    if target == "prov/../ws":
        # Two slashes: an address of nobody, in a workspace that is not the receiver's.
        assert sent(world, sender, method_map(target, method))["method"] == "s1.resolve"
        return
    answer = sent(world, sender, method_map(target, method))
    assert answer["method"] == "s1.reject"
    assert answer["args"][0]["_rvalue"] == "foreign reference at args[0]"
    assert answer["args"][0]["_rerr"]["type"] == "ForeignReferenceError"
    assert kept == []


@pytest.mark.parametrize(
    ("sender", "target", "method"),
    [
        ("*/manager-1", "ws/third", "services.a.b"),
        ("*/manager-1", "*/manager-1", "services.default.echo"),
        ("ws/cons", "ws/third", "services.a.b"),
        ("ws/cons", "other/guest", "services.a.b"),
        ("other/guest", "third/x", "services.a.b"),
    ],
)
def test_references_that_may_be_passed_on(
    world: World, prov: Peer, kept: list[Proxy], sender: str, target: str, method: str
) -> None:
    world.peers.get(sender) or world.peer(sender)
    assert sent(world, sender, method_map(target, method))["method"] == "s1.resolve"
    assert (kept[0].reference.target, kept[0].reference.method) == (target, method)


def test_a_generator_of_somebody_else_is_refused_like_a_function(world: World, prov: Peer, kept: list[Proxy]) -> None:
    world.peer("other/guest")
    for reference in (
        method_map("*/manager-1", "services.default.f") | {"_rtype": "generator"},
        method_map("guest", "s1.0") | {"_rtype": "generator", "_rclose_method": 5, "_rtarget": "ws/third"},
    ):
        assert sent(world, "other/guest", reference)["method"] == "s1.reject"
    assert kept == []


def test_a_proxy_is_passed_on_as_what_it_stands_for(world: World, cons: Peer, prov: Peer, kept: list[Proxy]) -> None:
    third = world.peer("ws/third")
    third.offer("t", {"f": lambda: "third"})
    proxy = cons.ask("ws/third", "services.built-in.get_service", "t")["f"]
    cons.ask("ws/prov", "services.keep.give", proxy)
    assert kept[0].reference.target == "ws/third"
    assert called(world, kept[0]) == "third"
    assert cons.stats()["sessions"] == 0


def test_a_function_that_comes_home_is_itself(world: World, cons: Peer, prov: Peer) -> None:
    def mine() -> str:
        return "mine"

    received: list[Any] = []
    prov.offer("back", {"echo_to": lambda function, to: to(function)})
    cons.call("ws/prov", "services.back.echo_to", mine, received.append)
    world.run()
    assert received == [mine]


def test_a_function_of_a_result_given_back_is_the_function_itself(world: World, cons: Peer, prov: Peer) -> None:
    def made() -> str:
        return "made"

    seen: list[Any] = []
    prov.offer("make", {"get": lambda: made, "take": seen.append})
    proxy = cons.ask("ws/prov", "services.make.get")
    cons.ask("ws/prov", "services.make.take", proxy)
    assert seen == [made]


def test_a_method_of_a_service_given_back_keeps_its_rules(
    world: World, cons: Peer, prov: Peer, kept: list[Proxy]
) -> None:
    prov.offer("own", {"f": lambda context: context["from"]}, visibility="protected", require_context=True)
    proxy = cons.ask("ws/prov", "services.built-in.get_service", "own")["f"]
    cons.ask("ws/prov", "services.keep.give", proxy)
    assert is_proxy(kept[0])
    assert called(world, kept[0]) == "ws/prov"


def test_a_proxy_knows_the_level_of_its_owner(world: World, prov: Peer, kept: list[Proxy]) -> None:
    world.peer("ws/cons")
    for level, known in ((1, 1), (2, 1), (None, 0), ("1", 0), (0, 0)):
        sent(world, "ws/cons", method_map("ws/cons", "s1.f", _rx=level))
        assert kept.pop().reference.level == known


@pytest.mark.parametrize("promise", ["*", True, False, None])
def test_a_proxy_calls_in_the_way_its_owner_asked_for(
    world: World, cons: Peer, prov: Peer, kept: list[Proxy], promise: Any
) -> None:
    sent(world, "ws/cons", method_map("ws/cons", "services.x.f") | {"_rpromise": promise})
    wire = Wire(world)
    kept[0]()
    world.run()
    _, header, extra = wire.frames[0]
    assert ("session" in header) is bool(promise)
    assert isinstance(extra.get("promise"), dict) is (promise is True)
