"""One timer for everything an endpoint waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

__all__ = ["Ticker"]

_SLACK_S: Final = 0.01


class Ticker:
    """Calls a function at the earliest wished time, and again when it says so.

    Args:
        tick: called with the loop's time; returns when it wants to be called next, or None.
    """

    def __init__(self, tick: Callable[[float], float | None]) -> None:
        self._tick = tick
        self._timer: asyncio.TimerHandle | None = None
        self._at = float("inf")

    def wake(self, at: float) -> None:
        """Tick not much later than *at* (seconds of the loop's clock); a later wish replaces no earlier one."""
        if at >= self._at - _SLACK_S:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._at = at
        self._timer = asyncio.get_running_loop().call_at(at + _SLACK_S, self._fire)

    def close(self) -> None:
        """Tick no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._at = None, float("inf")

    def _fire(self) -> None:
        self._timer, self._at = None, float("inf")
        at = self._tick(asyncio.get_running_loop().time())
        if at is not None:
            self.wake(at)
