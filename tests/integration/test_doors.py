"""Both doors behave alike: who is let in, who is not, and what happens to sockets (protocol §1, server §4.3)."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hypha.testing import RunningServer, ServerProcess, free_port, run_server
from tests.integration.raw_peers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawPeer,
    Rejected,
    pack,
    peer_at,
    socket_at,
)

LEGACY = (
    "Connection rejected, please  upgrade to `hypha-rpc` which pass the authentication information in the first message"
)


@pytest.fixture(params=["picows", "asgi"], autouse=True)
def door(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HYPHA_DOOR", request.param)
    return str(request.param)


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    """A server that is quick to answer and to give up."""
    async with run_server(failed_login_delay=0.0, replace_ping_timeout=0.4, first_frame_timeout=0.5) as running:
        yield running


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Any:
    """Nothing a peer does is worth more than INFO."""
    caplog.set_level(logging.INFO)
    yield
    # asyncio warns in debug mode of slow callbacks: a matter of this machine, not of peers.
    relevant = [
        record for record in caplog.get_records("call") if (record.name, record.levelno) != ("asyncio", logging.WARNING)
    ]
    loud = [record for record in relevant if record.levelno > logging.INFO]
    assert not loud, loud


# -- who is let in -------------------------------------------------------------------------------


async def test_connection_info_says_where_and_who_one_is(server: RunningServer):
    async with peer_at(server.ws_url, "prov", token=server.token("alice", email="alice@example.org")) as peer:
        info = peer.info
    user = info["user"]
    assert info["workspace"] == user["scope"]["current_workspace"] == "ws-user-alice"
    assert info["client_id"] == user["scope"]["client_id"] == "prov"
    assert info["manager_id"] == f"manager-{server.settings.server_id}"
    assert info["public_base_url"] == info["local_base_url"] == server.url
    assert info["reconnection_token_life_time"] == 172800.0
    assert info["reconnection_token"].count(".") == 2
    assert isinstance(info["hypha_version"], str)
    assert (user["id"], user["email"], user["is_anonymous"]) == ("alice", "alice@example.org", False)
    assert user["scope"]["workspaces"] == {"ws-user-alice": "a"}
    assert info["x"] == 1
    assert "resumed" not in info


async def test_without_a_token_everybody_gets_a_workspace_of_its_own(server: RunningServer):
    async with peer_at(server.ws_url, "c1", token="", workspace=None, anything={"else": 1}) as peer:
        user = peer.info["user"]
        assert user["is_anonymous"]
        assert user["id"].startswith("anonymouz-")
        assert peer.info["workspace"] == f"ws-user-{user['id']}"


@pytest.mark.parametrize(
    ("frame", "message", "code"),
    [
        ("{", "Failed to decode authentication information", 1003),
        ('["client_id"]', "Failed to decode authentication information", 1003),
        ("[" * 5000, "Failed to decode authentication information", 1003),
        ({}, "Failed to establish connection: Failed to authenticate user to workspace: ws-user-anonymouz-", 1008),
        ({"client_id": "a/b"}, "Failed to establish connection: Invalid client id: a/b", 1008),
        ({"client_id": "a:b"}, "Failed to establish connection: Invalid client id: a:b", 1008),
        ({"client_id": 7}, "Failed to establish connection: Invalid client_id", 1008),
        ({"client_id": "c", "token": "nonsense"}, "Authentication error: Error decoding token headers.", 1008),
        ({"client_id": "c", "token": "FORGED"}, "Authentication error: Signature verification failed.", 1008),
        (
            {"client_id": "c", "token": "EXPIRED"},
            "Authentication error: The token has expired. Please fetch a new one",
            1008,
        ),
        (
            {"client_id": "c", "token": "REVOKED"},
            "Failed to establish connection: Failed to authenticate user: Token has been revoked",
            1008,
        ),
        (
            {"client_id": "c", "token": "FOR-ALICE", "workspace": "ws-user-bob"},
            "Failed to establish connection: Failed to authenticate user: Current workspace encoded in the token "
            "(ws-user-alice) does not match the specified workspace (ws-user-bob)",
            1008,
        ),
        (
            {"client_id": "c", "token": "FOR-CID1"},
            "Failed to establish connection: Failed to authenticate user: Client id mismatch: this token is restricted "
            "to client with client_id='cid1'",
            1008,
        ),
        (
            {"client_id": "c", "token": "BOB", "workspace": "public"},
            "Failed to establish connection: Permission denied for workspace: public",
            1008,
        ),
        (
            {"client_id": "c", "workspace": "public"},
            "Failed to establish connection: Permission denied for workspace: public",
            1008,
        ),
        (
            {"client_id": "c", "token": "BOB", "workspace": "nosuch-ws"},
            "Failed to establish connection: 'Workspace nosuch-ws does not exist or is not accessible'",
            1008,
        ),
        (
            {"client_id": "c", "token": "BOB", "workspace": "\ud800" + "x" * 200},
            "Failed to establish connection: 'Workspace \ud800xxx",
            1008,
        ),
        (
            {"client_id": "c", "reconnection_token": "FOR-ALICE"},
            "Failed to establish connection: Failed to authenticate user: Invalid scope, client_id is required",
            1008,
        ),
        (
            {"client_id": "other", "reconnection_token": "RESUME"},
            "Failed to establish connection: Failed to authenticate user: Client id mismatch, disconnecting",
            1008,
        ),
        (
            {"client_id": "prov", "workspace": "ws-user-bob", "reconnection_token": "RESUME"},
            "Failed to establish connection: Failed to authenticate user: Invalid scope, workspace mismatch: ",
            1008,
        ),
    ],
)
async def test_who_is_refused_is_told_why_and_for_good(
    server: RunningServer, frame: str | dict[str, Any], message: str, code: int
):
    if isinstance(frame, dict):
        frame = json.dumps({key: await _secret(server, value) for key, value in frame.items()})
    async with peer_at(server.ws_url) as peer:
        await peer.ws.send(frame)
        told, closed, reason = await peer.refused()
    assert told.startswith(message)
    assert closed == code
    assert reason == told.encode("utf-8", "replace")[:123].decode("utf-8", "ignore")


async def _secret(server: RunningServer, name: Any) -> Any:
    """The credential that a row of the table names."""
    if name == "RESUME":
        async with peer_at(server.ws_url, "prov", token=server.token("alice")) as peer:
            return peer.info["reconnection_token"]
    if name == "REVOKED":
        token = server.token("bob")
        server.app.tokens.revoke(server.user(token))
        return token
    tokens = {
        "FORGED": lambda: server.token("bob")[:-6] + "AAAAAA",
        "EXPIRED": lambda: server.token("bob", expires_in=-60),
        "FOR-ALICE": lambda: server.token("alice", workspace="ws-user-alice"),
        "FOR-CID1": lambda: server.token("alice", client_id="cid1"),
        "BOB": lambda: server.token("bob"),
    }
    return tokens[name]() if name in tokens else name


async def test_who_says_nothing_is_refused_in_time(server: RunningServer):
    async with peer_at(server.ws_url) as peer:
        assert await peer.refused() == ("Authentication payload timeout", 1008, "Authentication payload timeout")


async def test_a_binary_first_frame_is_refused(server: RunningServer):
    async with peer_at(server.ws_url) as peer:
        await peer.ws.send(pack({"type": "method", "to": "*/manager"}))
        message, code, _ = await peer.refused()
    assert (message, code) == ("Failed to decode authentication information", 1003)


@pytest.mark.parametrize("member", ["workspace", "client_id", "token", "reconnection_token"])
async def test_credentials_in_the_url_are_refused_without_an_error_frame(server: RunningServer, member: str):
    async with peer_at(f"{server.ws_url}?{member}=") as peer:
        assert await peer.closed() == (1008, LEGACY[:123])
        assert peer.texts.empty()


async def test_an_unknown_path_is_no_403(server: RunningServer):
    async with socket_at(server.url) as raw:
        assert await raw.upgrade("/elsewhere") == 404


async def test_the_door_is_below_the_base_path():
    async with run_server(base_path="/hypha") as server:
        async with peer_at(f"ws://127.0.0.1:{server.port}/hypha/ws", "c1") as peer:
            assert peer.info["public_base_url"] == f"http://127.0.0.1:{server.port}/hypha"
        async with socket_at(server.url) as raw:
            assert await raw.upgrade("/ws") == 404


async def test_ipv6_is_served():
    async with run_server(host="::1") as server, peer_at(server.ws_url, "c1") as peer:
        assert await peer.alive()


async def test_a_first_message_that_is_too_large_is_never_taken(server: RunningServer):
    async with socket_at(server.url) as raw:
        await raw.upgrade()
        raw.send(TEXT, b'{"client_id": "' + b"x" * 200_000 + b'"}')
        assert await raw.close_code() == 1009


async def test_a_newcomer_gets_no_room_for_more_than_a_first_message(server: RunningServer, door: str):
    if door == "asgi":
        pytest.skip("an ASGI application sees whole messages only")
    async with socket_at(server.url) as raw:
        await raw.upgrade()
        whole = raw.frame(BINARY, bytes(10_000_000))
        raw.writer.write(whole[:200_000])
        assert await raw.close_code() == 1009


async def test_too_many_handshakes_get_503_and_room_comes_back(eventually):
    async with run_server(max_concurrent_connections=2) as server:
        async with socket_at(server.url) as one, socket_at(server.url) as two, socket_at(server.url) as three:
            assert [await one.upgrade(), await two.upgrade(), await three.upgrade()] == [101, 101, 503]
            await one.hello("c1")
            async with socket_at(server.url) as four:
                assert await four.upgrade() == 101
        await eventually(lambda: not server.app.doors.sockets)
        assert server.app.doors.newcomers.total == 0


async def test_quotas_refuse_the_newcomer_only():
    async with run_server(max_connections_per_user=1, max_clients_per_workspace=2, failed_login_delay=0) as server:
        reader = {"workspaces": {"ws-user-alice": "rw"}, "workspace": "ws-user-alice"}
        async with peer_at(server.ws_url, "c1", token=server.token("alice")) as alice, peer_at(server.ws_url) as again:
            await again.ws.send(json.dumps({"client_id": "c2", "token": server.token("alice")}))
            message, code, _ = await again.refused()
            assert (message, code) == ("Connection limit exceeded: user alice has 1/1 connections", 1008)
            async with (
                peer_at(server.ws_url, "c3", token=server.token("bob", **reader)),
                peer_at(server.ws_url) as full,
            ):
                await full.ws.send(json.dumps({"client_id": "c4", "token": server.token("carol", **reader)}))
                message, code, _ = await full.refused()
                assert (message, code) == ("Connection limit exceeded: workspace ws-user-alice has 2/2 clients", 1008)
            assert await alice.alive()


async def test_the_answer_to_a_failed_login_is_held_back():
    async with run_server(failed_login_delay=0.2, failed_login_delay_excess=0.6, failed_logins_per_minute=1) as server:
        took = []
        for _ in range(2):
            start = time.monotonic()
            async with peer_at(server.ws_url) as peer:
                await peer.ws.send(json.dumps({"client_id": "c", "token": "guessed"}))
                await peer.refused()
            took.append(time.monotonic() - start)
    assert took[0] >= 0.2
    assert took[1] >= 0.6


# -- texts -----------------------------------------------------------------------------------------


async def test_early_texts_are_answered_after_connection_info(server: RunningServer):
    async with peer_at(server.ws_url) as peer:
        await peer.ws.send(json.dumps({"client_id": "c1"}))
        await peer.ws.send('{"type": "ping"}')
        await peer.ws.send('{"type": "refresh_token"}')
        kinds = [(await peer.text())["type"] for _ in range(3)]
    assert kinds == ["connection_info", "pong", "reconnection_token"]


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "[1]",
        "null",
        '"ping"',
        "ping",
        "",
        "{",
        '{"type": "other"}',
        '{"type": ["ping"]}',
        "[" * 999,
        '{"type": "ping", "pad": "' + "x" * 1000 + '"}',
    ],
)
async def test_other_texts_are_ignored(server: RunningServer, text: str):
    async with peer_at(server.ws_url, "c1") as peer:
        await peer.ws.send(text)
        await peer.ws.send('{"type": "ping"}')
        assert await peer.text() == {"type": "pong"}
        assert peer.texts.empty()


async def test_a_refreshed_token_resumes(server: RunningServer):
    async with peer_at(server.ws_url, "c1") as peer:
        await peer.ws.send('{"type": "refresh_token"}')
        message = await peer.text()
        workspace = peer.info["workspace"]
        assert set(message) == {"type", "reconnection_token"}
        peer.cut()
        async with peer_at(server.ws_url, "c1", reconnection_token=message["reconnection_token"]) as again:
            assert again.info["workspace"] == workspace


async def test_a_text_that_is_too_large_closes_with_1009(server: RunningServer):
    async with peer_at(server.ws_url, "c1") as peer:
        await peer.ws.send("x" * 70_000)
        assert (await peer.closed())[0] == 1009


# -- WebSocket -------------------------------------------------------------------------------------


async def test_fragments_with_a_ping_between_make_one_message(server: RunningServer):
    async with socket_at(server.url) as raw, peer_at(server.ws_url, "c2", token=server.token("alice")) as other:
        await raw.upgrade()
        await raw.hello("c1", token=server.token("alice"))
        message = pack({"type": "event", "to": "c2"}, {"data": "x" * 100})
        raw.send(BINARY, message[:10], fin=False)
        raw.send(PING, b"in between")
        raw.send(CONTINUATION, message[10:20], fin=False)
        raw.send(CONTINUATION, message[20:])
        assert await raw.receive() == (PONG, b"in between")
        header, extra = await other.frame()
        assert (header["from"], extra) == ("ws-user-alice/c1", {"data": "x" * 100})
        # And the next whole message is one again.
        raw.send(BINARY, pack({"type": "event", "to": "c2"}))
        assert (await other.frame())[1] == {}


async def test_a_fragmented_first_message_is_taken(server: RunningServer):
    async with socket_at(server.url) as raw:
        await raw.upgrade()
        raw.send(TEXT, b'{"client_id":', fin=False)
        raw.send(CONTINUATION, b' "c1"}')
        _, payload = await raw.receive()
        assert json.loads(payload)["type"] == "connection_info"


@pytest.mark.parametrize(
    ("frames", "codes"),
    [
        ([(CONTINUATION, b"x", {})], {1002}),
        ([(BINARY, b"x", {"fin": False}), (BINARY, b"y", {})], {1002}),
        ([(BINARY, b"x", {"fin": False}), (TEXT, b"y", {})], {1002}),
        ([(BINARY, b"x", {"rsv": 0x40})], {1002}),
        ([(BINARY, b"x", {"masked": False})], {1002}),
        ([(3, b"x", {})], {1002}),
        ([(PING, b"x" * 126, {})], {1002}),
        ([(PING, b"x", {"fin": False})], {1002}),
        ([(TEXT, b"\xff\xfe", {})], {1007}),
        ([(CLOSE, b"\x03", {})], {1002}),
        ([(CLOSE, (1005).to_bytes(2, "big"), {})], {1002}),
        ([(CLOSE, (1000).to_bytes(2, "big") + b"\xff", {})], {1002, 1007}),
    ],
)
async def test_who_breaks_the_rules_of_websocket_is_closed(
    server: RunningServer, frames: list[tuple[int, bytes, dict[str, Any]]], codes: set[int], eventually
):
    async with socket_at(server.url) as raw, peer_at(server.ws_url, "c2") as bystander:
        await raw.upgrade()
        await raw.hello("c1")
        for opcode, payload, options in frames:
            raw.send(opcode, payload, **options)
        assert await raw.close_code() in codes
        await eventually(lambda: len(server.app.doors.sockets) == 1)
        assert await bystander.alive()


async def test_a_message_that_is_too_large_closes_with_1009():
    async with run_server(max_frame_bytes=100_000) as server:
        for pieces in (1, 4):
            async with socket_at(server.url) as raw:
                await raw.upgrade()
                await raw.hello("c1")
                size = 120_000 // pieces
                for number in range(pieces):
                    opcode = BINARY if number == 0 else CONTINUATION
                    raw.send(opcode, bytes(size), fin=number == pieces - 1)
                assert await raw.close_code() == 1009


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
async def test_a_close_is_answered_with_its_code(server: RunningServer, code: int, eventually):
    async with socket_at(server.url) as raw:
        await raw.upgrade()
        await raw.hello("c1")
        raw.send(CLOSE, code.to_bytes(2, "big") + b"bye")
        assert await raw.close_code() == code
        assert await raw.receive() == (-1, b"")
        await eventually(lambda: not server.app.doors.sockets)


def visitors(server: RunningServer) -> list[str]:
    """Who is connected, the server's own services in workspace ``public`` aside."""
    return [address for address in server.app.router.connections if not address.startswith("public/")]


