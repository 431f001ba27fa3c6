"""The parts of the simulated world: the server with its lives, the clients with theirs, the weather between them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import Callable, Coroutine
from typing import Any

from hypha.app import HyphaServer
from hypha.auth.scopes import ParsedScope
from hypha.auth.tokens import Grant
from hypha.settings import Settings
from hypha_rpc.client.link import Link
from hypha_rpc.client.options import ConnectOptions
from hypha_rpc.client.rpc import RPC
from hypha_rpc.client.workspace import build_server
from hypha_rpc.errors import HyphaError
from tests.sim.functions import service
from tests.sim.journal import Journal
from tests.sim.loop import VirtualLoop
from tests.sim.network import DOWN, UP, Line, SimConnector, SimPipe, Weather

CHUNK = 1024
EPOCH = 1_800_000_000.0
SERVICE = "work"
_PATIENCE_S = 12.0
CAST = {"ann": "alice", "ben": "alice", "cat": "alice", "dan": "bob"}
"""The clients, and the user that each is."""


class SimServer:
    """The server over all of its lives.

    Args:
        world: where.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._secret = world.random.randbytes(32).hex()
        self._id = "sim"
        self.app: HyphaServer
        self.listening = False
        self.lives = 0

    async def start(self) -> None:
        """Begin a new life."""
        settings = Settings(in_memory=True, port=0, jwt_secret=self._secret, server_id=self._id)
        app = HyphaServer(settings, 9527)
        app.tokens._clock = app.doors.now = self._world.wall
        await app.start()
        self.app = app
        self.lives += 1
        self.listening = True
        self._world.pulse()

    async def stop(self) -> None:
        """Say good-bye and end."""
        self.listening = False
        await self.app.stop()

    async def kill(self, *, keeps: bool, who: str) -> None:
        """End without a word; *who*: whether the clients learn of it at once."""
        world, app = self._world, self.app
        self.listening = False
        for line in [*world.lines, *world.half_open]:
            line.cut(who)
            line.end_server()
        if not keeps:
            self._secret = world.random.randbytes(32).hex()
            self._id = f"sim{self.lives}"
        await app.stop()

    def token(self, user: str) -> str:
        """A token of *user*."""
        grant = Grant(user_id=user, scope=ParsedScope(workspaces={}), expires_in=86_400.0, roles=("user",))
        return self.app.tokens.mint(grant)


