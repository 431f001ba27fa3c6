"""One history: a world is made, steps are done to it, calm returns, and everything is looked at."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.sim.harness import NEVER_EMPTY, abandon, chances, counted, left_at, listening, until
from tests.sim.journal import Complaints
from tests.sim.loop import Stuck, VirtualLoop
from tests.sim.steps import Doer, Step, script
from tests.sim.world import SERVICE, World

LENGTH = 200
_STARTED_S = 10.0
_CALM_S = 25.0
_LEASE_S = 700.0
_EMPTY_S = 40.0


@dataclass
class Outcome:
    """What became of a history."""

    seed: str
    steps: list[Step]
    violations: list[str]
    outcomes: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    lines: int = 0
    seconds: float = 0.0
    trace: list[str] = field(default_factory=list)


def run(seed: str, steps: Sequence[Step] | None = None, *, length: int = LENGTH, traced: bool = False) -> Outcome:
    """Run the history of *seed*, or these *steps* under its chances."""
    chosen = script(seed, length) if steps is None else [list(step) for step in steps]
    outcome = Outcome(seed, chosen, [])
    loop = VirtualLoop()
    with chances(seed, loop):
        asyncio.set_event_loop(None)
        try:
            loop.run_until_complete(_History(outcome, loop, traced=traced).run())
        except Stuck as stuck:
            outcome.violations.append(f"stuck: {stuck}")
        finally:
            outcome.seconds = loop.time()
            outcome.violations.extend(f"reported to the loop: {report}" for report in loop.reports)
            abandon(loop)
    return outcome


class _History:
    def __init__(self, outcome: Outcome, loop: VirtualLoop, *, traced: bool) -> None:
        self._outcome = outcome
        self._loop = loop
        self._traced = traced

    async def run(self) -> None:
        world = World(self._outcome.seed, self._loop)
        if self._traced:
            world.traced = self._outcome.trace.append
        complaints = Complaints(world.journal)
        with listening(complaints), counted(world.journal):
            try:
                await self._run(world)
            except Exception as error:  # noqa: BLE001 - supervision boundary: what a bug breaks is told like any other
                world.journal.wrong(f"broke: {error!r}")
            finally:
                self._outcome.violations.extend(world.journal.violations)
                self._outcome.outcomes = world.journal.outcomes
                self._outcome.calls = len(world.journal.records)
                self._outcome.lines = world.lines_made

    async def _run(self, world: World) -> None:
        await world.server.start()
        for client in world.clients.values():
            client.start()
        if not await until(lambda: all(client.ready for client in world.clients.values()), _STARTED_S):
            world.journal.wrong("the clients did not get ready")
            return
        doer = Doer(world)
        for step in self._outcome.steps:
            doer.do(step)
            await asyncio.sleep(step[-1])
        world.note("calm")
        await _Inspection(world, doer).run()


class _Inspection:
    """What is looked at once the weather is fine again."""

    def __init__(self, world: World, doer: Doer) -> None:
        self._world = world
        self._wrong = world.journal.wrong
        self._doer = doer

    async def run(self) -> None:
        world = self._world
        world.skew = 0.0
        for name, client in world.clients.items():
            world.heal(name)
            client.start()
        await self._calls()
        for wrong in self._registry():
            self._wrong(wrong)
        await self._proxies()
        await self._events()
        await self._client_tables()
        await self._farewell()

    async def _calls(self) -> None:
        """Everybody is back, and every call has settled, sooner than silence would settle it."""
        world = self._world
        records = world.journal.records.values()
        calm = lambda: (  # noqa: E731 - asked many times
            self._doer.settled
            and all(client.ready for client in world.clients.values())
            and all(record.done for record in records)
            and not self._registry()
        )
        if await until(calm, _CALM_S):
            return
        for client in world.clients.values():
            if not client.ready:
                self._wrong(f"not back: {client.name}, {client.rpc.state if client.rpc else 'no life'}")
        for record in records:
            if not record.done:
                self._wrong(f"not settled: {record.kind} {record.token} {record.caller}->{record.callee}")
        await until(calm, 2 * _CALM_S)

    def _registry(self) -> list[str]:
        """Where what is registered is not what lives."""
        world = self._world
        directory = world.server.app.manager.core.directory
        living = {f"{client.address}:{name}" for client in world.clients.values() for name in ("built-in", SERVICE)}
        listed = Counter(record.id for record in directory if not record.id.startswith("public/"))
        wrong = [f"lives, but is not registered: {missing}" for missing in sorted(living - listed.keys())]
        wrong.extend(f"registered, but does not live: {extra}" for extra in sorted(listed.keys() - living))
        for name, client in world.clients.items():
            connection = world.server.app.router.connections.get(client.address)
            if connection is None:
                wrong.append(f"cannot be reached: {name}")
            elif "client_disconnected" not in connection.subscriptions:
                wrong.append(f"has lost its subscriptions: {name}")
        return wrong

    async def _proxies(self) -> None:
        """Every proxy of every client works."""
        world = self._world
        number = 0
        for caller in world.clients.values():
            for callee in caller.proxies:
                number += 1
                step = ["call", f"end{number}", caller.name, callee, "add", [], None, 0.0]
                self._doer.do(step)
        records = [record for token, record in world.journal.records.items() if token.startswith("end")]
        await until(lambda: all(record.done for record in records), 5.0)
        for record in records:
            if not record.done or record.error is not None:
                self._wrong(f"a proxy does not work in the end: {record.caller}->{record.callee} {record.error!r}")

    async def _events(self) -> None:
        """Subscriptions have come back: everybody hears what is told in its workspace, once."""
        clients = self._world.clients
        for name, client in clients.items():
            if client.rpc is not None:
                client.rpc.emit({"type": "news", "to": "*", "data": f"from {name}"})
        for name, client in clients.items():
            wanted = {f"from {other}": 1 for other, one in clients.items() if one.user == client.user}
            if not await until(lambda client=client, wanted=wanted: client.heard == wanted, 2.0):  # type: ignore[misc]
                self._wrong(f"news were heard wrongly: {name} has {client.heard}")

    async def _client_tables(self) -> None:
        """Nothing is left of the calls."""
        gc.collect()
        rpcs = {name: client.rpc for name, client in self._world.clients.items() if client.rpc is not None}
        left = lambda: {  # noqa: E731 - asked many times
            name: rest
            for name, rpc in rpcs.items()
            if (rest := {key: count for key, count in rpc.stats().items() if count and key not in NEVER_EMPTY})
        }
        if not await until(lambda: not left(), 10.0) and not await until(lambda: not left(), _LEASE_S, pause=20.0):
            self._wrong(f"not empty at the clients: {left()}")

    async def _farewell(self) -> None:
        """Everybody leaves: nothing is left at the server, nor anywhere."""
        world = self._world
        app = world.server.app
        world.over = True
        for client in world.clients.values():
            await client.leave()
        await until(lambda: not left_at(app), _EMPTY_S, pause=2.0)
        if left := left_at(app):
            self._wrong(f"not empty at the server: {left}")
        await world.server.stop()
        await world.end()
        gc.collect()
        await asyncio.sleep(5.0)
        rest = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        if rest:
            self._wrong(f"tasks are left: {rest}")