async def test_connecting_and_leaving_leaves_nothing(server: RunningServer, eventually):
    app = server.app
    async with peer_at(server.ws_url, "warm"):
        pass
    await eventually(lambda: not app.doors.sockets)
    before = len(asyncio.all_tasks())
    for number in range(100):
        async with socket_at(server.url) as raw:
            await raw.upgrade()
            if number % 3:
                await raw.hello(f"c{number}")
            if number % 2:
                raw.send(CLOSE, (1000).to_bytes(2, "big"))
                await raw.close_code()
    await eventually(lambda: not app.doors.sockets, what="no socket")
    assert app.doors.newcomers.total == 0
    assert not visitors(server)
    assert set(app.router.workspaces) == {"public"}
    await eventually(lambda: len(asyncio.all_tasks()) <= before, what="no task more than before")


# -- reconnection --------------------------------------------------------------------------------


async def test_a_living_client_yields_to_its_reconnection_token_at_once(server: RunningServer):
    token = server.token("alice")
    async with peer_at(server.ws_url, "prov", token=token) as old, peer_at(server.ws_url, "c2", token=token) as other:
        await old.register("svc")
        await other.subscribe("client_disconnected", "client_connected", "client_updated", "service_removed")
        start = time.monotonic()
        async with peer_at(server.ws_url, "prov", reconnection_token=old.info["reconnection_token"]) as new:
            assert time.monotonic() - start < 0.4
            assert new.info["resumed"] is True
            assert (await old.closed())[0] == 1006
            # Nothing that the end of the old socket causes touches the new connection.
            assert await _ids(other) >= {"ws-user-alice/prov:svc"}
            assert server.app.router.connections["ws-user-alice/prov"].exists
            assert await other.call("ws-user-alice/prov", "services.built-in.ping", "ping") == "pong"
            assert other.frames.empty(), "no event is sent for the change itself"
            await new.register("svc")
            header, _extra = await other.frame()
            assert header["type"] == "client_connected"
            assert header["data"] == {"id": "ws-user-alice/prov", "workspace": "ws-user-alice", "resumed": True}


