"""What a client may not say, and what it cannot do to others (security §2, §7, §8)."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from hypha.broker.router import SERVER_ONLY
from hypha.testing import RunningServer, run_server
from hypha_rpc import connect_to_server
from tests.integration.raw_peers import BINARY, RawPeer, Rejected, pack, peer_at, socket_at, unpack

VECTORS = Path(__file__).resolve().parents[2] / "vectors" / "vectors.json"
FORGED: dict[str, Any] = {
    "type": "force-exit",
    "to": "ws-user-mallory/nobody",
    "from": "*/manager-forged",
    "ws": "ws-user-root",
    "user": {"id": "root", "roles": ["admin"], "scope": {"workspaces": {"*": "a"}}},
    "method": "services.built-in.ping",
    "session": "forged",
    "parent": "forged",
    "ctx": {"user": {"id": "root"}, "ws": "ws-user-root"},
}


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with run_server() as running:
        yield running


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Any:
    """Nothing a peer does is worth more than INFO, and no payload is logged."""
    caplog.set_level(logging.INFO)
    yield
    records = caplog.get_records("call")
    # asyncio warns in debug mode of slow callbacks: a matter of this machine, not of peers.
    relevant = [record for record in records if (record.name, record.levelno) != ("asyncio", logging.WARNING)]
    loud = [record for record in relevant if record.levelno > logging.INFO]
    assert not loud, loud
    assert all(len(record.getMessage()) <= 300 for record in records if record.name.startswith("hypha"))


class Provider:
    """A real client with a public service that notes who calls."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.started = asyncio.Event()
        self.release = asyncio.Event()

    def whoami(self, *args: Any, context: Any) -> str:
        self.calls.append(dict(context))
        return str(context["user"]["id"])

    async def slow(self, context: Any) -> str:
        self.started.set()
        await self.release.wait()
        return "done"


@pytest.fixture
async def provider(server: RunningServer) -> AsyncIterator[Provider]:
    found = Provider()
    config = {"visibility": "public", "require_context": True}
    async with connect_to_server(server_url=server.url, client_id="prov", token=server.token("alice")) as client:
        await client.register_service({"id": "svc", "config": config, "whoami": found.whoami, "slow": found.slow})
        yield found
        found.release.set()


PROVIDER = "ws-user-alice/prov"


def mallory(server: RunningServer, **members: Any) -> Any:
    return peer_at(server.ws_url, "evil", token=server.token("mallory"), **members)


# -- S1, S2: identity ------------------------------------------------------------------------------


async def test_what_a_header_claims_about_its_sender_is_replaced(server: RunningServer):
    async with mallory(server) as evil, peer_at(server.ws_url, "c1", token=server.token("alice")) as victim:
        claims = {name: FORGED[name] for name in ("from", "ws", "user", "ctx")}
        await evil.send({"type": "method", "to": victim.address, "method": "m", **claims, "other": 1}, {"args": []})
        header, extra = await victim.frame()
    assert header["from"] == "ws-user-mallory/evil"
    assert header["ws"] == "ws-user-mallory"
    assert header["user"]["id"] == "mallory"
    assert header["to"] == victim.address
    assert "ctx" not in header
    assert header["other"] == 1
    assert extra == {"args": []}


async def test_abroad_a_user_shows_its_rights_at_both_ends_only(server: RunningServer):
    rights = {"ws-user-alice": "r", "ws-secret": "a"}
    async with peer_at(server.ws_url, "c1", token=server.token("alice")) as alice:
        token = server.token("bob", workspaces=rights, workspace="ws-user-bob")
        async with peer_at(server.ws_url, "c2", token=token) as bob, peer_at(server.ws_url, "c3", token=token) as near:
            await bob.send({"type": "method", "to": alice.address, "method": "m", "session": "s"})
            header, _ = await alice.frame()
            assert header["user"]["scope"]["workspaces"] == {"ws-user-alice": "r", "ws-user-bob": "a"}
            await bob.send({"type": "method", "to": "c3", "method": "m", "session": "s"})
            header, _ = await near.frame()
            assert header["user"]["scope"]["workspaces"]["ws-secret"] == "a"


