"""The session that is cut: connecting, registering, calling, streaming, a big value, reconnecting.

One client is cut, another one is not. Whatever the cut breaks has to end, the same
thing done again has to work, and in the end nothing may be left.
"""

from __future__ import annotations

import asyncio
import gc
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from hypha.app import HyphaServer
from hypha.auth.scopes import ParsedScope
from hypha.auth.tokens import Grant
from hypha.settings import Settings
from hypha_rpc.client.link import Link
from hypha_rpc.client.options import ConnectOptions
from hypha_rpc.client.rpc import RPC
from hypha_rpc.client.workspace import build_server
from hypha_rpc.errors import HyphaError
from hypha_rpc.transports.base import Connector
from tests.cut.wires import Cut, Door, WireConnector
from tests.sim.harness import NEVER_EMPTY, abandon, chances, counted, left_at, listening, until
from tests.sim.journal import Complaints, Journal
from tests.sim.loop import Stuck, VirtualLoop

CHUNK: Final = 1024
BIG: Final = bytes(range(256)) * 20
ITEMS: Final = 6
HOME: Final = "ws-user-alice"
_SETTLES_S: Final = 16.0
_SILENT_S: Final = 28.0
_BACK_S: Final = 5.0
_LEASE_S: Final = 700.0


@dataclass
class Result:
    """What became of a session."""

    cut: Cut
    violations: list[str] = field(default_factory=list)
    marks: list[tuple[str, int, int]] = field(default_factory=list)
    seconds: float = 0.0


def run(cut: Cut) -> Result:
    """One session with *cut*."""
    result, loop = Result(cut), VirtualLoop()
    journal = Journal(violations=result.violations)
    with chances("cut", loop), listening(Complaints(journal)), counted(journal):
        asyncio.set_event_loop(None)
        try:
            loop.run_until_complete(_Session(result, journal).run())
        except Stuck as stuck:
            journal.wrong(f"stuck: {stuck}")
        except Exception as error:  # noqa: BLE001 - supervision boundary: what a bug breaks is told like any other
            journal.wrong(f"broke: {error!r}")
        finally:
            result.seconds = loop.time()
            result.violations.extend(f"reported to the loop: {report}" for report in loop.reports)
            abandon(loop)
    return result


