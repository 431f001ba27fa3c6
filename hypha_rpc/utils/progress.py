"""A bar in a terminal or notebook that shows how far a big value has moved."""

from __future__ import annotations

import sys
import time
from typing import TextIO

__all__ = ["ProgressBar"]

_WIDTH = 30
_EVERY_S = 0.1


class ProgressBar:
    """A function for ``progress``: draws a line and draws it again.

    For example::

        await service.train.options(progress=ProgressBar("upload"))(array)

    Args:
        label: written in front.
        stream: where it is drawn; standard error by default.
    """

    def __init__(self, label: str = "", *, stream: TextIO | None = None) -> None:
        self._label = f"{label} " if label else ""
        self._stream = stream
        self._began: float | None = None
        self._drawn = float("-inf")

    def __call__(self, done: int, total: int) -> None:
        """Show that *done* of *total* bytes have moved; the last one ends the line."""
        now = time.monotonic()
        if self._began is None:
            self._began = now
        over = done >= total
        if not over and now - self._drawn < _EVERY_S:
            return
        self._drawn = now
        stream = self._stream or sys.stderr
        stream.write("\r" + self._line(done, total, now - self._began) + ("\n" if over else ""))
        stream.flush()
        if over:
            # The result may follow, with a line of its own.
            self._began, self._drawn = None, float("-inf")

    def _line(self, done: int, total: int, seconds: float) -> str:
        share = done / total if total else 1.0
        filled = int(share * _WIDTH)
        bar = "#" * filled + "." * (_WIDTH - filled)
        speed = f"{done / seconds / 1e6:.0f} MB/s" if seconds > 0 else ""
        return f"{self._label}[{bar}] {share:4.0%} {done / 1e6:.1f}/{total / 1e6:.1f} MB {speed}".rstrip()
