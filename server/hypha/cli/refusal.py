"""Saying no to a command line."""

from __future__ import annotations

import sys
from typing import NoReturn

__all__ = ["refuse"]

_EXIT_USAGE = 2


def refuse(message: str) -> NoReturn:
    """Say on standard error what is wrong with the command line, and leave with code 2."""
    sys.stderr.write(f"error: {message}\nTry --help for the options.\n")
    raise SystemExit(_EXIT_USAGE)