async def _ids(peer: RawPeer) -> set[str]:
    found = await peer.call(peer.manager, "services.default.list_services")
    return {service["id"] for service in found}


async def test_a_peer_of_level_1_learns_that_a_link_was_taken_over(server: RunningServer):
    me = {"token": server.token("alice"), "x": 1, "life": "one"}
    watcher = {"token": server.token("alice"), "x": 1, "life": "two"}
    async with peer_at(server.ws_url, "prov", **me) as old, peer_at(server.ws_url, "c2", **watcher) as other:
        await old.register("svc")
        await other.subscribe("client_disconnected", "client_connected")
        again = {"reconnection_token": old.info["reconnection_token"], "x": 1, "life": "one"}
        async with peer_at(server.ws_url, "prov", **again) as new:
            assert new.info["resumed"] is True
            assert (await other.frame())[0]["type"] == "client_disconnected"
            await new.register("svc")
            header, _ = await other.frame()
            assert (header["type"], header["data"]["resumed"]) == ("client_connected", True)


async def test_another_client_object_with_the_token_is_not_resumed(server: RunningServer):
    async with peer_at(server.ws_url, "prov", token=server.token("alice"), x=1, life="one") as old:
        await old.register("svc")
        token = old.info["reconnection_token"]
        async with peer_at(server.ws_url, "prov", reconnection_token=token, x=1, life="two") as new:
            assert "resumed" not in new.info
            assert await _ids(new) == set(), "the services of the former one are gone"


