"""Histories of a simulated world: nothing is lost, nothing happens twice, nothing is left."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.history import Outcome, run
from tests.sim.shrink import shrink
from tests.sim.steps import script

_HISTORIES = 60
_BLOCK = 10
_REGRESSIONS = [
    json.loads(line)
    for line in (Path(__file__).parent / "regressions.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


def _told(outcome: Outcome) -> str:
    """What a person needs to repeat a failure."""
    small = shrink(outcome, 20.0)
    return "\n".join(
        [
            f"seed {outcome.seed}: python -m tests.sim.run --seed {outcome.seed} --trace",
            *outcome.violations[:10],
            f"shrunk to {len(small.steps)} steps, a line for regressions.txt:",
            json.dumps([small.seed, small.steps]),
        ]
    )


@pytest.mark.timeout(120)
@pytest.mark.parametrize("first", range(0, _HISTORIES, _BLOCK))
def test_histories_hold_what_is_promised(first: int) -> None:
    for number in range(first, first + _BLOCK):
        outcome = run(str(number))
        assert outcome.calls > 0 or len(outcome.steps) < 10
        if outcome.violations:
            pytest.fail(_told(outcome))


@pytest.mark.parametrize(("seed", "steps"), _REGRESSIONS)
def test_a_history_that_failed_once_holds(seed: str, steps: list[list[object]]) -> None:
    assert run(seed, steps).violations == []


@pytest.mark.timeout(90)
def test_a_seed_replays_exactly() -> None:
    program = (
        "import hashlib; from tests.sim.history import run; "
        "print(hashlib.sha256('\\n'.join(run('17', traced=True).trace).encode()).hexdigest())"
    )
    here = hashlib.sha256("\n".join(run("17", traced=True).trace).encode()).hexdigest()
    elsewhere = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "7"},
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    assert elsewhere.stdout.strip() == here


def test_a_script_has_the_steps_asked_for_and_depends_on_its_seed_only() -> None:
    assert len(script("a", 200)) == 200
    assert script("a", 200) == script("a", 200)
    assert script("a", 200) != script("b", 200)