@pytest.mark.parametrize("name", sorted(FORGED))
async def test_a_routing_name_in_the_payload_does_not_reach_a_public_peer(server: RunningServer, name: str):
    async with mallory(server) as evil, peer_at(server.ws_url, "c1", token=server.token("alice")) as victim:
        with pytest.raises(Rejected, match="without routing fields"):
            await evil.call(victim.address, "services.svc.f", extra={name: FORGED[name]})
        await evil.send(
            {"type": "method", "to": victim.address, "method": "s.resolve"}, {"args": [], name: FORGED[name]}
        )
        assert await evil.alive()
        assert await victim.alive()
        assert victim.frames.empty()


@pytest.mark.parametrize(
    "payload", [b"\xc0", b"\x93\x01\x02\x03", b"\x80\x80", b"\x81\xa1a", b"\xdf\xff\xff\xff\xff", b"\xc1"]
)
async def test_a_payload_that_is_not_one_map_does_not_reach_a_public_peer(server: RunningServer, payload: bytes):
    async with mallory(server) as evil, peer_at(server.ws_url, "c1", token=server.token("alice")) as victim:
        await evil.ws.send(
            msgpack.packb({"type": "method", "to": victim.address, "method": "m", "session": "s"}) + payload
        )
        header, _ = await evil.frame()
        assert header["method"] == "s.reject"
        assert await victim.alive()
        assert victim.frames.empty()


@pytest.mark.parametrize("name", ["method", "session"])
async def test_a_routing_field_that_is_no_text_does_not_reach_a_public_peer(server: RunningServer, name: str):
    async with mallory(server) as evil, peer_at(server.ws_url, "c1", token=server.token("alice")) as victim:
        await evil.send({"type": "method", "to": victim.address, "method": "m", "session": "s", name: [1]})
        assert await evil.alive()
        assert await victim.alive()
        assert victim.frames.empty()


@pytest.mark.parametrize("name", sorted(FORGED))
async def test_our_clients_read_routing_from_the_header_only(server: RunningServer, provider: Provider, name: str):
    async with mallory(server) as evil:
        assert await evil.call(PROVIDER, "services.svc.whoami", extra={name: FORGED[name]}) == "mallory"
    _assert_honest(provider.calls)


@pytest.mark.parametrize("where", ["header", "payload"])
@pytest.mark.parametrize("name", sorted(FORGED.keys() - {"method", "session", "type"}))
async def test_a_message_in_pieces_has_the_identity_of_who_sent_it(
    server: RunningServer, provider: Provider, name: str, where: str
):
    async with mallory(server) as evil:
        inner = {
            "type": "method",
            "from": evil.address,
            "to": PROVIDER,
            "method": "services.svc.whoami",
            "session": "s9",
        }
        extra: dict[str, Any] = {"args": [], "promise": "*", "t": 10}
        (inner if where == "header" else extra)[name] = FORGED[name]
        await evil.call(PROVIDER, "services.built-in.message_cache.create", "key")
        await evil.call(PROVIDER, "services.built-in.message_cache.set", "key", 0, pack(inner, extra))
        await evil.call(PROVIDER, "services.built-in.message_cache.process", "key")
        header, answer = await evil.frame()
        assert (header["method"], answer["args"]) == ("s9.resolve", ["mallory"])
    _assert_honest(provider.calls)


def _assert_honest(calls: list[dict[str, Any]]) -> None:
    assert calls
    for context in calls:
        assert (context["from"], context["ws"]) == ("ws-user-mallory/evil", "ws-user-mallory")
        assert context["user"]["id"] == "mallory"
        assert context["to"] == PROVIDER


@pytest.mark.parametrize("name", sorted(FORGED.keys() - {"method", "session", "type", "to"}))
async def test_the_manager_reads_routing_from_the_header_only(server: RunningServer, name: str):
    async with mallory(server) as evil:
        found = await evil.call(evil.manager, "services.default.list_clients", extra={name: FORGED[name]})
        assert {client["id"].partition("/")[0] for client in found} <= {"ws-user-mallory"}
        with pytest.raises(Rejected, match="Permission denied"):
            await evil.call(evil.manager, "services.default.list_clients", "ws-user-root", extra={name: FORGED[name]})


# -- S3: answers -------------------------------------------------------------------------------------


