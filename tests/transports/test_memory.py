"""The in-process pair keeps the same contract, on one loop and between two."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest

from hypha_rpc.transports import HIGH_WATER, Closed, OpenTimeout, Refused, Transport, Unavailable
from hypha_rpc.transports.memory import MemoryConnector, MemoryTransport, memory_pair

from .raw_server import INFO
from .receivers import CREDENTIALS, Failing, Recorder, options, settle

MIB = 1024 * 1024


def started_pair() -> tuple[MemoryTransport, Recorder, MemoryTransport, Recorder]:
    one, two = memory_pair()
    recorders = Recorder(), Recorder()
    one.start(recorders[0])
    two.start(recorders[1])
    return one, recorders[0], two, recorders[1]


async def end(*transports: Transport) -> None:
    for transport in transports:
        transport.close()
    for transport in transports:
        await transport.wait_closed()
    await settle()


async def test_frames_and_messages_keep_their_order_and_never_come_from_send() -> None:
    one, _, two, recorder = started_pair()
    await settle()
    for index in range(1000):
        one.send([index.to_bytes(4, "big"), b"-", memoryview(b"tail")])
        one.send_control({"type": "ping", "index": index})
    assert recorder.events == []
    await recorder.until(lambda: len(recorder.events) == 2000)
    assert recorder.frames == [index.to_bytes(4, "big") + b"-tail" for index in range(1000)]
    assert [message["index"] for message in recorder.controls] == list(range(1000))
    await end(one, two)


async def test_both_directions_are_open_at_once() -> None:
    one, first, two, second = started_pair()
    one.send([b"to two"])
    two.send([b"to one"])
    await first.until_frames(1)
    await second.until_frames(1)
    assert (first.frames, second.frames) == ([b"to one"], [b"to two"])
    await end(one, two)


async def test_what_was_sent_may_be_changed_at_once() -> None:
    one, _, two, recorder = started_pair()
    buffer, message = bytearray(b"old"), {"type": "old"}
    one.send([buffer])
    one.send_control(message)
    buffer[:] = b"new"
    message["type"] = "new"
    await recorder.until(lambda: recorder.controls)
    assert recorder.events == [b"old", {"type": "old"}]
    await end(one, two)


async def test_what_comes_before_the_start_is_kept_with_the_end() -> None:
    one, two = memory_pair()
    one.send([b"1"])
    one.send_control({"type": "2"})
    one.close(1001, "done")
    await settle()
    recorder = Recorder()
    two.start(recorder)
    assert recorder.events == []
    assert await recorder.until_closed() == Closed(1001, "done")
    assert recorder.events == [b"1", {"type": "2"}, Closed(1001, "done")]
    await end(one, two)


async def test_closing_tells_both_ends_once() -> None:
    one, first, two, second = started_pair()
    one.send([b"last words"])
    one.close(4000, "enough")
    one.close()
    one.send([b"dropped"])
    assert first.closed == []
    await one.wait_closed()
    await two.wait_closed()
    two.send([b"dropped"])
    two.close()
    await settle()
    assert first.events == [Closed(4000, "enough")]
    assert second.events == [b"last words", Closed(4000, "enough")]


async def test_a_slow_reader_turns_writable_off_and_on_again() -> None:
    one, two = memory_pair()
    first, second = Recorder(), Recorder()
    one.start(first)
    for _ in range(HIGH_WATER // MIB + 1):
        assert one.writable
        one.send([bytes(MIB)])
    assert not one.writable
    two.start(second)
    await first.until(lambda: first.drained)
    assert one.writable
    assert first.drained == 1
    await end(one, two)


async def test_a_fast_sender_does_not_starve_the_loop() -> None:
    one, _, two, recorder = started_pair()
    for _ in range(1000):
        one.send([b"x"])
    turns = 0
    while len(recorder.frames) < 1000:
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10
    await end(one, two)


async def test_a_receiver_that_raises_does_not_harm(caplog: pytest.LogCaptureFixture) -> None:
    one, two = memory_pair()
    failing = Failing()
    two.start(failing)
    one.send([b"1"])
    one.send([b"2"])
    await failing.until_frames(2)
    await end(one, two)
    assert failing.events == [b"1", b"2", Closed(1000, "")]
    assert {record.name for record in caplog.records if record.levelname == "ERROR"} == {"hypha_rpc.transport"}


async def test_a_hundred_pairs_leave_no_task() -> None:
    tasks = len(asyncio.all_tasks())
    for _ in range(100):
        one, _, two, _ = started_pair()
        for transport in (one, two):
            transport.close()
            await transport.wait_closed()
    # Once for all of them: it collects garbage.
    await settle()
    assert len(asyncio.all_tasks()) == tasks


# ---------------------------------------------------------------------- connector


class Door:
    """Accepts like a server: echoes frames."""

    def __init__(self) -> None:
        self.transport: Transport | None = None
        self.message: Mapping[str, Any] = {}
        self.thread: int | None = None
        self.recorder = Recorder()

    def accept(self, transport: Transport, message: Mapping[str, Any]) -> dict[str, Any]:
        self.transport, self.message = transport, message
        self.thread = threading.get_ident()
        transport.send([b"early"])
        transport.start(self)
        return dict(INFO)

    def on_frame(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.send([data])

    def on_control(self, message: Mapping[str, Any]) -> None:
        self.recorder.on_control(message)

    def on_writable(self) -> None:
        self.recorder.on_writable()

    def on_closed(self, closed: Closed) -> None:
        self.recorder.on_closed(closed)


async def test_the_connector_opens_against_a_callback() -> None:
    door = Door()
    transport, info = await MemoryConnector(door.accept).open(options("memory://"), CREDENTIALS)
    assert info == INFO
    assert door.message == CREDENTIALS.as_message()
    recorder = Recorder()
    transport.start(recorder)
    transport.send([b"echo"])
    await recorder.until_frames(2)
    assert recorder.frames == [b"early", b"echo"]
    await end(transport)
    assert door.recorder.closed == [Closed(1000, "")]


async def test_the_callback_may_be_a_coroutine_function_and_refuse() -> None:
    ends: list[Transport] = []

    async def accept(transport: Transport, message: Mapping[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        ends.append(transport)
        raise Refused("Permission denied for workspace: ws-1")

    with pytest.raises(Refused, match="Permission denied"):
        await MemoryConnector(accept).open(options("memory://"), CREDENTIALS)
    await asyncio.wait_for(ends[0].wait_closed(), 1)


async def test_a_callback_that_takes_too_long_is_a_timeout() -> None:
    async def accept(transport: Transport, message: Mapping[str, Any]) -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    with pytest.raises(OpenTimeout):
        await MemoryConnector(accept).open(options("memory://", timeout_s=0.05), CREDENTIALS)


@pytest.fixture
def other_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    if not loop.is_closed():
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


async def test_the_ends_may_live_on_two_loops(other_loop: asyncio.AbstractEventLoop) -> None:
    door = Door()
    connector = MemoryConnector(door.accept, loop=other_loop)
    transport, _ = await connector.open(options("memory://"), CREDENTIALS)
    assert door.thread not in (None, threading.get_ident())
    recorder = Recorder()
    transport.start(recorder)
    for index in range(5000):
        transport.send([index.to_bytes(4, "big")])
    await recorder.until_frames(5001)
    assert recorder.frames[1:] == [index.to_bytes(4, "big") for index in range(5000)]
    for _ in range(2 * HIGH_WATER // MIB):
        transport.send([bytes(MIB)])
    await recorder.until_frames(5001 + 2 * HIGH_WATER // MIB)
    transport.close()
    await transport.wait_closed()
    assert await recorder.until_closed() == Closed(1000, "")


async def test_a_refusal_crosses_loops(other_loop: asyncio.AbstractEventLoop) -> None:
    def accept(transport: Transport, message: Mapping[str, Any]) -> dict[str, Any]:
        raise Unavailable("starting", status=503)

    with pytest.raises(Unavailable, match="starting") as caught:
        await MemoryConnector(accept, loop=other_loop).open(options("memory://"), CREDENTIALS)
    assert caught.value.status == 503


async def test_a_loop_that_is_gone_is_unavailable(
    other_loop: asyncio.AbstractEventLoop, eventually: Callable[..., Awaitable[None]]
) -> None:
    door = Door()
    connector = MemoryConnector(door.accept, loop=other_loop)
    transport, _ = await connector.open(options("memory://"), CREDENTIALS)
    recorder = Recorder()
    transport.start(recorder)
    await recorder.until_frames(1)
    other_loop.call_soon_threadsafe(other_loop.stop)
    await eventually(lambda: not other_loop.is_running())
    other_loop.close()
    transport.send([b"to nobody"])
    assert await recorder.until_closed() == Closed(1006, "")
    with pytest.raises(Unavailable, match="closed"):
        await connector.open(options("memory://"), CREDENTIALS)
