"""Opening: addresses, the first frames, and every way in which it fails."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hypha_rpc.transports import (
    Connector,
    Credentials,
    OpenAborted,
    OpenRefused,
    OpenTimeout,
    Refused,
    Unavailable,
    default_connector,
)
from hypha_rpc.transports.handshake import normalize_server_url
from hypha_rpc.transports.websocket import WebSocketConnector

from .conftest import end
from .raw_server import INFO, Peer, raw_server
from .receivers import CREDENTIALS, Recorder, count_fds, options, settle

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("http://host:9527", "ws://host:9527/ws"),
        ("https://host", "wss://host/ws"),
        ("https://host/", "wss://host/ws"),
        ("https://host///", "wss://host/ws"),
        ("HTTPS://host", "wss://host/ws"),
        ("https://host/some/prefix/", "wss://host/some/prefix/ws"),
        ("ws://host/anything/", "ws://host/anything/"),
        ("wss://host/ws?a=b", "wss://host/ws?a=b"),
    ],
)
def test_the_server_url_becomes_a_websocket_address(given: str, address: str) -> None:
    assert normalize_server_url(given) == address


@pytest.mark.parametrize("missing", ["", None])
def test_a_missing_server_url_is_a_value_error(missing: str | None) -> None:
    with pytest.raises(ValueError, match="server_url is required"):
        normalize_server_url(missing)


@pytest.mark.parametrize("url", ["localhost:9527", "ftp://host", "http://", "ws://"])
async def test_an_impossible_url_is_a_value_error(connector: Connector, url: str) -> None:
    with pytest.raises(ValueError, match="server_url"):
        await connector.open(options(url), CREDENTIALS)


def test_an_unknown_engine_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="engine"):
        WebSocketConnector("carrier-pigeon")


def test_the_default_connector_of_cpython_is_the_websocket_one() -> None:
    assert isinstance(default_connector(), WebSocketConnector)


async def test_the_best_engine_present_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(Peer.welcome_and_finish) as server:
        transport, _ = await WebSocketConnector().open(options(server.url), CREDENTIALS)
        assert type(transport).__name__ == "PicowsTransport"
        await end(transport)
        monkeypatch.delitem(sys.modules, "hypha_rpc.transports.picows_transport")
        monkeypatch.setitem(sys.modules, "picows", None)
        transport, _ = await WebSocketConnector().open(options(server.url), CREDENTIALS)
        assert type(transport).__name__ == "WebSocketsTransport"
        await end(transport)


async def test_the_credentials_go_first_and_the_info_comes_back(websocket: WebSocketConnector) -> None:
    async with raw_server(Peer.welcome_and_finish) as server:
        transport, info = await websocket.open(options(server.url), CREDENTIALS)
        assert info == INFO
        assert server.peers[0].path == "/ws"
        assert server.peers[0].credentials == CREDENTIALS.as_message()
        await end(transport)


async def test_extra_headers_are_sent_and_no_extension_is_offered(connector: Connector) -> None:
    async with raw_server(Peer.welcome_and_finish) as server:
        extra = [("X-One", "1"), ("X-Two", "2")]
        transport, _ = await connector.open(options(server.url, headers=extra), CREDENTIALS)
        headers = server.peers[0].headers
        assert (headers["x-one"], headers["x-two"]) == ("1", "2")
        assert headers["host"] == f"127.0.0.1:{server.port}"
        assert "sec-websocket-extensions" not in headers
        await end(transport)


async def test_a_header_with_a_line_break_is_a_value_error(connector: Connector) -> None:
    with pytest.raises(ValueError, match="line break"):
        await connector.open(options("http://127.0.0.1:1", headers=[("X", "a\r\nY: b")]), CREDENTIALS)


async def test_user_information_of_the_url_becomes_a_header(connector: Connector) -> None:
    async with raw_server(Peer.welcome_and_finish) as server:
        url = server.url.replace("://", "://joe:pa%20ss@")
        transport, _ = await connector.open(options(url), Credentials(client_id="client-1"))
        assert server.peers[0].headers["authorization"] == "Basic am9lOnBhIHNz"
        assert "@" not in server.peers[0].headers["host"]
        await end(transport)


async def test_an_error_message_is_a_final_refusal(connector: Connector) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        peer.text({"type": "error", "message": "Authentication error: The token has expired"})
        peer.close(1008, "no")
        await peer.until_closed()

    async with raw_server(script) as server:
        with pytest.raises(Refused, match="The token has expired") as caught:
            await connector.open(options(server.url), CREDENTIALS)
    assert isinstance(caught.value, ConnectionAbortedError)
    assert not caught.value.retryable


@pytest.mark.parametrize("first", [{"type": "hello"}, ["connection_info"], "text", {}])
async def test_another_first_message_aborts(websocket: WebSocketConnector, first: object) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        peer.text(first)
        await peer.until_closed()

    async with raw_server(script) as server:
        with pytest.raises(OpenAborted, match="Unexpected message received from the server") as caught:
            await websocket.open(options(server.url), CREDENTIALS)
    assert isinstance(caught.value, ConnectionAbortedError)
    assert caught.value.retryable


async def test_a_close_before_the_info_is_unavailable_and_told_with_its_reason(connector: Connector) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        peer.close(1001, "going home")
        await peer.until_closed()

    async with raw_server(script) as server:
        with pytest.raises(Unavailable, match="1001: going home"):
            await connector.open(options(server.url), CREDENTIALS)


async def test_a_cut_before_the_info_is_unavailable(connector: Connector) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        peer.cut()

    async with raw_server(script) as server:
        with pytest.raises(Unavailable, match="1006"):
            await connector.open(options(server.url), CREDENTIALS)


async def test_a_cut_during_the_upgrade_is_unavailable(connector: Connector) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.cut()

    async with raw_server(script) as server:
        with pytest.raises(Unavailable):
            await connector.open(options(server.url), CREDENTIALS)


async def test_garbage_instead_of_an_upgrade_is_unavailable(websocket: WebSocketConnector) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        await peer.until_closed()

    async with raw_server(script) as server:
        with pytest.raises(Unavailable, match="does not speak WebSocket"):
            await websocket.open(options(server.url), CREDENTIALS)


async def test_an_extension_that_was_not_offered_is_unavailable(websocket: WebSocketConnector) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.write(peer.answer("Sec-WebSocket-Extensions: permessage-deflate"))
        await peer.until_closed()

    async with raw_server(script) as server:
        with pytest.raises(Unavailable, match="extension"):
            await websocket.open(options(server.url), CREDENTIALS)


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
async def test_an_http_status_is_unavailable_and_named(websocket: WebSocketConnector, status: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.write(f"HTTP/1.1 {status} Nope\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno".encode())

    async with raw_server(script) as server:
        with pytest.raises(Unavailable, match=f"HTTP {status}") as caught:
            await websocket.open(options(server.url), CREDENTIALS)
    assert caught.value.status == status
    assert caught.value.retryable


async def test_a_redirect_on_the_same_host_is_followed(websocket: WebSocketConnector) -> None:
    async def script(peer: Peer) -> None:
        if len(server.peers) > 1:
            await peer.welcome()
            return await peer.finish()
        await peer.request()
        peer.write(b"HTTP/1.1 307 Moved\r\nLocation: /other/ws\r\nContent-Length: 0\r\n\r\n")
        return None

    async with raw_server(script) as server:
        transport, _ = await websocket.open(options(server.url), CREDENTIALS)
        assert [peer.path for peer in server.peers] == ["/ws", "/other/ws"]
        await end(transport)


@pytest.mark.parametrize("location", ["http://elsewhere.test/ws", "ftp://127.0.0.1/", ""])
async def test_a_redirect_elsewhere_is_not_followed(connector: Connector, location: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.write(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())

    async with raw_server(script) as server:
        with pytest.raises(Unavailable, match="HTTP 302"):
            await connector.open(options(server.url), CREDENTIALS)


async def test_redirects_without_end_are_given_up(connector: Connector) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.write(b"HTTP/1.1 302 Found\r\nLocation: /ws\r\nContent-Length: 0\r\n\r\n")

    async with raw_server(script) as server:
        with pytest.raises(Unavailable, match="too many redirects"):
            await connector.open(options(server.url), CREDENTIALS)
        assert len(server.peers) == 6


async def test_nothing_listening_is_a_connection_refused_error(connector: Connector) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        with pytest.raises(OpenRefused, match=str(port)) as caught:
            await connector.open(options(f"http://127.0.0.1:{port}"), CREDENTIALS)
    assert isinstance(caught.value, ConnectionRefusedError)
    assert caught.value.retryable


async def test_an_unknown_host_is_unavailable_and_named(connector: Connector, monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(Unavailable, match=r"nowhere\.invalid"):
        await connector.open(options("http://nowhere.invalid"), CREDENTIALS)


async def test_the_next_address_of_a_host_is_tried(connector: Connector, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        async with raw_server(Peer.welcome_and_finish) as server:
            dead, alive = reserved.getsockname(), ("127.0.0.1", server.port)
            kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: [(*kind, dead), (*kind, alive)])
            transport, _ = await connector.open(options(f"http://two.test:{server.port}"), CREDENTIALS)
            await end(transport)


async def test_no_info_in_time_is_a_timeout(connector: Connector) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.until_closed()

    async with raw_server(script) as server:
        began = time.monotonic()
        with pytest.raises(OpenTimeout, match="no connection_info within 0.2 seconds") as caught:
            await connector.open(options(server.url, timeout_s=0.2), CREDENTIALS)
    assert time.monotonic() - began < 2
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.retryable


async def test_no_upgrade_in_time_is_a_timeout(connector: Connector) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.reader.read()

    async with raw_server(script) as server:
        with pytest.raises(OpenTimeout):
            await connector.open(options(server.url, timeout_s=0.2), CREDENTIALS)


async def test_what_comes_early_is_kept_in_order(connector: Connector) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        peer.send(b"before")
        peer.text(INFO)
        peer.send(b"after")
        peer.text({"type": "pong"})
        peer.send(b"last")
        peer.close(1000, "done")
        await peer.until_closed()

    async with raw_server(script) as server:
        transport, info = await connector.open(options(server.url), CREDENTIALS)
        assert info == INFO
        await transport.wait_closed()
        recorder = Recorder()
        transport.start(recorder)
        assert recorder.events == [], "start itself delivers nothing"
        await recorder.until_closed()
    assert recorder.events == [b"before", b"after", {"type": "pong"}, b"last", (1000, "done")]


async def test_early_frames_are_bounded(websocket: WebSocketConnector) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        for _ in range(1100):
            peer.send(b"x")
        peer.text(INFO)
        assert await peer.until_closed() == (1008, "Too much before the connection was in use")

    async with raw_server(script) as server:
        with pytest.raises(Unavailable, match="1008"):
            await websocket.open(options(server.url), CREDENTIALS)


async def test_the_info_may_come_in_the_packet_of_the_upgrade(connector: Connector) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        writes: list[bytes] = []
        peer.write = writes.append  # type: ignore[method-assign]
        peer.write(peer.answer())
        peer.text(INFO)
        peer.send(b"early")
        peer.writer.write(b"".join(writes))
        await peer.until_closed()

    async with raw_server(script) as server:
        transport, info = await connector.open(options(server.url), CREDENTIALS)
        recorder = Recorder()
        transport.start(recorder)
        await recorder.until_frames(1)
        assert (info, recorder.frames) == (INFO, [b"early"])
        transport.close()
        await transport.wait_closed()


@pytest.mark.parametrize("stage", ["connected", "upgrading", "authenticating"])
async def test_cancelling_an_opening_leaves_nothing(connector: Connector, stage: str) -> None:
    reached, gone = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        if stage != "connected":
            await peer.request()
        if stage == "authenticating":
            peer.write(peer.answer())
            await peer.receive()
        reached.set()
        await peer.reader.read()
        gone.set()

    async with raw_server(script) as server:
        await settle()
        fds = count_fds()
        opening = asyncio.ensure_future(connector.open(options(server.url), CREDENTIALS))
        await asyncio.wait_for(reached.wait(), 5)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await asyncio.wait_for(gone.wait(), 5)
        server.peers[0].cut()
        await settle()
        assert count_fds() == fds


async def test_a_transport_is_started_once(connector: Connector) -> None:
    async with raw_server(Peer.welcome_and_finish) as server:
        transport, _ = await connector.open(options(server.url), CREDENTIALS)
        transport.start(Recorder())
        with pytest.raises(RuntimeError, match="started already"):
            transport.start(Recorder())
        await end(transport)


def test_importing_the_transports_imports_no_websocket_library() -> None:
    code = (
        "import sys, hypha_rpc.transports as t; t.default_connector(); "
        "print(sorted({'picows', 'websockets', 'python_socks'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


def test_the_pyodide_transport_can_be_imported_here_and_says_what_is_missing() -> None:
    from hypha_rpc.transports.pyodide import PyodideConnector

    with pytest.raises(ModuleNotFoundError, match="js"):
        asyncio.run(PyodideConnector().open(options("http://127.0.0.1:1"), CREDENTIALS))  # type: ignore[arg-type]
