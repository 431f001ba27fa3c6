"""A bar in a terminal or notebook that shows how far a big value has moved.

With tqdm where that is installed, which draws widgets in notebooks; else as a line of text.
"""

from __future__ import annotations

import importlib
import sys
import time
from typing import Any, TextIO

__all__ = ["ProgressBar"]

_WIDTH = 30
_EVERY_S = 0.1


class ProgressBar:
    """A function for ``progress``: draws a line and draws it again.

    The argument of a call and its result have a bar each; nothing is drawn for values that travel in one piece. Where a
    line cannot be drawn again, in a file, there is only its end::

        await service.train.options(progress=ProgressBar("upload"))(array)

    Args:
        label: written in front.
        stream: where text is drawn; standard error by default.
    """

    def __init__(self, label: str = "", *, stream: TextIO | None = None) -> None:
        self._label = label
        self._stream = stream
        self._bar: _Text | _Tqdm | None = None
        self._done = 0

    def __call__(self, done: int, total: int) -> None:
        """Show that *done* of *total* bytes have moved; the last one ends the line."""
        if self._bar is not None and done < self._done:
            # Another value; the one before did not arrive.
            self._bar.close()
            self._bar = None
        if self._bar is None:
            self._bar = _new_bar(self._label, self._stream, total)
        self._done = done
        self._bar.draw(done, total)
        if done >= total:
            self._bar.close()
            # The result may follow, with a bar of its own.
            self._bar = None


def _new_bar(label: str, stream: TextIO | None, total: int) -> _Text | _Tqdm:
    tqdm = _tqdm() if stream is None else None
    if tqdm is None:
        return _Text(label, stream or sys.stderr)
    return _Tqdm(tqdm(total=total, desc=label or None, unit="B", unit_scale=True))


def _tqdm() -> Any:
    """The class of tqdm for where we are, or None where that is not installed."""
    try:
        return importlib.import_module("tqdm.auto").tqdm
    except ImportError:
        return None


class _Tqdm:
    """A bar of tqdm."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def draw(self, done: int, total: int) -> None:
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


class _Text:
    """A line of text."""

    def __init__(self, label: str, stream: TextIO) -> None:
        self._label = f"{label} " if label else ""
        self._stream = stream
        self._began = time.monotonic()
        self._drawn = float("-inf")
        # What notebooks write to is no terminal, but a line can be drawn again.
        self._again = stream.isatty() or type(stream).__module__.startswith("ipykernel")

    def draw(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and (not self._again or now - self._drawn < _EVERY_S):
            return
        self._drawn = now
        self._stream.write(("\r" if self._again else "") + self._line(done, total, now - self._began))
        self._stream.flush()

    def close(self) -> None:
        if self._drawn > float("-inf"):
            self._stream.write("\n")
            self._stream.flush()

    def _line(self, done: int, total: int, seconds: float) -> str:
        share = done / total if total else 1.0
        filled = int(share * _WIDTH)
        bar = "#" * filled + "." * (_WIDTH - filled)
        speed = f"{done / seconds / 1e6:.0f} MB/s" if seconds > 0 else ""
        return f"{self._label}[{bar}] {share:4.0%} {done / 1e6:.1f}/{total / 1e6:.1f} MB {speed}".rstrip()
