"""Frames and control messages, both ways: whole, in order, fragmented, malformed, too big."""

from __future__ import annotations

import array
import asyncio
import logging

import pytest

from hypha_rpc.transports import HIGH_WATER, Connector
from hypha_rpc.transports.websocket import ENGINES, WebSocketConnector

from .conftest import end, make_connector, open_to
from .raw_server import BINARY, CLOSE, CONTINUATION, INFO, PING, PONG, TEXT, Peer, frame, raw_server
from .receivers import CREDENTIALS, Failing, Recorder, options

MIB = 1024 * 1024
SIZES = [0, 1, 125, 126, 127, 65535, 65536, 65537, MIB]


async def echo(peer: Peer) -> None:
    """Send everything back, in the same kind of frame."""
    await peer.welcome()
    while True:
        opcode, payload = await peer.receive()
        if opcode == CLOSE:
            return peer.send(payload, CLOSE)
        peer.send(payload, opcode)
        await peer.writer.drain()


@pytest.mark.parametrize("size", SIZES)
async def test_a_frame_of_any_size_comes_back(connector: Connector, size: int) -> None:
    payload = bytes(index * 7 % 251 for index in range(min(size, 4096))) * (size // 4096 + 1)
    payload = payload[:size]
    async with raw_server(echo) as server:
        transport, recorder = await open_to(connector, server)
        transport.send([payload])
        await recorder.until_frames(1)
        assert recorder.frames == [payload]
        await end(transport)


async def test_the_parts_of_a_frame_are_concatenated(connector: Connector) -> None:
    numbers = array.array("I", [1, 2, 3])
    parts = [b"head", bytearray(b"-"), memoryview(b"xbodyx")[1:-1], memoryview(numbers), b""]
    async with raw_server(echo) as server:
        transport, recorder = await open_to(connector, server)
        transport.send(parts)
        transport.send([])
        await recorder.until_frames(2)
        assert recorder.frames == [b"head-body" + numbers.tobytes(), b""]
        await end(transport)


async def test_what_was_sent_may_be_changed_at_once(connector: Connector) -> None:
    async with raw_server(echo) as server:
        transport, recorder = await open_to(connector, server)
        buffer = bytearray(b"a" * 8 * MIB)
        transport.send([buffer])
        buffer[:] = b"b" * len(buffer)
        await recorder.until_frames(1)
        assert recorder.frames[0] == b"a" * 8 * MIB
        await end(transport)


async def test_ten_thousand_small_frames_keep_their_order(connector: Connector) -> None:
    async with raw_server(echo) as server:
        transport, recorder = await open_to(connector, server)
        for index in range(10_000):
            transport.send([index.to_bytes(4, "big")])
        await recorder.until_frames(10_000)
        assert recorder.frames == [index.to_bytes(4, "big") for index in range(10_000)]
        await end(transport)


async def test_the_largest_frame_comes_back(connector: Connector) -> None:
    payload = bytes(range(256)) * (16 * MIB // 256)
    async with raw_server(echo) as server:
        transport, recorder = await open_to(connector, server)
        assert transport.limits.max_frame == len(payload)
        transport.send([payload[:100], payload[100:]])
        await recorder.until_frames(1)
        assert recorder.frames == [payload]
        await end(transport)


async def test_a_larger_frame_than_allowed_closes_with_1009(engine: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        peer.send(bytes(1001))
        assert (await peer.until_closed() or (0, ""))[0] == 1009

    async with raw_server(script) as server:
        transport, recorder = await open_to(make_connector(engine, max_frame=1000), server)
        assert (await recorder.until_closed()).code == 1009
        assert recorder.frames == []
        await transport.wait_closed()


@pytest.mark.parametrize("engine", ENGINES)
async def test_fragments_that_add_up_to_too_much_close_with_1009(engine: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        peer.write(frame(BINARY, bytes(600), fin=False) + frame(CONTINUATION, bytes(401)))
        assert (await peer.until_closed() or (0, ""))[0] == 1009

    async with raw_server(script) as server:
        transport, recorder = await open_to(make_connector(engine, max_frame=1000), server)
        assert (await recorder.until_closed()).code == 1009
        assert recorder.frames == []
        await transport.wait_closed()


async def test_fragments_become_one_message_with_a_ping_between(websocket: WebSocketConnector) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        peer.write(frame(BINARY, b"one ", fin=False))
        peer.write(frame(PING, b"are you there"))
        assert await peer.receive() == (PONG, b"are you there")
        peer.write(frame(CONTINUATION, b"two ", fin=False) + frame(CONTINUATION, b"", fin=False))
        peer.write(frame(CONTINUATION, b"three") + frame(TEXT, b'{"type"', fin=False) + frame(PONG, b"unasked"))
        peer.write(frame(CONTINUATION, b': "pong"}') + frame(BINARY, b"whole"))
        await peer.finish()

    async with raw_server(script) as server:
        transport, recorder = await open_to(websocket, server)
        await recorder.until_frames(2)
        assert recorder.events == [b"one two three", {"type": "pong"}, b"whole"]
        await end(transport)


@pytest.mark.parametrize(
    "rubbish",
    [
        frame(CONTINUATION, b"of nothing"),
        frame(BINARY, b"begun", fin=False) + frame(BINARY, b"another"),
        frame(3, b"opcode"),
        frame(BINARY, b"reserved", rsv=0x40),
        frame(TEXT, b"{}", rsv=0x20),
        frame(PING, b"x" * 126),
        frame(PING, b"cut", fin=False),
        b"\x82\x81\0\0\0\0a",
    ],
    ids=["continuation", "interleaved", "opcode", "rsv1", "rsv2", "long-ping", "cut-ping", "masked"],
)
async def test_breaking_the_rules_closes_with_1002(websocket: WebSocketConnector, rubbish: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        peer.send(b"good")
        await peer.receive()
        peer.write(rubbish)
        assert (await peer.until_closed() or (0, ""))[0] == 1002

    async with raw_server(script) as server:
        transport, recorder = await open_to(websocket, server)
        transport.send([b"go on"])
        assert (await recorder.until_closed()).code == 1002
        assert recorder.frames == [b"good"]
        await transport.wait_closed()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe\x00",
        b"[1]",
        b"null",
        b"{",
        b'"x"',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"a": "' + b"x" * (2 * MIB) + b'"}',
        b"9" * 5000,
    ],
    ids=["empty", "bad-utf8", "array", "null", "broken", "string", "deep-array", "deep-object", "long", "digits"],
)
async def test_a_text_that_is_no_json_object_is_dropped(websocket: WebSocketConnector, text: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        peer.write(frame(TEXT, text))
        peer.text({"type": "pong"})
        await peer.finish()

    async with raw_server(script) as server:
        transport, recorder = await open_to(websocket, server)
        await recorder.until(lambda: recorder.controls)
        assert recorder.events == [{"type": "pong"}]
        await end(transport)


async def test_control_messages_go_both_ways(connector: Connector) -> None:
    async with raw_server(echo) as server:
        transport, recorder = await open_to(connector, server)
        transport.send_control({"type": "ping", "text": "grüße"})
        transport.send([b"frame"])
        await recorder.until_frames(1)
        assert recorder.events == [{"type": "ping", "text": "grüße"}, b"frame"]
        await end(transport)


async def test_a_receiver_that_raises_does_not_harm(connector: Connector, caplog: pytest.LogCaptureFixture) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        peer.send(b"secret payload")
        peer.text({"type": "pong"})
        peer.send(b"2")
        peer.close(1001, "bye")
        await peer.until_closed()

    async with raw_server(script) as server:
        transport, _ = await connector.open(options(server.url), CREDENTIALS)
        failing = Failing()
        transport.start(failing)
        await failing.until_closed()
    assert failing.events == [b"secret payload", {"type": "pong"}, b"2", (1001, "bye")]
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.name for record in errors] == ["hypha_rpc.transport"] * 4
    assert "secret payload" not in caplog.text


async def test_a_receiver_may_close_from_within(connector: Connector) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        for payload in (b"1", b"2", b"3"):
            peer.send(payload)
        await peer.finish()

    class Closing(Recorder):
        def on_frame(self, data: object) -> None:
            super().on_frame(data)
            transport.close()

    async with raw_server(script) as server:
        transport, _ = await connector.open(options(server.url), CREDENTIALS)
        recorder = Closing()
        transport.start(recorder)
        await recorder.until_closed()
    assert recorder.events == [b"1", (1000, "")], "after close, nothing but the end is delivered"


async def test_a_kept_buffer_of_picows_cannot_be_read_later() -> None:
    kept: list[memoryview] = []

    class Keeping(Recorder):
        def on_frame(self, data: memoryview) -> None:
            super().on_frame(data)
            kept.append(data)

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.receive()
        peer.send(b"1")
        await peer.finish()

    async with raw_server(script) as server:
        transport, _ = await WebSocketConnector("picows").open(options(server.url), CREDENTIALS)
        recorder = Keeping()
        transport.start(recorder)
        transport.send([b"go"])
        await recorder.until_frames(1)
        with pytest.raises(ValueError, match="released"):
            bytes(kept[0])
        await end(transport)


async def test_a_slow_reader_turns_writable_off_and_on_again(connector: Connector) -> None:
    go_on, frames = asyncio.Event(), 64

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await go_on.wait()
        for index in range(frames):
            opcode, payload = await peer.receive()
            assert (opcode, payload[:4], len(payload)) == (BINARY, index.to_bytes(4, "big"), 4 + MIB)
        await peer.finish()

    async with raw_server(script) as server:
        transport, recorder = await open_to(connector, server)
        assert transport.writable
        states = []
        for index in range(frames):
            transport.send([index.to_bytes(4, "big"), bytes(MIB)])
            states.append(transport.writable)
        assert not states[-1]
        assert frames * MIB > 4 * HIGH_WATER
        assert recorder.drained == 0, "never called from send"
        go_on.set()
        await recorder.until(lambda: recorder.drained)
        assert transport.writable
        assert recorder.drained == 1
        await end(transport)


async def test_pings_of_a_peer_that_does_not_read_fill_nothing(websocket: WebSocketConnector) -> None:
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await go_on.wait()
        for _ in range(2000):
            peer.write(frame(PING, b"x" * 125))
        peer.text({"type": "pinged"})
        await peer.writer.drain()
        opcodes = []
        while (opcode := (await peer.receive())[0]) != CLOSE:
            opcodes.append(opcode)
        assert opcodes == [BINARY] * 32
        peer.close()

    async with raw_server(script) as server:
        transport, recorder = await open_to(websocket, server)
        for _ in range(32):
            transport.send([bytes(MIB)])
        assert not transport.writable
        go_on.set()
        # The messages after the pings are read before the peer reads anything.
        await recorder.until(lambda: recorder.controls)
        transport.close()
        await recorder.until_closed()


async def test_info_is_not_delivered_as_a_control_message(connector: Connector) -> None:
    async with raw_server(echo) as server:
        transport, recorder = await open_to(connector, server)
        transport.send_control({"type": "ping"})
        await recorder.until(lambda: recorder.controls)
        assert INFO not in recorder.controls
        await end(transport)
