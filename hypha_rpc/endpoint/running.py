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
        resolve, reject, heartbeat: method ids to answer to, or None.
        interval: seconds between heartbeats that the caller asked for (clamped, security S43).
        level: extension level of the caller.
        answered: an answer was given; later ones are ignored.
        handle: the driver's own (a task).
    """

    __slots__ = (
        "answered",
        "caller",
        "doomed_at",
        "handle",
        "heartbeat",
        "interval",
        "level",
        "me",
        "next_beat",
        "reject",
        "resolve",
        "session",
        "target",
    )

    def __init__(self, caller: str, me: str, session: str | None, target: Target) -> None:
        self.caller = caller
        self.me = me
        self.session = session
        self.target = target
        self.resolve: str | None = None
        self.reject: str | None = None
        self.heartbeat: str | None = None
        self.interval = 0.0
        self.level = 0
        self.answered = False
        self.handle: Any = None
        self.next_beat = float("inf")
        self.doomed_at = float("inf")

    def promise(self, promise: Any, interval: Any) -> None:
        """Note how to answer: the compact form, the explicit one, or not at all (protocol §4.3)."""
        session = self.session
        if promise == "*":
            if session is not None:
                self.resolve, self.reject = f"{session}.resolve", f"{session}.reject"
                self.heartbeat = f"{session}.heartbeat"
        elif isinstance(promise, dict):
            self.resolve = _method_id(promise.get("resolve"))
            self.reject = _method_id(promise.get("reject"))
            self.heartbeat = _method_id(promise.get("heartbeat"))
            interval = promise.get("interval")
        if isinstance(interval, (int, float)) and interval == interval:
            self.interval = min(max(float(interval), _MIN_INTERVAL_S), _MAX_INTERVAL_S)


def _method_id(reference: Any) -> str | None:
    method = reference.get("_rmethod") if isinstance(reference, dict) else None
    return method if isinstance(method, str) else None


class RunningTable:
    """The calls being served, by caller and session."""

    def __init__(self) -> None:
        self._jobs: dict[tuple[str, str | None] | int, Running] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Running]:
        return iter(list(self._jobs.values()))

    def add(self, job: Running) -> None:
        """Remember *job* until it is answered."""
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
