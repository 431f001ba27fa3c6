"""One function a fault of RELIABILITY §1: makes it happen and measures what users would notice."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.interop.processes import Process, ProcessFailed

from .world import Consumer, World, wait_until

NEVER = 999.0
"""Stands for "not in the time we waited"."""

MB = 1024 * 1024


@dataclass(frozen=True)
class Figure:
    """One thing measured.

    Attributes:
        name: what.
        value: seconds, megabytes, or a count (True counts as one).
        most: what ours may have at most.
        unit: of both.
    """

    name: str
    value: float
    most: float
    unit: str = "s"

    @property
    def met(self) -> bool:
        """Whether it is as good as ours must be."""
        return self.value <= self.most


@dataclass(frozen=True)
class Scenario:
    """A fault."""

    name: str
    run: Callable[[World], list[Figure]]
    quick: bool


SCENARIOS: dict[str, Scenario] = {}


def scenario(*, quick: bool) -> Callable[[Callable[[World], list[Figure]]], Callable[[World], list[Figure]]]:
    """Register a scenario under the name of its function; *quick* ones run in every test run."""

    def register(function: Callable[[World], list[Figure]]) -> Callable[[World], list[Figure]]:
        SCENARIOS[function.__name__] = Scenario(function.__name__, function, quick)
        return function

    return register


def seconds(report: dict[str, Any], since: float) -> float:
    """When a report was made, counted from a moment."""
    return NEVER if report.get("at") is None else max(float(report["at"]) - since, 0.0)


def settled_after(consumer: Consumer, labels: list[str], since: float) -> tuple[float, list[dict[str, Any]]]:
    """How long after a moment the last of these calls had ended, and how all did."""
    reports = [consumer.settled(label) for label in labels]
    return max(seconds(report, since) for report in reports), reports


def twice(world: World) -> Figure:
    return Figure("calls run twice", sum(count > 1 for count in world.runs().values()), 0, "")


def _until_running(world: World, count: int) -> None:
    """Wait until so many calls have reached their function: one that has not may be lost with its frame."""
    if wait_until(lambda: len(world.runs()) == count, 20) is None:
        raise ProcessFailed("the calls did not arrive")


@scenario(quick=True)
def no_fault(world: World) -> list[Figure]:
    """The same load without a fault is clean."""
    _, ready = world.provider()
    consumer = world.consumer(ready)
    label = consumer.order("load", every=0.01)
    time.sleep(2)
    consumer.order("stop")
    report = consumer.process.wait_for("loaded", timeout_s=30, label=label)
    return [Figure("failed calls", report["failed"] + report["unsettled"], 0, ""), twice(world)]


@scenario(quick=True)
def server_restart(world: World) -> list[Figure]:
    """The server is killed under calls and comes back on its port a second later."""
    _, ready = world.provider()
    consumer = world.consumer(ready)
    steady = consumer.order("load", every=0.02)
    slow = [consumer.call(method="slow", seconds=1.5) for _ in range(5)]
    if world.server.process is None:
        raise ProcessFailed("the server is not there")
    world.server.process.kill()
    time.sleep(1)
    world.server.start()
    back = time.time()
    works = consumer.until_works()
    listed = consumer.until_works("listed", limit=30)
    settled, _ = settled_after(consumer, slow, back)
    consumer.order("stop")
    report = consumer.process.wait_for("loaded", timeout_s=120, label=steady)
    return [
        Figure("same proxy works after the port is back", seconds(works, back), 2),
        Figure("lost registrations", 0 if listed["at"] is not None else 1, 0, ""),
        Figure("calls under way settled after the port is back", settled, 3),
        Figure("longest steady call", report["longest"], 6),
        Figure("calls never settled", report["unsettled"], 0, ""),
        twice(world),
    ]


@scenario(quick=True)
def peer_dies(world: World) -> list[Figure]:
    """The provider's process is killed during a hundred calls of two workspaces."""
    provider, ready = world.provider()
    own, other = world.consumer(ready), world.consumer(ready, own=True)
    calls = {consumer: [consumer.call(method="slow", seconds=60) for _ in range(50)] for consumer in (own, other)}
    begin = time.time()
    provider.kill()
    inside, _ = settled_after(own, calls[own], begin)
    outside, _ = settled_after(other, calls[other], begin)
    return [Figure("calls fail, same workspace", inside, 1), Figure("calls fail, other workspace", outside, 1)]


