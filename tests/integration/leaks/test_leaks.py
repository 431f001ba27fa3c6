"""Nothing is left of many calls, generators, failures and connections: in the client, its peer, and the server.

Three processes, looked at from within by their own tables and from outside: tasks, timers, threads, file handles, weak
references and memory (RELIABILITY, row Leaks).
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hypha.testing import ServerProcess

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).parents[3]
PROGRAM = (sys.executable, "-m", "tests.integration.leaks.programs")
COUNTED = ("tasks", "timers", "threads", "handles")
KB, MB = 1_000, 1_000_000

Pictures = list[dict[str, dict[str, int]]]


@dataclass
class Work:
    """A server and a provider, for the consumer to work with."""

    url: str
    service: str
    token: str

    async def done(self, workload: str, *counts: int) -> Pictures:
        """Run the consumer; the pictures after each share of the work."""
        command = [*PROGRAM, "consumer", self.url, self.service, self.token, workload, *map(str, counts)]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, cwd=ROOT, env=environment())
        output, _ = await process.communicate()
        assert process.returncode == 0
        pictures: Pictures = json.loads(output)
        return pictures


def environment() -> dict[str, str]:
    path = [str(ROOT), str(ROOT / "server"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


@pytest.fixture
async def work() -> AsyncIterator[Work]:
    function = f"{Path(__file__).with_name('window.py')}:start"
    async with ServerProcess("--in-memory", "--startup-functions", function, env=environment()) as server:
        provider: Any = await asyncio.create_subprocess_exec(
            *PROGRAM, "provider", server.url, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=environment()
        )
        try:
            line = await asyncio.wait_for(provider.stdout.readline(), 20)
            yield Work(server.url, *line.decode().split())
        finally:
            await asyncio.wait_for(provider.communicate(b"\n"), 10)


def grown(pictures: Pictures, what: str) -> dict[str, int]:
    """By how much it has become more in each process since the first picture."""
    return {side: pictures[-1][side][what] - first[what] for side, first in pictures[0].items()}


def nothing_is_left(pictures: Pictures) -> None:
    for side in ("consumer", "provider"):
        for number, pictured in enumerate(pictures):
            assert not {name: size for name, size in pictured[side].items() if name.startswith("table ") and size}, (
                side,
                number,
            )
    assert [pictured["consumer"]["handed out"] for pictured in pictures] == [0] * len(pictures)
    for what in COUNTED:
        assert grown(pictures, what) == {"consumer": 0, "provider": 0, "server": 0}, what


@pytest.mark.parametrize(
    ("workload", "count"), [("callbacks", 10_000), ("generators", 1_000), ("failures", 1_000), ("interfaces", 1_000)]
)
async def test_nothing_is_left_of(work: Work, workload: str, count: int) -> None:
    pictures = await work.done(workload, count // 10, count)
    nothing_is_left(pictures)
    for side, objects in grown(pictures, "objects").items():
        assert objects < 100, side
    for side, memory in grown(pictures, "resident").items():
        assert memory < 10 * MB, side
    if workload == "generators":
        # One fifth was never started and has nothing to finish, another was sent the other way.
        assert pictures[-1]["provider"]["ended"] - pictures[0]["provider"]["ended"] == count * 3 // 5


async def test_a_connection_that_comes_and_goes_costs_less_than_a_kilobyte(work: Work) -> None:
    # The first hundreds fill caches and the free lists of the allocator.
    pictures = await work.done("connections", 350, 500)
    nothing_is_left(pictures)
    for side, memory in grown(pictures, "resident").items():
        assert memory < 500 * KB, side
    assert grown(pictures, "objects")["consumer"] < 250
