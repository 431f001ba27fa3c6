"""Faults of resources: full disk, no handles, readers that do not read, honest speed, crowds (RELIABILITY §1)."""

from __future__ import annotations

import json
import resource
import signal
import time
import urllib.request

from tests.interop.processes import ProcessFailed
from tests.interop.sides import OURS

from .probes import limited, open_files, seconds_until_told
from .scenarios import MB, NEVER, Figure, scenario, seconds
from .world import Consumer, World, wait_until

_PARTS = 5
# Files cannot grow: what a full disk says, without one.
_NO_DISK = ("sh", "-c", 'ulimit -S -f 0; exec "$0" "$@"')


def _slowest(consumer: Consumer, calls: int = 10) -> float:
    """The longest of some calls, one after the other; a failed one took for ever."""
    reports = [consumer.settled(consumer.call()) for _ in range(calls)]
    return max(report["took"] if report["outcome"] == "result" else NEVER for report in reports)


@scenario(quick=True)
def disk_full(world: World) -> list[Figure]:
    """The disk is full for a while: files of the server cannot grow."""
    _, ready = world.provider()
    consumer = world.consumer(ready)
    with limited(world.server_process.pid, resource.RLIMIT_FSIZE, 0):
        slowest = _slowest(consumer)
        begin = time.time()
        newcomer = world.consumer(ready, name="newcomer")
        came = time.time() - begin
        refused = consumer.settled(consumer.call(method="revoke"))
        slowest = max(slowest, _slowest(newcomer))
    begin = time.time()
    again = wait_until(lambda: consumer.settled(consumer.call(method="revoke"))["outcome"] == "result", 20)
    unclear = refused["outcome"] == "result" or "until the server ends" not in refused["error"]
    return [
        Figure("slowest call meanwhile", slowest, 1),
        Figure("a newcomer is there", came, 5),
        Figure("what needs the disk is told", refused["took"], 5),
        Figure("not told why", unclear, 0, ""),
        Figure("works again", NEVER if again is None else again, 5),
    ]


@scenario(quick=True)
def disk_full_at_start(world: World) -> list[Figure]:
    """The server starts on a full disk: once with what it has kept, once with nothing."""
    provider, _ = world.provider()
    provider.kill()
    begin = world.restart(wrapper=_NO_DISK)
    started = time.time() - begin
    _, ready = world.provider()
    slowest = _slowest(world.consumer(ready))
    world.server.variables = {"HYPHA_STATE_DIR": str(world.folder / "fresh"), "JWT_SECRET": ""}
    log = world.server_process.log
    before = log.stat().st_size
    world.restart(wrapper=_NO_DISK, ready=False)
    process = world.server_process
    ended = wait_until(lambda: not process.running, 10)
    time.sleep(0.2)
    said = log.read_text()[before:]
    return [
        Figure("with its state: started", started, 5),
        Figure("with its state: slowest call", slowest, 1),
        Figure("without: ended", NEVER if ended is None else ended, 5),
        Figure("without: traceback", "Traceback" in said, 0, ""),
        Figure("without: cause not named", "Cannot write" not in said, 0, ""),
    ]


@scenario(quick=True)
def no_handles(world: World) -> list[Figure]:
    """The server has no handle left for newcomers, for a while."""
    _, ready = world.provider()
    consumer = world.consumer(ready)
    pid, port = world.server_process.pid, world.server.port
    with limited(pid, resource.RLIMIT_NOFILE, open_files(pid)):
        told = [seconds_until_told(port, 5) for _ in range(10)]
        waiting = world.try_consumer(ready, "newcomer")
        cpu, begin = world.server_cpu_s(), time.monotonic()
        slowest = _slowest(consumer, 20)
        time.sleep(max(begin + 3 - time.monotonic(), 0))
        load = (world.server_cpu_s() - cpu) / (time.monotonic() - begin) * 100
    begin = time.time()
    works = wait_until(lambda: seconds_until_told(port, 1) is not None, 20)
    waiting.kill()
    newcomer = world.consumer(ready, name="another")
    return [
        Figure("slowest call of the connected", slowest, 1),
        Figure("newcomers told nothing in 5 s", sum(answer is None for answer in told), 0, ""),
        Figure("load of the server", load, 30, "%"),
        Figure("newcomers answered again", NEVER if works is None else works, 5),
        Figure("a client after it", seconds(newcomer.until_works(limit=20), begin), 10),
    ]


@scenario(quick=True)
def being_fast(world: World) -> list[Figure]:
    """A tight generator, and a burst of calls: honest speed."""
    _, ready = world.provider()
    consumer = world.consumer(ready)
    label = consumer.order("consume", count=20_000)
    items = consumer.process.wait_for("consumed", timeout_s=120, label=label)["items"]
    label = consumer.order("burst", count=3_000)
    failed = consumer.process.wait_for("burst", timeout_s=120, label=label)["failed"]
    return [
        Figure("items lost", 20_000 - items, 0, ""),
        Figure("calls lost", failed, 0, ""),
        Figure("slowest call after it", _slowest(consumer), 1),
        Figure("calls run twice", sum(count > 1 for count in world.runs().values()), 0, ""),
    ]


