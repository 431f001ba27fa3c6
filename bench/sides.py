"""The two sides that are compared: their interpreters, environments and settings."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "bench" / "programs"
OURS, PUBLIC = "ours", "public"

_VARIABLES = {OURS: "HYPHA_PYTHON", PUBLIC: "HYPHA_PUBLIC_PYTHON"}
_DEFAULTS = {OURS: ROOT / ".venv/bin/python", PUBLIC: ROOT / ".venv-public/bin/python"}

# Limits that would cut or slow the public side while it is measured. Both sides get them.
SETTINGS = {
    "HYPHA_WS_MSG_RATE_LIMIT": "100000000",
    "HYPHA_WS_MSG_BURST_LIMIT": "100000000",
    "HYPHA_HTTP_RATE_LIMIT": "100000000",
    "HYPHA_HTTP_BURST_LIMIT": "100000000",
    "HYPHA_HTTP_AUTHENTICATED_RATE_LIMIT": "100000000",
    "HYPHA_HTTP_AUTHENTICATED_BURST_LIMIT": "100000000",
    "HYPHA_MAX_CONNECTIONS_PER_USER": "100000",
    "HYPHA_MAX_CLIENTS_PER_WORKSPACE": "100000",
}


def interpreter(side: str) -> str:
    """The Python interpreter of one side.

    Raises:
        SystemExit: There is none; the text says how to get it.
    """
    path = Path(os.environ.get(_VARIABLES[side], _DEFAULTS[side]))
    if path.is_file():
        return str(path)
    if side == OURS and _VARIABLES[side] not in os.environ:
        return sys.executable
    raise SystemExit(f"no interpreter at {path} ({_VARIABLES[side]}): run `make interop-setup`")


def environment(side: str, folder: Path) -> dict[str, str]:
    """The environment of one side's processes; the public packages are not shadowed by this repository."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HYPHA_", "PYTHONPATH"))}
    if side == OURS and "PYTHONPATH" in os.environ:
        kept["PYTHONPATH"] = os.environ["PYTHONPATH"]
    state = {"HYPHA_STATE_DIR": str(folder / "state"), "JWT_SECRET": "bench-secret-of-sufficient-length-1"}
    return {**kept, **SETTINGS, **state, "PYTHONUNBUFFERED": "1", "PYTHONNOUSERSITE": "1"}