class SimClient:
    """One client over all of its lives (processes of one client id).

    Args:
        world: where.
        name: its client id.
        user: whose it is.
    """

    def __init__(self, world: World, name: str, user: str) -> None:
        self._world = world
        self.name = name
        self.user = user
        self.address = f"ws-user-{user}/{name}"
        self.rpc: RPC | None = None
        self.server: Any = None
        self.proxies: dict[str, Any] = {}
        self.heard: dict[str, int] = {}
        self.registered = False
        self._life: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether it is connected, over a line that lives, and has registered."""
        rpc = self.rpc
        if rpc is None or not self.registered or rpc.state != "ready" or rpc._link is None:
            return False
        transport = rpc._link.transport
        return isinstance(transport, SimPipe) and not transport.line.dead

    def start(self) -> None:
        """Begin a new life, if there is none."""
        if self._life is None and not self._world.over:
            self._life = self._world.spawn(self._live())

    async def _live(self) -> None:
        """Connect, as often as it takes; a client that the server refused for good is started anew by its user."""
        while True:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await self._connect()
                assert self.rpc is not None
                if self.rpc.endpoint.closed is None:
                    await self.rpc.wait_for("disconnected")
            except (HyphaError, OSError, TimeoutError, PermissionError, RuntimeError) as error:
                self._world.journal.outcomes[f"start: {type(error).__name__}"] += 1
            self._forget()
            await asyncio.sleep(1.0)

    async def _connect(self) -> None:
        world = self._world
        while not world.server.listening:
            await world.changed.wait()
        options = ConnectOptions.parse(
            {
                "server_url": "http://sim",
                "client_id": self.name,
                "token": world.server.token(self.user),
                "workspace": f"ws-user-{self.user}",
            },
            {},
        )
        rpc = self.rpc = RPC(None, self.name, long_message_chunk_size=world.chunk)
        await rpc.open(Link(SimConnector(world, self.name), options, secrets.token_hex(12), rpc))
        self.server = build_server(rpc)
        await rpc.register_service(service(world, self))
        rpc.on("news", self._hear)
        await self.server.subscribe("news")
        self.registered = True

    def _hear(self, message: Any) -> None:
        self.heard[message["data"]] = self.heard.get(message["data"], 0) + 1

    def _forget(self) -> None:
        rpc, self.rpc = self.rpc, None
        self.server = None
        self.registered = False
        self.proxies = {}
        if rpc is not None:
            rpc.close()

    def kill(self, who: str) -> None:
        """End this life without a word; *who*: whether the server learns of it at once."""
        life, self._life = self._life, None
        if life is None:
            return
        for line in [line for line in self._world.lines if line.name == self.name]:
            line.cut("server" if who == "both" else "none")
            line.end_client()
        life.cancel()
        self._forget()

    async def leave(self) -> None:
        """End this life in good order."""
        life, self._life = self._life, None
        if self.rpc is not None:
            await self.rpc.disconnect()
        if life is not None:
            life.cancel()
        self._forget()

    async def proxy(self, callee: SimClient) -> Any:
        """The service of *callee*, fetched once a life: it must outlive everything."""
        found = self.proxies.get(callee.name)
        if found is None:
            found = await self.server.get_service(f"{callee.address}:{SERVICE}")
            self.proxies[callee.name] = found
        return found


class World:
    """Everything there is.

    Args:
        seed: decides everything that chance decides.
        loop: the clock.
    """

    def __init__(self, seed: str, loop: VirtualLoop) -> None:
        self.seed = seed
        self.loop = loop
        self.random = random.Random(f"world {seed}")
        self.journal = Journal()
        self.chunk = CHUNK
        self.skew = 0.0
        self.over = False
        self.lines: Any = _Ordered()
        self.half_open: Any = _Ordered()
        self.lines_made = 0
        self.dials: dict[str, int] = {}
        self.changed = asyncio.Event()
        self.traced: Callable[[str], None] | None = None
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self.weather = {name: Weather() for name in CAST}
        self.outages: set[str] = set()
        self.server = SimServer(self)
        self.clients = {name: SimClient(self, name, user) for name, user in CAST.items()}

    def wall(self) -> float:
        """What the server's clock on the wall shows."""
        return EPOCH + self.loop.time() + self.skew

    def trace(self, line: Line, lane: str, item: tuple[str, Any]) -> None:
        """Something was delivered."""
        if self.traced is not None:
            content = item[1] if item[0] != "frame" else _method(item[1])
            self.traced(f"{self.loop.time():9.4f} {line.name}#{line.number} {lane:4} {item[0]} {content!s:.90}")

    def note(self, text: str) -> None:
        """Something was decided, for the trace."""
        if self.traced is not None:
            self.traced(f"{self.loop.time():9.4f} -- {text}")

    def pulse(self) -> None:
        """Let those look who wait for another weather."""
        self.changed.set()
        self.changed = asyncio.Event()
        for line in list(self.lines):
            line.up.go_on()
            line.down.go_on()

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run *coroutine* until it ends or the world does."""
        task = self.loop.create_task(coroutine)
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.journal.wrong(f"the harness failed: {error!r}")

    def silence(self, name: str, lanes: str) -> None:
        """Nothing gets through any more."""
        self.weather[name].silent |= {UP, DOWN} if lanes == "both" else {lanes}

    def heal(self, name: str) -> None:
        """The weather of a client is fine again."""
        self.weather[name].clear()
        self.pulse()

    async def end(self) -> None:
        """Cancel what the harness runs."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait(tasks)


class _Ordered(dict[Any, None]):
    """A set in the order of insertion: what order things are done in must not depend on addresses in memory."""

    def add(self, item: Any) -> None:
        self[item] = None

    def discard(self, item: Any) -> None:
        self.pop(item, None)


def _method(frame: bytes) -> str:
    from hypha_rpc.wire.frame import read_header

    header, offset = read_header(frame)
    said = {key: header[key] for key in ("method", "session", "at", "upto") if key in header}
    return f"{header.get('type')} {said} {header.get('from', '')}->{header.get('to')} +{len(frame) - offset}"
