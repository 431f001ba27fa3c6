from __future__ import annotations

from typing import Any

import msgpack
import pytest

from hypha.broker.origin import Origin
from hypha.broker.router import LEVEL_1, SERVER_ONLY
from tests.unit.server.broker.conftest import FakeLocal, World, frame, user

CALL = {"type": "method", "to": "ws/c2", "method": "services.s.f", "session": "s1"}
EXTRA = {"args": [1, b"raw"], "promise": "*", "t": 5.0}


def rejection(frames: list[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """The text of the one reject that was sent."""
    ((header, extra),) = frames
    assert header["method"].endswith(".reject")
    (error,) = extra["args"]
    assert (error["_rtype"], error["_rtrace"], error["_rerr"]["may_have_run"]) == ("error", "", False)
    return str(error["_rvalue"])


def test_a_call_is_stamped_and_its_payload_passed_on(world: World):
    source, _ = world.connect("c1")
    _, outlet = world.connect("c2")
    lies = {"from": "x/y", "ws": "root", "user": {"id": "root"}, "ctx": {}, "parent": "p1", "new": [1]}
    world.router.route(source, memoryview(frame({**CALL, **lies}, EXTRA)))
    ((header, extra),) = outlet.frames
    assert header == {
        **CALL,
        "parent": "p1",
        "new": [1],
        "from": "ws/c1",
        "ws": "ws",
        "user": source.user.to_wire(),
    }
    assert extra == EXTRA


def test_a_relative_receiver_is_in_the_workspace_of_the_sender(world: World):
    source, _ = world.connect("c1", "other")
    _, wrong = world.connect("c2")
    _, right = world.connect("c2", "other")
    world.router.route(source, frame({**CALL, "to": "c2"}, EXTRA))
    assert not wrong.frames
    assert right.frames[0][0]["to"] == "other/c2"


def test_abroad_only_the_rights_of_both_ends_are_told(world: World):
    source, _ = world.connect("c1", "home", user_id="bob", home="a", ws="r", third="rw")
    target, outlet = world.connect("c2")
    world.router.route(source, frame(CALL, EXTRA))
    assert outlet.frames[0][0]["user"]["scope"]["workspaces"] == {"home": "a", "ws": "r"}
    assert list(source.abroad) == ["ws/c2"]
    assert list(target.abroad) == ["home/c1"]


def test_the_manager_gets_calls_at_any_of_its_names(world: World):
    source, outlet = world.connect("c1")
    for name in ("*/manager-now", "*/manager-then"):
        world.router.route(source, frame({**CALL, "to": name}, EXTRA))
    assert [header["to"] for header, _ in world.manager.frames] == ["*/manager-now", "*/manager-then"]
    assert world.manager.frames[0][0]["from"] == "ws/c1"
    world.router.route(source, frame({**CALL, "to": "*/somebody"}, EXTRA))
    assert rejection(outlet.frames) == "Target peer */somebody is not connected"


def test_a_local_peer_gets_calls_and_chunks(world: World):
    source, outlet = world.connect("c1", level=1)
    local = world.router.locals["ws-anonymous/client-1"] = FakeLocal()
    world.router.route(source, frame({**CALL, "to": "ws-anonymous/client-1"}, EXTRA))
    world.router.route(source, frame({"type": "chunk", "to": "ws-anonymous/client-1", "session": "k"}, {"b": b"x"}))
    assert [header["type"] for header, _ in local.frames] == ["method", "chunk"]
    assert all(header["from"] == "ws/c1" for header, _ in local.frames)
    assert not outlet.frames


@pytest.mark.parametrize("to", ["c9", "ws/c9", "nowhere/c9"])
def test_a_call_to_nobody_is_rejected_with_absolute_addresses(world: World, to: str):
    source, outlet = world.connect("c1")
    world.router.route(source, frame({**CALL, "to": to}, EXTRA))
    absolute = to if "/" in to else f"ws/{to}"
    header, _ = outlet.frames[0]
    assert header == {"type": "method", "from": absolute, "to": "ws/c1", "method": "s1.reject"}
    assert rejection(outlet.frames) == f"Target peer {absolute} is not connected"


@pytest.mark.parametrize("session", [{}, {"session": None}, {"session": 3}])
def test_without_a_session_nobody_is_answered(world: World, session: dict[str, Any]):
    source, outlet = world.connect("c1")
    header = {"type": "method", "to": "c9", "method": "s1.resolve", **session}
    world.router.route(source, frame(header, {"args": []}))
    assert not outlet.frames
    assert world.router.dropped == 1


def test_a_method_is_not_broadcast(world: World):
    source, outlet = world.connect("c1")
    _, other = world.connect("c2")
    world.router.route(source, frame({**CALL, "to": "*"}, EXTRA))
    assert rejection(outlet.frames) == "a method cannot be broadcast"
    assert not other.frames


# -- what public peers must not get ---------------------------------------------------------------


@pytest.mark.parametrize("key", ["type", "to", "from", "ws", "user", "method", "session", "parent", "ctx"])
def test_routing_keys_in_a_payload_stop_at_a_public_peer(world: World, key: str):
    source, back = world.connect("c1")
    _, public = world.connect("c2")
    _, modern = world.connect("c3", level=1)
    world.router.route(source, frame(CALL, {**EXTRA, key: "forged"}))
    assert "routing fields" in rejection(back.frames)
    assert not public.frames
    world.router.route(source, frame({**CALL, "to": "c3"}, {**EXTRA, key: "forged"}))
    assert len(modern.frames) == 1


@pytest.mark.parametrize("payload", [b"\xc0", b"\x01", b"\x80\x01", b"\x82\xa1a\x01", b"\x81\xa1a\xc6\xff\xff\xff\xff"])
def test_a_payload_that_is_not_one_map_stops_at_a_public_peer(world: World, payload: bytes):
    source, back = world.connect("c1")
    _, public = world.connect("c2")
    world.router.route(source, frame(CALL) + payload)
    assert rejection(back.frames)
    assert not public.frames


def test_a_frame_too_large_stops_at_a_public_peer(world: World):
    source, back = world.connect("c1")
    _, public = world.connect("c2")
    world.router.route(source, frame(CALL, {"args": [bytes(524_288)]}))
    assert rejection(back.frames) == "Frame too large for ws/c2"
    assert not public.frames


@pytest.mark.parametrize("key", ["method", "session"])
def test_routing_fields_that_are_no_text_stop_at_a_public_peer(world: World, key: str):
    source, _ = world.connect("c1")
    _, public = world.connect("c2")
    world.router.route(source, frame({**CALL, key: {"a": 1}}, EXTRA))
    assert not public.frames


# -- events -----------------------------------------------------------------------------------------


def test_an_event_reaches_subscribers_of_its_workspace_and_the_sender(world: World):
    source, own = world.connect("c1")
    near, subscribed = world.connect("c2")
    _, deaf = world.connect("c3")
    far, abroad = world.connect("c4", "elsewhere")
    for connection in (source, near, far):
        connection.subscriptions.add("news")
    world.router.route(source, frame({"type": "news", "to": "*"}, {"data": 1}))
    for outlet in (own, subscribed):
        ((header, extra),) = outlet.frames
        assert (header["to"], header["from"], extra) == ("ws/*", "ws/c1", {"data": 1})
    assert not deaf.frames
    assert not abroad.frames


@pytest.mark.parametrize("to", ["elsewhere/*", "*/*", "elsewhere/c4"])
def test_an_event_does_not_leave_its_workspace(world: World, to: str):
    source, back = world.connect("c1")
    far, abroad = world.connect("c4", "elsewhere")
    far.subscriptions.add("news")
    world.router.route(source, frame({"type": "news", "to": to}))
    assert not back.frames
    world.router.route(source, frame({"type": "news", "to": to, "session": "s"}))
    assert rejection(back.frames)
    assert not abroad.frames


def test_a_reader_does_not_broadcast(world: World):
    source, back = world.connect("c1")
    source.writer = False
    source.subscriptions.add("news")
    world.router.route(source, frame({"type": "news", "to": "*", "session": "s"}))
    assert rejection(back.frames).startswith("Read-only client ws/c1 cannot broadcast messages.")


@pytest.mark.parametrize("kind", sorted(SERVER_ONLY))
def test_types_of_the_server_are_not_for_clients(world: World, kind: str):
    source, back = world.connect("c1")
    target, outlet = world.connect("c2", level=1)
    target.subscriptions.add(kind)
    for to in ("c2", "*"):
        world.router.route(source, frame({"type": kind, "to": to}))
    assert not outlet.frames
    assert not back.frames


@pytest.mark.parametrize("kind", sorted(LEVEL_1))
def test_extension_frames_go_to_level_1_or_nowhere(world: World, kind: str):
    source, back = world.connect("c1", level=1)
    public_peer, public = world.connect("c2")
    _, modern = world.connect("c3", "elsewhere", level=1)
    public_peer.subscriptions.add(kind)
    world.router.route(source, frame({"type": kind, "to": "elsewhere/c3", "session": "k"}))
    assert modern.frames[0][0]["from"] == "ws/c1"
    for to in ("c2", "*", "gone"):
        world.router.route(source, frame({"type": kind, "to": to, "session": "k"}))
    assert not public.frames
    assert len(back.frames) == {"chunk": 3, "query": 2}.get(kind, 0)
    world.router.route(source, frame({"type": kind, "to": "*/manager", "session": "k"}))
    assert world.manager.frames[0][0]["type"] == kind


# -- back-pressure ------------------------------------------------------------------------------------

MIB = 1024 * 1024


def test_a_queue_that_grows_pauses_the_sender_then_refuses(world: World):
    source, back = world.connect("c1")
    target, outlet = world.connect("c2")
    outlet.pending = 9 * MIB
    world.router.route(source, frame(CALL, EXTRA))
    assert world.paused == [("ws/c1", "ws/c2")]
    assert len(outlet.frames) == 1
    outlet.pending = 49 * MIB
    world.router.route(source, frame(CALL, EXTRA))
    assert rejection(back.frames) == "Peer ws/c2 is not reading"
    assert target.address in world.router.connections


def test_who_stands_still_is_refused_frames_until_it_moves(world: World):
    source, back = world.connect("c1")
    target, outlet = world.connect("c2")
    outlet.pending, target.stalled_since, target.stalled_at = 9 * MIB, 999.0, 9 * MIB
    world.router.route(source, frame(CALL, EXTRA))
    assert rejection(back.frames) == "Peer ws/c2 is not reading"
    outlet.pending -= 1
    world.router.route(source, frame(CALL, EXTRA))
    assert len(outlet.frames) == 1
    assert target.stalled_since is None


def test_what_the_server_sends_by_itself_is_dropped_for_who_does_not_read(world: World):
    source, outlet = world.connect("c1")
    source.subscriptions.add("service_added")
    outlet.pending = 49 * MIB
    world.router.publish("ws", "service_added", {})
    world.router.tell("ws/c1", "client_disconnected", {}, about="x/y")
    world.router.send_from_manager(frame({"type": "method", "to": "ws/c1", "method": "s.resolve"}), "*/m", user("root"))
    world.router.route(source, frame({**CALL, "to": "c9"}, EXTRA))
    assert not outlet.frames


def test_calls_of_the_server_to_who_does_not_read_are_rejected(world: World):
    _, outlet = world.connect("c1")
    outlet.pending = 49 * MIB
    call = frame({"type": "method", "to": "ws/c1", "method": "services.s.f", "session": "s1"})
    world.router.send_from_manager(call, "*/manager", user("root"))
    assert rejection(world.manager.frames) == "Peer ws/c1 is not reading"
    local = FakeLocal()
    world.router.send_from_local(call, Origin("ws-anonymous/x", "ws-anonymous", user("http")), local)
    assert rejection(local.frames) == "Peer ws/c1 is not reading"


def test_calls_of_the_server_to_nobody_are_rejected(world: World):
    call = frame({"type": "method", "to": "ws/c1", "from": "*/manager-old", "method": "services.s.f", "session": "s1"})
    world.router.send_from_manager(call, "*/manager", user("root"))
    assert rejection(world.manager.frames) == "Target peer ws/c1 is not connected"
    assert world.manager.frames[0][0]["to"] == "*/manager-old"


def test_the_manager_speaks_as_root_from_the_workspace_of_the_receiver(world: World):
    _, outlet = world.connect("c1")
    world.router.send_from_manager(
        frame({"type": "method", "to": "ws/c1", "from": "*/manager-old", "method": "s.resolve"}, EXTRA),
        "*/manager",
        user("root"),
    )
    header, extra = outlet.frames[0]
    assert (header["from"], header["ws"], header["user"]["id"]) == ("*/manager-old", "ws", "root")
    assert extra == EXTRA


# -- news ---------------------------------------------------------------------------------------------


def test_news_of_the_server_is_one_segment_without_a_sender(world: World):
    connection, outlet = world.connect("c1")
    connection.subscriptions.add("service_added")
    world.router.publish("ws", "service_added", {"id": 1})
    assert outlet.frames == [({"type": "service_added", "to": "*", "data": {"id": 1}}, {})]


def test_news_for_level_1_is_not_for_others(world: World):
    for client, level in (("c1", 0), ("c2", 1)):
        connection, _ = world.connect(client, level=level)
        connection.subscriptions.add("client_disconnected")
        world.router.tell(f"ws/{client}", "client_disconnected", {"direct": True}, about="x/y", least_level=1)
    world.router.publish("ws", "client_disconnected", {}, least_level=1)
    public, modern = (world.router.connections[f"ws/{client}"].outlet for client in ("c1", "c2"))
    assert not public.frames  # type: ignore[attr-defined]
    assert len(modern.frames) == 2  # type: ignore[attr-defined]


# -- mailboxes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        ({"method": "s1.resolve"}, True),
        ({"method": "s1.reject"}, True),
        ({"method": "s1.reject", "session": None}, True),
        ({"method": "s1.reject", "parent": "s1"}, True),
        ({"method": "s1.heartbeat"}, False),
        ({"method": "s1.resolve", "session": "s2"}, False),
        ({"method": "services.x.resolve"}, False),
        ({"method": 5}, False),
    ],
)
def test_only_answers_wait_for_the_lost(world: World, header: dict[str, Any], kept: bool):
    lost, _ = world.connect("c2")
    source, back = world.connect("c1")
    world.router.detach(lost)
    world.router.mailboxes.open(lost, world.clock())
    world.router.route(source, frame({"type": "method", "to": "c2", **header}, EXTRA))
    box = world.router.mailboxes.collect("ws/c2", user_id="alice", life=None, now=world.clock())
    assert box is not None
    assert len(box.frames) == kept
    if kept:
        stored = msgpack.Unpacker()
        stored.feed(box.frames[0])
        assert next(stored)["from"] == "ws/c1"
    assert len(back.frames) == ("session" in header and isinstance(header["session"], str))


