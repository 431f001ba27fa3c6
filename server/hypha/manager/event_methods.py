"""``log``, ``log_event``, ``get_events``, ``get_event_stats`` (server §3.1, §3.2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from hypha.manager.core import Caller, ManagerCore
from hypha.manager.event_log import Event, EventFilter, EventLog
from hypha.manager.values import packed_size

__all__ = ["EventMethods"]

_MAX_TYPE: Final = 512
_MAX_DATA: Final = 64 * 1024
# Room for the type, the user id and the objects themselves, which are more than small data.
_OVERHEAD: Final = 1024


class EventMethods:
    """Methods of the event log.

    Args:
        core: what all methods share.
        log: where events are kept.
        now: seconds since the epoch.
    """

    def __init__(self, core: ManagerCore, log: EventLog, now: Callable[[], float]) -> None:
        self._core = core
        self._log = log
        self._now = now

    def log(self, msg: Any, *, context: Mapping[str, Any]) -> None:
        """Note a message down in the event log of the caller's workspace, as an event of type 'log'.

        Args:
            msg: what to note.
        """
        caller = self._core.caller(context)
        self._core.check(caller, "log")
        self._add(caller, "log", msg)

    def log_event(self, event_type: str, data: Any = None, *, context: Mapping[str, Any]) -> None:
        """Note an event down in the event log of the caller's workspace.

        Args:
            event_type: its type, a word without spaces.
            data: what there is to say about it.
        """
        caller = self._core.caller(context)
        self._core.check(caller, "log_event")
        if not isinstance(event_type, str) or not 0 < len(event_type) <= _MAX_TYPE:
            raise ValueError(f"Event type must be text of 1 to {_MAX_TYPE} characters")
        if " " in event_type:
            raise AssertionError("Event type must not contain spaces")
        self._add(caller, event_type, data)

    def get_events(
        self,
        event_type: str | None = None,
        start_time: str | float | None = None,
        end_time: str | float | None = None,
        *,
        context: Mapping[str, Any],
    ) -> list[dict[str, Any]]:
        """Return the caller's own events in its workspace, oldest first.

        Args:
            event_type: only those of this type.
            start_time: only those not before; ISO 8601 (UTC unless it names a zone) or seconds since 1970.
            end_time: only those not after.
        """
        caller = self._core.caller(context)
        self._core.check(caller, "get_events")
        wanted = _wanted(caller, event_type, start_time, end_time)
        return [_shown(event) for event in self._log.find(caller.workspace, wanted)]

    def get_event_stats(
        self,
        event_type: str | None = None,
        start_time: str | float | None = None,
        end_time: str | float | None = None,
        *,
        context: Mapping[str, Any],
    ) -> list[dict[str, Any]]:
        """Count the caller's own events in its workspace by type.

        Args:
            event_type: only those of this type.
            start_time: only those not before; ISO 8601 (UTC unless it names a zone) or seconds since 1970.
            end_time: only those not after.
        """
        caller = self._core.caller(context)
        self._core.check(caller, "get_event_stats")
        wanted = _wanted(caller, event_type, start_time, end_time)
        counts = self._log.count(caller.workspace, wanted)
        return [{"event_type": kind, "count": count} for kind, count in counts.items()]

    def _add(self, caller: Caller, kind: str, data: Any) -> None:
        size = packed_size(data, "the data of an event")
        if size > _MAX_DATA:
            raise ValueError(f"the data of an event may have at most {_MAX_DATA} bytes")
        self._log.add(caller.workspace, caller.user.id, kind, data, at=self._now(), size=size + _OVERHEAD)


def _wanted(caller: Caller, kind: Any, start: Any, end: Any) -> EventFilter:
    if kind is not None and not isinstance(kind, str):
        raise TypeError(f"event_type must be text, not {type(kind).__name__}")
    return EventFilter(caller.user.id, kind, _moment(start, "start_time"), _moment(end, "end_time"))


def _moment(value: Any, name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
            return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{name} must be a time in ISO 8601, not {value!r:.80}") from error
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name} must be a time in ISO 8601 or seconds since 1970")
    return float(value)


def _shown(event: Event) -> dict[str, Any]:
    # Without a zone, as existing programs read it; it is UTC.
    moment = datetime.fromtimestamp(event.at, UTC).replace(tzinfo=None)
    return {
        "id": event.id,
        "event_type": event.kind,
        "workspace": event.workspace,
        "user_id": event.user_id,
        "timestamp": moment.isoformat(timespec="microseconds"),
        "data": event.data,
    }
