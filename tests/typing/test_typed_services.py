"""What mypy and basedpyright see in a program that uses the package (exemplars of typed proxies)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("typed_services.py")
ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(180)


def test_the_types_of_services_are_those_of_their_protocols() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", "--follow-imports=silent"]
    done = subprocess.run(
        [*command, "--config-file", str(ROOT / "pyproject.toml"), str(PROGRAM)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
