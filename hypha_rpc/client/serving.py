"""Which call is being served here: calls made while serving end with it (extensions §2).

Set only while a function runs for a caller who gave a deadline; tasks inherit it, and
those that outlive the call are free again.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypha_rpc.endpoint import Running

__all__ = ["SERVING", "inherited_deadline"]

SERVING: ContextVar[Running | None] = ContextVar("hypha_rpc.serving", default=None)


def inherited_deadline(deadline: float | None) -> float | None:
    """The earlier of *deadline* and that of the call being served (monotonic seconds)."""
    job = SERVING.get()
    if job is None or job.answered or job.until is None:
        return deadline
    return job.until if deadline is None else min(deadline, job.until)