async def test_an_answer_counts_only_from_who_was_called(server: RunningServer):
    async with (
        mallory(server) as evil,
        peer_at(server.ws_url, "c1", token=server.token("alice")) as callee,
        connect_to_server(server_url=server.url, client_id="caller", token=server.token("alice")) as caller,
    ):
        await callee.register("svc")
        pending = asyncio.create_task(caller.get_service("ws-user-alice/c1:svc"))
        header, _ = await callee.frame()
        forged = {"type": "method", "to": header["from"], "method": f"{header['session']}.resolve"}
        for _ in range(3):
            await evil.send({**forged, "from": callee.address}, {"args": [{"id": "forged"}]})
            await evil.send({**forged, "method": f"{header['session']}.reject"}, {"args": ["forged"]})
        assert await evil.alive()
        assert not pending.done()
        service = {"id": "ws-user-alice/c1:svc", "name": "honest", "config": {}}
        await callee.send(forged, {"args": [service]})
        assert (await asyncio.wait_for(pending, 5))["name"] == "honest"


# -- S4, S5: what may be sent where --------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(SERVER_ONLY))
async def test_nobody_can_speak_as_the_server(server: RunningServer, kind: str):
    alice = server.token("alice")
    async with peer_at(server.ws_url, "c1", token=alice) as evil, peer_at(server.ws_url, "c2", token=alice) as victim:
        await victim.subscribe("service_added", "client_disconnected", "client_connected")
        victim_subscriptions = server.app.router.connections[victim.address].subscriptions
        victim_subscriptions.add(kind)
        for to in (victim.address, "c2", "*", "ws-user-alice/*"):
            await evil.send({"type": kind, "to": to, "from": evil.manager}, {"data": {"id": "c1"}})
        await evil.send({"type": kind, "to": "c2", "session": "s"})
        header, _ = await evil.frame()
        assert header["method"] == "s.reject"
        assert await victim.alive()
        assert victim.frames.empty()


async def test_a_forged_lifecycle_event_does_not_end_a_call(server: RunningServer, provider: Provider):
    token = server.token("alice")
    async with (
        peer_at(server.ws_url, "evil", token=token) as evil,
        connect_to_server(server_url=server.url, client_id="caller", token=token) as caller,
    ):
        service = await caller.get_service("ws-user-alice/prov:svc")
        pending = asyncio.ensure_future(service.slow())
        await asyncio.wait_for(provider.started.wait(), 5)
        for kind in ("client_disconnected", "force-exit", "peer_not_found", "disconnected", "error"):
            for to in ("ws-user-alice/caller", PROVIDER, "*"):
                await evil.send({"type": kind, "to": to}, {"data": {"id": "prov"}, "peer_id": PROVIDER, "reason": "x"})
        assert await evil.alive()
        provider.release.set()
        assert await asyncio.wait_for(pending, 5) == "done"


@pytest.mark.parametrize(
    ("to", "text"),
    [
        ("ws-user-alice/c1", "Events stay in their workspace"),
        ("ws-user-alice/*", "Permission denied for workspace ws-user-alice"),
        ("*/*", "Permission denied for workspace"),
    ],
)
async def test_events_stay_in_their_workspace(server: RunningServer, to: str, text: str):
    async with mallory(server) as evil, peer_at(server.ws_url, "c1", token=server.token("alice")) as victim:
        await victim.subscribe("news")
        await evil.send({"type": "news", "to": to}, {"data": 1})
        await evil.send({"type": "news", "to": to, "session": "s"}, {"data": 1})
        header, extra = await evil.frame()
        assert header["method"] == "s.reject"
        assert extra["args"][0]["_rvalue"].startswith(text)
        assert evil.frames.empty(), "without a session there is no answer"
        assert await victim.alive()
        assert victim.frames.empty()


async def test_a_reader_cannot_broadcast_but_can_send(server: RunningServer):
    async with peer_at(server.ws_url, "c1", token=server.token("alice")) as owner:
        token = server.token("bob", workspaces={"ws-user-alice": "r"}, workspace="ws-user-alice")
        async with peer_at(server.ws_url, "c2", token=token) as reader:
            await owner.subscribe("news")
            for to in ("*", "ws-user-alice/*"):
                await reader.send({"type": "news", "to": to, "session": "s"}, {"data": 1})
                _, extra = await reader.frame()
                assert extra["args"][0]["_rvalue"] == (
                    "Read-only client ws-user-alice/c2 cannot broadcast messages. "
                    "Only point-to-point messages are allowed for read-only clients."
                )
            await reader.send({"type": "news", "to": "c1"}, {"data": "direct"})
            _, extra = await owner.frame()
            assert extra == {"data": "direct"}


