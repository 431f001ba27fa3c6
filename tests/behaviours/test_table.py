"""The table of `README.md` names tests that exist."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROW = re.compile(r"^\| (B\d{3}) \| (.+) \|$", re.MULTILINE)
NAMED = re.findall(r"`([\w/.]+)::(\w+)`", (HERE / "README.md").read_text("utf-8"))


@lru_cache
def source(name: str) -> str:
    path = HERE / name if "/" not in name else HERE.parent / name
    return path.read_text("utf-8")


@pytest.mark.parametrize(("file", "test"), sorted(set(NAMED)))
def test_a_named_test_exists(file: str, test: str) -> None:
    assert re.search(rf"^(async )?def {test}\(", source(file), re.MULTILINE)


def test_a_line_has_one_row() -> None:
    lines = [line for line, _ in ROW.findall((HERE / "README.md").read_text("utf-8"))]
    assert len(lines) > 100
    assert len(lines) == len(set(lines))
    assert lines == sorted(lines)