async def test_a_reconnection_token_survives_a_restart(server: RunningServer):
    async with peer_at(server.ws_url, "c1") as peer:
        before = peer.info
    await server.restart()
    async with peer_at(server.ws_url, "c1", reconnection_token=before["reconnection_token"]) as peer:
        assert peer.info["workspace"] == before["workspace"]
        assert peer.info["manager_id"] == before["manager_id"]
        assert peer.info["user"]["id"] == before["user"]["id"]
        await peer.register("svc")


async def test_a_refused_rival_does_not_touch_the_living(server: RunningServer):
    token = server.token("alice")
    async with (
        peer_at(server.ws_url, "prov", token=token) as living,
        peer_at(server.ws_url, "c2", token=token) as other,
    ):
        await living.register("svc")
        await other.subscribe("client_disconnected", "client_updated", "service_removed")
        rivals = [_refusal(server, "prov", token=token) for _ in range(8)]
        for message, code, _ in await asyncio.gather(*rivals):
            assert message == "Failed to establish connection: Client already exists and is active: ws-user-alice/prov"
            assert code == 1008
        assert await living.alive()
        assert "ws-user-alice/prov:svc" in await _ids(other)
        assert await other.call("ws-user-alice/prov", "services.built-in.ping", "ping") == "pong"
        assert await living.call(living.manager, "services.default.list_services")
        assert other.frames.empty()