@scenario(quick=False)
def stuck_listener(world: World) -> list[Figure]:
    """A subscriber is stopped (SIGSTOP) while 400 MB of events are sent; others listen, too."""
    _, ready = world.provider()
    flood = world.consumer(ready, name="flood")
    stopped, good = world.consumer(ready, name="stopped"), world.consumer(ready, name="good")
    _, far = world.provider()
    abroad, far_flood = world.consumer(far, name="abroad"), world.consumer(far, name="speaker")
    for listener in (stopped, good, abroad):
        listener.process.wait_for("listening", timeout_s=30, label=listener.order("listen", kind="news"))
    before = most = world.server_rss_mb()
    stopped.process.signal(signal.SIGSTOP)
    slowest = 0.0
    try:
        for number in range(20):
            for _ in range(5):
                flood.order("announce", kind="news", size=4 * MB)
            flood.order("announce", kind="news", number=number)
            far_flood.order("announce", kind="news", number=number)
            for listener, speaker in ((good, flood), (abroad, far_flood)):
                slowest = max(slowest, _heard(listener, speaker, number))
            most = max(most, world.server_rss_mb())
    finally:
        stopped.process.signal(signal.SIGCONT)
    works = stopped.until_works(limit=60)
    return [
        Figure("server grows by", most - before, 64, "MB"),
        Figure("slowest event to others", slowest, 1),
        Figure("the stopped one works again", NEVER if works["at"] is None else works["took"], 15),
    ]


def _heard(listener: Consumer, speaker: Consumer, number: int) -> float:
    """How long the small event of this number took to arrive."""
    label = f"announce-{speaker.made}"
    sent = speaker.process.wait_for("announced", timeout_s=60, label=label)
    try:
        heard = listener.process.wait_for("heard", timeout_s=30, number=number)
    except ProcessFailed:
        return NEVER
    return float(heard["at"]) - float(sent["at"])


@scenario(quick=False)
def stuck_reader(world: World) -> list[Figure]:
    """A provider is stopped (SIGSTOP) while a caller sends it 400 MB."""
    provider, ready = world.provider()
    flood = world.consumer(ready, name="flood")
    _, good = world.provider(None, ready["token"], ready["workspace"], "good")
    other = world.consumer(good, name="other")
    before = world.server_rss_mb()
    provider.signal(signal.SIGSTOP)
    try:
        for _ in range(100):
            flood.order("call", method="take", size=4 * MB)
        slowest, most = 0.0, before
        for _ in range(20):
            slowest = max(slowest, other.settled(other.call(), 120)["took"])
            most = max(most, world.server_rss_mb())
            time.sleep(0.25)
    finally:
        provider.signal(signal.SIGCONT)
    return [
        Figure("server grows by", most - before, 64, "MB"),
        Figure("slowest call of others", slowest, 1),
    ]


@scenario(quick=False)
def crowd_returns(world: World) -> list[Figure]:
    """The server restarts under 300 clients, each with a service."""
    crowd = world.crowd(300)
    world.server_process.kill()
    time.sleep(1)
    world.server.start()
    back = time.time()
    try:
        report = crowd.wait_for("all_back", timeout_s=120)
    except ProcessFailed:
        return [Figure("all are back", NEVER, 10)]
    # Whoever comes twice has come by now.
    time.sleep(5)
    return [
        Figure("all are back", seconds(report, back), 10),
        Figure("connections they made", _connections_made(world), _OWN + 300, ""),
    ]


# The server's own clients: of start-up functions and residents.
_OWN = 2


def _connections_made(world: World) -> float:
    with urllib.request.urlopen(f"{world.server.url}/health", timeout=5) as answer:
        connections = json.load(answer)["connections"]
    return float(connections["total_created"])


@scenario(quick=False)
def idle_crowd(world: World) -> list[Figure]:
    """Thousands of clients are connected and do nothing."""
    # The public pair would need more than half an hour for as many.
    count = 5_000 if (world.server.kind, world.clients) == (OURS, OURS) else 1_000
    warm = world.idle(20, 1)
    warm.wait_for("ready", timeout_s=60)
    warm.kill()
    time.sleep(3)
    before = world.server_rss_mb()
    crowds = [world.idle(count // 2, _PARTS) for _ in range(2)]
    cpu, costs, walls = world.server_cpu_s(), [], []
    for part in range(_PARTS):
        reports = [crowd.wait_for("part", timeout_s=600, part=part) for crowd in crowds]
        used, cpu = world.server_cpu_s() - cpu, world.server_cpu_s()
        walls.append(max(report["end"] - report["begin"] for report in reports) / count * _PARTS * 1000)
        # Those who are there already keep it busy, too.
        costs.append(used / count * _PARTS * 1000)
    time.sleep(3)
    each = (world.server_rss_mb() - before) * 1024 / count
    cpu, begin = world.server_cpu_s(), time.monotonic()
    time.sleep(30)
    load = (world.server_cpu_s() - cpu) / (time.monotonic() - begin) * 100
    refused = sum(report["event"] == "refused" for crowd in crowds for report in crowd.reports)
    return [
        Figure("connections refused", refused, 0, ""),
        Figure("memory of the server, each", each, 50, "kB"),
        Figure("load of the server", load, 5, "%"),
        Figure("a connection, first fifth", walls[0], 50, "ms"),
        Figure("a connection, last fifth", walls[-1], 50, "ms"),
        Figure("its cost to the server, last to first fifth", costs[-1] / costs[0], 2, "x"),
    ]