def test_the_lost_learn_the_last_news_of_each_peer_but_not_their_own(world: World):
    lost, _ = world.connect("c2")
    world.router.detach(lost)
    world.router.mailboxes.open(lost, world.clock())
    world.router.publish("ws", "client_disconnected", {"id": "c3"}, about="ws/c3")
    world.router.publish("ws", "client_connected", {"id": "ws/c3"}, about="ws/c3")
    world.router.publish("ws", "client_disconnected", {"id": "c2"}, about="ws/c2")
    world.router.publish("other", "client_disconnected", {"id": "c4"}, about="other/c4")
    world.router.tell("ws/c2", "client_disconnected", {"id": "c5"}, about="far/c5")
    box = world.router.mailboxes.collect("ws/c2", user_id="alice", life=None, now=world.clock())
    assert box is not None
    news = {about: msgpack.unpackb(data)["type"] for about, data in box.news.items()}
    assert news == {"ws/c3": "client_connected", "far/c5": "client_disconnected"}


# -- garbage --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x90",
        b"\x81\xa1a",
        frame({"type": "method"}),
        frame({"to": "c2"}),
        frame({"type": 1, "to": "c2"}),
        frame({"type": "method", "to": None}),
        frame({"type": "method", "to": "c" * 5000}),
        frame({"type": "t" * 5000, "to": "c2"}),
        frame({"type": "method", "to": "c2", "session": "s" * 5000}),
    ],
)
def test_what_is_no_frame_is_counted_and_dropped(world: World, data: bytes):
    source, back = world.connect("c1")
    _, outlet = world.connect("c2")
    world.router.route(source, data)
    assert source.invalid == 1
    assert world.router.dropped == 1
    assert not back.frames
    assert not outlet.frames


