"""Frames that arrive together leave together: one system call for many small frames.

While a door works through several frames of one read, what they cause is collected
at each receiver and written when the last one is done. A frame that comes alone is
written at once: nothing waits for a timer.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

__all__ = ["BURST_LENGTH", "Batch", "Flushable", "binary_header"]

#: So many frames to one receiver are written at once, though more follow.
BURST_LENGTH = 8


class Flushable(Protocol):
    """Somebody who holds frames back while a batch is open."""

    def flush(self) -> None:
        """Write what is held."""


class Batch:
    """The batch of one door.

    Attributes:
        open: frames are collected.
    """

    def __init__(self) -> None:
        self.open = False
        self._dirty: list[Flushable] = []

    def begin(self) -> None:
        """More frames of this read follow."""
        self.open = True
        # The last frame of the read ends the batch; should it be malformed, the loop does.
        asyncio.get_running_loop().call_soon(self.flush)

    def add(self, outlet: Flushable) -> None:
        """*outlet* holds something."""
        self._dirty.append(outlet)

    def flush(self) -> None:
        """Let everybody write; idempotent."""
        self.open = False
        dirty, self._dirty = self._dirty, []
        for outlet in dirty:
            outlet.flush()


def binary_header(size: int) -> bytes:
    """The header of a whole, unmasked binary message of *size* bytes below 64 KiB (RFC 6455 §5.2)."""
    if size < 126:
        return bytes((0x82, size))
    return bytes((0x82, 126, size >> 8, size & 0xFF))
