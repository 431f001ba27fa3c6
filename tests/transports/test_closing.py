"""Every end of a connection: told once, with code and reason, in time, leaving nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
import weakref
from collections.abc import Awaitable, Callable

import pytest

from hypha_rpc.transports import CLOSE_TIMEOUT_S, Closed, Connector, pipe
from hypha_rpc.transports.websocket import WebSocketConnector

from .conftest import end, open_to
from .raw_server import CLOSE, Peer, frame, raw_server
from .receivers import CREDENTIALS, Recorder, count_fds, options, settle

MIB = 1024 * 1024


async def test_our_close_carries_code_and_reason_and_is_answered(connector: Connector) -> None:
    said: list[object] = []

    async def script(peer: Peer) -> None:
        await peer.welcome()
        said.append(await peer.until_closed())
        peer.close(4001, "as you say")

    async with raw_server(script) as server:
        transport, recorder = await open_to(connector, server)
        transport.close(4001, "enough")
        assert recorder.closed == [], "never called from close"
        await transport.wait_closed()
        assert await recorder.until_closed() == Closed(4001, "as you say")
    assert said == [(4001, "enough")]


@pytest.mark.parametrize("code", [1005, 1006, 1015, 0, 999, 5000])
async def test_a_code_that_may_not_be_sent_becomes_1000(connector: Connector, code: int) -> None:
    said: list[object] = []

    async def script(peer: Peer) -> None:
        await peer.welcome()
        said.append(await peer.until_closed())
        peer.close()

    async with raw_server(script) as server:
        transport, _ = await open_to(connector, server)
        transport.close(code)
        await transport.wait_closed()
    assert said == [(1000, "")]


async def test_a_long_reason_is_cut_between_characters(connector: Connector) -> None:
    said: list[tuple[int, str] | None] = []

    async def script(peer: Peer) -> None:
        await peer.welcome()
        said.append(await peer.until_closed())
        peer.close()

    async with raw_server(script) as server:
        transport, _ = await open_to(connector, server)
        transport.close(1000, "é" * 100)
        await transport.wait_closed()
    assert said == [(1000, "é" * 61)]


@pytest.mark.parametrize(
    ("payload", "closed"),
    [
        (b"\x03\xe8", (1000, "")),
        (b"\x03\xe9bye", (1001, "bye")),
        (b"\x0f\xa0mine", (4000, "mine")),
        (b"\x03\xf4restart", (1012, "restart")),
        (b"", (1005, "")),
    ],
)
async def test_the_peers_close_is_told_and_answered(
    websocket: WebSocketConnector, payload: bytes, closed: tuple[int, str]
) -> None:
    answered: list[object] = []

    async def script(peer: Peer) -> None:
        await peer.welcome()
        peer.write(frame(CLOSE, payload))
        opcode, answer = await peer.receive()
        answered.append((opcode, answer[:2]))

    async with raw_server(script) as server:
        transport, recorder = await open_to(websocket, server)
        assert await recorder.until_closed() == closed
        await transport.wait_closed()
    assert answered in ([(CLOSE, payload[:2])], [(CLOSE, payload[:2] or b"\x03\xe8")])


@pytest.mark.parametrize("how", ["cut", "end of stream"])
async def test_a_socket_that_ends_without_a_word_is_1006(connector: Connector, how: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.receive()
        if how == "cut":
            peer.cut()

    async with raw_server(script) as server:
        transport, recorder = await open_to(connector, server)
        transport.send([b"go"])
        assert await recorder.until_closed() == Closed(1006, "")
        await transport.wait_closed()


async def test_after_the_end_sending_and_closing_do_nothing(connector: Connector) -> None:
    async with raw_server(Peer.welcome_and_finish) as server:
        transport, recorder = await open_to(connector, server)
        transport.close()
        transport.close(1001, "again")
        transport.send([b"dropped"])
        await transport.wait_closed()
        transport.send([b"dropped"])
        transport.send_control({"type": "ping"})
        transport.close()
        await transport.wait_closed()
        await recorder.until_closed()
        await settle()
        assert recorder.events == [Closed(1000, "")]


async def test_what_was_sent_before_close_arrives(connector: Connector) -> None:
    sizes: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.welcome()
        while (received := await peer.receive())[0] != CLOSE:
            sizes.append(len(received[1]))
        peer.close()

    async with raw_server(script) as server:
        transport, recorder = await open_to(connector, server)
        for _ in range(8):
            transport.send([bytes(MIB)])
        transport.close()
        assert (await recorder.until_closed()).code == 1000
    assert sizes == [MIB] * 8


@pytest.mark.parametrize("reading", [True, False], ids=["reads", "does not read"])
async def test_a_peer_that_never_answers_the_close_is_cut_in_time(
    connector: Connector, reading: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not reading:
        monkeypatch.setattr(pipe, "HANDSHAKE_S", 0.2)
    over = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.welcome()
        if reading:
            await peer.until_closed()
        await over.wait()

    async with raw_server(script) as server:
        transport, recorder = await open_to(connector, server)
        if not reading:
            for _ in range(32):
                transport.send([bytes(MIB)])
        began = time.monotonic()
        transport.close()
        await transport.wait_closed()
        assert time.monotonic() - began < CLOSE_TIMEOUT_S
        assert await recorder.until_closed() == Closed(1006, "")
        over.set()


async def test_a_peer_that_closes_without_reading_is_left_at_once(connector: Connector) -> None:
    over = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.receive()
        peer.close(1001, "stopping")
        await over.wait()

    async with raw_server(script) as server:
        transport, recorder = await open_to(connector, server)
        for _ in range(32):
            transport.send([bytes(MIB)])
        assert await recorder.until_closed(timeout_s=2) == Closed(1001, "stopping")
        over.set()


async def test_waiting_for_the_end_can_be_cancelled(connector: Connector) -> None:
    async with raw_server(Peer.welcome_and_finish) as server:
        transport, recorder = await open_to(connector, server)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(transport.wait_closed(), 0.05)
        assert recorder.closed == []
        await end(transport)


async def test_starting_after_the_end_tells_the_end(connector: Connector) -> None:
    async with raw_server(Peer.welcome_and_finish) as server:
        transport, _ = await connector.open(options(server.url), CREDENTIALS)
        await end(transport)
        recorder = Recorder()
        transport.start(recorder)
        assert await recorder.until_closed() == Closed(1000, "")


async def test_closing_before_the_start_delivers_nothing_but_the_end(connector: Connector) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        peer.send(b"early")
        await peer.finish()

    async with raw_server(script) as server:
        transport, _ = await connector.open(options(server.url), CREDENTIALS)
        await settle()
        recorder = Recorder()
        transport.start(recorder)
        transport.close()
        await recorder.until_closed()
        assert recorder.events == [Closed(1000, "")]


async def test_a_hundred_connections_leave_nothing(connector: Connector) -> None:
    async with raw_server(Peer.welcome_and_finish) as server:
        await end((await open_to(connector, server))[0])
        await settle()
        fds, tasks = count_fds(), len(asyncio.all_tasks())
        for _ in range(100):
            await end((await open_to(connector, server))[0])
        await settle()
        for peer in server.peers:
            await peer.writer.wait_closed()
        await settle()
        assert (count_fds(), len(asyncio.all_tasks())) == (fds, tasks)


async def test_a_clean_connection_says_nothing_in_the_log(
    connector: Connector, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with raw_server(Peer.welcome_and_finish) as server:
        transport, _ = await open_to(connector, server)
        transport.send([b"secret payload"])
        await end(transport)
    ours = [record for record in caplog.records if record.name != "asyncio"]
    assert all(record.levelno <= logging.DEBUG for record in ours), ours
    assert all(record.name.startswith(("hypha_rpc.", "httpcore2.")) for record in ours), ours
    assert "secret" not in caplog.text


async def test_a_broken_peer_says_nothing_above_debug(
    connector: Connector, caplog: pytest.LogCaptureFixture, eventually: Callable[..., Awaitable[None]]
) -> None:
    caplog.set_level(logging.DEBUG, "hypha_rpc")
    # Its records below that would keep the transport alive.
    caplog.set_level(logging.WARNING, "asyncio")

    async def script(peer: Peer) -> None:
        await peer.welcome()
        peer.write(frame(3, b"secret payload"))
        await peer.until_closed()

    async with raw_server(script) as server:
        transport, recorder = await open_to(connector, server)
        await recorder.until_closed()
        await transport.wait_closed()
        # What nobody has looked at is complained about when it is collected.
        reference = weakref.ref(transport)
        del transport
        await eventually(lambda: [gc.collect(), reference()][1] is None, what="the transport collected")
        await settle()
    # A slow moment of the machine is reported by asyncio's debug mode as a warning; what matters here is an error.
    told = [record for record in caplog.records if (record.name, record.levelno) != ("asyncio", logging.WARNING)]
    assert [record for record in told if record.levelno > logging.DEBUG] == []
    assert "secret" not in caplog.text
