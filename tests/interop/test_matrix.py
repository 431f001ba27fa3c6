"""Every check, by each client against each provider on each server."""

from __future__ import annotations

from typing import Any

import pytest

from .matrix import LONG_CALL, QUICK, Matrix
from .peers import CELLS, Cell
from .sides import OURS, PUBLIC

pytestmark = pytest.mark.timeout(300)
each_cell = pytest.mark.parametrize("cell", CELLS, ids=str)


def expect_success(matrix: Matrix, cell: Cell, report: dict[str, Any]) -> None:
    """Fail with the check's error and the logs around it."""
    if report["error"]:
        pytest.fail(f"{report['error']}\n{matrix.logs(cell)}", pytrace=False)


@each_cell
def test_each_client_is_of_its_own_package(matrix: Matrix, cell: Cell) -> None:
    others = [item for item in CELLS if item.server == cell.server and item.consumer != cell.consumer]
    mine, other = matrix.client(cell), matrix.client(others[0])
    assert mine["version"]
    assert mine["path"] != other["path"], f"both sides have imported {mine['path']}"


@each_cell
def test_the_provider_is_anonymous_and_gets_a_workspace(matrix: Matrix, cell: Cell) -> None:
    ready = matrix.provider(cell)
    assert ready["anonymous"] is True
    assert ready["workspace"].startswith("ws-user-")
    assert ready["token"]


@each_cell
@pytest.mark.parametrize("name", QUICK)
def test_check(matrix: Matrix, cell: Cell, name: str) -> None:
    expect_success(matrix, cell, matrix.result(cell, name))


# through the public server a pair needs 15 to 20 s for it
@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell.server == OURS], ids=str)
def test_a_100_mb_array_makes_the_round_trip(matrix: Matrix, cell: Cell) -> None:
    report = matrix.big_value(cell)
    expect_success(matrix, cell, report)
    assert report["seconds"] < 30


# last: these calls have been running since the matrix was opened
@each_cell
def test_a_silent_long_call_is_kept_alive(matrix: Matrix, cell: Cell) -> None:
    expect_success(matrix, cell, matrix.result(cell, LONG_CALL))


def test_all_combinations_are_there() -> None:
    assert {str(cell) for cell in CELLS} >= {"ours-on-ours", "ours-on-public", "public-on-ours", "public-on-public"}
    assert len(CELLS) == 8
    assert {cell.consumer for cell in CELLS} == {OURS, PUBLIC}
