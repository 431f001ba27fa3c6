"""The plain door against an ASGI runner that is a pair of queues."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from hypha.auth.admission import Workspaces
from hypha.auth.secret import Secrets
from hypha.auth.tokens import TokenService
from hypha.broker.presence import Presence
from hypha.broker.router import Router
from hypha.doors import asgi
from hypha.doors.asgi import AsgiDoor
from hypha.doors.context import DoorContext
from hypha.settings import Limits


class Runner:
    """One connection of a runner."""

    def __init__(self, door: AsgiDoor, *, path: str = "/ws", query: bytes = b"", denial: bool = True) -> None:
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[Any] = []
        self.changed = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self.gone: Exception | None = None
        scope = {
            "type": "websocket",
            "path": path,
            "query_string": query,
            "client": ("192.0.2.1", 4000),
            "extensions": {"websocket.http.response": {}} if denial else {},
        }
        self.inbox.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.create_task(door(scope, self.inbox.get, self._send))

    async def _send(self, message: Any) -> None:
        await self.writable.wait()
        if self.gone is not None:
            raise self.gone
        self.sent.append(message)
        self.changed.set()

    def text(self, **message: Any) -> None:
        self.inbox.put_nowait({"type": "websocket.receive", "text": json.dumps(message)})

    def binary(self, data: bytes) -> None:
        self.inbox.put_nowait({"type": "websocket.receive", "bytes": data, "text": None})

    async def until(self, count: int) -> list[Any]:
        """What was sent, as soon as it is *count* messages."""
        async with asyncio.timeout(3):
            while len(self.sent) < count:
                self.changed.clear()
                await self.changed.wait()
        return self.sent

    async def disconnect(self, code: int = 1000) -> None:
        self.inbox.put_nowait({"type": "websocket.disconnect", "code": code})
        await asyncio.wait_for(self.task, 3)


@pytest.fixture
def context() -> DoorContext:
    limits = Limits(failed_login_delay=0.0)
    router = Router(limits, time.monotonic, lambda source, target: None)
    return DoorContext(
        limits=limits,
        tokens=TokenService(Secrets.random()),
        router=router,
        presence=Presence(router, limits, time.monotonic, lambda connection: None),
        workspaces=Workspaces(lambda _: False, lambda _: ()),
        enter=lambda _: None,
        info={"manager_id": "manager-x"},
        clock=time.monotonic,
        now=time.time,
    )


@pytest.fixture
def door(context: DoorContext) -> Iterator[AsgiDoor]:
    async def nothing(*_: Any) -> None:
        raise AssertionError("a WebSocket is not for the web application")

    yield AsgiDoor(context, "/ws", nothing)
    assert not context.sockets
    assert context.newcomers.total == 0


async def test_a_peer_is_let_in_and_leaves(door: AsgiDoor, context: DoorContext):
    runner = Runner(door)
    runner.text(client_id="c1")
    accept, info = await runner.until(2)
    assert accept == {"type": "websocket.accept"}
    assert json.loads(info["text"])["type"] == "connection_info"
    assert len(context.router.connections) == 1
    await runner.disconnect(1000)
    assert not context.router.connections
    assert len(context.router.mailboxes) == 0


async def test_a_cut_is_no_clean_end(door: AsgiDoor, context: DoorContext):
    runner = Runner(door)
    runner.text(client_id="c1")
    await runner.until(2)
    await runner.disconnect(1006)
    assert len(context.router.mailboxes) == 1


@pytest.mark.parametrize(("draining", "path", "status"), [(True, "/ws", 503), (False, "/elsewhere", 404)])
async def test_an_upgrade_is_refused_by_status_where_the_runner_can(
    door: AsgiDoor, context: DoorContext, draining: bool, path: str, status: int
):
    context.draining = draining
    runner = Runner(door, path=path)
    await asyncio.wait_for(runner.task, 3)
    start, body = runner.sent
    assert (start["type"], start["status"]) == ("websocket.http.response.start", status)
    assert body["type"] == "websocket.http.response.body"
    plain = Runner(door, path=path, denial=False)
    await asyncio.wait_for(plain.task, 3)
    assert plain.sent == [{"type": "websocket.close"}]


async def test_credentials_in_the_url_are_refused_by_a_close(door: AsgiDoor):
    runner = Runner(door, query=b"client_id=c1")
    await asyncio.wait_for(runner.task, 3)
    assert [message["type"] for message in runner.sent] == ["websocket.accept", "websocket.close"]
    assert runner.sent[1]["code"] == 1008
    assert len(runner.sent[1]["reason"].encode()) <= 123


async def test_what_does_not_leave_counts_as_pending(door: AsgiDoor, context: DoorContext):
    runner = Runner(door)
    runner.text(client_id="c1")
    await runner.until(2)
    (connection,) = context.router.connections.values()
    runner.writable.clear()
    for _ in range(10):
        connection.outlet.send((b"x" * 500, b"y" * 500))
    await asyncio.sleep(0)
    assert connection.outlet.pending == 10_000
    runner.writable.set()
    await runner.until(12)
    await asyncio.sleep(0)
    assert connection.outlet.pending == 0
    await runner.disconnect()


async def test_nothing_is_read_while_paused(door: AsgiDoor, context: DoorContext, eventually: Any):
    runner = Runner(door)
    runner.text(client_id="c1")
    await runner.until(2)
    (connection,) = context.router.connections.values()
    connection.outlet.pause_reading()
    connection.outlet.pause_reading()
    # One message may be on its way already.
    runner.text(type="ping")
    await runner.until(3)
    runner.text(type="ping")
    connection.outlet.resume_reading()
    for _ in range(5):
        await asyncio.sleep(0)
    assert runner.inbox.qsize() == 1
    connection.outlet.resume_reading()
    await runner.until(4)
    await runner.disconnect()


async def test_a_quiet_peer_is_asked_by_a_call_and_any_frame_is_a_sign_of_life(door: AsgiDoor, context: DoorContext):
    runner = Runner(door)
    runner.text(client_id="c1")
    await runner.until(2)
    (connection,) = context.router.connections.values()
    asked = asyncio.create_task(context.presence._answers(connection))
    question = (await runner.until(3))[2]["bytes"]
    assert b"services.built-in.ping" in question
    runner.binary(b"\x80")
    assert await asked is True
    await runner.disconnect()


async def test_an_aborted_socket_ends_the_application_though_nothing_can_be_sent(door: AsgiDoor, context: DoorContext):
    runner = Runner(door)
    runner.text(client_id="c1")
    await runner.until(2)
    (connection,) = context.router.connections.values()
    runner.writable.clear()
    connection.outlet.send((b"stuck",))
    connection.outlet.abort()
    await asyncio.wait_for(runner.task, 3)
    assert not context.router.connections


async def test_who_does_not_answer_a_close_is_dropped(
    door: AsgiDoor, context: DoorContext, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(asgi, "_CLOSE_PATIENCE_S", 0.05)
    runner = Runner(door)
    runner.text(client_id="c1")
    await runner.until(2)
    await context.close_all(1001, "Server is shutting down", 3.0)
    await asyncio.wait_for(runner.task, 3)
    assert runner.sent[-1] == {"type": "websocket.close", "code": 1001, "reason": "Server is shutting down"}


@pytest.mark.parametrize("error", [OSError("gone"), RuntimeError("Unexpected ASGI message")])
async def test_a_runner_that_cannot_send_ends_the_socket(door: AsgiDoor, context: DoorContext, error: Exception):
    runner = Runner(door)
    runner.text(client_id="c1")
    await runner.until(2)
    runner.gone = error
    (connection,) = context.router.connections.values()
    connection.outlet.send((b"lost",))
    await asyncio.wait_for(runner.task, 3)


async def test_other_requests_are_for_the_application(context: DoorContext):
    seen = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    door = AsgiDoor(context, "/ws", application)
    unused: Any = None
    await door({"type": "http"}, unused, unused)
    await door({"type": "lifespan"}, unused, unused)
    assert seen == ["http", "lifespan"]


async def test_an_error_while_a_frame_is_handled_ends_nothing(
    door: AsgiDoor, context: DoorContext, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(context.router, "route", broken)
    runner = Runner(door)
    runner.text(client_id="c1")
    await runner.until(2)
    runner.binary(b"\x80")
    runner.text(type="ping")
    assert json.loads((await runner.until(3))[2]["text"]) == {"type": "pong"}
    assert "a frame could not be handled" in caplog.text
    await runner.disconnect()


async def test_a_handshake_that_breaks_closes_without_an_error_frame(
    door: AsgiDoor, context: DoorContext, caplog: pytest.LogCaptureFixture
):
    def broken(_: Any) -> None:
        raise ZeroDivisionError

    context.enter = broken
    runner = Runner(door)
    runner.text(client_id="c1")
    sent = await runner.until(2)
    assert sent[1] == {"type": "websocket.close", "code": 1011, "reason": "internal error"}
    assert "a handshake failed" in caplog.text
    await runner.disconnect(1011)
