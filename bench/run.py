"""Measures this project against the public packages, alternating between them; the entry of ``make bench``.

Run as ``python bench/run.py [--quick] [--only NAME] [--rounds N] [--ours-only] [--check]``; ``--help`` explains.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gates import judge
from processes import BenchFailed
from results import Row
from sides import OURS, PUBLIC, ROOT
from stage import Stage
from tables import markdown, number, text_table
from workloads import Workload, chosen

RESULTS = ROOT / "bench" / "RESULTS.md"


@dataclass(frozen=True)
class Options:
    """What to measure, how often, how long."""

    workloads: list[Workload]
    sides: list[str]
    rounds: int
    seconds: float


def say(text: str) -> None:
    """Show progress at once, also through a pipe."""
    print(text, flush=True)


async def measure_once(stage: Stage, row: Row, options: Options) -> None:
    """One side, one round."""
    if stage.side in row.errors or (row.workload.ours_only and stage.side == PUBLIC):
        return
    try:
        row.rounds[-1][stage.side] = await stage.measure(row.workload, options.seconds)
    except BenchFailed as error:
        row.errors[stage.side] = str(error)


async def measure(workload: Workload, stages: Sequence[Stage], options: Options, label: str) -> Row:
    """All rounds of one workload; every other round starts with the other side."""
    row = Row(workload)
    for number_of_round in range(options.rounds):
        row.rounds.append({})
        begin = time.monotonic()
        for stage in stages if number_of_round % 2 == 0 else reversed(stages):
            await measure_once(stage, row, options)
        values = [
            f"{side} {number(item.value)}" for side in options.sides if (item := row.rounds[-1].get(side)) is not None
        ]
        took = time.monotonic() - begin
        say(
            f"{label} {workload.name} round {number_of_round + 1}/{options.rounds}: "
            f"{', '.join(values)} {workload.unit} ({took:.1f} s)"
        )
    for side, error in row.errors.items():
        say(f"{label} {workload.name}: {side} FAILED: {error}")
    return row


async def run(options: Options, folder: Path) -> tuple[list[Row], dict[str, str]]:
    """Start the processes, measure everything, end them."""
    stages: list[Stage] = []
    try:
        for side in options.sides:
            say(f"starting server, callee and caller of {side}")
            stages.append(await Stage.start(side, folder / side))
        rows = []
        for position, workload in enumerate(options.workloads, 1):
            rows.append(await measure(workload, stages, options, f"[{position}/{len(options.workloads)}]"))
        return rows, {stage.side: stage.versions for stage in stages}
    finally:
        for stage in reversed(stages):
            await stage.close()


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure against the public packages, alternating.")
    parser.add_argument("--quick", action="store_true", help="fewer workloads, 2 rounds of half a second")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only this workload, or pattern")
    parser.add_argument("--rounds", type=int, help="rounds a workload (default 5, quick 2)")
    parser.add_argument("--seconds", type=float, help="seconds a round (default 2, quick 0.5)")
    parser.add_argument("--ours-only", action="store_true", help="without the public side: no ratios")
    parser.add_argument("--check", action="store_true", help="end with 1 when a gate fails")
    parser.add_argument("--write", action="store_true", help="write RESULTS.md after a partial or quick run, too")
    return parser.parse_args(arguments)


def main() -> int:
    """Entry point."""
    given = parse(sys.argv[1:])
    options = Options(
        workloads=chosen(given.only, quick=given.quick),
        sides=[OURS] if given.ours_only else [OURS, PUBLIC],
        rounds=given.rounds or (2 if given.quick else 5),
        seconds=given.seconds or (0.5 if given.quick else 2.0),
    )
    with tempfile.TemporaryDirectory(prefix="hypha-bench-") as folder:
        rows, versions = asyncio.run(run(options, Path(folder)))
    say(f"\n{text_table(rows)}\n\nCPU is given as server / callee / caller.")
    if given.ours_only:
        return int(any(row.errors for row in rows))
    verdicts = judge(rows, everything=not given.only)
    say("\n".join(str(verdict) for verdict in verdicts))
    if given.write or not (given.only or given.quick):
        text = markdown(rows, verdicts, versions, rounds=options.rounds, seconds=options.seconds)
        RESULTS.write_text(text, encoding="utf-8")
        say(f"written: {RESULTS.relative_to(ROOT)}")
    failed = not all(verdict.passed for verdict in verdicts) or any(row.errors for row in rows)
    return int(given.check and failed)


if __name__ == "__main__":
    sys.exit(main())
