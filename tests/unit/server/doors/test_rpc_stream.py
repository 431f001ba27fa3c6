"""What goes down a stream, and how refusals are worded for HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hypha.doors import rpc_stream
from hypha.doors.rpc_stream import StreamOutlet, _status_of
from hypha_rpc.wire.lengths import LengthReader, read_control

SETUP = "Failed to establish connection: "
KINDS = {"ping", "close", "connection_info"}


class Sink:
    """Takes what the application sends; can hold it up."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def send(self, message: Any) -> None:
        await self.go_on.wait()
        self.messages.append(message)

    def payloads(self) -> list[bytes]:
        body = b"".join(message["body"] for message in self.messages[1:])
        return [bytes(item) for item in LengthReader(1 << 20).feed(body)]


class Peer:
    """What an outlet asks of its peer."""

    connection = object()

    def __init__(self) -> None:
        self.drained = 0

    def on_drained(self) -> None:
        self.drained += 1


async def opened(level: int = 1) -> tuple[StreamOutlet, Peer]:
    outlet, peer = StreamOutlet(None, level), Peer()  # type: ignore[arg-type]
    outlet.peer = peer  # type: ignore[assignment]
    return outlet, peer


async def test_frames_that_wait_go_together_and_in_order() -> None:
    outlet, peer = await opened()
    sink = Sink()
    for index in range(100):
        outlet.send((b"frame", bytes([index])))
    assert outlet.pending == 100 * 10
    outlet.close(1001, "going")
    async with asyncio.timeout(5):
        await outlet.write(sink.send)
    payloads = sink.payloads()
    assert payloads[:100] == [b"frame" + bytes([index]) for index in range(100)]
    assert read_control(payloads[100], KINDS) == {"type": "close", "code": 1001, "reason": "going"}
    assert len(sink.messages) == 3
    assert sink.messages[0]["status"] == 200
    assert sink.messages[-1]["more_body"] is False
    assert outlet.pending == 0
    assert peer.drained == 1
    outlet.end()


async def test_a_public_peer_sees_the_end_only() -> None:
    outlet, _ = await opened(level=0)
    sink = Sink()
    outlet.close(1001, "going")
    await outlet.write(sink.send)
    assert sink.payloads() == []
    outlet.end()


async def test_what_is_not_written_yet_is_pending() -> None:
    outlet, peer = await opened()
    sink = Sink()
    sink.go_on.clear()
    writer = asyncio.ensure_future(outlet.write(sink.send))
    outlet.send((bytes(1000),))
    await asyncio.sleep(0)
    assert outlet.pending == 1004
    sink.go_on.set()
    async with asyncio.timeout(5):
        while outlet.pending:
            await asyncio.sleep(0)
    assert peer.drained == 1
    outlet.abort()
    await writer
    assert outlet.aborted.done()


async def test_a_quiet_stream_says_that_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_stream, "_QUIET_S", 0.01)
    outlet, _ = await opened()
    sink = Sink()
    outlet.send((b"first",))
    writer = asyncio.ensure_future(outlet.write(sink.send))
    async with asyncio.timeout(5):
        while len(sink.payloads()) < 3:
            await asyncio.sleep(0.005)
    assert read_control(sink.payloads()[1], KINDS) == {"type": "ping"}
    outlet.abort()
    await writer


async def test_a_refused_stream_is_not_begun() -> None:
    outlet, _ = await opened()
    sink = Sink()
    outlet.refuse(403, "no")
    outlet.refuse(500, "later")
    await outlet.write(sink.send)
    assert sink.messages == []
    assert outlet.refusal == (403, "no")
    outlet.end()


async def test_pauses_add_up() -> None:
    outlet, _ = await opened()
    outlet.pause_reading()
    outlet.pause_reading()
    outlet.resume_reading()
    assert not outlet.reading.is_set()
    outlet.resume_reading()
    assert outlet.reading.is_set()
    outlet.end()


@pytest.mark.parametrize(
    ("message", "resuming", "answer"),
    [
        ("Authentication error: bad", False, (401, "Authentication error: bad")),
        ("Authentication error: bad", True, (401, "Invalid reconnection token: bad")),
        (f"{SETUP}Failed to authenticate user: other id", True, (401, "Invalid reconnection token: other id")),
        (f"{SETUP}Failed to authenticate user: no", False, (403, "no")),
        (f"{SETUP}Client already exists and is active: w/c", False, (409, "Client already exists and is active: w/c")),
        (f"{SETUP}Invalid client id: a/b", False, (400, "Invalid client id: a/b")),
        (f"{SETUP}Permission denied for workspace: w", False, (403, "Permission denied for workspace w")),
        (
            f"{SETUP}'Workspace w does not exist or is not accessible'",
            False,
            (404, "Workspace w does not exist or is not accessible"),
        ),
        (
            "Connection limit exceeded: user u has 1/1 connections",
            False,
            (403, "Connection limit exceeded: user u has 1/1 connections"),
        ),
    ],
)
def test_a_refusal_has_a_status(message: str, resuming: bool, answer: tuple[int, str]) -> None:
    assert _status_of(message, resuming=resuming) == answer
