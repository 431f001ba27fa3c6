"""The readable table, and ``RESULTS.md``."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from gates import Verdict
from results import PROCESSES, Row
from sides import OURS, PUBLIC, SETTINGS

HEADINGS = ["workload", "unit", "ours", "public", "ours is better by", "CPU µs a call, ours", "CPU µs a call, public"]

METHOD = """\
Three processes on loopback for either side: a server, a callee (an anonymous client with one service) and a caller
(a client of the same workspace). Both sides use the same program files, which know nothing but the public API
(`bench/programs/`), each with the interpreter and the packages of its side. All processes of both sides stand ready;
each workload is measured alternately (ours, public, then public, ours, ...) for {rounds} rounds of {seconds:g} s
after a warm-up. The values are medians of the rounds; "ours is better by" is the median of the rounds' ratios, so that
what else the machine does hits both. Compare within the table only.

* `latency`: `await echo(int)`, one at a time, the median duration. `in_flight_64`: 64 of them always under way.
* `http_*`: `GET /WORKSPACE/services/SERVICE/echo?value=N` with a token, on connections that stay open: one, or 32.
* `bytes_*`, `array_*` (float32): echo of a value of this size, noise, one at a time; its size divided by the time of a
  whole round trip (so twice as many bytes pass each process).
* `array_100MB_memory`: how much more resident memory the caller or the callee, whichever needs more, has at the peak of
  such an echo, in sizes of the array. `small_beside_100MB`: the median duration of small calls while an echo of 100 MB
  is under way. `generator_1MB`: items of 1 MB of an async generator.
* `callbacks`: invocations of the caller's function by one call of the callee's. `generator`: items of an async
  generator.
* `blocking_latency`: `echo(int)` with `hypha_rpc.sync` in a fresh process, one at a time, the median duration.
  `blocking_overhead`: CPU time of a blocking call minus that of an awaited one, in one process by turns.
* `crowd_*`: 200 clients in one process connect (10 at once) and fetch the service; then all call at once.
* `connect`: connecting in a process that has imported the client. `server_start`: from starting the process until
  `/health/readiness` says 200; `server_memory`: its resident memory then. `server_*_share`: the
  same of a process that only imports the libraries our server declares, divided by that of our server. `import`,
  `import_memory`: `from hypha_rpc import connect_to_server` in a fresh process with warm file caches, and resident
  memory after it; `import_asyncio`: `import asyncio` alone, for comparison (no gain of ours).
* CPU: user and system time of server/callee/caller from `/proc`, divided by the calls (callbacks, items, clients).

Servers run with {settings}: the public server disconnects clients
above 200 messages a second otherwise. Everything else is as by default on both sides, compression included.
"""


def number(value: float | None) -> str:
    """Three significant digits."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def cells(row: Row) -> list[str]:
    """One line of the table."""
    ratio = row.ratio()
    line = [row.workload.name, row.workload.unit]
    line += ["failed" if side in row.errors else number(row.median(side)) for side in (OURS, PUBLIC)]
    line.append("-" if ratio is None else f"{ratio:.2f}x")
    return [*line, *(cpu_text(row, side) for side in (OURS, PUBLIC))]


def cpu_text(row: Row, side: str) -> str:
    """CPU microseconds per call of server, callee and caller."""
    found = [row.cpu(side, process) for process in PROCESSES]
    if not row.workload.per or all(value is None for value in found):
        return "-"
    return " / ".join(number(None if value is None else value * 1e6) for value in found)


def text_table(rows: Sequence[Row]) -> str:
    """For the terminal."""
    lines = [HEADINGS, *(cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    padded = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join(line.rstrip() for line in [padded[0], "-" * len(padded[0]), *padded[1:]])


def markdown_table(rows: Sequence[Row]) -> str:
    """For the file."""
    lines = [HEADINGS, ["---", "---", *["---:"] * 5], *(cells(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """Processor, cores, memory, system, interpreter."""
    processor = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.release().partition('-')[0]}, Python {platform.python_version()}"
    return f"{processor}, {os.cpu_count()} cores, {memory:.0f} GiB, {system}"


def markdown(
    rows: Sequence[Row], verdicts: Sequence[Verdict], versions: dict[str, str], *, rounds: int, seconds: float
) -> str:
    """The whole of ``RESULTS.md``."""
    settings = ", ".join(f"`{name}={value}`" for name, value in SETTINGS.items())
    parts = [
        "# Speed, compared with the public packages",
        f"Measured by `make bench` on {datetime.datetime.now(datetime.UTC):%Y-%m-%d}; written by `bench/run.py`.",
        f"Machine: {machine()}.",
        "\n".join(f"* {side}: {text}" for side, text in versions.items()),
        "## Results",
        markdown_table(rows),
        "CPU is given as server / callee / caller.",
        "## Gates",
        "\n".join(f"* {verdict}" for verdict in verdicts) or "None measured.",
        "## Method",
        METHOD.format(rounds=rounds, seconds=seconds, settings=settings),
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"
