"""Every row of the document's examples has a test, and the document is the one its readers see."""

from __future__ import annotations

import re
from pathlib import Path

from tests.seed.document import BLOCKS

ROWS = 31


def test_every_row_has_a_test() -> None:
    names = [
        name
        for path in Path(__file__).parent.glob("test_*.py")
        for name in re.findall(r"def (test_row_\w+)\(", path.read_text("utf-8"))
    ]
    numbers = {int(number) for name in names for number in re.findall(r"(?<=row_|and_)(\d\d)(?=_)", name)}
    assert numbers == set(range(1, ROWS + 1))


def test_the_document_is_read_whole() -> None:
    assert len(BLOCKS) == 28
    assert {block.language for block in BLOCKS} == {"bash", "python", "javascript", "html", "json"}
