"""Our pair under every fault that is quick to make; ``make faults`` runs all, beside the public pair."""

from __future__ import annotations

from pathlib import Path

import pytest

from .run import run_one
from .scenarios import SCENARIOS

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("name", [entry.name for entry in SCENARIOS.values() if entry.quick])
def test_what_users_notice_is_within_bounds(name: str, tmp_path: Path) -> None:
    figures = run_one(SCENARIOS[name], "ours", tmp_path)
    assert figures
    assert not [figure for figure in figures if not figure.met]
