"""Calls being served: each is answered once, gives signs of life when due, can be cancelled.

A call whose function answers in the same stack never enters the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypha_rpc.endpoint.exports import Target

__all__ = ["Running", "RunningTable"]

_MIN_INTERVAL_S = 0.5
_MAX_INTERVAL_S = 3600.0


class Running:
    """One call being served.

    Attributes:
        caller: stamped address of the caller.
        me: the address it called us at; answers come from there (protocol §1.8).
        session: the caller's session id, or None.
        target: what runs.
        promise: how to answer: ``"*"``, a map of references, or None (protocol §4.3).
        asked: seconds between heartbeats as the caller asked for them.
        answered: an answer was given; later ones are ignored.
        tracked: it is in the table.
        handle: the driver's own (a task).
        key: public key of the caller if the request was encrypted, or None.
        until: the caller's deadline in our time, or None.
        deadline: when it will be cancelled for that; None when it was, or there is none.
        next_beat, doomed_at: times of a tracked call.
    """

    __slots__ = (
        "answered",
        "asked",
        "caller",
        "deadline",
        "doomed_at",
        "handle",
        "interval",
        "me",
        "next_beat",
        "promise",
        "session",
        "target",
        "tracked",
        "until",
    )

    # Few calls have one: these are of a subclass (endpoint.sealed).
    key: bytes | None = None

    def __init__(self, caller: str, me: str, session: str | None, target: Target, promise: Any, asked: Any) -> None:  # noqa: PLR0917 - made once a call; keywords would cost
        self.caller = caller
        self.me = me
        self.session = session
        self.target = target
        self.promise = promise
        self.asked = asked
        self.answered = False
        self.tracked = False
        self.deadline: float | None = None
        self.until: float | None = None
        self.handle: Any = None

    def next_event(self) -> float:
        """When a tracked call wants attention: a heartbeat, its deadline, the end of its caller's grace."""
        at = min(self.next_beat, self.doomed_at)
        return at if self.deadline is None else min(at, self.deadline)

    def method(self, name: str) -> str | None:
        """The id of ``resolve``, ``reject`` or ``heartbeat``, or None when no such answer is wanted."""
        promise = self.promise
        if promise == "*":
            return f"{self.session}.{name}" if self.session is not None else None
        if isinstance(promise, dict):
            reference = promise.get(name)
            method = reference.get("_rmethod") if isinstance(reference, dict) else None
            return method if isinstance(method, str) else None
        return None

    def track(self) -> None:
        """Prepare what only a call needs that goes on: the interval is clamped (security S43)."""
        asked = self.promise.get("interval") if isinstance(self.promise, dict) else self.asked
        self.interval = 0.0
        if isinstance(asked, (int, float)) and asked == asked:
            self.interval = min(max(float(asked), _MIN_INTERVAL_S), _MAX_INTERVAL_S)
        self.next_beat = float("inf")
        self.doomed_at = float("inf")
        self.tracked = True


class RunningTable:
    """The calls being served, by caller and session."""

    def __init__(self) -> None:
        self._jobs: dict[tuple[str, str | None] | int, Running] = {}
        self.jobs = self._jobs.values()

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Running]:
        return iter(list(self._jobs.values()))

    def add(self, job: Running) -> None:
        """Remember *job* until it is answered."""
        job.track()
        self._jobs[_key(job)] = job

    def remove(self, job: Running) -> None:
        """Forget *job*; idempotent."""
        if self._jobs.get(_key(job)) is job:
            del self._jobs[_key(job)]

    def find(self, caller: str, session: str) -> Running | None:
        """The job that serves call *session* of *caller*."""
        return self._jobs.get((caller, session))

    def of_caller(self, caller: str) -> list[Running]:
        """The jobs of one caller."""
        return [job for job in self._jobs.values() if job.caller == caller]


def _key(job: Running) -> tuple[str, str | None] | int:
    # Fire-and-forget calls have no session and cannot be asked about; identity will do.
    return (job.caller, job.session) if job.session is not None else id(job)
