"""What a process has at one moment, looked at from outside of the packages: tasks, timers, threads, handles, memory."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import threading
from pathlib import Path

__all__ = ["picture"]


def _resident() -> int:
    """Resident memory in bytes, without what is free and merely not given back yet."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def picture() -> dict[str, int]:
    """Everything of this process that can be left behind, of all its loops and threads, after a collection."""
    gc.collect()
    objects = gc.get_objects()
    return {
        "tasks": sum(isinstance(one, asyncio.Task) and not one.done() for one in objects),
        # those of uvloop are of a class of their own
        "timers": sum(type(one).__name__ == "TimerHandle" and not one.cancelled() for one in objects),
        "threads": threading.active_count(),
        "handles": len(os.listdir("/proc/self/fd")),
        "objects": len(objects),
        "resident": _resident(),
    }