@scenario(quick=True)
def caller_reset(world: World) -> list[Figure]:
    """The caller's link is reset while a call runs; its result is due in the outage."""
    _, ready = world.provider()
    proxy = world.proxy()
    consumer = world.consumer(ready, proxy.url)
    label = consumer.call(method="slow", seconds=1)
    _until_running(world, 1)
    proxy.refuse()
    time.sleep(1.2)
    proxy.restore()
    begin = time.time()
    settled, [report] = settled_after(consumer, [label], begin)
    works = consumer.until_works()
    return [
        Figure("call settled after the network", settled, 3),
        Figure("results lost", 0 if report["outcome"] == "result" else 1, 0, ""),
        Figure("back after the network", seconds(works, begin), 2),
        twice(world),
    ]


@scenario(quick=False)
def callee_reset(world: World) -> list[Figure]:
    """The callee's link is reset while it works."""
    proxy = world.proxy()
    _, ready = world.provider(proxy.url)
    consumer = world.consumer(ready)
    label = consumer.call(method="slow", seconds=1)
    _until_running(world, 1)
    proxy.reset()
    begin = time.time()
    settled, _ = settled_after(consumer, [label], begin)
    works = consumer.until_works()
    return [
        Figure("call settled", settled, 3),
        Figure("callable again", seconds(works, begin), 2),
        twice(world),
    ]


def _silent(world: World, direction: Any) -> list[Figure]:
    _, ready = world.provider()
    proxy = world.proxy()
    consumer = world.consumer(ready, proxy.url)
    proxy.silence(direction)
    begin = time.time()
    noticed = wait_until(lambda: len(proxy.dials) > 1, 60)
    time.sleep(1)
    proxy.restore()
    restored = time.time()
    works = consumer.until_works()
    return [
        Figure("silence noticed", NEVER if noticed is None else noticed, 15),
        Figure("back after the network", seconds(works, max(restored, begin)), 5),
        twice(world),
    ]


@scenario(quick=True)
def silent_cut(world: World) -> list[Figure]:
    """The caller's network swallows everything in both directions."""
    return _silent(world, "both")


@scenario(quick=False)
def silent_from_server(world: World) -> list[Figure]:
    """Only what the server says is swallowed."""
    return _silent(world, "down")


@scenario(quick=False)
def silent_to_server(world: World) -> list[Figure]:
    """Only what the client says is swallowed."""
    return _silent(world, "up")


@scenario(quick=False)
def silent_provider(world: World) -> list[Figure]:
    """The provider's network goes silent: its callers learn, its service is delisted."""
    proxy = world.proxy()
    _, ready = world.provider(proxy.url)
    consumer = world.consumer(ready)
    label = consumer.call(method="slow", seconds=600)
    begin = time.time()
    proxy.silence("both")
    delisted = consumer.until_works("delisted", limit=60)
    settled, _ = settled_after(consumer, [label], begin)
    proxy.restore()
    restored = time.time()
    works = consumer.until_works()
    return [
        Figure("delisted", seconds(delisted, begin), 40),
        Figure("call settled", settled, 41),
        Figure("back after the network", seconds(works, restored), 5),
    ]


@scenario(quick=True)
def flapping(world: World) -> list[Figure]:
    """The caller's link is reset eight times, 0.7 s apart."""
    _, ready = world.provider()
    proxy = world.proxy()
    consumer = world.consumer(ready, proxy.url)
    first = len(proxy.dials)
    for _ in range(8):
        proxy.reset()
        time.sleep(0.7)
    stable = time.time()
    works = consumer.until_works()
    dials = proxy.dials[first:]
    crowded = max((sum(begin <= other < begin + 1 for other in dials) for begin in dials), default=0)
    return [
        Figure("back when stable", seconds(works, stable), 3),
        Figure("most dials in a second", crowded, 3, ""),
        twice(world),
    ]


