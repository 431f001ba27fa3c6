"""Who may call what, in which order it is decided, and the texts callers match on (protocol §4.5, §4.7; S2, S3, S6)."""

from __future__ import annotations

from typing import Any

import pytest

from hypha_rpc import errors
from hypha_rpc.endpoint import Service
from hypha_rpc.objects import ObjectProxy
from hypha_rpc.wire import FrameWriter
from tests.unit.endpoint.world import Peer, Wire, World


@pytest.fixture
def stranger(world: World) -> Peer:
    return world.peer("other/guest")


@pytest.fixture
def manager(world: World) -> Peer:
    return world.peer("*/manager-1")


def refused(peer: Peer, method: str, kind: type[BaseException] = errors.RemoteException) -> str:
    with pytest.raises(kind) as caught:
        peer.ask("ws/prov", method)
    assert isinstance(caught.value, errors.RemoteException)
    assert not caught.value.may_have_run
    return caught.value.remote_message


# -- visibility ------------------------------------------------------------------------------


@pytest.mark.parametrize("visibility", ["public", "unlisted"])
def test_open_services_are_for_everybody(stranger: Peer, prov: Peer, visibility: str) -> None:
    prov.offer("open", {"f": lambda: 1}, visibility=visibility)
    assert stranger.ask("ws/prov", "services.open.f") == 1


def test_a_protected_service_is_for_its_workspace_the_authorized_and_the_manager(
    world: World, cons: Peer, stranger: Peer, manager: Peer, prov: Peer
) -> None:
    prov.offer("own", {"f": lambda: 1}, visibility="protected", authorized_workspaces=["friends"])
    friend = world.peer("friends/x")
    for peer in (cons, friend, manager):
        assert peer.ask("ws/prov", "services.own.f") == 1
    text = refused(stranger, "services.own.f", PermissionError)
    assert text == (
        "Permission denied for invoking protected method other/guest:services.own.f, workspace mismatch: ws != other"
    )


def test_protected_is_the_default(stranger: Peer, prov: Peer) -> None:
    prov.endpoint.exports.add(Service("plain", {"f": lambda: 1}, {}))
    refused(stranger, "services.plain.f", PermissionError)


def test_an_interface_is_for_its_one_holder(world: World, cons: Peer, stranger: Peer, prov: Peer) -> None:
    prov.endpoint.exports.add(
        Service("_rintf_1", {"f": lambda: 1}, {"visibility": "protected"}, allowed_caller="other/guest")
    )
    assert stranger.ask("ws/prov", "services._rintf_1.f") == 1
    assert "Permission denied for _rintf callback ws/cons:services._rintf_1.f" in refused(cons, "services._rintf_1.f")


def test_get_service_asks_the_same_question(cons: Peer, stranger: Peer, prov: Peer) -> None:
    prov.offer("own", {"f": lambda: 1, "version": 3}, visibility="protected")
    service = cons.ask("ws/prov", "services.built-in.get_service", "own")
    assert service["version"] == 3
    assert service["f"]() is not None
    with pytest.raises(PermissionError) as caught:
        stranger.ask("ws/prov", "services.built-in.get_service", "own")
    assert "Permission denied for getting protected service: own, workspace mismatch: ws != other" in str(caught.value)


# -- order -----------------------------------------------------------------------------------


