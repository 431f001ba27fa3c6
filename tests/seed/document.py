"""The code blocks of the getting-started document, by the heading above them: what the tests run is what it prints."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.house.import_rules import REPOSITORY

DOCUMENT = REPOSITORY / "docs" / "getting-started.md"


@dataclass(frozen=True)
class Block:
    """One code block; ``section`` is the last greater heading, ``heading`` the last of all."""

    section: str
    heading: str
    language: str
    text: str


def _blocks() -> list[Block]:
    found: list[Block] = []
    section, heading, language, lines = "", "", None, list[str]()
    for line in DOCUMENT.read_text("utf-8").splitlines():
        fence = re.match(r"```(\w*)$", line)
        if language is None and fence:
            language, lines = fence[1], []
        elif language is not None and fence:
            found.append(Block(section, heading, language, "\n".join(lines) + "\n"))
            language = None
        elif language is not None:
            lines.append(line)
        elif line.startswith("#"):
            heading = line.strip("#* ")
            section = section if line.startswith("####") else heading
    return found


BLOCKS = _blocks()


def block(heading: str, language: str = "bash", position: int = 0, *, section: str = "") -> str:
    """The text of a code block.

    Args:
        heading: the heading right above it.
        language: of the block.
        position: which one, of several below that heading.
        section: the greater heading above that, where a heading comes several times.
    """
    wanted = [item for item in BLOCKS if (item.heading, item.language) == (heading, language)]
    return [item.text for item in wanted if section in ("", item.section)][position]