@scenario(quick=True)
def same_client_id(world: World) -> list[Figure]:
    """Somebody comes with the client id of a living client."""
    _, ready = world.provider()
    consumer = world.consumer(ready, name="twin")
    newcomer = world.try_consumer(ready, "twin")
    wait_until(lambda: not newcomer.running or newcomer.find("ready"), 30)
    newcomer.kill()
    begin = time.time()
    works = consumer.until_works(limit=20)
    manager = consumer.until_works("manager", limit=20)
    return [
        Figure("the living can call", seconds(works, begin), 2),
        Figure("the living can use the server", seconds(manager, begin), 2),
    ]


@scenario(quick=True)
def respawn(world: World) -> list[Figure]:
    """A provider's process is killed and started again with its client id."""
    _, owner = world.provider()
    identity = (owner["token"], owner["workspace"], "worker")
    provider, ready = world.provider(None, *identity)
    consumer = world.consumer(ready)
    provider.kill()
    label = consumer.order("until", what="echo", limit=60)
    world.provider(None, *identity)
    back = time.time()
    works = consumer.process.wait_for("works", timeout_s=90, label=label)
    return [Figure("callable after it is registered", seconds(works, back), 2)]


@scenario(quick=True)
def caller_gone(world: World) -> list[Figure]:
    """The caller's process is killed; what runs for it is cancelled."""
    _, ready = world.provider()
    consumer = world.consumer(ready)
    for _ in range(5):
        consumer.call(method="slow", seconds=60)
    _until_running(world, 5)
    consumer.process.kill()
    cancelled = wait_until(lambda: len(world.events("cancelled")) == 5, 20)
    return [Figure("all cancelled", NEVER if cancelled is None else cancelled, 5)]


@scenario(quick=False)
def big_value_cut(world: World) -> list[Figure]:
    """The link breaks in the middle of a big argument, then of a big result."""
    _, ready = world.provider()
    figures = []
    for method in ("take", "give"):
        proxy = world.proxy()
        consumer = world.consumer(ready, proxy.url)
        proxy.throttle(4 * MB)
        label = consumer.call(method=method, size=32 * MB)
        time.sleep(2)
        proxy.throttle(None)
        proxy.reset()
        begin = time.time()
        settled, _ = settled_after(consumer, [label], begin)
        again, [report] = settled_after(consumer, [consumer.call(method=method, size=32 * MB)], time.time())
        figures.append(Figure(f"{method}: call settled", settled, 3))
        figures.append(Figure(f"{method}: next try", again if report["outcome"] == "result" else NEVER, 10))
        consumer.process.kill()
    return figures


@scenario(quick=False)
def slow_link(world: World) -> list[Figure]:
    """A big argument over 1 MB/s, and small calls beside it."""
    _, ready = world.provider()
    proxy = world.proxy()
    consumer = world.consumer(ready, proxy.url)
    proxy.throttle(MB)
    label = consumer.call(method="take", size=8 * MB)
    time.sleep(1)
    slowest = 0.0
    for _ in range(3):
        report = consumer.settled(consumer.call())
        slowest = max(slowest, report["took"])
    big = consumer.settled(label)
    return [
        Figure("small call beside it", slowest, 2),
        Figure("big argument lost", 0 if big["outcome"] == "result" else 1, 0, ""),
    ]


@scenario(quick=True)
def sigterm(world: World) -> list[Figure]:
    """The server is asked to end while one client does not read."""
    provider, ready = world.provider()
    world.consumer(ready)
    provider.signal(signal.SIGSTOP)
    begin = time.monotonic()
    process: Process | None = world.server.process
    code = process.terminate(40) if process is not None else None
    took = time.monotonic() - begin
    provider.signal(signal.SIGCONT)
    return [Figure("ended", took if code is not None else NEVER, 10), Figure("exit code", abs(code or 0), 0, "")]
