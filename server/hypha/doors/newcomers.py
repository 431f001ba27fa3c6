"""Those at the door who have not been let in yet: how many there may be, and how slowly the failing are told.

Counts by address (security §8). It knows neither sockets nor credentials.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Final

from hypha.settings import Limits

__all__ = ["Newcomers"]

_MAX_ADDRESSES: Final = 10_000
_MINUTE: Final = 60.0


class Newcomers:
    """Handshakes under way, and failed ones of the last minute, by address.

    Args:
        limits: bounds.
        clock: monotonic seconds.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._open: dict[str, int] = {}
        self._failed: dict[str, tuple[float, int]] = {}
        self.total = 0

    def full(self, address: str) -> bool:
        """Whether one more from *address* must be turned away; loopback has no bound of its own."""
        if self.total >= self._limits.max_concurrent_connections:
            return True
        if self._open.get(address, 0) < self._limits.max_concurrent_connections_per_address:
            return False
        return not _is_loopback(address)

    def enter(self, address: str) -> None:
        """A handshake with *address* begins."""
        self.total += 1
        self._open[address] = self._open.get(address, 0) + 1

    def leave(self, address: str) -> None:
        """It has ended, in whatever way."""
        self.total -= 1
        left = self._open[address] - 1
        if left:
            self._open[address] = left
        else:
            del self._open[address]

    def failed(self, address: str) -> float:
        """Count a failed one; returns how many seconds its answer is held back."""
        now, limits = self._clock(), self._limits
        since, count = self._failed.pop(address, (now, 0))
        if now - since >= _MINUTE:
            since, count = now, 0
        if len(self._failed) >= _MAX_ADDRESSES:
            # The one that failed longest ago has waited its time, or is one of very many.
            del self._failed[next(iter(self._failed))]
        self._failed[address] = (since, count + 1)
        excess = count + 1 > limits.failed_logins_per_minute
        return limits.failed_login_delay_excess if excess else limits.failed_login_delay


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        # No network at all: a socket of this machine.
        return True
