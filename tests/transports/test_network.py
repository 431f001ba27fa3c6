"""TLS, proxies of the environment, other event loops."""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
from collections.abc import Callable

import pytest
import trustme

from hypha_rpc.transports import Connector, Unavailable, pipe
from hypha_rpc.transports.dial import proxy_for
from hypha_rpc.transports.target import Target, parse_target
from hypha_rpc.transports.websocket import WebSocketConnector

from .conftest import end, make_connector, open_to
from .raw_server import Peer, connect_proxy, raw_server
from .receivers import CREDENTIALS, Recorder, count_fds, options, settle
from .test_messages import echo

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "server.test").configure_cert(context)
    return context


@pytest.fixture
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


# ---------------------------------------------------------------------- TLS


async def test_tls_with_a_context_carries_frames(
    connector: Connector, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async with raw_server(echo, tls=server_tls) as server:
        transport, recorder = await open_to(connector, server, ssl=client_tls)
        for size in (1, MIB, 8 * MIB):
            transport.send([bytes(size)])
        await recorder.until_frames(3)
        assert [len(data) for data in recorder.frames] == [1, MIB, 8 * MIB]
        await end(transport)
        assert recorder.closed == [(1000, "")]


@pytest.mark.parametrize("option", [None, True])
async def test_an_unknown_certificate_is_unavailable(
    connector: Connector, server_tls: ssl.SSLContext, option: object
) -> None:
    async with raw_server(Peer.welcome_and_finish, tls=server_tls) as server:
        with pytest.raises(Unavailable, match="certificate") as caught:
            await connector.open(options(server.url, ssl=option), CREDENTIALS)
    assert caught.value.status is None


async def test_the_name_in_the_certificate_is_checked(
    connector: Connector, authority: trustme.CA, client_tls: ssl.SSLContext
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("elsewhere.test").configure_cert(context)
    async with raw_server(Peer.welcome_and_finish, tls=context) as server:
        with pytest.raises(Unavailable, match="certificate"):
            await connector.open(options(server.url, ssl=client_tls), CREDENTIALS)


async def test_ssl_false_checks_nothing_and_warns_once(
    connector: Connector, server_tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    async with raw_server(Peer.welcome_and_finish, tls=server_tls) as server:
        for _ in range(2):
            await end((await open_to(connector, server, ssl=False))[0])
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING and record.name != "asyncio"]
    assert [record.name for record in warnings] == ["hypha_rpc.transport"]
    assert "ssl=False" in warnings[0].getMessage()


@pytest.mark.parametrize("option", [True, False])
async def test_ssl_is_ignored_for_a_plain_url(
    connector: Connector, option: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with raw_server(Peer.welcome_and_finish) as server:
        await end((await open_to(connector, server, ssl=option))[0])
    assert [record for record in caplog.records if record.levelno >= logging.WARNING and record.name != "asyncio"] == []


async def test_a_plain_server_behind_a_tls_url_is_unavailable(websocket: WebSocketConnector) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(10)
        peer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with raw_server(script) as server:
        with pytest.raises(Unavailable):
            await websocket.open(options(f"https://127.0.0.1:{server.port}"), CREDENTIALS)


async def test_cancelling_in_the_tls_handshake_leaves_nothing(websocket: WebSocketConnector) -> None:
    reached = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.reader.read(10)
        reached.set()
        await peer.reader.read()

    async with raw_server(script) as server:
        await settle()
        fds = count_fds()
        opening = asyncio.ensure_future(
            websocket.open(options(f"https://127.0.0.1:{server.port}", ssl=False), CREDENTIALS)
        )
        await asyncio.wait_for(reached.wait(), 5)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        server.peers[0].cut()
        await settle()
        assert count_fds() == fds


async def test_a_tls_peer_that_never_answers_the_close_is_cut_in_time(
    connector: Connector,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipe, "HANDSHAKE_S", 0.2)
    over = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await over.wait()

    async with raw_server(script, tls=server_tls) as server:
        transport, recorder = await open_to(connector, server, ssl=client_tls)
        transport.close()
        await asyncio.wait_for(transport.wait_closed(), 3)
        assert (await recorder.until_closed()).code == 1006
        over.set()


async def test_a_slow_reader_over_tls_turns_writable_off_and_on_again(
    connector: Connector, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await go_on.wait()
        await peer.finish()

    async with raw_server(script, tls=server_tls) as server:
        transport, recorder = await open_to(connector, server, ssl=client_tls)
        for _ in range(32):
            transport.send([bytes(MIB)])
        assert not transport.writable
        assert recorder.drained == 0, "never called from send"
        go_on.set()
        await recorder.until(lambda: recorder.drained)
        assert transport.writable
        await end(transport)


# ---------------------------------------------------------------------- proxies


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({"HTTP_PROXY": "http://p:1"}, "ws://host/ws", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1"}, "wss://host/ws", "http://p:1"),
        ({"HTTPS_PROXY": "p:1"}, "wss://host/ws", "http://p:1"),
        ({"ALL_PROXY": "socks5://p:1"}, "wss://host/ws", "socks5://p:1"),
        ({"HTTPS_PROXY": "http://p:1"}, "ws://host/ws", None),
        ({"HTTP_PROXY": "http://p:1"}, "wss://host/ws", None),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "other,host"}, "ws://host/ws", None),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": ".host"}, "ws://a.host:99/ws", None),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "*"}, "ws://host/ws", None),
        ({"HTTP_PROXY": "http://p:1"}, "ws://127.0.0.1/ws", None),
        ({"HTTP_PROXY": "http://p:1"}, "ws://[::1]:80/ws", None),
        ({"HTTP_PROXY": "http://p:1"}, "ws://localhost:80/ws", None),
        ({}, "wss://host/ws", None),
    ],
)
def test_the_environment_names_the_proxy(
    environment: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(parse_target(url)) == proxy


async def test_a_proxy_is_asked_for_a_tunnel(websocket: WebSocketConnector, monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(echo) as server, connect_proxy() as (proxy, asked):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        transport, _ = await websocket.open(options(f"http://server.test:{server.port}"), CREDENTIALS)
        recorder = Recorder()
        transport.start(recorder)
        transport.send([b"through"])
        await recorder.until_frames(1)
        await end(transport)
        host = f"server.test:{server.port}"
        secret = base64.b64encode(b"user:secret").decode()
        assert asked == [f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Basic {secret}\r\n\r\n"]


async def test_tls_goes_through_the_tunnel(
    websocket: WebSocketConnector,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with raw_server(echo, tls=server_tls) as server, connect_proxy() as (proxy, asked):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        url = f"https://server.test:{server.port}"
        transport, _ = await websocket.open(options(url, ssl=client_tls), CREDENTIALS)
        await end(transport)
        assert len(asked) == 1


async def test_a_proxy_that_refuses_is_unavailable_and_its_password_is_not_shown(
    websocket: WebSocketConnector, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect_proxy(status=407) as (proxy, _):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        with pytest.raises(Unavailable, match=r"proxy refused a tunnel to server\.test:80: HTTP 407") as caught:
            await websocket.open(options("http://server.test"), CREDENTIALS)
    assert "secret" not in str(caught.value)


async def test_an_unknown_kind_of_proxy_is_unavailable(
    websocket: WebSocketConnector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "gopher://127.0.0.1:70")
    with pytest.raises(Unavailable, match="gopher"):
        await websocket.open(options("http://server.test"), CREDENTIALS)


async def test_a_socks_proxy_is_used(websocket: WebSocketConnector, monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(Peer.welcome_and_finish) as server:
        asked: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(2 + (await reader.readexactly(2))[1] - 2)
            writer.write(b"\x05\x00")
            request = await reader.readexactly(5)
            asked.append(await reader.readexactly(request[4] + 2))
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50")
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))

        listening = await asyncio.start_server(serve, "127.0.0.1", 0)
        monkeypatch.setenv("ALL_PROXY", f"socks5h://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        transport, _ = await websocket.open(options("http://server.test:81"), CREDENTIALS)
        await end(transport)
        listening.close()
        assert asked == [b"server.test\x00\x51"]


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


# ---------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("ws://Host/ws", Target("ws://host/ws", False, "host", 80)),
        ("wss://host:444/a/b?c=d#e", Target("wss://host:444/a/b?c=d", True, "host", 444)),
        ("ws://[::1]:8/ws", Target("ws://[::1]:8/ws", False, "::1", 8)),
        ("ws://bücher.test", Target("ws://xn--bcher-kva.test/", False, "xn--bcher-kva.test", 80)),
        ("ws://host/ä b", Target("ws://host/%C3%A4%20b", False, "host", 80)),
    ],
)
def test_a_url_is_taken_apart(url: str, target: Target) -> None:
    assert parse_target(url) == target


def test_an_impossible_url_is_shown_without_secrets() -> None:
    with pytest.raises(ValueError, match="server_url must be") as caught:
        parse_target("ftp://joe:hidden@host/path?token=hidden")
    assert "hidden" not in str(caught.value)


# ---------------------------------------------------------------------- loops


@pytest.fixture
def uvloop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    uvloop = pytest.importorskip("uvloop")
    return uvloop.new_event_loop  # type: ignore[no-any-return]


def test_everything_works_on_uvloop_too(
    engine: str,
    uvloop_factory: Callable[[], asyncio.AbstractEventLoop],
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
) -> None:
    async def one(tls: ssl.SSLContext | None) -> None:
        connector = make_connector(engine)
        async with raw_server(echo, tls=tls) as server:
            transport, recorder = await open_to(connector, server, ssl=client_tls)
            for _ in range(16):
                transport.send([bytes(MIB)])
            assert not transport.writable
            await recorder.until_frames(16)
            await recorder.until(lambda: recorder.drained)
            await end(transport)
            assert recorder.closed == [(1000, "")]

    async def cancelled() -> None:
        reached = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            reached.set()
            await peer.reader.read()

        async with raw_server(script) as server:
            await settle()
            fds = count_fds()
            opening = asyncio.ensure_future(make_connector(engine).open(options(server.url), CREDENTIALS))
            await asyncio.wait_for(reached.wait(), 5)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            server.peers[0].cut()
            await settle()
            assert count_fds() == fds

    with asyncio.Runner(loop_factory=uvloop_factory) as runner:
        runner.run(one(None))
        runner.run(one(server_tls))
        runner.run(cancelled())