@pytest.mark.parametrize("kind", ["cancel", "query", "release", "lease", "credit", "progress", "chunk"])
async def test_extension_frames_reach_peers_of_level_1_only(server: RunningServer, kind: str):
    async with (
        mallory(server, x=1) as sender,
        peer_at(server.ws_url, "old", token=server.token("alice")) as public,
        peer_at(server.ws_url, "new", token=server.token("alice"), x=1) as modern,
    ):
        await server_subscribes(server, public, kind)
        await sender.send({"type": kind, "to": modern.address, "session": "s", "from": "forged"}, {"b": b"x"})
        header, _ = await modern.frame()
        assert (header["type"], header["from"]) == (kind, sender.address)
        for to in (public.address, "*", "ws-user-alice/*", "ws-user-alice/nobody"):
            await sender.send({"type": kind, "to": to, "session": "s"}, {"b": b"x"})
        assert await sender.alive()
        rejected = {"chunk": 4, "query": 3}.get(kind, 0)
        assert sender.frames.qsize() == rejected, "a chunk, and a query nobody is there to answer"
        assert await public.alive()
        assert public.frames.empty()


async def server_subscribes(server: RunningServer, peer: RawPeer, kind: str) -> None:
    server.app.router.connections[peer.address].subscriptions.add(kind)


async def test_other_managers_do_not_exist_but_former_ones_are_the_manager(server: RunningServer):
    async with mallory(server) as evil:
        with pytest.raises(Rejected, match="not connected"):
            await evil.call("*/other", "services.default.echo", 1)
        assert await evil.call("*/manager-of-yesterday", "services.default.echo", 1) == 1


# -- who is gone ---------------------------------------------------------------------------------------


async def test_a_call_to_nobody_ends_at_once_with_absolute_addresses(server: RunningServer):
    async with mallory(server) as evil:
        for to in ("nobody", "ws-user-mallory/nobody", "ws-user-alice/nobody", "/", "a/b/c", ""):
            await evil.send({"type": "method", "to": to, "method": "services.x.y", "session": "s"})
            header, extra = await evil.frame()
            absolute = to if "/" in to else f"ws-user-mallory/{to}"
            assert (header["from"], header["to"]) == (absolute, evil.address)
            assert header["method"] == "s.reject"
            assert extra["args"][0]["_rvalue"] == f"Target peer {absolute} is not connected"
        await evil.send({"type": "method", "to": "nobody", "method": "s.resolve"}, {"args": [1]})
        assert await evil.alive()
        assert evil.frames.empty(), "an answer to nobody is dropped without a word"


async def test_who_called_abroad_learns_of_a_loss(server: RunningServer):
    async with mallory(server) as caller, peer_at(server.ws_url, "c1", token=server.token("alice")) as callee:
        await caller.start_call(callee.address, "services.svc.f")
        await callee.frame()
        callee.cut()
        header, _ = await caller.frame()
        assert header["type"] == "client_disconnected"
        assert header["data"] == {"id": "c1", "workspace": "ws-user-alice", "may_resume": True}
        assert "from" not in header


# -- §7: garbage ---------------------------------------------------------------------------------------


def _mutants(count: int) -> list[bytes]:
    """Frames of the vectors, damaged in a reproducible way."""
    cases = json.loads(VECTORS.read_text())["cases"]
    whole = [
        bytes.fromhex(case["hex"]) for case in cases if case["section"] == "frame" and isinstance(case.get("hex"), str)
    ]
    chance = random.Random(20240229)
    found = []
    for _ in range(count):
        frame = bytearray(chance.choice(whole))
        for _ in range(chance.randint(1, 4)):
            spot = chance.randrange(len(frame))
            match chance.randrange(4):
                case 0:
                    frame[spot] ^= 1 << chance.randrange(8)
                case 1:
                    del frame[spot:]
                case 2:
                    frame[spot:spot] = chance.randbytes(chance.randint(1, 8))
                case _:
                    frame[spot] = chance.choice([0xC1, 0xDF, 0xDD, 0xC6, 0xC9, 0xFF])
            if not frame:
                frame = bytearray(b"\xc1")
        found.append(bytes(frame))
    return found


