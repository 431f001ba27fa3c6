"""Faults of a server's life: its start, its end, a freeze, a restart that changes its secret (RELIABILITY §1)."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from .probes import status_of
from .scenarios import NEVER, Figure, scenario, seconds, settled_after, twice
from .world import World, wait_until

_BLOCKING = """
import asyncio, os, pathlib, time

async def hypha_startup(server):
    time.sleep({seconds})
    await server.register_service({{"id": "late", "config": {{"visibility": "public"}}, "hi": lambda: "hi"}})
    pathlib.Path("done").touch()
    asyncio.get_running_loop().create_task(later())

async def later():
    while not os.path.exists("go"):
        await asyncio.sleep(0.02)
    time.sleep(3600 if os.path.exists("forever") else 4)
"""
_SLOW = """
import asyncio, pathlib

async def hypha_startup(server):
    await asyncio.sleep(3)
    pathlib.Path("done").touch()
"""
_RAISING = """
async def hypha_startup(server):
    raise LookupError("the model is not there")
"""
_FUNCTION = "--startup-functions=./startup.py:hypha_startup"


def _listening(world: World) -> float | None:
    return wait_until(lambda: status_of(world.server.port, "/health/liveness") == 200, 30)


def _ready(world: World) -> bool:
    return status_of(world.server.port, "/health/readiness") == 200


def _start_with(world: World, text: str) -> list[Figure]:
    """Start the server with a start-up function that takes some seconds, and look at it from outside."""
    world.file("startup.py", text)
    done = world.folder / "done"
    begin = world.restart(_FUNCTION, ready=False)
    listening = _listening(world)
    # Said to be ready before the function was done.
    early = _ready(world) and not done.exists()
    alive_early = not done.exists()
    while not _ready(world) and time.time() < begin + 40:
        time.sleep(0.02)
        early = early or (_ready(world) and not done.exists())
    ready = time.time()
    return [
        Figure("port and liveness", NEVER if listening is None or not alive_early else listening, 3),
        Figure("said to be ready too early", early, 0, ""),
        Figure("ready after the function", NEVER if not done.exists() else max(ready - _made(done), 0.0), 1),
    ]


def _made(path: Path) -> float:
    return path.stat().st_mtime


@scenario(quick=True)
def startup_slow(world: World) -> list[Figure]:
    """A start-up function takes three seconds."""
    return _start_with(world, _SLOW)


@scenario(quick=True)
def startup_blocking(world: World) -> list[Figure]:
    """A start-up function blocks its thread at the start, and what it left running blocks later."""
    figures = _start_with(world, _BLOCKING.format(seconds=2))
    _, ready = world.provider()
    consumer = world.consumer(ready)
    world.file("go", "")
    slowest, until = 0.0, time.monotonic() + 3
    while time.monotonic() < until:
        slowest = max(slowest, consumer.settled(consumer.call())["took"])
        time.sleep(0.05)
    return [*figures, Figure("slowest call of others", slowest, 1)]


@scenario(quick=True)
def startup_raising(world: World) -> list[Figure]:
    """A start-up function raises."""
    world.file("startup.py", _RAISING)
    world.restart(_FUNCTION, ready=False)
    process = world.server_process
    ended = wait_until(lambda: not process.running, 20)
    state = process.state()
    return [
        Figure("ended", NEVER if ended is None else ended, 5),
        Figure("ended as if all were well", process.code == 0, 0, ""),
        Figure("error not named", "the model is not there" not in state, 0, ""),
    ]


@scenario(quick=False)
def server_frozen(world: World) -> list[Figure]:
    """The server is stopped (SIGSTOP) for ten seconds under calls."""
    _, ready = world.provider()
    consumer = world.consumer(ready)
    label = consumer.call(method="slow", seconds=3)
    process = world.server_process
    process.signal(signal.SIGSTOP)
    time.sleep(10)
    process.signal(signal.SIGCONT)
    begin = time.time()
    works = consumer.until_works()
    listed = consumer.until_works("listed", limit=30)
    settled, [report] = settled_after(consumer, [label], begin)
    return [
        Figure("callable again", seconds(works, begin), 5),
        Figure("lost registrations", listed["at"] is None, 0, ""),
        Figure("call settled", settled, 5),
        Figure("results lost", report["outcome"] != "result", 0, ""),
        twice(world),
    ]


@scenario(quick=True)
def secret_kept(world: World) -> list[Figure]:
    """The server restarts, and nobody has configured a secret."""
    world.server.variables = {"JWT_SECRET": "", "HYPHA_JWT_SECRET": ""}
    world.restart()
    _, ready = world.provider()
    consumer = world.consumer(ready)
    world.restart()
    back = time.time()
    works = consumer.until_works(limit=30)
    return [Figure("same proxy works after the port is back", seconds(works, back), 2), twice(world)]


@scenario(quick=True)
def secret_changed(world: World) -> list[Figure]:
    """The server restarts without its state and with another secret: nobody can come back."""
    _, ready = world.provider()
    consumer = world.consumer(ready)
    label = consumer.call(method="slow", seconds=60)
    world.server.variables = {
        "JWT_SECRET": "another-secret-of-sufficient-length-for-all",
        "HYPHA_STATE_DIR": str(world.folder / "other-state"),
    }
    world.restart()
    back = time.time()
    settled, [pending] = settled_after(consumer, [label], back)
    # Whoever calls from now on is told at once.
    wait_until(lambda: consumer.settled(consumer.call())["state"] == "closed", 5)
    later = consumer.settled(consumer.call())
    untyped = later["error"].startswith(("Exception", "TimeoutError")) or later["outcome"] == "result"
    return [
        Figure("call under way settled", settled, 3),
        Figure("call under way ended well", pending["outcome"] == "result", 0, ""),
        Figure("a later call fails", later["took"], 1),
        Figure("its error has no type", untyped, 0, ""),
    ]


@scenario(quick=False)
def callee_busy(world: World) -> list[Figure]:
    """Callees are busy beyond the timeout: waiting, in an executor, on the blocking face, with a blocked loop."""
    _, ready = world.provider()
    waiting = world.consumer(ready)
    _, blocked = world.provider()
    blocker = world.consumer(blocked)
    face = world.consumer(world.blocking_provider())
    calls = {
        "awaiting": (waiting, waiting.call(method="slow", seconds=38)),
        "in an executor": (waiting, waiting.call(method="executor", seconds=38)),
        "on the blocking face": (face, face.call(method="slow", seconds=38)),
        "blocked loop, 29 s": (blocker, blocker.call(method="block", seconds=29)),
    }
    lost = [
        Figure(f"taken for dead: {name}", consumer.settled(label)["outcome"] != "result", 0, "")
        for name, (consumer, label) in calls.items()
    ]
    return [*lost, twice(world)]


@scenario(quick=False)
def callee_stopped(world: World) -> list[Figure]:
    """The callee's process is stopped (SIGSTOP) for good."""
    provider, ready = world.provider()
    consumer = world.consumer(ready)
    label = consumer.call(method="slow", seconds=600)
    provider.signal(signal.SIGSTOP)
    begin = time.time()
    settled, _ = settled_after(consumer, [label], begin)
    delisted = consumer.until_works("delisted", limit=60)
    provider.signal(signal.SIGCONT)
    return [Figure("call settled", settled, 36), Figure("delisted", seconds(delisted, begin), 38)]