async def _refusal(server: RunningServer, client_id: str, **members: Any) -> tuple[str, int | None, str]:
    async with peer_at(server.ws_url) as peer:
        await peer.ws.send(json.dumps({"client_id": client_id, **members}))
        return await peer.refused()


async def test_a_silent_client_is_replaced_by_the_same_user_only(server: RunningServer, eventually):
    stranger = server.token("bob", workspaces={"ws-user-alice": "rw"}, workspace="ws-user-alice")
    reader = server.token("x", parent="alice", workspaces={"ws-user-alice": "r"}, workspace="ws-user-alice")
    async with socket_at(server.url) as half_open:
        await half_open.upgrade()
        await half_open.hello("prov", token=server.token("alice"))
        # It reads no more and answers no PING: the link is dead, which nobody has noticed.
        for token in (stranger, reader):
            message, _, _ = await _refusal(server, "prov", token=token)
            assert message.endswith("Client already exists and is active: ws-user-alice/prov")
        start = time.monotonic()
        async with peer_at(server.ws_url, "prov", token=server.token("alice")) as new:
            assert 0.3 < time.monotonic() - start < 3
            assert "resumed" not in new.info
            assert await new.alive()
            await eventually(lambda: len(server.app.doors.sockets) == 1)
            assert server.app.router.connections["ws-user-alice/prov"].life is None


