"""The event log: what clients note down in a workspace (server §3.2).

State only, within bounds: the oldest events go first. It knows nothing of callers
and their rights.
"""

from __future__ import annotations

import itertools
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Event", "EventFilter", "EventLog"]


@dataclass(frozen=True, slots=True)
class Event:
    """One noted event.

    Attributes:
        at: seconds since the epoch.
        size: bytes it counts for.
    """

    id: int
    kind: str
    workspace: str
    user_id: str
    at: float
    data: Any
    size: int


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are wanted; absent means all.

    Attributes:
        since, until: seconds since the epoch, both included.
    """

    user_id: str
    kind: str | None = None
    since: float | None = None
    until: float | None = None

    def admits(self, event: Event) -> bool:
        """Whether *event* is wanted."""
        return (
            event.user_id == self.user_id
            and (self.kind is None or event.kind == self.kind)
            and (self.since is None or event.at >= self.since)
            and (self.until is None or event.at <= self.until)
        )


class _Shelf:
    """The events of one workspace, oldest first."""

    __slots__ = ("events", "size")

    def __init__(self) -> None:
        self.events: deque[Event] = deque()
        self.size = 0


class EventLog:
    """The events of all workspaces.

    Args:
        count: most events kept of one workspace.
        size: most bytes kept of one workspace.
        total: most bytes kept over all; beyond it the workspace that has been
            quiet for longest loses its oldest.
    """

    def __init__(self, *, count: int, size: int, total: int) -> None:
        self._count = count
        self._size = size
        self._total = total
        self._ids = itertools.count(1)
        # The workspace written to last stands last.
        self._shelves: OrderedDict[str, _Shelf] = OrderedDict()
        self.used = 0

    def add(self, workspace: str, user_id: str, kind: str, data: Any, *, at: float, size: int) -> None:
        """Note an event down.

        Args:
            workspace: where it happened.
            user_id: whose it is.
            kind: its type.
            data: what there is to say.
            at: seconds since the epoch.
            size: bytes that *data* takes.
        """
        shelf = self._shelves.setdefault(workspace, _Shelf())
        self._shelves.move_to_end(workspace)
        shelf.events.append(Event(next(self._ids), kind, workspace, user_id, at, data, size))
        shelf.size += size
        self.used += size
        while len(shelf.events) > self._count or shelf.size > self._size:
            self._drop_oldest(shelf)
        while self.used > self._total:
            name, quiet = next(iter(self._shelves.items()))
            self._drop_oldest(quiet)
            if not quiet.events:
                del self._shelves[name]

    def find(self, workspace: str, wanted: EventFilter) -> list[Event]:
        """The events of *workspace* that are wanted, oldest first."""
        return list(self._matching(workspace, wanted))

    def count(self, workspace: str, wanted: EventFilter) -> dict[str, int]:
        """How many of each type, in the order of their first event."""
        return dict(Counter(event.kind for event in self._matching(workspace, wanted)))

    def forget(self, workspace: str) -> None:
        """Drop the events of *workspace*."""
        shelf = self._shelves.pop(workspace, None)
        if shelf is not None:
            self.used -= shelf.size

    def _matching(self, workspace: str, wanted: EventFilter) -> Iterator[Event]:
        shelf = self._shelves.get(workspace)
        return (event for event in (shelf.events if shelf is not None else ()) if wanted.admits(event))

    def _drop_oldest(self, shelf: _Shelf) -> None:
        event = shelf.events.popleft()
        shelf.size -= event.size
        self.used -= event.size
