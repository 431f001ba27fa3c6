"""How often somebody may do something (security §8)."""

from __future__ import annotations

from typing import Final

__all__ = ["PerMinute"]

_MAX_KEYS: Final = 10_000


class PerMinute:
    """A bucket for every key, which holds a minute's worth and fills steadily.

    Args:
        limit: how often in a minute.
    """

    def __init__(self, limit: int) -> None:
        self._limit = float(limit)
        self._buckets: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str, now: float) -> bool:
        """Whether *key* may once more.

        Args:
            key: who.
            now: monotonic seconds.
        """
        level = self._level(key, now)
        if level < 1.0:
            return False
        if key not in self._buckets and len(self._buckets) >= _MAX_KEYS:
            self._drop_full(now)
        self._buckets[key] = (level - 1.0, now)
        return True

    def _level(self, key: str, now: float) -> float:
        level, at = self._buckets.get(key, (self._limit, now))
        return min(self._limit, level + (now - at) * self._limit / 60.0)

    def _drop_full(self, now: float) -> None:
        """Forget who has been quiet for a minute; if all are busy, whoever came first."""
        for key in [key for key in self._buckets if self._level(key, now) >= self._limit]:
            del self._buckets[key]
        if len(self._buckets) >= _MAX_KEYS:
            del self._buckets[next(iter(self._buckets))]
