"""Importing the SDK stays cheap: nothing heavy is loaded before it is needed.

Method of the time test: the cost of ``import asyncio`` depends on the machine and
on what else it does at the moment, so no number of milliseconds is asserted.
Both statements are timed in fresh interpreters, each by `time.perf_counter`
around the import itself (the interpreter's own start does not count), strictly
alternating, so that a slow moment hits both alike. One unmeasured pair first
writes the byte code files. The medians of the two series are compared.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

import pytest

PAIRS = 15
# The package itself hands out its names lazily; the first name loads the whole client.
LIMITS = {"import hypha_rpc": 1.8, "from hypha_rpc import connect_to_server": 2.5}
HEAVY = frozenset(
    {
        *("numpy", "httpx", "httpx2", "pydantic", "picows", "websockets", "aiortc", "nacl", "uvloop", "starlette"),
        *("hypha",),
    }
)
STATEMENTS = list(LIMITS)


def run(program: str) -> str:
    # -P keeps the current folder off the path, so that the installed packages are the ones measured.
    command = [sys.executable, "-P", "-c", program]
    # Byte code is what users run; without files for it every import compiles.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def seconds(statement: str) -> float:
    return float(run(f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"))


@pytest.mark.parametrize("statement", STATEMENTS)
def test_importing_loads_nothing_heavy(statement: str) -> None:
    before = set(run("import sys; print(*sys.modules)").split())
    after = set(run(f"{statement}; import sys; print(*sys.modules)").split())
    loaded = {name.partition(".")[0] for name in after - before}
    assert "hypha_rpc" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("statement", STATEMENTS)
def test_importing_costs_little_more_than_asyncio(statement: str) -> None:
    seconds("import asyncio")
    seconds(statement)
    asyncio_s, ours_s = [], []
    for _ in range(PAIRS):
        asyncio_s.append(seconds("import asyncio"))
        ours_s.append(seconds(statement))
    ratio = statistics.median(ours_s) / statistics.median(asyncio_s)
    limit = LIMITS[statement]
    assert ratio <= limit, f"{statement}: {ratio:.2f} times `import asyncio`, allowed are {limit}"
