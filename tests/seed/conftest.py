"""Terminals for the rows of the acceptance test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.seed.document import block
from tests.seed.terminal import Terminal, terminal


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Terminal]:
    """A terminal in an empty folder."""
    with terminal(tmp_path) as opened:
        yield opened


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """A terminal beside a server that was started by the document's first command."""
    with terminal(tmp_path_factory.mktemp("served")) as opened:
        opened.serve(block("Starting the Server"))
        yield opened
