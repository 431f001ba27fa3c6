"""How busy clients are: frames a minute, for the mode ``min_load`` (server §2.7).

It is told counters and times and keeps two marks a client; it counts nothing
itself.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MEASURED", "LoadMeter"]

MEASURED: Final = "__rlb"
"""Ending of the ids of clients that are measured; others count as idle."""

_WINDOW_S: Final = 60.0
_SHORTEST_S: Final = 1.0

_Mark = tuple[float, int]


class LoadMeter:
    """Turns running totals into frames a minute, over the last one to two minutes."""

    def __init__(self) -> None:
        self._marks: dict[str, tuple[_Mark, _Mark]] = {}

    def __len__(self) -> int:
        return len(self._marks)

    def start(self, address: str, total: int, now: float) -> None:
        """Measure the client at *address* from now on.

        Args:
            address: its address.
            total: frames counted so far.
            now: monotonic seconds.
        """
        if address.endswith(MEASURED):
            self._marks[address] = ((now, total), (now, total))

    def stop(self, address: str) -> None:
        """Forget a client."""
        self._marks.pop(address, None)

    def per_minute(self, address: str, total: int, now: float) -> float:
        """Frames a minute of the client at *address*; 0 for one that is not measured.

        Args:
            address: its address.
            total: frames counted so far.
            now: monotonic seconds.
        """
        marks = self._marks.get(address)
        if marks is None:
            return 0.0
        older, newer = marks
        if now - newer[0] >= _WINDOW_S:
            older, newer = newer, (now, total)
            self._marks[address] = (older, newer)
        return (total - older[1]) * 60.0 / max(now - older[0], _SHORTEST_S)