async def test_damaged_frames_harm_nobody(server: RunningServer, caplog: pytest.LogCaptureFixture):
    token = server.token("alice")
    mutants = _mutants(600)
    async with (
        peer_at(server.ws_url, "py-prov", token=token) as public,
        peer_at(server.ws_url, "py-cons", token=token, x=1) as modern,
        connect_to_server(server_url=server.url, client_id="client", token=token) as client,
    ):
        for start in range(0, len(mutants), 100):
            async with peer_at(server.ws_url, f"fuzz{start}", token=token) as evil:
                for mutant in mutants[start : start + 100]:
                    await evil.ws.send(mutant)
                    await evil.ws.send(mutant.replace(b"py-prov", b"client\x00"))
                assert await evil.alive()
        assert await public.alive()
        assert await modern.alive()
        assert await client.echo("still here") == "still here"
        assert public.ws.state == modern.ws.state == 1
    ours = [record for record in caplog.records if record.name.startswith("hypha.")]
    assert len(ours) <= 60, "one short line a cause and second"


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc0",
        b"\xdf\xff\xff\xff\xff",
        b"\x81\xa4type\xc6\xff\xff\xff\xff",
        b"\x91" * 100_000,
        b"\x81\xa1a" + b"\x91" * 100_000,
        msgpack.packb({"type": 1, "to": "c"}),
        msgpack.packb({"type": "x" * 5000, "to": "c"}),
        msgpack.packb({"type": "method", "to": "c" * 5000}),
        msgpack.packb({"type": "method", "to": "c", "session": "s" * 5000}),
        msgpack.packb({"type": "method", "to": "c", "method": "m" * 70_000}),
        b"\x82\xa4type\xa6method\xa4type\xa6method",
        b"\x81\x01\x02",
        b"\x82\xa4type\xa6method\xa2to\xd4\x05\x00",
    ],
)
async def test_a_frame_that_is_none_is_dropped_without_a_word(server: RunningServer, frame: bytes):
    async with mallory(server) as evil:
        await evil.ws.send(frame)
        assert await evil.alive()
        assert evil.frames.empty()
        assert server.app.router.connections[evil.address].invalid == pytest.approx(1, abs=0.5)


async def test_who_sends_only_garbage_is_let_go(server: RunningServer, caplog: pytest.LogCaptureFixture):
    async with mallory(server) as evil, peer_at(server.ws_url, "c1") as bystander:
        for _ in range(300):
            await evil.ws.send(b"\xc1")
        message, code, reason = await evil.refused()
        assert (message, code, reason) == ("Too many invalid frames", 1008, "Too many invalid frames")
        assert await bystander.alive()
    ours = [record for record in caplog.records if record.name == "hypha.broker"]
    assert 1 <= len(ours) <= 5


# -- §8: limits ----------------------------------------------------------------------------------------


async def test_a_frame_too_large_for_a_public_peer_is_rejected(server: RunningServer):
    alice = server.token("alice")
    async with (
        mallory(server) as evil,
        peer_at(server.ws_url, "old", token=alice) as public,
        peer_at(server.ws_url, "new", token=alice, x=1) as modern,
    ):
        with pytest.raises(Rejected, match="Frame too large for ws-user-alice/old"):
            await evil.call(public.address, "services.svc.f", bytes(600_000))
        await evil.send({"type": "method", "to": public.address, "method": "m"}, {"args": [bytes(500_000)]})
        assert len((await public.frame())[1]["args"][0]) == 500_000
        await evil.send({"type": "method", "to": modern.address, "method": "m"}, {"args": [bytes(600_000)]})
        assert len((await modern.frame())[1]["args"][0]) == 600_000


