"""Runs the faults with our pair, the public pair and the mixed ones, and writes a table; ``make faults``.

Run as ``python -m tests.faults.run [--quick] [--only NAME ...] [--pairs ours,public,...] [--repeat N]``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.interop.processes import ProcessFailed
from tests.interop.sides import OURS, PUBLIC, ROOT

from . import resources, server_life
from .scenarios import NEVER, SCENARIOS, Figure, Scenario
from .world import World

# Importing them has registered their scenarios.
assert resources and server_life

PAIRS = {
    "ours": (OURS, OURS),
    "public": (PUBLIC, PUBLIC),
    "ours-on-public": (OURS, PUBLIC),
    "public-on-ours": (PUBLIC, OURS),
}
RESULTS = ROOT / "tests/faults/RESULTS.md"


def run_one(scenario: Scenario, pair: str, folder: Path) -> list[Figure]:
    """Run one fault with one pair.

    Raises:
        ProcessFailed: a process did not do its part.
    """
    clients, server = PAIRS[pair]
    with World(clients, server, folder) as world:
        return scenario.run(world)


def shown(figure: Figure | None) -> str:
    """A figure as text."""
    if figure is None:
        return "failed"
    if figure.value >= NEVER:
        return "never"
    number = f"{figure.value:.2f}" if figure.unit == "s" else f"{figure.value:.0f}"
    return f"{number} {figure.unit}".strip()


def table(results: dict[str, dict[str, list[Figure]]], pairs: list[str]) -> str:
    """The results as Markdown."""
    lines = [
        "# Faults",
        "",
        "Real processes on one machine; `make faults` writes this page. Each figure is the worst of its runs.",
        "*At most* is what our pair has to meet.",
        "",
        f"| fault | figure | at most | {' | '.join(pairs)} |",
        f"|---|---|---|{'---|' * len(pairs)}",
    ]
    for name, by_pair in results.items():
        names: dict[str, Figure] = {}
        for figures in by_pair.values():
            for figure in figures:
                names.setdefault(figure.name, figure)
        for figure_name, example in names.items():
            cells = []
            for pair in pairs:
                found = [figure for figure in by_pair.get(pair, []) if figure.name == figure_name]
                cells.append(shown(found[0] if found else None))
            limit = f"{example.most:g} {example.unit}".strip()
            lines.append(f"| {name.replace('_', ' ')} | {figure_name} | {limit} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def worst(runs: list[list[Figure]]) -> list[Figure]:
    """The worst of several runs, figure by figure."""
    found: dict[str, Figure] = {}
    for figures in runs:
        for figure in figures:
            before = found.get(figure.name)
            if before is None or figure.value > before.value:
                found[figure.name] = figure
    return list(found.values())


def main() -> int:
    """Entry point: 0 when our pair has met every figure."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only what every test run does")
    parser.add_argument("--only", nargs="*", default=[], choices=sorted(SCENARIOS), help="these faults")
    parser.add_argument("--pairs", default=",".join(PAIRS), help="clients on servers, separated by commas")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each")
    wishes = parser.parse_args()
    pairs = [pair for pair in wishes.pairs.split(",") if pair]
    if unknown := set(pairs) - set(PAIRS):
        parser.error(f"unknown pairs {', '.join(unknown)}: choose from {', '.join(PAIRS)}")
    chosen = [
        entry
        for entry in SCENARIOS.values()
        if (entry.name in wishes.only if wishes.only else entry.quick or not wishes.quick)
    ]
    results: dict[str, dict[str, list[Figure]]] = {}
    bad = 0
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        for entry in chosen:
            results[entry.name] = {}
            for pair in pairs:
                runs = []
                for number in range(wishes.repeat):
                    try:
                        runs.append(run_one(entry, pair, Path(folder) / entry.name / pair / str(number)))
                    except ProcessFailed as error:
                        print(f"{entry.name} {pair}: FAILED {str(error)[:400]}", flush=True)
                        bad += pair == "ours"
                figures = results[entry.name][pair] = worst(runs)
                for figure in figures:
                    verdict = "" if pair != "ours" else "ok  " if figure.met else "BAD "
                    bad += pair == "ours" and not figure.met
                    print(f"{verdict}{entry.name} {pair}: {figure.name}: {shown(figure)}", flush=True)
    if not wishes.only and not wishes.quick:
        RESULTS.write_text(table(results, pairs), encoding="utf-8")
        print(f"written: {RESULTS.relative_to(ROOT)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