async def test_a_freed_id_waits_for_its_user(server: RunningServer):
    stranger = server.token("bob", workspaces={"ws-user-alice": "rw"}, workspace="ws-user-alice")
    async with peer_at(server.ws_url, "prov", token=server.token("alice")):
        pass
    message, _, _ = await _refusal(server, "prov", token=stranger)
    assert "Client already exists" in message
    async with peer_at(server.ws_url, "prov", token=server.token("alice")):
        pass


async def test_the_token_of_a_former_holder_moves_nobody(server: RunningServer):
    home = {"workspaces": {"ws-user-alice": "rw"}, "workspace": "ws-user-alice"}
    async with peer_at(server.ws_url, "first", token=server.token("alice")):
        pass
    async with peer_at(server.ws_url, "prov", token=server.token("bob", **home)) as bob:
        stale = bob.info["reconnection_token"]
    async with peer_at(server.ws_url, "prov", token=server.token("alice")) as alice:
        message, _, _ = await _refusal(server, "prov", reconnection_token=stale)
        assert "Client already exists" in message
        assert await alice.alive()


# -- mailbox -------------------------------------------------------------------------------------


async def test_an_answer_waits_for_a_caller_whose_link_was_cut(server: RunningServer, eventually):
    token = server.token("alice")
    async with (
        peer_at(server.ws_url, "prov", token=token) as callee,
        peer_at(server.ws_url, "c1", token=token) as caller,
    ):
        await callee.register()
        await caller.start_call(callee.address, "services.demo.slow")
        header, _ = await callee.frame()
        resume = caller.info["reconnection_token"]
        caller.cut()
        await eventually(lambda: "ws-user-alice/c1" in server.app.router.mailboxes)
        answer = {"type": "method", "to": header["from"], "method": f"{header['session']}.resolve"}
        await callee.send({**answer, "method": f"{header['session']}.heartbeat"})
        await callee.send({**answer, "session": "s1", "parent": header["session"]}, {"args": ["callback"]})
        await callee.send(answer, {"args": [42]})
        with pytest.raises(Rejected, match="Target peer ws-user-alice/c1 is not connected"):
            await callee.call(header["from"], "services.x.y")
        async with peer_at(server.ws_url, "c1", reconnection_token=resume) as back:
            assert back.info["resumed"] is True
            kept, extra = await back.frame()
            assert kept["method"] == f"{header['session']}.resolve"
            assert (kept["from"], extra) == (callee.address, {"args": [42]})
            assert await back.alive()
            assert back.frames.empty(), "only answers are kept"


