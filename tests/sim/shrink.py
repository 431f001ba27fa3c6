"""Making a failing history small: steps are left out as long as it fails in the same way."""

from __future__ import annotations

import re
import time

from tests.sim.history import Outcome, run
from tests.sim.steps import Step

_PATIENCE_S = 60.0


def shrink(outcome: Outcome, patience_s: float = _PATIENCE_S) -> Outcome:
    """A smaller history that fails like *outcome* (delta debugging, at most *patience_s* seconds of real time)."""
    give_up_at = time.monotonic() + patience_s
    wanted, best = _kinds(outcome), outcome
    size = max(len(best.steps) // 2, 1)
    while time.monotonic() < give_up_at:
        smaller = _without_a_part(best, size, wanted, give_up_at)
        if smaller is not None:
            best = smaller
            size = min(size, max(len(best.steps) // 2, 1))
        elif size > 1:
            size //= 2
        else:
            break
    return best


def _without_a_part(best: Outcome, size: int, wanted: set[str], give_up_at: float) -> Outcome | None:
    steps = best.steps
    for start in range(0, len(steps), size):
        if time.monotonic() > give_up_at:
            return None
        kept: list[Step] = steps[:start] + steps[start + size :]
        tried = run(best.seed, kept)
        if _kinds(tried) & wanted:
            return tried
    return None


def _kinds(outcome: Outcome) -> set[str]:
    """What is wrong, without whom it concerns."""
    return {re.split(r"[:{\[]", text, maxsplit=1)[0] for text in outcome.violations}
