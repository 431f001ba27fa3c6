"""The two sides: this project's interpreter and the one with the public packages.

Knows where they are and which environment their processes get; starts nothing itself.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OURS, PUBLIC = "ours", "public"
KINDS = (OURS, PUBLIC)

_VARIABLES = {OURS: "HYPHA_PYTHON", PUBLIC: "HYPHA_PUBLIC_PYTHON"}
_DEFAULTS = {OURS: ROOT / ".venv/bin/python", PUBLIC: ROOT / ".venv-public/bin/python"}
# settings of a developer's shell that would change what a peer does
_FOREIGN = ("HYPHA_", "JWT_SECRET", "PYTHONPATH", "ALLOW_ORIGINS", "RECONNECTION_TOKEN_LIFE_TIME")


class InterpreterMissing(Exception):
    """The interpreter of one side is not there; the text says how to get it."""


def interpreter(kind: str) -> Path:
    """The Python interpreter of one side.

    Args:
        kind: ``ours`` or ``public``.

    Returns:
        Its path: the environment variable, else the default folder, else (ours only) the running one.

    Raises:
        InterpreterMissing: There is none.
    """
    path = Path(os.environ.get(_VARIABLES[kind], _DEFAULTS[kind]))
    if path.is_file():
        return path
    if kind == OURS and _VARIABLES[kind] not in os.environ:
        return Path(sys.executable)
    raise InterpreterMissing(f"no interpreter at {path} ({_VARIABLES[kind]}): run `make interop-setup`")


def environment(kind: str, **extra: str) -> dict[str, str]:
    """The environment for a process of one side.

    Only our side keeps ``PYTHONPATH``: the public packages must not be shadowed by this repository.

    Args:
        kind: ``ours`` or ``public``.
        **extra: Further variables.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    if kind == OURS and "PYTHONPATH" in os.environ:
        kept["PYTHONPATH"] = os.environ["PYTHONPATH"]
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONNOUSERSITE": "1", **extra}