async def test_the_mailbox_is_for_the_same_client_object(server: RunningServer, eventually):
    token = server.token("alice")
    async with (
        peer_at(server.ws_url, "prov", token=token) as callee,
        peer_at(server.ws_url, "c1", token=token) as caller,
    ):
        resume = caller.info["reconnection_token"]
        caller.cut()
        await eventually(lambda: "ws-user-alice/c1" in server.app.router.mailboxes)
        await callee.send({"type": "method", "to": "c1", "method": "s.resolve"}, {"args": [1]})
        assert await callee.alive()
        async with peer_at(server.ws_url, "c1", reconnection_token=resume, life="another", x=1) as other:
            assert "resumed" not in other.info
            assert await other.alive()
            assert other.frames.empty()


async def test_the_mailbox_is_bounded(eventually):
    async with run_server(mailbox_frames=3, mailbox_bytes=2000) as server:
        token = server.token("alice")
        async with (
            peer_at(server.ws_url, "prov", token=token) as callee,
            peer_at(server.ws_url, "c1", token=token) as caller,
        ):
            resume = caller.info["reconnection_token"]
            caller.cut()
            await eventually(lambda: "ws-user-alice/c1" in server.app.router.mailboxes)
            for number in range(10):
                extra = {"args": ["x" * 3000 if number == 0 else number]}
                await callee.send({"type": "method", "to": "c1", "method": f"s{number}.resolve"}, extra)
            assert await callee.alive()
            async with peer_at(server.ws_url, "c1", reconnection_token=resume) as back:
                assert await back.alive()
                kept = [back.frames.get_nowait()[1]["args"][0] for _ in range(back.frames.qsize())]
    assert kept == [1, 2, 3]


async def test_the_lost_and_the_resumed_are_reported(server: RunningServer):
    token = server.token("alice")
    async with peer_at(server.ws_url, "c1", token=token) as one, peer_at(server.ws_url, "c2", token=token) as other:
        await one.register()
        await other.subscribe("client_disconnected", "client_connected")
        one.cut()
        header, _ = await other.frame()
        assert header["type"] == "client_disconnected"
        assert header["data"] == {"id": "c1", "workspace": "ws-user-alice", "may_resume": True}
        async with peer_at(server.ws_url, "c1", reconnection_token=one.info["reconnection_token"]) as back:
            await back.register()
            header, _ = await other.frame()
            assert header["type"] == "client_connected"
            assert header["data"] == {"id": "ws-user-alice/c1", "workspace": "ws-user-alice", "resumed": True}


