"""What can happen: steps, each complete in itself, so that any selection of a history's steps is a history."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from hypha_rpc.errors import CallError, CallTimeout, DeadlineExceeded
from tests.sim.functions import Calls
from tests.sim.journal import Record
from tests.sim.world import CAST, World

Step = list[Any]
"""The name of a step, its parameters, and last the seconds that pass until the next one."""

NAMES = tuple(CAST)
_WHO = ("both", "both", "both", "client", "server", "none")


# -- deciding ----------------------------------------------------------------------------


def script(seed: str, length: int) -> list[Step]:
    """The steps of a history."""
    chance = random.Random(f"script {seed}")
    faults = chance.choice((0.0, 0.05, 0.1, 0.2, 0.4))
    pace = chance.choice((0.2, 1.0, 1.0, 3.0))
    steps = []
    for number in range(length):
        step = _fault(chance) if chance.random() < faults else _call(chance, number)
        step.append(round(pace * chance.choice((0.0, 0.0, 0.001, 0.004, 0.02, 0.1, 0.3)), 6))
        steps.append(step)
    return steps


def _call(chance: random.Random, number: int) -> Step:
    caller, callee = chance.sample(NAMES, 2)
    kind, parameters = chance.choice(_KINDS)
    chosen = [chance.choice(choices) for choices in parameters]
    cancel = round(chance.uniform(0.0, 1.0), 4) if chance.random() < 0.08 else None
    return ["call", f"t{number}", caller, callee, kind, chosen, cancel]


_SECONDS = (0.0, 0.01, 0.2, 1.0, 4.0)
_KINDS: tuple[tuple[str, tuple[tuple[Any, ...], ...]], ...] = (
    ("add", ()),
    ("add", ()),
    ("work", (_SECONDS,)),
    ("work", (_SECONDS,)),
    ("limited", (_SECONDS, (0.05, 0.5, 3.0))),
    ("boom", ()),
    ("echo", ((10, 900, 3_000, 9_000),)),
    ("ask", ((1, 3), (0.0, 0.05, 0.8))),
    ("ask", ((1, 3), (0.0, 0.05, 0.8))),
    ("stream", ((0, 1, 5, 40), (0.0, 0.0, 0.02), (3, 1000, 1000))),
    ("pour", ((1, 6), (100, 3_000))),
    ("take", ((0, 3, 30), (0.0, 0.02))),
    ("make", ((0.0, 0.5, 3.0),)),
    ("hold", ((0.1, 2.0),)),
)


def _fault(chance: random.Random) -> Step:
    name = chance.choice(NAMES)
    seconds = chance.choice((0.05, 0.5, 2.0, 6.0, 16.0))
    lane = chance.choice(("up", "down"))
    choices: tuple[Callable[[], Step], ...] = (
        lambda: ["cut", name, chance.choice(_WHO)],
        lambda: ["arm", name, lane, chance.choice((1, 1, 2, 3, 5, 8, 13)), chance.random() < 0.5, chance.choice(_WHO)],
        lambda: ["arm", name, lane, chance.choice((1, 1, 2, 3, 5, 8, 13)), chance.random() < 0.5, chance.choice(_WHO)],
        lambda: ["silence", name, chance.choice(("up", "down", "both")), seconds],
        lambda: ["slow", name, chance.choice((0.02, 0.2, 1.0)), chance.choice((0.0, 0.2)), seconds],
        lambda: ["away", name, chance.choice(_WHO), seconds],
        lambda: ["kill", name, chance.choice(("both", "none")), chance.choice((0.0, 0.1, 2.0, 5.0))],
        lambda: ["drop", name],
        lambda: ["skew", chance.choice((-40.0, -5.0, 5.0, 40.0))],
        lambda: ["server", chance.choice(_ENDS), chance.choice((0.1, 1.0, 4.0))],
    )
    weights = (4, 4, 4, 2, 2, 2, 2, 1, 1, 1)
    return chance.choices(choices, weights)[0]()


_ENDS = ("stop", "kill", "kill", "freeze", "forget")


# -- doing --------------------------------------------------------------------------------


class Doer:
    """Does steps to a world.

    Args:
        world: what they are done to.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._restarting = False

    def do(self, step: Step) -> None:
        """Do one step; one that makes no sense at the moment does nothing."""
        self._world.note(repr(step))
        getattr(self, f"_{step[0]}")(*step[1:-1])

    def _later(self, seconds: float, what: Callable[..., Any], *arguments: Any) -> None:
        self._world.spawn(_after(seconds, what, arguments))

    def _outage(self, name: str) -> None:
        self._world.outages.add(name)

    def _call(self, token: str, caller: str, callee: str, kind: str, chosen: list[Any], cancel: float | None) -> None:
        client = self._world.clients[caller]
        if not client.registered:
            return
        record = Record(token, kind, caller, callee, client.rpc, self._world.loop.time())
        self._world.journal.records[token] = record
        task = self._world.spawn(self._make(record, chosen))
        if cancel is not None:
            self._later(cancel, _cancel, record, task)

    async def _make(self, record: Record, chosen: list[Any]) -> None:
        world, journal = self._world, self._world.journal
        client = world.clients[record.caller]
        try:
            proxy = await client.proxy(world.clients[record.callee])
            await getattr(Calls(world, record, proxy), record.kind)(*chosen)
            journal.outcomes[f"{record.kind}: ok"] += 1
        except asyncio.CancelledError:
            record.cancelled = True
            raise
        except Exception as error:  # noqa: BLE001 - everything a call can fail with is looked at
            # Its frames would keep alive what they refer to.
            record.error = error.with_traceback(None)
            journal.outcomes[f"{record.kind}: {type(error).__name__}"] += 1
            self._judge(record, error)
        finally:
            record.done, record.ended = True, world.loop.time()

    def _judge(self, record: Record, error: Exception) -> None:
        """Whether a call may fail like this."""
        journal = self._world.journal
        if self._world.clients[record.caller].rpc is not record.life:
            return
        ran = journal.executions[record.token]
        if isinstance(error, CallError) and not error.may_have_run and ran and record.kind not in _SEVERAL:
            journal.wrong(f"ran, but its error says that it did not: {record.kind} {record.token} {error!r}")
        if isinstance(error, CallTimeout) and not isinstance(error, DeadlineExceeded):
            journal.wrong(f"settled by silence only: {record.kind} {record.token} {error!r}")
        if self._calm(record) and not isinstance(error, DeadlineExceeded):
            journal.wrong(f"failed without a fault: {record.kind} {record.token} {error!r}")
        if not isinstance(error, (CallError, OSError, HyphaLike)):
            journal.wrong(f"failed in a strange way: {record.kind} {record.token} {error!r}")

    def _calm(self, record: Record) -> bool:
        """Whether nothing has ever happened to those who take part in a call."""
        return self._world.outages.isdisjoint((record.caller, record.callee, "server"))

    def _cut(self, name: str, who: str) -> None:
        self._outage(name)
        for line in list(self._world.lines):
            if line.name == name:
                line.cut(who)

    def _arm(self, name: str, lane: str, count: int, arrives: bool, who: str) -> None:
        self._outage(name)
        self._world.weather[name].armed[lane] = (count, arrives, who)

    def _silence(self, name: str, lanes: str, seconds: float) -> None:
        self._outage(name)
        self._world.silence(name, lanes)
        self._later(seconds, self._world.heal, name)

    def _slow(self, name: str, base: float, jitter: float, seconds: float) -> None:
        weather = self._world.weather[name]
        weather.base, weather.jitter = base, jitter
        self._later(seconds, self._world.heal, name)

    def _away(self, name: str, who: str, seconds: float) -> None:
        self._cut(name, who)
        self._world.weather[name].down = True
        self._later(seconds, self._world.heal, name)

    def _kill(self, name: str, who: str, seconds: float) -> None:
        self._outage(name)
        client = self._world.clients[name]
        client.kill(who)
        self._later(seconds, client.start)

    def _drop(self, name: str) -> None:
        self._outage(name)
        rpc = self._world.clients[name].rpc
        if rpc is not None and rpc._link is not None:
            rpc._link.drop()

    def _skew(self, seconds: float) -> None:
        self._world.skew = seconds

    def _server(self, how: str, seconds: float) -> None:
        self._outage("server")
        if not self._restarting:
            self._restarting = True
            self._world.spawn(self._restart(how, seconds))

    async def _restart(self, how: str, seconds: float) -> None:
        server = self._world.server
        if how == "stop":
            await server.stop()
        else:
            await server.kill(keeps=how != "forget", who="none" if how == "freeze" else "client")
        await asyncio.sleep(seconds)
        await server.start()
        self._restarting = False

    @property
    def settled(self) -> bool:
        """Whether the server is there."""
        return not self._restarting


_SEVERAL = frozenset({"ask", "make", "stream", "pour", "take"})
"""Kinds that make more than one call: an error may be of a later one."""

HyphaLike = (PermissionError, RuntimeError, LookupError)


async def _after(seconds: float, what: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    await asyncio.sleep(seconds)
    what(*arguments)


def _cancel(record: Record, task: asyncio.Task[Any]) -> None:
    if not record.done:
        record.cancelled = True
        task.cancel()
