"""Back-pressure: who sends to a peer that does not keep up is not read for a while (security §8).

A peer whose send queue did not move in that while stands still; from then on
frames to it are refused (`Connection.stuck`), so that its senders reach others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from hypha.broker.connections import Connection

__all__ = ["Pacer"]

_STEP_S: Final = 0.02
_DRAINED: Final = 1024 * 1024

Later = Callable[..., Any]


class Pacer:
    """Pauses senders.

    Args:
        pause_s: longest pause.
        clock: monotonic seconds.
        later: ``call_later`` of an event loop.
    """

    def __init__(self, pause_s: float, clock: Callable[[], float], later: Later) -> None:
        self._pause_s = pause_s
        self._clock = clock
        self._later = later

    def pause(self, source: Connection, target: Connection) -> None:
        """Read nothing from *source* until *target* has caught up, or its time is over."""
        if source.paused:
            return
        source.paused = True
        source.outlet.pause_reading()
        self._later(_STEP_S, self._look, source, target, _Wait(self._clock(), target.outlet.pending))

    def _look(self, source: Connection, target: Connection, wait: _Wait) -> None:
        now, pending = self._clock(), target.outlet.pending
        # Others may fill the queue meanwhile: any step downwards shows that it moves.
        wait.moved = wait.moved or pending < wait.pending
        wait.pending = pending
        over = now - wait.since >= self._pause_s
        if pending > _DRAINED and not target.closing and not over:
            self._later(_STEP_S, self._look, source, target, wait)
            return
        if over and not wait.moved and target.stalled_since is None:
            target.stalled_since, target.stalled_at = wait.since, pending
        source.paused = False
        source.outlet.resume_reading()


@dataclass(slots=True)
class _Wait:
    since: float
    pending: int
    moved: bool = False