async def test_a_clean_end_leaves_no_mailbox(server: RunningServer, eventually):
    async with peer_at(server.ws_url, "c1"):
        pass
    await eventually(lambda: not visitors(server))
    assert len(server.app.router.mailboxes) == 0


# -- the end of the server -------------------------------------------------------------------------


async def test_stopping_says_goodbye_to_everybody_even_to_who_does_not_read():
    async with run_server() as server:
        async with peer_at(server.ws_url, "c1") as peer, socket_at(server.url) as mute, socket_at(server.url) as young:
            await young.upgrade()
            await mute.upgrade()
            await mute.hello("mute")
            mute.reader._transport.pause_reading()  # type: ignore[attr-defined]
            start = time.monotonic()
            stopping = asyncio.create_task(server.stop())
            assert await peer.closed() == (1001, "Server is shutting down")
            assert await young.close_code() == 1001
            await stopping
            assert time.monotonic() - start < 10


async def test_newcomers_get_503_while_the_server_drains():
    async with run_server() as server:
        async with socket_at(server.url) as mute:
            await mute.upgrade()
            await mute.hello("mute")
            stopping = asyncio.create_task(server.stop())
            # It does not answer the close frame, so the server waits for it; the port is still there.
            assert await mute.close_code() == 1001
            async with socket_at(server.url) as newcomer:
                assert await newcomer.upgrade() == 503
            await stopping
        with pytest.raises(OSError, match="refused|Connect"):
            async with socket_at(server.url) as late:
                await late.upgrade()


# -- as a process, with the loop and the signals of production --------------------------------------


async def test_sigterm_ends_the_process_whatever_clients_do(door: str, tmp_path):
    process = ServerProcess("--in-memory", folder=tmp_path, env={"HYPHA_DOOR": door, "HYPHA_STATE_DIR": ""})
    async with (
        process,
        socket_at(process.url) as mute,
        peer_at(process.ws_url, "c1", x=1) as peer,
    ):
        await mute.upgrade()
        info = await mute.hello("mute", x=1)
        mute.reader._transport.pause_reading()  # type: ignore[attr-defined]
        # More than the sockets' buffers hold waits for the one that does not read.
        to = f"{info['workspace']}/mute"
        for _ in range(12):
            await peer.send({"type": "method", "to": to, "method": "m"}, {"args": [bytes(1024 * 1024)]})
        assert await peer.alive()
        start = time.monotonic()
        process.signal(signal.SIGTERM)
        code, _ = await peer.closed()
        assert code == 1001
        assert await process.wait() == 0
        assert time.monotonic() - start < 10
        log = process.log.read_text()
        assert "Traceback" not in log
        assert "ERROR" not in log


async def test_the_server_runs_under_a_runner_of_the_operators_choice(tmp_path, eventually):
    port = free_port()
    log = tmp_path / "runner.log"
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HYPHA_IN_MEMORY": "true",
        "HYPHA_PORT": str(port),
        "HYPHA_LOGLEVEL": "INFO",
    }
    command = [sys.executable, "-m", "uvicorn", "hypha.server:app", "--port", str(port), "--log-level", "warning"]
    with log.open("wb") as output:
        child = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output, env=environ, cwd=tmp_path)
    try:
        url = f"ws://127.0.0.1:{port}/ws"
        await _listening(port)
        async with peer_at(url, "c1") as peer, peer_at(url) as stranger:
            assert peer.info["public_base_url"] == f"http://127.0.0.1:{port}"
            assert await peer.call(peer.manager, "services.default.echo", "hello") == "hello"
            await stranger.ws.send("nonsense")
            assert (await stranger.refused())[1] == 1003
            async with socket_at(url) as raw:
                raw.writer.write(b"GET /health/readiness HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                assert b" 200 " in await raw.reader.readline()
            child.send_signal(signal.SIGTERM)
            # The runner closes the sockets itself, before it tells the application.
            assert (await peer.closed())[0] in {1001, 1012}
        assert await asyncio.wait_for(child.wait(), 10) in {0, -signal.SIGTERM}
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert "Traceback" not in log.read_text()


async def _listening(port: int) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.transport.abort()
            return
    pytest.fail("nobody listens")
