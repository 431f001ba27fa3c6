"""What a process has at one moment, looked at from outside of the packages: tasks, timers, threads, handles, memory."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from pathlib import Path

__all__ = ["picture", "resident"]


def resident(pid: int | str = "self") -> int:
    """Resident memory of a process in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
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
        "blocks": sys.getallocatedblocks(),
        "resident": resident(),
    }
