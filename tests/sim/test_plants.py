"""Every planted bug is found, and soon."""

from __future__ import annotations

import pytest

from tests.sim.history import run
from tests.sim.plants import PLANTS, Plant

_MOST = 2_000


# What a bug leaves behind is not awaited by anybody.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_a_planted_bug_is_found(plant: Plant) -> None:
    with plant.planted():
        for number in range(_MOST):
            found = [text for text in run(f"plant {number}").violations if text.startswith(plant.finds)]
            if found:
                print(f"found in history {number + 1}: {found[0]}")
                return
    pytest.fail(f"not found in {_MOST} histories")