@scenario(quick=False)
def sigterm_crowd(world: World) -> list[Figure]:
    """The server is asked to end: fifty clients do not read, a start-up function blocks, a call is under way."""
    world.file("startup.py", _BLOCKING.format(seconds=0))
    world.file("forever", "")
    world.restart(_FUNCTION)
    world.file("go", "")
    _, ready = world.provider()
    consumer = world.consumer(ready)
    stopped = world.crowd(50)
    stopped.signal(signal.SIGSTOP)
    label = consumer.call(method="slow", seconds=1)
    time.sleep(0.2)
    process, port = world.server_process, world.server.port
    process.signal(signal.SIGTERM)
    begin = time.monotonic()
    welcomed, said_ready = 0, 0
    while process.running and time.monotonic() < begin + 40:
        if time.monotonic() > begin + 0.2:
            welcomed += status_of(port, "/ws", upgrade=True) == 101
            said_ready += _ready(world)
        time.sleep(0.1)
    took = time.monotonic() - begin
    report = consumer.settled(label)
    stopped.signal(signal.SIGCONT)
    return [
        Figure("ended", took if not process.running else NEVER, 10),
        Figure("exit code", abs(process.code or 0) if not process.running else NEVER, 0, ""),
        Figure("newcomers welcomed", welcomed, 0, ""),
        Figure("said to be ready", said_ready, 0, ""),
        Figure("short call under way lost", report["outcome"] != "result", 0, ""),
    ]
