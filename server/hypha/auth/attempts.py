"""How often somebody may fail to log in (security S22).

Pure state under a given clock. From the fifth failure on an account rests for
2, 4, 8 ... 60 seconds; an address has 20 tries a minute, whatever the account.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from hypha.auth.rates import PerMinute

__all__ = ["Attempts"]

_FREE_FAILURES: Final = 5
_MAX_REST_S: Final = 60.0
_FORGOTTEN_S: Final = 3600.0
_MAX_ACCOUNTS: Final = 10_000
_PER_ADDRESS: Final = 20


class Attempts:
    """Failures by account, tries by network address."""

    def __init__(self) -> None:
        self._tries = PerMinute(_PER_ADDRESS)
        # Latest last; an unknown account counts like one that exists.
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def rest_s(self, account: str, address: str, now: float) -> float:
        """Seconds to wait before the next try, 0 when it is taken on (and counted for *address*)."""
        count, at = self._failures.get(account, (0, now))
        rest = at + _pause(count) - now
        if rest > 0:
            return rest
        return 0.0 if self._tries.take(address, now) else 60.0 / _PER_ADDRESS

    def failed(self, account: str, now: float) -> None:
        """A try for *account* failed."""
        count, at = self._failures.pop(account, (0, now))
        self._failures[account] = ((1 if now - at > _FORGOTTEN_S else count + 1), now)
        if len(self._failures) > _MAX_ACCOUNTS:
            self._failures.popitem(last=False)

    def succeeded(self, account: str) -> None:
        """Somebody logged in."""
        self._failures.pop(account, None)


def _pause(count: int) -> float:
    if count < _FREE_FAILURES:
        return 0.0
    return min(_MAX_REST_S, 2.0 ** min(count - _FREE_FAILURES + 1, 6))
