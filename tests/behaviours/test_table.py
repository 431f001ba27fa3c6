"""The table of `README.md` names tests that exist."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROW = re.compile(r"^\| (B\d{3}) \| (.+) \|$", re.MULTILINE)
NAMED = re.findall(r"`([\w/.]+)::(\w+)`", (HERE / "README.md").read_text("utf-8"))

# The numbers of sections A to N; B256 and later (MCP, WebRTC) are of what comes later.
SECTIONS = [
    *((1, 18), (20, 24), (30, 46), (50, 65), (70, 86), (90, 111), (120, 130)),
    *((140, 158), (160, 184), (190, 210), (215, 221), (225, 232), (235, 245), (250, 255)),
]


@lru_cache
def source(name: str) -> str:
    path = HERE / name if "/" not in name else HERE.parent / name
    return path.read_text("utf-8")


@pytest.mark.parametrize(("file", "test"), sorted(set(NAMED)))
def test_a_named_test_exists(file: str, test: str) -> None:
    # methods of test classes, too
    assert re.search(rf"^(    )?(async )?def {test}\(", source(file), re.MULTILINE)


def test_a_line_has_one_row() -> None:
    lines = [line for line, _ in ROW.findall((HERE / "README.md").read_text("utf-8"))]
    assert lines == sorted(set(lines))


def test_no_line_is_left_out() -> None:
    lines = [line for line, tests in ROW.findall((HERE / "README.md").read_text("utf-8")) if "::" in tests]
    assert lines == [f"B{number:03}" for first, last in SECTIONS for number in range(first, last + 1)]