def test_who_sends_nothing_else_is_let_go_once(world: World):
    source, back = world.connect("c1")
    for _ in range(200):
        world.router.route(source, b"\xc1")
    assert back.closed is None
    for _ in range(100):
        world.router.route(source, b"\xc1")
    assert back.texts == [{"type": "error", "message": "Too many invalid frames"}]
    assert back.closed == (1008, "Too many invalid frames")


def test_the_count_of_invalid_frames_drains(world: World):
    source, back = world.connect("c1")
    for _ in range(50):
        world.clock.now += 1.0
        for _ in range(10):
            world.router.route(source, b"\xc1")
    assert back.closed is None


def test_one_who_was_replaced_cannot_be_detached_again(world: World):
    old, _ = world.connect("c1")
    new, _ = world.connect("c1")
    assert not world.router.detach(old)
    assert world.router.connections["ws/c1"] is new
    assert world.router.detach(new)
    assert not world.router.connections
    assert not world.router.workspaces


HEADERS = [
    {"type": "method", "to": "ws/c2", "method": "services.s.f", "session": "s1"},
    {"type": "method", "to": "c2", "method": "services.s.f", "session": "s1"},
    {"type": "method", "to": "ws/c2", "method": "s1.resolve", "parent": "s1"},
    {"type": "method", "to": "ws/c2", "method": "services.s.f", "from": "x/y", "ws": "z", "user": {"id": "root"}},
    {"type": "method", "to": "ws/c2", "method": "services.s.f", "ctx": 1},
    {"type": "method", "to": "ws/c2", "method": "m", **{f"k{number}": [number] for number in range(11)}},
    {"type": "method", "to": "ws/c2", "method": "m", **{f"k{number}": [number] for number in range(20)}},
]


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("payload", [None, {"args": [1, b"x" * 5000]}])
def test_a_header_is_passed_on_with_its_senders_identity_however_it_was_written(
    world: World, header: dict[str, Any], wide: bool, payload: Any
):
    source, _ = world.connect("c1", level=1)
    _, back = world.connect("c2", level=1)
    data = frame(header, payload)
    if wide and data[0] & 0xF0 == 0x80:
        data = b"\xde\x00" + bytes((data[0] & 0x0F,)) + data[1:]
    world.router.route(source, data)
    [(passed, extra)] = back.frames
    own = {name: value for name, value in header.items() if name not in ("to", "from", "ws", "user", "ctx")}
    assert {name: passed.pop(name) for name in own} == own
    assert passed.pop("to") == "ws/c2"
    assert passed.pop("from") == "ws/c1"
    if passed:
        assert passed.pop("ws") == "ws"
        assert passed.pop("user")["id"] == source.user.id
    assert not passed
    assert extra == (payload or {})
