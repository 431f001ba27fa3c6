"""A session that is cut after some byte goes on: all of them by ``make sim``, some of them here."""

from __future__ import annotations

import pytest

from tests.cut.run import cuts, where
from tests.cut.session import ITEMS, run
from tests.cut.wires import Cut

_STRIDE = 2_003
_SILENT_STRIDE = 4_001


def test_a_session_without_a_cut_is_clean_and_does_everything() -> None:
    result = run(Cut())
    assert result.violations == []
    phases = [phase for phase, _, _ in result.marks]
    assert {"registering", "streaming in", "big values out", "reconnecting", "end"} <= set(phases)
    assert result.cut.passed["up"] > 10_000 and result.cut.passed["down"] > 10_000 and ITEMS > 1


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("stride", "silent"), [(_STRIDE, False), (_SILENT_STRIDE, True)], ids=["told", "silent"])
def test_a_session_that_is_cut_goes_on(stride: int, silent: bool) -> None:
    failed = [
        f"{where(result)}: {result.violations[:4]}"
        for result in map(run, cuts(stride, silent=silent))
        if result.violations
    ]
    assert failed == []
