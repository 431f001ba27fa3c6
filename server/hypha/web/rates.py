"""How often a caller may ask: token buckets, bounded in number (security §8)."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

__all__ = ["Buckets"]

_MAX_KEYS: Final = 10_000


class Buckets:
    """One bucket a key; the one unused for longest is forgotten first.

    Args:
        rate: tokens a second; 0 switches the limit off.
        burst: tokens of a full bucket.
        clock: monotonic seconds.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = max(burst, 1.0)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str) -> int:
        """Take a token of *key*.

        Returns:
            0, or after how many seconds there is one again.
        """
        if self._rate <= 0:
            return 0
        now = self._clock()
        left, at = self._buckets.get(key, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._rate)
        allowed = left >= 1.0
        self._buckets[key] = (left - 1.0 if allowed else left, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > _MAX_KEYS:
            self._buckets.popitem(last=False)
        return 0 if allowed else max(1, math.ceil((1.0 - left) / self._rate))
