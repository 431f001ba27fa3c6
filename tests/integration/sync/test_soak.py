"""Nesting, cancelling and disconnecting at random: no thread is stuck afterwards.

Set ``HYPHA_SOAK_S`` for a longer run than the short one of every day. If a thread is
stuck, the stacks of all threads are in the failure.
"""

from __future__ import annotations

import concurrent.futures
import faulthandler
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from hypha_rpc.errors import CallTimeout, RemoteException
from hypha_rpc.sync import connect_to_server

SECONDS = float(os.environ.get("HYPHA_SOAK_S", "4"))
THREADS = 12
PATIENCE_S = 20.0


def stacks() -> str:
    """What every thread is doing."""
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read().decode()


class Peer:
    """A client that is replaced now and then, with a service that calls back."""

    def __init__(self, url: str, token: str | None, name: str) -> None:
        self._options: dict[str, Any] = {"server_url": url, "method_timeout": 5, "token": token}
        self._name = name
        self._lock = threading.Lock()
        self.server: Any = None
        self.renew()

    def renew(self) -> None:
        """Disconnect, while others call, and connect again."""
        with self._lock:
            if self.server is not None:
                self.server.disconnect()
            self.server = connect_to_server(self._options)
            functions = {"nest": nest, "count": count, "doze": doze, "make": make}
            self.server.register_service({"id": self._name, **functions}, overwrite=True)


def nest(depth: int, back: Callable[..., int]) -> int:
    """Ping-pong."""
    return int(back(depth - 1, nest)) + 1 if depth else 0


def count(number: int) -> Any:
    """Numbers."""
    yield from range(number)


def doze(seconds: float) -> float:
    """Take a while."""
    time.sleep(seconds)
    return seconds


def make(number: int) -> dict[str, Callable[[], int]]:
    """A function in a result."""
    return {"get": lambda: number}


def nested(service: Any, dice: random.Random) -> None:
    depth = dice.randrange(12)
    assert service.nest(depth, nest) == depth


def counted(service: Any, dice: random.Random) -> None:
    assert list(service.count(5)) == [0, 1, 2, 3, 4]


def left_early(service: Any, dice: random.Random) -> None:
    for _ in service.count(1000):
        if dice.random() < 0.3:
            break


def cancelled(service: Any, dice: random.Random) -> None:
    with pytest.raises(CallTimeout):
        service.doze.options(timeout=0.02)(0.2)


def returned(service: Any, dice: random.Random) -> None:
    number = dice.randrange(100)
    assert service.make(number).get() == number


DEEDS = (nested, nested, counted, left_early, cancelled, returned)


def work(seed: int, peers: list[Peer], names: list[str], until: float) -> int:
    """Use the peers' services at random until the time is over."""
    dice, done = random.Random(seed), 0
    while time.monotonic() < until:
        try:
            service = dice.choice(peers).server.get_service(dice.choice(names))
            dice.choice(DEEDS)(service, dice)
            done += 1
        except (ConnectionError, RemoteException, TimeoutError):
            # Somebody was just disconnected.
            time.sleep(0.002)
    return done


@pytest.mark.timeout(SECONDS + 3 * PATIENCE_S)
def test_no_thread_is_stuck_after_a_random_time(server_url):
    before = threading.active_count()
    home = connect_to_server(server_url=server_url)
    token = home.generate_token()
    names = ["one", "two", "three"]
    peers = [Peer(server_url, token, name) for name in names]
    until, dice = time.monotonic() + SECONDS, random.Random(1)
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        workers = [pool.submit(work, seed, peers, names, until) for seed in range(THREADS)]
        while time.monotonic() < until:
            time.sleep(dice.uniform(0.1, 0.5))
            dice.choice(peers).renew()
        finished, stuck = concurrent.futures.wait(workers, PATIENCE_S)
        said = stacks() if stuck else ""
        for peer in peers:
            peer.server.disconnect()
    home.disconnect()
    assert not stuck, said
    assert sum(worker.result() for worker in finished) > 20
    deadline = time.monotonic() + PATIENCE_S
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before, stacks()