@pytest.mark.parametrize("door", ["picows", "asgi"])
async def test_who_does_not_read_is_refused_further_frames(door: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HYPHA_DOOR", door)
    async with (
        run_server(send_stall=1.0) as server,
        socket_at(server.url) as mute,
        mallory(server, x=1) as sender,
        peer_at(server.ws_url, "c1", token=server.token("alice")) as other,
    ):
        await mute.upgrade()
        await mute.hello("mute", token=server.token("alice"), x=1)
        mute.reader._transport.pause_reading()  # type: ignore[attr-defined]
        connection = server.app.router.connections["ws-user-alice/mute"]
        frame = {"type": "method", "to": "ws-user-alice/mute", "method": "m", "session": "s"}
        largest, refused = 0, None
        async with asyncio.timeout(15):
            while refused is None:
                await sender.send(frame, {"args": [bytes(1024 * 1024)]})
                largest = max(largest, connection.outlet.pending)
                if not sender.frames.empty():
                    refused = sender.frames.get_nowait()
        assert refused[1]["args"][0]["_rvalue"] == "Peer ws-user-alice/mute is not reading"
        assert largest < 56 * 1024 * 1024
        # The sender reaches others at once, and so does everybody else.
        start = time.monotonic()
        await sender.send({"type": "method", "to": other.address, "method": "m"}, {"args": ["hello"]})
        assert (await other.frame())[1] == {"args": ["hello"]}
        assert time.monotonic() - start < 1.0
        assert await other.alive()
        # In the end it is let go.
        deadline = time.monotonic() + 10
        while "ws-user-alice/mute" in server.app.router.connections:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def test_events_to_who_does_not_read_are_dropped(monkeypatch: pytest.MonkeyPatch):
    async with run_server(send_queue_bytes=2 * 1024 * 1024) as server:
        token = server.token("alice")
        async with (
            socket_at(server.url) as mute,
            peer_at(server.ws_url, "c1", token=token) as source,
            peer_at(server.ws_url, "c2", token=token) as reader,
        ):
            await mute.upgrade()
            await mute.hello("mute", token=token)
            server.app.router.connections["ws-user-alice/mute"].subscriptions.add("news")
            await reader.subscribe("news")
            mute.reader._transport.pause_reading()  # type: ignore[attr-defined]
            connection = server.app.router.connections["ws-user-alice/mute"]
            for number in range(100):
                await source.send({"type": "news", "to": "*"}, {"data": number, "pad": bytes(200_000)})
                assert (await reader.frame())[1]["data"] == number, "who reads misses nothing"
            assert connection.outlet.pending < 4 * 1024 * 1024


async def test_who_does_not_read_its_own_rejects_gets_no_more_of_them():
    async with run_server(send_queue_bytes=256 * 1024) as server, socket_at(server.url) as mute:
        await mute.upgrade()
        await mute.hello("mute")
        mute.reader._transport.pause_reading()  # type: ignore[attr-defined]
        address = next(iter(server.app.router.connections))
        outlet = server.app.router.connections[address].outlet
        call = pack({"type": "method", "to": "nobody" + "x" * 3000, "method": "m", "session": "s" * 3000})
        manager = pack(
            {"type": "method", "to": "*/manager", "method": "services.default.echo", "session": "s" * 3000},
            {"args": ["x" * 3000], "promise": "*", "t": 10},
        )
        for _ in range(2500):
            mute.send(BINARY, call)
            mute.send(BINARY, manager)
            mute.send(9, b"x" * 125)
            await asyncio.wait_for(mute.writer.drain(), 10)
        await asyncio.sleep(0)
        assert outlet.pending < 1024 * 1024


async def test_a_flood_is_slowed_and_not_refused():
    async with run_server(ws_msg_rate_limit=500, ws_msg_burst_limit=100) as server:
        token = server.token("alice")
        async with (
            peer_at(server.ws_url, "c1", token=token) as source,
            peer_at(server.ws_url, "c2", token=token) as sink,
        ):
            start = time.monotonic()
            for number in range(600):
                await source.send({"type": "method", "to": "c2", "method": "m"}, {"args": [number, bytes(4000)]})
            got = [(await sink.frame())[1]["args"][0] for _ in range(600)]
            took = time.monotonic() - start
            assert got == list(range(600))
            assert took > 0.5
            assert await source.alive()


async def test_an_http_caller_gets_a_result_that_comes_in_pieces(server: RunningServer):
    """The gateway is a peer like any other: big answers reach it piece by piece (protocol §5)."""
    async with connect_to_server(server_url=server.url, client_id="prov", token=server.token("alice")) as client:
        await client.register_service({"id": "svc", "config": {"visibility": "public"}, "big": lambda: "x" * 1_000_000})
        async with socket_at(server.url) as raw:
            raw.writer.write(
                b"GET /ws-user-alice/services/prov:svc/big HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            answer = await asyncio.wait_for(raw.reader.read(), 10)
    assert b" 200 " in answer.partition(b"\r\n")[0], answer[:300]
    assert answer.count(b"x" * 1000) >= 999


def test_unpack_reads_both_segments():
    assert unpack(pack({"a": 1}, {"b": 2})) == ({"a": 1}, {"b": 2})