class _Session:
    def __init__(self, result: Result, journal: Journal) -> None:
        self._result = result
        self._journal = journal
        self._cut = result.cut
        self._number = 0
        self._token_of_user = ""

    async def run(self) -> None:
        settings = Settings(in_memory=True, port=0, jwt_secret="cut" * 12, server_id="cut")
        app = HyphaServer(settings, 9527)
        await app.start()
        grant = Grant(user_id="alice", scope=ParsedScope(workspaces={}), expires_in=86_400.0, roles=("user",))
        self._token_of_user = app.tokens.mint(grant)
        door = Door(app)
        self._mark("connecting")
        far = await self._client("far", WireConnector(door, None))
        near = await self._arrive(WireConnector(door, self._cut))
        if near is not None:
            await self._talk(near, far)
            await self._check(app, near, far)
            await near.rpc.disconnect()
        await far.rpc.disconnect()
        if not await until(lambda: not left_at(app), 60.0, pause=2.0):
            self._journal.wrong(f"not empty at the server: {left_at(app)}")
        await app.stop()
        gc.collect()
        await asyncio.sleep(5.0)
        rest = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        if rest:
            self._journal.wrong(f"tasks are left: {rest}")

    def _mark(self, phase: str) -> None:
        """Remember where in the streams a part of the session begins."""
        self._result.marks.append((phase, self._cut.passed["up"], self._cut.passed["down"]))

    # -- clients

    async def _client(self, name: str, connector: Connector) -> Any:
        options = ConnectOptions.parse(
            {"server_url": "http://sim", "client_id": name, "token": self._token_of_user}, {}
        )
        rpc = RPC(None, name, long_message_chunk_size=CHUNK)
        try:
            await rpc.open(Link(connector, options, secrets.token_hex(12), rpc))
            self._mark("registering")
            await rpc.register_service(_service(self._journal))
        except BaseException:
            rpc.close()
            raise
        return build_server(rpc)

    async def _arrive(self, connector: Connector) -> Any:
        """Connect; a person would try again."""
        for _ in range(3):
            try:
                async with asyncio.timeout(self._patience):
                    return await self._client("near", connector)
            except (HyphaError, OSError, RuntimeError) as error:
                if not self._cut.done:
                    self._journal.wrong(f"connecting failed without a cut: {error!r}")
        self._journal.wrong("cannot connect")
        return None

    @property
    def _patience(self) -> float:
        return _SILENT_S if self._cut.silent else _SETTLES_S

    # -- what they do

    async def _talk(self, near: Any, far: Any) -> None:
        self._mark("finding")
        there = await self._until_it_works(lambda: near.get_service(f"{HOME}/far:work"))
        here = await self._until_it_works(lambda: far.get_service(f"{HOME}/near:work"))
        steps: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("calling", lambda: self._add(there)),
            ("being called", lambda: self._add(here)),
            ("calling back", lambda: self._ask(there)),
            ("being called back", lambda: self._ask(here)),
            ("a function in a result", lambda: self._make(there)),
            ("streaming in", lambda: self._stream(there)),
            ("streaming out", lambda: self._stream(here)),
            ("big values out", lambda: self._echo(there)),
            ("big values in", lambda: self._echo(here)),
            ("reconnecting", lambda: self._reconnect(near)),
            ("calling again", lambda: self._add(there)),
            ("being called again", lambda: self._add(here)),
        ]
        for phase, step in steps:
            self._mark(phase)
            await self._until_it_works(step)
        self._mark("end")

    async def _until_it_works(self, step: Callable[[], Awaitable[Any]]) -> Any:
        """Do *step*; what fails by the cut fails soon, and works when it is done again."""
        loop = asyncio.get_running_loop()
        for _ in range(60):
            began = loop.time()
            try:
                async with asyncio.timeout(self._patience):
                    return await step()
            except (HyphaError, OSError, LookupError, RuntimeError) as error:
                if not self._cut.done:
                    self._journal.wrong(f"failed without a cut: {error!r}")
                    return None
                if isinstance(error, TimeoutError) and loop.time() - began >= self._patience:
                    self._journal.wrong("a call did not settle")
                await asyncio.sleep(0.1)
        self._journal.wrong("it does not work again")
        return None

    def _token(self) -> str:
        self._number += 1
        return f"t{self._number}"

    def _same(self, value: Any, expected: Any) -> None:
        if value != expected:
            self._journal.wrong(f"wrong result: {value!r:.100} instead of {expected!r:.100}")

    async def _add(self, service: Any) -> None:
        token = self._token()
        self._same(await service.add(token), ["done", token])

    async def _ask(self, service: Any) -> None:
        token = self._token()
        self._same(await service.ask(token, self._answer), ["done", token, f"{token}.0", f"{token}.1"])

    def _answer(self, token: str) -> str:
        self._journal.ran(token)
        return token

    async def _make(self, service: Any) -> None:
        token = self._token()
        function = await service.make(token)
        self._same(await function(f"{token}.f"), ["done", f"{token}.f"])

    async def _stream(self, service: Any) -> None:
        token = self._token()
        items = [item async for item in await service.stream(token)]
        self._same(items, [f"{token}.{index}" for index in range(ITEMS)])

    async def _echo(self, service: Any) -> None:
        token = self._token()
        done, again, data = await service.echo(token, BIG)
        self._same([done, again, bytes(data)], ["done", token, BIG])

    async def _reconnect(self, near: Any) -> None:
        link = near.rpc._link
        before = link.reconnects
        link.drop(1012)
        if not await until(lambda: link.reconnects > before and near.rpc.state == "ready", self._patience):
            self._journal.wrong(f"not back: {near.rpc.state}")

    # -- what is left

    async def _check(self, app: HyphaServer, near: Any, far: Any) -> None:
        if self._cut.lane and not self._cut.done and self._cut.passed[self._cut.lane] > self._cut.after:
            self._journal.wrong("the cut did not happen")
        await until(lambda: near.rpc.state == "ready", _BACK_S)
        listed = {record.id for record in app.manager.core.directory}
        for name in ("near:built-in", "near:work", "far:built-in", "far:work"):
            if f"{HOME}/{name}" not in listed:
                self._journal.wrong(f"not listed: {name}")
        gc.collect()
        left = lambda: {  # noqa: E731 - asked many times
            server.rpc.endpoint.address: rest
            for server in (near, far)
            if (rest := {key: count for key, count in server.rpc.stats().items() if count and key not in NEVER_EMPTY})
        }
        if not await until(lambda: not left(), 10.0) and not await until(lambda: not left(), _LEASE_S, pause=20.0):
            self._journal.wrong(f"not empty at the clients: {left()}")


def _service(journal: Journal) -> dict[str, Any]:
    functions = _Functions(journal)
    names = ("add", "ask", "make", "stream", "echo")
    config = {"visibility": "public"}
    return {"id": "work", "config": config, **{name: getattr(functions, name) for name in names}}


class _Functions:
    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def add(self, token: str) -> Any:
        self._journal.ran(token)
        return ["done", token]

    async def ask(self, token: str, callback: Callable[[str], Awaitable[str]]) -> Any:
        self._journal.ran(token)
        return ["done", token, await callback(f"{token}.0"), await callback(f"{token}.1")]

    def make(self, token: str) -> Any:
        self._journal.ran(token)
        return self.add

    async def stream(self, token: str) -> AsyncGenerator[str, None]:
        self._journal.ran(token)
        for index in range(ITEMS):
            await asyncio.sleep(0.002)
            yield f"{token}.{index}"

    def echo(self, token: str, data: Any) -> Any:
        self._journal.ran(token)
        return ["done", token, data]