def call_to(target: str, method: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header = {"type": "method", "to": "ws/prov", "method": method, "session": "s1"}
    return header, {"args": [], "promise": "*", "t": 15.0}


def test_the_address_comes_before_the_permission(world: World, stranger: Peer, prov: Peer) -> None:
    prov.offer("own", {"f": lambda: 1}, visibility="protected")
    for method in ("services.own.f", "services.demo.echo"):
        wire = Wire(world)
        header, extra = call_to("ws/prov", method)
        prov.endpoint.receive(_stamped({**header, "to": "elsewhere/prov"}, extra, "other/guest"), world.now)
        world.run()
        text = wire.frames[-1][2]["args"][0]["_rvalue"]
        assert text.startswith("Access denied: a call to elsewhere/prov")


def _stamped(header: dict[str, Any], extra: dict[str, Any], sender: str) -> bytes:
    return FrameWriter().write({**header, "from": sender, "ws": sender.partition("/")[0], "user": {"id": "u"}}, extra)


def test_the_manager_answers_from_whatever_address_it_was_called_at(world: World, cons: Peer, manager: Peer) -> None:
    manager.offer("default", {"f": lambda: 1}, require_context=False)
    wire = Wire(world)
    header, extra = call_to("", "services.default.f")
    manager.endpoint.receive(_stamped({**header, "to": "*/manager-before"}, extra, "ws/cons"), world.now)
    world.run()
    assert wire.frames[-1][1]["from"] == "*/manager-before"
    assert wire.frames[-1][2]["args"] == [1]


# -- texts -----------------------------------------------------------------------------------


UNREGISTERED = "(it was unregistered, or registered anew without it; get_service() finds what is there now)"


@pytest.mark.parametrize(
    ("method", "text", "kind"),
    [
        (
            "services.demo.nope",
            f"Method expired or not found: ws/cons:services.demo.nope {UNREGISTERED}",
            AttributeError,
        ),
        ("services.nope.add", f"Method expired or not found: ws/cons:services.nope.add {UNREGISTERED}", AttributeError),
        ("services.demo", f"Method expired or not found: ws/cons:services.demo {UNREGISTERED}", AttributeError),
        (
            "nosession.x",
            "Session not found: ws/cons:nosession.x "
            "(a callback in an argument ends with its call; send keep(function) to let it live on)",
            ReferenceError,
        ),
        ("word", "Method not found: ws/cons:word at prov", AttributeError),
        ("", "Method not found: ws/cons: at prov", AttributeError),
    ],
)
def test_what_is_missing_is_said_in_the_words_callers_know(
    cons: Peer, prov: Peer, method: str, text: str, kind: type[BaseException]
) -> None:
    assert refused(cons, method, kind) == text


def test_an_unknown_service_is_a_key_error(cons: Peer, prov: Peer) -> None:
    with pytest.raises(KeyError) as caught:
        cons.ask("ws/prov", "services.built-in.get_service", "nope")
    assert "Service not found: nope" in str(caught.value)


def test_nothing_is_said_without_a_promise(world: World, cons: Peer, prov: Peer) -> None:
    wire = Wire(world)
    for method in ("services.demo.nope", "x.resolve", "x.heartbeat", "word"):
        world.inject("ws/cons", {"type": "method", "to": "ws/prov", "method": method, "session": "s1"})
    assert len(wire.frames) == 4


# -- callable is what was exported (S6) ------------------------------------------------------


class Thing:
    """Callable, with methods that nobody exported."""

    def __call__(self) -> str:
        return "called"

    def secret(self) -> str:
        raise AssertionError("was reached")


@pytest.mark.parametrize(
    "path",
    [
        "echo.__globals__.x",
        "echo.__globals__",
        "echo.__call__",
        "echo.__class__",
        "keys",
        "get",
        "__class__",
        "thing.secret",
        "list.append",
        "list.-1",
        "list.00",
        "list.2",
        "list",
        "nested",
        "nested.pop",
        "_private",
        "nested._private",
        "__enter",
        "number",
        "config",
        "id",
        "..echo",
        ".echo",
        "echo.",
    ],
)
def test_only_exported_paths_can_be_called(cons: Peer, prov: Peer, path: str) -> None:
    prov.offer(
        "s",
        {
            "echo": lambda value=None: value,
            "thing": Thing(),
            "list": [len, Thing()],
            "nested": {"f": len, "_private": Thing().secret},
            "_private": Thing().secret,
            "number": 5,
        },
    )
    assert "Method expired or not found" in refused(cons, f"services.s.{path}")


@pytest.mark.parametrize(
    "method", ["services.keys", "services.built-in", "services.s.echo.__globals__.x", "services..echo", "services"]
)
def test_the_tables_themselves_cannot_be_walked(cons: Peer, prov: Peer, method: str) -> None:
    prov.offer("s", {"echo": lambda value=None: value})
    assert "not found" in refused(cons, method)


@pytest.mark.parametrize("name", ["_dispose", "__enter__", "__exit__"])
def test_three_names_with_underscores_are_members(cons: Peer, prov: Peer, name: str) -> None:
    prov.offer("s", {name: lambda *args: name})
    assert cons.ask("ws/prov", f"services.s.{name}") == name


def test_a_service_replaced_or_removed_is_gone_with_all_its_members(cons: Peer, prov: Peer) -> None:
    prov.offer("s", {"old": lambda: 1, "both": lambda: 1})
    prov.offer("s", {"both": lambda: 2})
    assert cons.ask("ws/prov", "services.s.both") == 2
    refused(cons, "services.s.old")
    assert prov.endpoint.exports.remove("s") is not None
    assert prov.endpoint.exports.remove("s") is None
    refused(cons, "services.s.both")


# -- identity and context (S2) ---------------------------------------------------------------

ROUTING = ["type", "to", "from", "ws", "user", "method", "session", "parent", "ctx"]


@pytest.fixture
def told(prov: Peer) -> list[Any]:
    contexts: list[Any] = []

    def remember(context: Any) -> None:
        contexts.append(context)

    prov.offer("who", {"am_i": remember}, require_context=True)
    return contexts


def test_the_context_is_what_the_header_says(world: World, cons: Peer, prov: Peer, told: list[Any]) -> None:
    cons.ask("ws/prov", "services.who.am_i")
    (context,) = told
    assert set(context) == {"type", "from", "to", "method", "session", "ws", "user", "connection_type"}
    assert (context["from"], context["ws"], context["user"]) == ("ws/cons", "ws", {"id": "ws/cons"})
    assert context["connection_type"] == "websocket"


@pytest.mark.parametrize("name", ROUTING)
def test_a_name_in_the_second_segment_changes_nothing(
    world: World, cons: Peer, prov: Peer, told: list[Any], name: str
) -> None:
    header = {
        "type": "method",
        "to": "ws/prov",
        "method": "services.who.am_i",
        "session": "s1",
        "ctx": {"from": "ws/root"},
    }
    world.inject("ws/cons", header, {"args": [], "promise": "*", "t": 15, name: {"id": "root"}, "forged": True})
    (context,) = told
    assert (context["from"], context["ws"], context["user"]) == ("ws/cons", "ws", {"id": "ws/cons"})
    assert "forged" not in context and "ctx" not in context


def test_a_context_from_the_caller_is_replaced(cons: Peer, prov: Peer, told: list[Any]) -> None:
    cons.ask("ws/prov", "services.who.am_i", context={"from": "ws/root"})
    assert told[0]["from"] == "ws/cons"


def test_only_the_named_methods_get_the_context(cons: Peer, prov: Peer) -> None:
    def names(**kwargs: Any) -> list[str]:
        return list(kwargs)

    prov.offer("some", {"a": names, "b": names, "deep": {"a": names}}, require_context=["a"])
    assert cons.ask("ws/prov", "services.some.a") == ["context"]
    assert cons.ask("ws/prov", "services.some.deep.a") == ["context"]
    assert cons.ask("ws/prov", "services.some.b") == []


def test_the_context_is_of_the_class_for_maps(world: World, cons: Peer) -> None:
    prov = world.peer("ws/proxies", mapping=ObjectProxy)
    prov.offer("who", {"am_i": lambda context: context.user.id}, require_context=True)
    assert cons.ask("ws/proxies", "services.who.am_i") == "ws/cons"


def test_a_user_that_cannot_be_decoded_is_a_rejection(world: World, cons: Peer, prov: Peer, told: list[Any]) -> None:
    wire = Wire(world)
    header, extra = call_to("ws/prov", "services.who.am_i")
    frame = {**header, "from": "ws/cons", "ws": "ws", "user": {"x": {"_rtype": "set", "_rvalue": 5}}}
    prov.endpoint.receive(FrameWriter().write(frame, extra), world.now)
    world.run()
    assert wire.frames[-1][1]["method"] == "s1.reject"
    assert told == []


# -- forged answers (S3) ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resolve", "reject", "heartbeat"])
def test_an_answer_counts_only_from_the_address_called(world: World, cons: Peer, prov: Peer, name: str) -> None:
    wire = Wire(world)
    outcome = cons.call("ws/prov", "services.demo.later")
    world.run()
    session = wire.frames[0][1]["session"]
    header = {"type": "method", "to": "ws/cons", "method": f"{session}.{name}", "parent": session}
    for forger in ("ws/thief", "other/prov", "*/manager-1"):
        world.inject(forger, header, {"args": ["forged"]})
        world.inject_broken(forger, header)
    assert not outcome.done()
    assert len(cons.drops) == 6
    prov.later[0].answer("true")
    world.run()
    assert outcome.value() == "true"


def test_a_diverted_promise_is_answered_to_the_caller(world: World, cons: Peer, prov: Peer) -> None:
    victim = world.peer("ws/victim")
    called: list[Any] = []
    victim.offer("s", {"f": called.append})
    reference = {"_rtype": "method", "_rtarget": "ws/victim", "_rmethod": "services.s.f", "_rpromise": False}
    wire = Wire(world)
    header = {"type": "method", "to": "ws/prov", "method": "services.demo.echo", "session": "s1"}
    world.inject("ws/cons", header, {"args": ["x"], "promise": {"resolve": reference, "reject": reference}})
    assert called == []
    assert [header["to"] for sender, header, _ in wire.frames if sender == "ws/prov"] == ["ws/cons"]


@pytest.mark.parametrize(
    "header", [{"method": 5}, {"method": None}, {}, {"method": "services.demo.add", "session": [1]}]
)
def test_a_header_of_odd_types_harms_nobody(world: World, cons: Peer, prov: Peer, header: dict[str, Any]) -> None:
    world.inject("ws/cons", {"type": "method", "to": "ws/prov", **header}, {"promise": "*"})
    for kind in (5, None, ["x"], {"a": 1}, "", "x" * 5000):
        world.inject("ws/cons", {"type": kind, "to": "ws/prov", "session": ["x"]})
    world.inject("ws/cons", {"type": "cancel", "to": "ws/prov", "session": {"a": 1}})
    assert cons.ask("ws/prov", "services.demo.add", 1) == 1
    assert not any(prov.stats().values())


def test_bytes_that_are_no_frame_are_reported_and_dropped(prov: Peer, world: World) -> None:
    for data in (b"", b"\xc1", b"hello", b"\x81\xa1a", b"\xdf\xff\xff\xff\xff"):
        prov.endpoint.receive(data, world.now)
    assert len(prov.drops) == 5
    assert all(len(reason) < 200 for reason in prov.drops)


def test_other_frames_are_events_of_the_stamped_sender(world: World, cons: Peer, prov: Peer) -> None:
    world.inject("ws/cons", {"type": "my-event", "to": "ws/prov"}, {"data": {"n": 1}, "from": "ws/root"})
    world.inject("ws/cons", {"type": "merged", "to": "ws/prov", "data": 5})
    (header, extra), (merged, same) = prov.events
    assert (header["type"], header["from"], extra["data"]) == ("my-event", "ws/cons", {"n": 1})
    assert merged["data"] == same["data"] == 5
