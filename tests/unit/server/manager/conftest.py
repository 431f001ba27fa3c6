"""A manager without sockets: a real router and real connections, with outlets that keep what they are given."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgpack
import pytest

from hypha.auth.identity import Right, Scope, User, anonymous_user, home_of, root_user
from hypha.auth.secret import Secrets
from hypha.auth.tokens import TokenService
from hypha.broker.connections import Connection
from hypha.broker.presence import Newcomer, Presence
from hypha.broker.router import Router
from hypha.manager.core import ManagerCore, Peers
from hypha.manager.manager import Manager
from hypha.manager.workspaces import Workspace, WorkspaceTable
from hypha.settings import Limits, Settings
from hypha_rpc.endpoint import Reference

NOW = 1_800_000_000.0
SECRET = b"0123456789abcdef0123456789abcdef"


class Clock:
    """Seconds, moved by hand; monotonic and since the epoch at once."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class FakeOutlet:
    """Keeps what is sent (`Outlet`)."""

    def __init__(self) -> None:
        self.pending = 0
        self.unacknowledged = False
        self.frames: list[bytes] = []
        self.controls: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None
        self.aborted = False

    def send(self, parts: Sequence[bytes]) -> None:
        self.frames.append(b"".join(parts))

    def send_control(self, message: dict[str, Any]) -> None:
        self.controls.append(message)

    def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def abort(self) -> None:
        self.aborted = True

    def abort_later(self) -> None:
        """Closing is enough here."""

    def ping(self) -> None:
        """Nobody is there to answer."""

    def pause_reading(self) -> None:
        """Nothing is read."""

    def resume_reading(self) -> None:
        """Nothing is read."""

    def events(self) -> list[tuple[str, Any]]:
        """Type and data of the events that arrived."""
        decoded = [msgpack.unpackb(frame) for frame in self.frames]
        return [(frame["type"], frame["data"]) for frame in decoded]


class FakePeer(Peers):
    """In place of the manager's endpoint: clients answer as the test says.

    `answers` maps ``address method`` to a value, an exception, or a function of
    the arguments; what is not in it never answers.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, tuple[Any, ...]]] = []
        self.gone: list[str] = []
        self.offered: dict[str, Any] = {}
        self.endpoint = self

    def ask(self, reference: Reference, *args: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        key = f"{reference.target} {reference.method}"
        self.asked.append((key, args))
        if key in self.answers:
            answer = self.answers[key]
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer(*args) if callable(answer) else answer)
        return future

    def offer(self, methods: dict[str, Any], config: dict[str, Any]) -> None:
        self.offered = dict(methods)

    def described(self, context: Any) -> dict[str, Any]:
        return {"id": "default", "config": {}, "echo": "a function", "list_services": "a function"}

    def peer_gone(self, address: str, now: float) -> None:
        self.gone.append(address)

    async def close(self, error: BaseException) -> None:
        """Nothing to stop."""


class Client:
    """A connected client of the test."""

    def __init__(self, world: World, connection: Connection, outlet: FakeOutlet) -> None:
        self._world = world
        self.connection = connection
        self.outlet = outlet
        self.address = connection.address
        self.workspace = connection.workspace
        self.id = connection.client_id

    async def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a manager method as it is called over the wire."""
        user: Any = self.connection.user
        context = {"from": self.address, "ws": self.workspace, "user": user.to_wire(), "to": "*/manager-s1"}
        result = self._world.manager.methods[method](*args, **kwargs, context=context)
        return await result if inspect.isawaitable(result) else result

    async def register(self, service: str, /, **description: Any) -> None:
        """Register a service; config keys and record keys are told apart by name."""
        record_keys = {"name", "type", "description", "docs", "app_id", "service_schema"}
        record = {key: description.pop(key) for key in list(description) if key in record_keys}
        await self.call("register_service", {"id": f"{self.id}:{service}", "config": description, **record})

    async def introduce(self) -> None:
        """Register the built-in service."""
        await self.register("built-in", type="built-in", visibility="public", require_context=True)

    def leave(self, *, clean: bool = True) -> None:
        """The socket ends."""
        self._world.presence.leave(self.connection, clean=clean)


class World:
    """Everything around a manager."""

    def __init__(self, **limits: Any) -> None:
        self.clock = Clock()
        self.settings = Settings(in_memory=True, limits=Limits(**limits))
        self.tokens = TokenService(Secrets(SECRET), clock=self.clock)
        self.router = Router(self.settings.limits, self.clock, lambda source, target: None)
        self.presence = Presence(self.router, self.settings.limits, self.clock, lambda gone: self.manager.left(gone))
        self.workspaces = WorkspaceTable()
        self.core = ManagerCore(
            settings=self.settings,
            server_id="s1",
            tokens=self.tokens,
            router=self.router,
            presence=self.presence,
            workspaces=self.workspaces,
            clock=self.clock,
            now=self.clock,
        )
        self.peer = FakePeer()
        peer: Any = self.peer
        self.manager = Manager(self.core, peer, {})
        self._ids = 0

    def reconfigure(self, **changes: Any) -> None:
        """Change settings; for those that are looked at when they are needed."""
        self.core.settings = replace(self.core.settings, **changes)

    async def join(
        self, user: User, workspace: str | None = None, client_id: str | None = None, *, right: Right = "a"
    ) -> Client:
        """Connect *user* and introduce its client."""
        where = workspace or home_of(user.parent or user.id)
        if not self.workspaces.exists(where):
            anonymous = user.is_anonymous
            self.workspaces.add(Workspace(where, where, persistent=not anonymous, owners=[user.parent or user.id]))
        self._ids += 1
        name = client_id or f"c{self._ids}"
        outlet = FakeOutlet()
        admitted = user.admitted(name, where, right)
        family = user.parent or user.id
        newcomer = Newcomer(where, name, admitted, right, family, level=1, life=f"life-{name}", resumes=False)
        connection = (await self.presence.join(newcomer, outlet)).connection
        client = Client(self, connection, outlet)
        if right == "r":
            # A reader may not register anything, the built-in service included.
            connection.exists = True
        else:
            await client.introduce()
        return client

    async def join_as(self, name: str, client_id: str | None = None, **user: Any) -> Client:
        """Connect the logged-in user *name* to its home."""
        return await self.join(login(name, **user), client_id=client_id)

    async def join_child(self, parent: str, right: Right, client_id: str | None = None) -> Client:
        """Connect a child of *parent*, with *right* on its home."""
        home = home_of(parent)
        user = User(f"child-{right}-of-{parent}", roles=("user",), parent=parent, scope=Scope(workspaces={home: right}))
        return await self.join(user, home, client_id, right=right)

    async def join_anonymous(self, client_id: str | None = None) -> Client:
        """Connect a new anonymous user."""
        return await self.join(anonymous_user(self.clock()), client_id=client_id)

    async def join_root(self, workspace: str = "ws-user-root", client_id: str | None = None) -> Client:
        """Connect the user root."""
        return await self.join(root_user(), workspace, client_id)


def login(name: str, *, email: str | None = None, verified: bool = True) -> User:
    """A logged-in user."""
    return User(name, roles=("user",), email=email, email_verified=verified and email is not None)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def make_world() -> Callable[..., World]:
    """A world with other limits: ``make_world(max_env_variables=2)``."""
    return World
