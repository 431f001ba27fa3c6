"""The highest resident memory of this process between two moments, from ``/proc``."""

from __future__ import annotations

from pathlib import Path

_SELF = Path("/proc/self")
_RESET_PEAK = "5"


def _bytes(field: str) -> int:
    lines = (_SELF / "status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def begin_peak() -> int:
    """Forget the peak so far; returns the memory now, in bytes."""
    (_SELF / "clear_refs").write_text(_RESET_PEAK)
    return _bytes("VmRSS")


def peak() -> int:
    """The highest memory since then, in bytes."""
    return _bytes("VmHWM")
