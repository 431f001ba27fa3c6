"""The door itself, spoken to by hand: who may open a stream, who may post to it (protocol §7, security S9, S19)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import msgpack
import pytest

from hypha.testing import RunningServer, run_server
from hypha_rpc import connect_to_server
from hypha_rpc.wire.frame import read_frame
from hypha_rpc.wire.lengths import LengthReader, read_control, with_length

KINDS = {"connection_info", "ping", "pong", "reconnection_token", "error", "close"}
MIB = 1024 * 1024


class Stream:
    """A stream, as a client sees it that is made by hand."""

    def __init__(self, http: httpx2.AsyncClient, response: httpx2.Response, params: dict[str, str]) -> None:
        self.http = http
        self.response = response
        self.params = params
        self.info: dict[str, Any] = {}
        self._chunks = response.aiter_raw()
        self._reader = LengthReader(64 * MIB)
        self._payloads: list[bytes] = []

    async def next(self) -> bytes:
        """The next payload."""
        async with asyncio.timeout(10):
            while not self._payloads:
                self._payloads += [bytes(item) for item in self._reader.feed(await anext(self._chunks))]
        return self._payloads.pop(0)

    async def control(self) -> dict[str, Any]:
        """The next payload, which is a control message."""
        message = read_control(await self.next(), KINDS)
        assert message is not None
        return message

    async def ends(self) -> bool:
        """Read to the end; whether it is a proper one."""
        async with asyncio.timeout(10):
            try:
                async for _ in self._chunks:
                    pass
            except httpx2.RemoteProtocolError:
                return False
        return True

    async def post(self, body: bytes, **more: Any) -> httpx2.Response:
        """POST to this stream."""
        params = {"client_id": self.info["client_id"], "workspace": self.info["workspace"]}
        return await self.http.post("/rpc", params=params, content=body, **more)

    def call(self, method: str, *args: Any, session: str = "s1") -> bytes:
        """A call of the manager."""
        header = {"type": "method", "to": f"*/{self.info['manager_id']}", "method": method, "session": session}
        return msgpack.packb(header) + msgpack.packb({"args": list(args), "promise": "*"})


@pytest.fixture
async def http(server: RunningServer) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=server.url, timeout=10, trust_env=False) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def stream(http: httpx2.AsyncClient, headers: Any = None, **params: str) -> AsyncIterator[Stream]:
    """Open a stream and read its first message."""
    async with http.stream("GET", "/rpc", params={"client_id": "c1", **params}, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        opened = Stream(http, response, params)
        opened.info = await opened.control()
        yield opened


async def refused(http: httpx2.AsyncClient, headers: Any = None, **params: str) -> tuple[int, str]:
    """Status and detail of a stream that is not given."""
    response = await http.get("/rpc", params=params, headers=headers)
    assert response.json()["success"] is False
    return response.status_code, response.json()["detail"]


# ---------------------------------------------------------------------- opening


async def test_a_stream_begins_with_the_connection_info(server: RunningServer, http: httpx2.AsyncClient) -> None:
    async with stream(http, bearer(server.token("alice"))) as opened:
        headers = opened.response.headers
        assert headers["content-type"] == "application/x-msgpack-stream"
        assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-cache", "no")
        assert opened.info["workspace"] == "ws-user-alice"
        assert opened.info["client_id"] == "c1"
        assert opened.info["reconnection_token_life_time"] == 172800
        assert opened.info["user"]["id"] == "alice"


async def test_public_counts_as_no_workspace(server: RunningServer, http: httpx2.AsyncClient) -> None:
    async with stream(http, bearer(server.token("alice")), workspace="public") as opened:
        assert opened.info["workspace"] == "ws-user-alice"


@pytest.mark.parametrize(
    ("params", "token", "status", "detail"),
    [
        ({}, None, 400, "client_id is required"),
        ({"client_id": "a/b"}, None, 400, "Invalid client id: a/b"),
        ({"client_id": "c"}, "no-token", 401, "Authentication error"),
        ({"client_id": "c", "reconnection_token": "bad"}, None, 401, "Invalid reconnection token: "),
        ({"client_id": "c", "workspace": "nowhere"}, None, 404, "does not exist or is not accessible"),
    ],
)
async def test_who_is_not_let_in_gets_a_status_and_a_reason(
    http: httpx2.AsyncClient, params: dict[str, str], token: str | None, status: int, detail: str
) -> None:
    found, text = await refused(http, bearer(token) if token else None, **params)
    assert found == status
    assert detail in text


async def test_a_foreign_workspace_is_403(server: RunningServer, http: httpx2.AsyncClient) -> None:
    async with stream(http, bearer(server.token("bob"))):
        answer = await refused(http, bearer(server.token("alice")), client_id="c", workspace="ws-user-bob")
    assert answer == (403, "Permission denied for workspace ws-user-bob")


async def test_a_token_in_the_query_is_not_looked_at(server: RunningServer, http: httpx2.AsyncClient) -> None:
    async with stream(http, token=server.token("alice")) as opened:
        assert opened.info["user"]["is_anonymous"]


async def test_a_reconnection_token_of_another_client_or_workspace_is_refused(
    server: RunningServer, http: httpx2.AsyncClient
) -> None:
    async with stream(http, bearer(server.token("alice"))) as opened:
        token = opened.info["reconnection_token"]
    assert (await refused(http, client_id="other", reconnection_token=token))[0] == 401
    assert (await refused(http, client_id="c1", workspace="ws-user-bob", reconnection_token=token))[0] in (401, 403)
    # It is no bearer either (security S20).
    assert (await refused(http, bearer(token), client_id="c1"))[0] in (401, 403)


async def test_a_busy_server_says_503_and_when_to_come_back(server: RunningServer, http: httpx2.AsyncClient) -> None:
    server.app.doors.draining = True
    response = await http.get("/rpc", params={"client_id": "c1"})
    server.app.doors.draining = False
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"


async def test_other_methods_are_refused(http: httpx2.AsyncClient) -> None:
    assert (await http.put("/rpc", params={"client_id": "c1"})).status_code == 405


# ---------------------------------------------------------------------- one living client an id


async def test_a_second_stream_is_409_while_the_first_one_lives(server: RunningServer) -> None:
    async with connect_to_server(server_url=server.url, transport="http", client_id="c1") as client:
        token = await client.generate_token()
        async with httpx2.AsyncClient(base_url=server.url, timeout=10, trust_env=False) as http:
            status, detail = await refused(http, bearer(token), client_id="c1")
        assert status == 409
        assert "Client already exists and is active" in detail
        assert await client.echo(1) == 1


async def test_the_reconnection_token_takes_over_and_the_first_stream_ends(
    server: RunningServer, http: httpx2.AsyncClient
) -> None:
    token = bearer(server.token("alice"))
    async with stream(http, token) as first:
        async with stream(http, token, reconnection_token=first.info["reconnection_token"]) as second:
            assert await first.ends()
            answer = await second.post(msgpack.packb({"type": "ping"}), headers=token)
            assert answer.status_code == 200
            assert await second.control() == {"type": "pong"}


async def test_a_dead_stream_gives_its_id_away(server: RunningServer, http: httpx2.AsyncClient) -> None:
    """Nobody answers the question whether it lives: the same user gets the id."""
    token = bearer(server.token("alice"))
    async with stream(http, token) as first:
        async with stream(http, token) as second:
            assert second.info["client_id"] == "c1"
            await first.ends()


# ---------------------------------------------------------------------- posting


async def test_a_call_is_answered_down_the_stream(server: RunningServer, http: httpx2.AsyncClient) -> None:
    token = bearer(server.token("alice"))
    async with stream(http, token) as opened:
        answer = await opened.post(opened.call("services.default.echo", "hi"), headers=token)
        assert (answer.status_code, answer.content) == (200, b"")
        header, extra = read_frame(await opened.next())
        assert header["method"] == "s1.resolve"
        assert extra["args"] == ["hi"]


async def test_control_messages_are_answered_down_the_stream(server: RunningServer, http: httpx2.AsyncClient) -> None:
    token = bearer(server.token("alice"))
    async with stream(http, token) as opened:
        await opened.post(msgpack.packb({"type": "ping"}), headers=token)
        assert await opened.control() == {"type": "pong"}
        await opened.post(msgpack.packb({"type": "refresh_token"}), headers=token)
        fresh = await opened.control()
        assert fresh["type"] == "reconnection_token"
        assert fresh["reconnection_token"].count(".") == 2


async def test_several_frames_come_in_one_body_and_keep_their_order(
    server: RunningServer, http: httpx2.AsyncClient
) -> None:
    token = bearer(server.token("alice"))
    headers = {**token, "Content-Type": "application/x-msgpack-stream"}
    async with stream(http, token) as opened:
        frames = [opened.call("services.default.echo", n, session=f"s{n}") for n in range(20)]
        body = b"".join(with_length((frame,)) for frame in frames)
        assert (await opened.post(body, headers=headers)).status_code == 200
        answers = [read_frame(await opened.next())[0]["method"] for _ in frames]
        assert answers == [f"s{n}.resolve" for n in range(20)]
        assert (await opened.post(body[:-1], headers=headers)).status_code == 400


async def test_a_malformed_frame_in_a_body_harms_no_other(server: RunningServer, http: httpx2.AsyncClient) -> None:
    token = bearer(server.token("alice"))
    async with stream(http, token) as opened:
        calls = [opened.call("services.default.echo", n, session=f"s{n}") for n in range(2)]
        body = b"".join(with_length((frame,)) for frame in (calls[0], b"garbage", calls[1]))
        answer = await opened.post(body, headers={**token, "Content-Type": "application/x-msgpack-stream"})
        assert answer.status_code == 400
        assert [read_frame(await opened.next())[0]["method"] for _ in calls] == ["s0.resolve", "s1.resolve"]


async def test_a_revoked_token_ends_its_streams(server: RunningServer) -> None:  # S18
    async with connect_to_server(server_url=server.url) as owner:
        token = await owner.generate_token()
        child = await connect_to_server(server_url=server.url, token=token, transport="http")
        over = asyncio.Event()
        child.on("disconnected", lambda _: over.set())
        await owner.revoke_token(token)
        await asyncio.wait_for(over.wait(), 10)
        with pytest.raises(ConnectionError):
            await child.echo(1)


async def test_a_post_with_a_known_number_is_not_taken_again(server: RunningServer, http: httpx2.AsyncClient) -> None:
    token = bearer(server.token("alice"))
    async with stream(http, token) as opened:
        for number in (1, 1, 2):
            call = opened.call("services.default.echo", number, session=f"s{number}")
            answer = await opened.post(call, headers={**token, "X-Hypha-Post": str(number)})
            assert answer.status_code == 200
        answers = [read_frame(await opened.next())[1]["args"] for _ in range(2)]
        assert answers == [[1], [2]]


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b"", 400, "Empty request body"),
        (b"garbage", 400, "Malformed frame"),
        (b"\x80", 400, "Malformed frame"),
        (msgpack.packb({"type": "method"}), 400, "Malformed frame"),
        (bytes(MIB + 1), 413, "larger than"),
    ],
    ids=["empty", "garbage", "empty-map", "no-receiver", "too-big"],
)
async def test_a_bad_body_is_refused(body: bytes, status: int, detail: str) -> None:
    async with run_server(rpc_post_bytes=MIB) as server:
        async with httpx2.AsyncClient(base_url=server.url, timeout=10, trust_env=False) as http:
            async with stream(http) as opened:
                answer = await opened.post(body)
                assert answer.status_code == status
                assert detail in answer.json()["detail"]
                assert (await opened.post(msgpack.packb({"type": "ping"}))).status_code == 200


async def test_a_post_without_a_stream_or_an_id_is_400(server: RunningServer, http: httpx2.AsyncClient) -> None:
    ping = msgpack.packb({"type": "ping"})
    assert (await http.post("/rpc", content=ping)).status_code == 400
    assert (await http.post("/rpc", content=ping, params={"client_id": "c1"})).status_code == 400
    nobody = {"client_id": "c1", "workspace": "ws-user-alice"}
    assert (await http.post("/rpc", content=ping, params=nobody)).status_code == 400
    # Our own clients redial then instead of asking again.
    ours = {"X-Hypha-Stream": secrets.token_urlsafe(24)}
    assert (await http.post("/rpc", content=ping, params=nobody, headers=ours)).status_code == 404


async def test_the_workspace_of_a_post_may_come_from_its_token(server: RunningServer, http: httpx2.AsyncClient) -> None:
    token = bearer(server.token("alice"))
    async with stream(http, token) as opened:
        await http.post("/rpc", params={"client_id": "c1"}, content=msgpack.packb({"type": "ping"}), headers=token)
        assert await opened.control() == {"type": "pong"}


async def test_only_the_user_of_a_stream_may_post_to_it(server: RunningServer, http: httpx2.AsyncClient) -> None:  # S19
    ping = msgpack.packb({"type": "ping"})
    async with stream(http, bearer(server.token("alice"))) as opened:
        assert (await opened.post(ping)).status_code == 403
        assert (await opened.post(ping, headers=bearer(server.token("bob")))).status_code == 403
        assert (await opened.post(ping, headers=bearer("garbage"))).status_code == 401
        assert (await opened.post(ping, headers=bearer(server.token("alice")))).status_code == 200
        assert await opened.control() == {"type": "pong"}


async def test_anonymous_posts_come_from_the_address_of_the_stream() -> None:  # S19
    async with run_server(trusted_proxies=("127.0.0.1",)) as server:
        async with httpx2.AsyncClient(base_url=server.url, timeout=10, trust_env=False) as http:
            here, elsewhere = {"X-Forwarded-For": "192.0.2.1"}, {"X-Forwarded-For": "192.0.2.2"}
            ping = msgpack.packb({"type": "ping"})
            async with stream(http, here) as opened:
                assert (await opened.post(ping, headers=elsewhere)).status_code == 403
                assert (await opened.post(ping)).status_code == 403
                assert (await opened.post(ping, headers=here)).status_code == 200


async def test_pages_of_other_sites_may_use_the_transport(http: httpx2.AsyncClient) -> None:
    asked = "authorization,content-type,x-hypha-level,x-hypha-life,x-hypha-post,x-hypha-stream"
    headers = {"Origin": "https://page.test", "Access-Control-Request-Method": "POST"}
    answer = await http.options("/rpc", headers={**headers, "Access-Control-Request-Headers": asked})
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert all(name in allowed for name in asked.split(","))
    async with stream(http, {"Origin": "https://page.test"}) as opened:
        assert opened.response.headers["access-control-allow-origin"] == "*"


async def test_a_streams_own_token_posts_on_after_it_has_expired(
    server: RunningServer, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = server.token("alice")
    async with stream(http, bearer(token)) as opened:
        monkeypatch.setattr(server.app.tokens, "authenticate", _expired)
        ping = msgpack.packb({"type": "ping"})
        assert (await opened.post(ping, headers=bearer(token))).status_code == 200
        assert (await opened.post(ping, headers=bearer(server.token("alice", email="a@b.c")))).status_code == 401


def _expired(token: str) -> None:
    from hypha.auth.errors import AuthenticationError

    raise AuthenticationError("The token has expired. Please fetch a new one")


async def test_a_secret_given_at_the_opening_is_required(server: RunningServer, http: httpx2.AsyncClient) -> None:
    secret = {"X-Hypha-Stream": secrets.token_urlsafe(24)}
    token = bearer(server.token("alice"))
    ping = msgpack.packb({"type": "ping"})
    async with stream(http, {**token, **secret}) as opened:
        assert (await opened.post(ping, headers=token)).status_code == 403
        assert (await opened.post(ping, headers={**token, "X-Hypha-Stream": "another"})).status_code == 403
        assert (await opened.post(ping, headers=secret)).status_code == 200
    assert (await refused(http, {"X-Hypha-Stream": "short"}, client_id="c2"))[0] == 400


# ---------------------------------------------------------------------- going


async def test_who_says_good_bye_is_answered_and_leaves_no_mailbox(
    server: RunningServer, http: httpx2.AsyncClient
) -> None:
    token = {**bearer(server.token("alice")), "X-Hypha-Level": "1"}
    async with stream(http, token) as opened:
        await opened.post(msgpack.packb({"type": "close", "code": 1000, "reason": "done"}), headers=token)
        assert await opened.control() == {"type": "close", "code": 1000, "reason": ""}
        assert await opened.ends()
    assert "ws-user-alice/c1" not in server.app.router.mailboxes
    assert "ws-user-alice/c1" not in server.app.router.connections


async def test_who_hangs_up_is_gone_and_may_resume(
    server: RunningServer, http: httpx2.AsyncClient, eventually: Any
) -> None:
    token = bearer(server.token("alice"))
    async with stream(http, token) as opened:
        reconnection_token = opened.info["reconnection_token"]
    await eventually(lambda: "ws-user-alice/c1" not in server.app.router.connections, what="the client gone")
    assert "ws-user-alice/c1" in server.app.router.mailboxes
    async with stream(http, token, reconnection_token=reconnection_token) as again:
        assert again.info["resumed"] is True


async def test_a_peer_that_does_not_read_is_not_waited_for(eventually: Any) -> None:
    """Its queue has a bound; then calls to it are refused, and in the end it is cut (security §8)."""
    async with run_server(send_queue_bytes=2 * MIB, send_stall=0.5, send_pause=0.1) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.write(b"GET /rpc?client_id=slow&workspace=ws-user-alice HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        writer.write(f"Authorization: Bearer {server.token('alice')}\r\n\r\n".encode())
        await reader.readuntil(b"connection_info")
        options = {"server_url": server.url, "token": server.token("alice"), "transport": "http"}
        async with connect_to_server(options) as sender:
            connection = server.app.router.connections["ws-user-alice/slow"]
            # Public peers take no more than 512 KiB at a time.
            for _ in range(40):
                await sender.rpc.emit({"type": "noise", "to": "ws-user-alice/slow", "data": bytes(200_000)})
            await eventually(lambda: connection.closing, timeout_s=15, what="the slow reader cut")
            assert connection.outlet.pending <= 4 * MIB
            assert await sender.echo("still here") == "still here"
            await eventually(lambda: "ws-user-alice/slow" not in server.app.router.connections, timeout_s=10)
        writer.close()


async def test_a_quiet_peer_is_asked_and_a_dead_one_is_let_go(eventually: Any) -> None:
    async with run_server(ws_ping_interval=0.2, ws_pong_timeout=3.0) as server:
        async with httpx2.AsyncClient(base_url=server.url, timeout=10, trust_env=False) as http:
            async with stream(http, bearer(server.token("alice"))) as opened:
                header, extra = read_frame(await opened.next())
                assert header["method"] == "services.built-in.ping"
                assert extra["args"] == ["ping"]
                await opened.ends()
            assert "ws-user-alice/c1" not in server.app.router.connections
