"""What is special about HTTP: the requests, their answers, retries (protocol §7)."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

from hypha_rpc.transports import Closed, Credentials, OpenAborted, Refused, Unavailable, http_pipe
from hypha_rpc.transports.http import HttpConnector, normalize_server_url

from . import raw_server as raw
from .conftest import end, open_to
from .raw_http import HttpPeer
from .raw_server import BINARY, CLOSE, INFO, Peer, raw_server
from .receivers import CREDENTIALS, Recorder, options

ROOT = Path(__file__).parents[2]
PUBLIC_INFO = {name: value for name, value in INFO.items() if name != "x"}


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("http://host:9527", "http://host:9527"),
        ("https://host/", "https://host"),
        ("ws://host:9527/ws", "http://host:9527"),
        ("wss://host/prefix/ws/", "https://host/prefix"),
        ("https://host/some/prefix///", "https://host/some/prefix"),
    ],
)
def test_the_server_url_becomes_an_http_address(given: str, address: str) -> None:
    assert normalize_server_url(given) == address


@pytest.mark.parametrize("missing", ["", None])
def test_a_missing_server_url_is_a_value_error(missing: str | None) -> None:
    with pytest.raises(ValueError, match="server_url is required"):
        normalize_server_url(missing)


def first_peer(server: raw.RawServer) -> HttpPeer:
    return cast("HttpPeer", server.peers[0])


async def test_the_credentials_are_in_the_request_and_the_info_comes_back(http: HttpConnector) -> None:
    who = Credentials("client-1", "ws-1", "secret-token", "again", "life-1")
    async with raw_server(Peer.welcome_and_finish) as server:
        transport, info = await http.open(options(server.url), who)
        assert info == INFO
        peer = first_peer(server)
        assert peer.credentials == who.as_message()
        assert peer.path.startswith("/rpc?")
        assert "secret" not in peer.path
        assert peer.headers["accept"] == "application/x-msgpack-stream"
        assert len(peer.headers["x-hypha-stream"]) >= 32
        await end(transport)


async def test_every_post_says_whose_it_is(http: HttpConnector) -> None:
    async with raw_server(Peer.welcome_and_finish) as server:
        transport, recorder = await open_to(http, server, headers=[("X-One", "1")])
        transport.send([b"frame"])
        await end(transport)
        await recorder.until_closed()
        peer = first_peer(server)
        for number, headers in enumerate(peer.post_heads, 1):
            assert headers["x-hypha-stream"] == peer.headers["x-hypha-stream"]
            assert headers["authorization"] == "Bearer secret-token"
            assert headers["x-one"] == "1"
            assert headers["x-hypha-post"] == str(number)


async def test_a_token_names_the_workspace(http: HttpConnector) -> None:
    token = "e30.eyJzY29wZSI6IndpZDp3cy1mcm9tLXRva2VuIn0.x"
    async with raw_server(Peer.welcome_and_finish) as server:
        transport, _ = await http.open(options(server.url), Credentials("client-1", token=token))
        assert first_peer(server).credentials["workspace"] == "ws-from-token"
        await end(transport)


@pytest.mark.parametrize("first", [{"type": "hello"}, {}])
async def test_another_first_message_aborts(http: HttpConnector, first: object) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        peer.text(first)
        await peer.reader.read()

    async with raw_server(script) as server:
        with pytest.raises(OpenAborted, match="Unexpected message received from the server"):
            await http.open(options(server.url), CREDENTIALS)


def answer(status: int, body: bytes = b"no", kind: str = "text/plain") -> bytes:
    head = f"HTTP/1.1 {status} Nope\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


DETAIL = b'{"success": false, "detail": "said the server"}'


@pytest.mark.parametrize(
    ("status", "body", "error", "text"),
    [
        (401, DETAIL, Refused, "said the server"),
        (401, b"no", Refused, "HTTP 401"),
        (403, DETAIL, Refused, "said the server"),
        (400, DETAIL, Refused, "said the server"),
        (404, DETAIL, Refused, "said the server"),
        (409, DETAIL, Refused, "said the server"),
        (500, DETAIL, OpenAborted, "said the server"),
        (404, b"<html>", Unavailable, "HTTP 404"),
        (407, b"no", Unavailable, "HTTP 407"),
        (429, DETAIL, Unavailable, "HTTP 429"),
        (500, b"no", Unavailable, "HTTP 500"),
        (503, DETAIL, Unavailable, "HTTP 503"),
    ],
)
async def test_a_status_has_a_meaning(
    http: HttpConnector, status: int, body: bytes, error: type[Exception], text: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.write(answer(status, body))

    async with raw_server(script) as server:
        with pytest.raises(error, match=text) as caught:
            await http.open(options(server.url), CREDENTIALS)
    if isinstance(caught.value, Unavailable):
        assert caught.value.status == status


async def test_a_redirect_on_the_same_host_is_followed(http: HttpConnector) -> None:
    async def script(peer: Peer) -> None:
        if len(server.peers) > 1:
            await peer.welcome()
            return await peer.finish()
        await peer.request()
        peer.write(b"HTTP/1.1 307 Moved\r\nLocation: /other/rpc\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        return None

    async with raw_server(script) as server:
        transport, _ = await http.open(options(server.url), CREDENTIALS)
        assert [peer.path.partition("?")[0] for peer in server.peers] == ["/rpc", "/other/rpc"]
        assert server.peers[1].path.endswith("workspace=ws-1")
        await end(transport)


# ---------------------------------------------------------------------- posting


async def test_what_waits_goes_together_in_one_post(http: HttpConnector) -> None:
    frames = [index.to_bytes(2, "big") for index in range(500)]

    async def script(peer: Peer) -> None:
        await peer.welcome()
        for frame in frames:
            assert await peer.receive() == (BINARY, frame)
        await peer.finish()

    async with raw_server(script) as server:
        transport, recorder = await open_to(http, server)
        for frame in frames:
            transport.send([frame])
        await end(transport)
        await recorder.until_closed()
        assert len(first_peer(server).post_sizes) <= 3


async def test_to_a_public_server_each_frame_is_a_post(http: HttpConnector) -> None:
    frames = [b"1", b"2", b"3"]
    done = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.accept()
        peer.text(PUBLIC_INFO)
        for frame in frames:
            assert await peer.receive() == (BINARY, frame)
        done.set()
        with contextlib.suppress(ConnectionError):
            await peer.receive()

    async with raw_server(script) as server:
        transport, recorder = await open_to(http, server)
        for frame in frames:
            transport.send([frame])
        await asyncio.wait_for(done.wait(), 5)
        transport.close(4000, "enough")
        await transport.wait_closed()
        # Such a server knows no good-bye: the stream is over because we wanted that.
        assert await recorder.until_closed() == Closed(4000, "enough")
        peer = first_peer(server)
        assert [headers["content-type"] for headers in peer.post_heads] == ["application/msgpack"] * 3


@pytest.mark.parametrize("outcome", [None, 429, 500, 502, 503])
async def test_a_post_without_a_good_answer_is_repeated_under_its_number(
    http: HttpConnector, outcome: int | None
) -> None:
    async def script(peer: Peer) -> None:
        cast("HttpPeer", peer).answers.extend([outcome, 200])
        await peer.welcome()
        assert await peer.receive() == (BINARY, b"frame")
        await peer.finish()

    async with raw_server(script) as server:
        transport, recorder = await open_to(http, server)
        transport.send([b"frame"])
        await end(transport)
        assert await recorder.until_closed() == Closed(1000, "")
        assert [headers["x-hypha-post"] for headers in first_peer(server).post_heads][:2] == ["1", "1"]


async def test_to_a_public_server_a_post_that_may_have_arrived_is_not_repeated(http: HttpConnector) -> None:
    async def script(peer: Peer) -> None:
        cast("HttpPeer", peer).answers.append(None)
        await peer.accept()
        peer.text(PUBLIC_INFO)
        await peer.receive()

    async with raw_server(script) as server:
        transport, recorder = await open_to(http, server)
        transport.send([b"frame"])
        assert await recorder.until_closed() == Closed(1006, "")
        await transport.wait_closed()
        assert len(first_peer(server).post_heads) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_stream_that_may_not_be_posted_to_is_lost(http: HttpConnector, status: int) -> None:
    async def script(peer: Peer) -> None:
        cast("HttpPeer", peer).answers.append(status)
        await peer.welcome()
        await peer.receive()

    async with raw_server(script) as server:
        transport, recorder = await open_to(http, server)
        transport.send([b"frame"])
        assert await recorder.until_closed() == Closed(1006, "")
        await transport.wait_closed()


async def test_a_server_that_stays_away_is_given_up(http: HttpConnector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_pipe, "PAUSES_S", (0.01, 0.01))

    async def script(peer: Peer) -> None:
        cast("HttpPeer", peer).answers.extend([502] * 10)
        await peer.welcome()
        await peer.receive()

    async with raw_server(script) as server:
        transport, recorder = await open_to(http, server)
        transport.send([b"frame"])
        assert (await recorder.until_closed()).code == 1006
        await transport.wait_closed()
        assert len(first_peer(server).post_heads) == 3


async def test_a_frame_that_the_server_does_not_take_harms_no_other(http: HttpConnector) -> None:
    async def script(peer: Peer) -> None:
        cast("HttpPeer", peer).answers.append(400)
        await peer.welcome()
        assert await peer.receive() == (BINARY, b"good")
        await peer.finish()

    async with raw_server(script) as server:
        transport, recorder = await open_to(http, server)
        transport.send([b"bad"])
        async with asyncio.timeout(5):
            while not first_peer(server).post_heads:
                await asyncio.sleep(0.005)
        transport.send([b"good"])
        await end(transport)
        assert (await recorder.until_closed()).code == 1000


async def test_a_frame_too_big_for_the_server_ends_the_connection(http: HttpConnector) -> None:
    async def script(peer: Peer) -> None:
        cast("HttpPeer", peer).answers.append(413)
        await peer.welcome()
        await peer.until_closed()

    async with raw_server(script) as server:
        transport, recorder = await open_to(http, server)
        transport.send([b"frame"])
        assert (await recorder.until_closed()).code == 1009


@pytest.mark.parametrize("said", [(1000, ""), (1001, "Server is shutting down"), (4000, "mine")])
async def test_the_servers_good_bye_is_told(http: HttpConnector, said: tuple[int, str]) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        peer.close(*said)

    async with raw_server(script) as server:
        _, recorder = await open_to(http, server)
        assert await recorder.until_closed() == said


async def test_keep_alives_of_the_server_are_signs_of_life(http: HttpConnector) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        peer.text({"type": "ping"})
        peer.write(b"\0\0\0\0")
        await peer.finish()

    async with raw_server(script) as server:
        transport, recorder = await open_to(http, server)
        await recorder.until_frames(1)
        assert recorder.events == [{"type": "ping"}, b""]
        await end(transport)


async def test_an_announced_monster_is_not_waited_for(http: HttpConnector) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        peer.write(b"\xff\xff\xff\xff")
        opcode, payload = await peer.receive()
        assert (opcode, int.from_bytes(payload[:2], "big")) == (CLOSE, 1009)

    async with raw_server(script) as server:
        _, recorder = await open_to(http, server)
        assert (await recorder.until_closed()).code == 1009


async def test_a_proxy_of_the_environment_is_used(http: HttpConnector, monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(Peer.welcome_and_finish) as server:
        # A forward proxy gets the whole address; ours serves what it is asked for itself.
        monkeypatch.setenv("HTTP_PROXY", server.url)
        transport, info = await http.open(options("http://server.test"), CREDENTIALS)
        assert info == INFO
        assert server.peers[0].path.startswith("http://server.test/rpc?")
        recorder = Recorder()
        transport.start(recorder)
        await end(transport)
        assert first_peer(server).post_heads[0]["host"] == "server.test"


async def test_without_the_library_the_error_says_what_to_install(
    http: HttpConnector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(ImportError, match=r"hypha-rpc\[http\]"):
        await http.open(options("http://127.0.0.1:1"), CREDENTIALS)


def test_importing_the_transport_imports_no_http_library() -> None:
    code = "import sys, hypha_rpc.transports.http; print(sorted({'httpx2', 'httpcore2', 'anyio'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"
