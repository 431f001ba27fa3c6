"""A switch without sockets: outlets that remember, a clock moved by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgpack
import pytest

from hypha.auth.identity import Scope, User
from hypha.broker.connections import Connection
from hypha.broker.presence import Newcomer, Presence
from hypha.broker.router import Router
from hypha.settings import Limits


class Clock:
    """Monotonic seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeOutlet:
    """Remembers what was sent; `pending` is set by the test."""

    def __init__(self) -> None:
        self.pending = 0
        self.unacknowledged = False
        self.frames: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.texts: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None
        self.aborted = False
        self.doomed = False
        self.pings = 0
        self.paused = 0
        self.on_ping: Callable[[], object] = lambda: None

    def send(self, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        unpacker = msgpack.Unpacker()
        unpacker.feed(b"".join(parts))
        header, *rest = list(unpacker)
        self.frames.append((header, rest[0] if rest else {}))

    def send_control(self, message: dict[str, Any]) -> None:
        self.texts.append(message)

    def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def abort(self) -> None:
        self.aborted = True

    def abort_later(self) -> None:
        self.doomed = True

    def ping(self) -> None:
        self.pings += 1
        self.on_ping()

    def pause_reading(self) -> None:
        self.paused += 1

    def resume_reading(self) -> None:
        self.paused -= 1


class FakeLocal:
    """The manager, or another peer inside the process."""

    def __init__(self) -> None:
        self.frames: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def receive(self, data: bytes) -> None:
        outlet = FakeOutlet()
        outlet.send((data,))
        self.frames += outlet.frames


def frame(header: dict[str, Any], extra: dict[str, Any] | None = None) -> bytes:
    return msgpack.packb(header) + (b"" if extra is None else msgpack.packb(extra))


def user(name: str = "alice", **rights: Any) -> User:
    return User(name, scope=Scope(workspaces={f"ws-user-{name}": "a", **rights}))


def newcomer(
    client_id: str = "c1",
    *,
    user_id: str = "alice",
    workspace: str = "ws",
    right: str = "a",
    level: int = 0,
    life: str | None = None,
    resumes: bool = False,
) -> Newcomer:
    return Newcomer(
        workspace=workspace,
        client_id=client_id,
        user=user(user_id),
        right=right,
        family=user_id,
        level=level,
        life=life,
        resumes=resumes,
    )


class World:
    """Router and presence with what they told."""

    def __init__(self, **limits: Any) -> None:
        self.clock = Clock()
        self.paused: list[tuple[str, str]] = []
        self.left: list[str] = []
        self.limits = Limits(**{"replace_ping_timeout": 0.02, **limits})
        self.router = Router(self.limits, self.clock, lambda s, t: self.paused.append((s.address, t.address)))
        self.manager = FakeLocal()
        self.router.manager = self.manager
        self.presence = Presence(self.router, self.limits, self.clock, lambda c: self.left.append(c.address))

    def connect(
        self, client_id: str, workspace: str = "ws", *, user_id: str = "alice", level: int = 0, **rights: Any
    ) -> tuple[Connection, FakeOutlet]:
        """A connection in the router only."""
        outlet = FakeOutlet()
        connection = Connection(
            workspace, client_id, user(user_id, **rights), outlet, level=level, life=None, now=self.clock()
        )
        self.router.attach(connection)
        return connection, outlet

    async def join(self, client_id: str = "c1", **claims: Any) -> tuple[Connection, FakeOutlet]:
        """A connection made by presence."""
        outlet = FakeOutlet()
        arrival = await self.presence.join(newcomer(client_id, **claims), outlet)
        return arrival.connection, outlet


@pytest.fixture
def world() -> World:
    return World()
