"""Many histories: ``python -m tests.sim.run --histories 20000``; what fails is shrunk and printed.

``HYPHA_HISTORIES`` says how many when the option does not.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from collections import Counter

from tests.sim.history import LENGTH, Outcome, run
from tests.sim.shrink import shrink


def main() -> int:
    """Run the histories that the command line asks for; the exit code says whether all were well."""
    options = _options()
    if options.seed is not None:
        return _one(options)
    began, failures, totals = time.monotonic(), 0, Counter[str]()
    gc.collect()
    gc.freeze()
    for number in range(options.first, options.first + options.histories):
        outcome = run(str(number), length=options.length)
        totals.update(outcome.outcomes)
        totals["_calls"] += outcome.calls
        totals["_lines"] += outcome.lines
        if outcome.violations:
            failures += 1
            _report(outcome, shrinks=failures <= options.shrink)
        if (number - options.first + 1) % 500 == 0:
            print(
                f"{number - options.first + 1} histories, {failures} failed, {time.monotonic() - began:.0f} s",
                flush=True,
            )
    calls, lines = totals.pop("_calls"), totals.pop("_lines")
    print(
        f"{options.histories} histories of {options.length} steps ({calls} calls, {lines} connections) "
        f"in {time.monotonic() - began:.0f} s: {failures} failed"
    )
    for name, count in sorted(totals.items()):
        print(f"  {count:9} {name}")
    return 1 if failures else 0


def _one(options: argparse.Namespace) -> int:
    outcome = run(
        options.seed, json.load(sys.stdin) if options.steps else None, length=options.length, traced=options.trace
    )
    if options.trace:
        print("\n".join(outcome.trace))
    _report(outcome, shrinks=bool(options.shrink and not options.trace))
    return 1 if outcome.violations else 0


def _report(outcome: Outcome, *, shrinks: bool) -> None:
    print(f"seed {outcome.seed}: {len(outcome.violations)} violations")
    for text in outcome.violations[:8]:
        print(f"    {text}")
    if shrinks and outcome.violations:
        small = shrink(outcome)
        print(f"  shrunk to {len(small.steps)} steps: {small.violations[:3]}")
        print(f"  {json.dumps([small.seed, small.steps])}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=int(os.environ.get("HYPHA_HISTORIES", "500")))
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--length", type=int, default=LENGTH, help="steps of a history")
    parser.add_argument("--shrink", type=int, default=3, help="how many failures to shrink")
    parser.add_argument("--seed", help="run this one only")
    parser.add_argument("--steps", action="store_true", help="with --seed: read the steps from the input (JSON)")
    parser.add_argument("--trace", action="store_true", help="with --seed: print what was delivered")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
