"""Calls made and not yet answered.

A call is owned by its target and by the connection it went out on; the loss of
either, the callee's silence, or its answer settles it, exactly once. Who decides
that a call has failed is here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypha_rpc.endpoint.ports import Waiter

__all__ = ["Call", "CallTable"]


class Call:
    """One call under way.

    Attributes:
        id: session id on the wire.
        target: address called.
        method: method id called.
        waiter: who gets the outcome.
        limit: longest silence in seconds.
        heard: when the callee last gave a sign (or the call was written).
        level: extension level of the callee.
        deadline: when it fails even if its callee is alive.
        key: public key of the callee if the request was encrypted, or None.
        sent: False while the request is still being transferred in pieces.
    """

    __slots__ = ("deadline", "heard", "id", "level", "limit", "method", "sent", "target", "waiter")

    # Few calls have one: these are of a subclass (endpoint.sealed).
    key: bytes | None = None

    def __init__(  # noqa: PLR0917 - made once a call; keywords would cost
        self, call_id: str, target: str, method: str, waiter: Waiter, limit: float, now: float
    ) -> None:
        self.id = call_id
        self.target = target
        self.method = method
        self.waiter = waiter
        self.limit = limit
        self.heard = now
        self.level = 0
        self.deadline = float("inf")
        self.sent = True


class CallTable:
    """The pending calls of one endpoint, by id."""

    def __init__(self) -> None:
        self._calls: dict[str, Call] = {}
        # Bound once: these are called for every answer.
        self.get = self._calls.get
        self.take = self._calls.pop

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[Call]:
        return iter(list(self._calls.values()))

    def add(self, call: Call) -> None:
        """Remember *call* until it is settled."""
        self._calls[call.id] = call

    def pop(self, call_id: str) -> Call | None:
        """Forget a call; the caller of this method settles it."""
        return self._calls.pop(call_id, None)

    def expired(self, now: float) -> list[Call]:
        """Forget and return the calls whose callee has been silent for too long."""
        return self._take(lambda call: call.sent and now - call.heard > call.limit)

    def overdue(self, now: float) -> list[Call]:
        """Forget and return the calls whose deadline has passed."""
        return self._take(lambda call: now >= call.deadline)

    def of_peer(self, address: str) -> list[Call]:
        """Forget and return the calls to *address*."""
        return self._take(lambda call: call.target == address)

    def of_manager(self) -> list[Call]:
        """Forget and return the calls to a server's own services (``*/...``)."""
        return self._take(lambda call: call.target.startswith("*/"))

    def all(self) -> list[Call]:
        """Forget and return every call."""
        return self._take(lambda call: True)

    def restart_clocks(self, now: float) -> None:
        """Begin the silence of every call anew (the link was down: nobody could be heard)."""
        for call in self._calls.values():
            call.heard = now

    def earliest(self, *, silence: bool) -> float | None:
        """When the next call can expire, or None; by its deadline only unless *silence* counts."""
        if silence:
            return min((min(call.heard + call.limit, call.deadline) for call in self._calls.values()), default=None)
        return min((call.deadline for call in self._calls.values()), default=None)

    def _take(self, chosen: Callable[[Call], Any]) -> list[Call]:
        taken = [call for call in self._calls.values() if chosen(call)]
        for call in taken:
            del self._calls[call.id]
        return taken
