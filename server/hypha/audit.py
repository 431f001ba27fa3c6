"""The audit log: who came in, what was granted, what was refused (security S51).

Rooms report an event with a few facts by `audit`; a server that is told a file keeps them there, one JSON object a
line. Facts are names, ids and addresses. A token, key, password or payload is never one of them.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final

from hypha.settings import SettingsError

__all__ = ["EVENTS", "AuditFile", "Pace", "audit"]

_log = logging.getLogger("hypha.audit")
_server_log = logging.getLogger("hypha.server")

EVENTS: Final = frozenset(
    """login failure mint revoke refusal takeover workspace_created workspace_deleted owners_changed kick root
    limit""".split()
)
"""Every event there is."""

_LONGEST: Final = 200
_PER_SECOND: Final = {"refusal": 1.0}
_USUAL: Final = 10.0
"""Lines a second of one event (security S50)."""
_BURST_S: Final = 10.0


class Pace:
    """How many lines of one event are written; those left out are counted.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._budgets: dict[str, tuple[float, float]] = {}
        self._left_out: dict[str, int] = {}

    def clear(self) -> None:
        """Begin anew."""
        self._budgets.clear()
        self._left_out.clear()

    def take(self, event: str) -> int | None:
        """How many lines of *event* were left out before this one; None if this one is left out, too."""
        rate = _PER_SECOND.get(event, _USUAL)
        most = max(rate if event in _PER_SECOND else rate * _BURST_S, 1.0)
        now = self._clock()
        budget, since = self._budgets.get(event, (most, now))
        budget = min(budget + (now - since) * rate, most)
        if budget < 1:
            self._budgets[event] = (budget, now)
            self._left_out[event] = self._left_out.get(event, 0) + 1
            return None
        self._budgets[event] = (budget - 1, now)
        return self._left_out.pop(event, 0)


_pace = Pace()


def audit(event: str, /, **facts: str | float | bool | None) -> None:
    """Report *event*; costs nothing where nobody keeps the audit log.

    Args:
        event: one of `EVENTS`.
        facts: what there is to know about it; what is None is left out, long texts are cut.
    """
    if not _log.isEnabledFor(logging.INFO):
        return
    left_out = _pace.take(event)
    if left_out is None:
        return
    record: dict[str, Any] = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event}
    record |= {name: _short(value) for name, value in facts.items() if value is not None}
    if left_out:
        record["left_out"] = left_out
    # In ASCII: control characters and what merely looks like something else stay visible.
    _log.info("%s", json.dumps(record))


def _short(value: str | float | bool) -> str | float | bool:
    return value[:_LONGEST] if isinstance(value, str) else value


class AuditFile:
    """Where the audit log of a server is kept: a file for its owner only, opened anew when it was moved away.

    Args:
        path: the file; it is appended to.

    Raises:
        SettingsError: it cannot be written; the text names it.
    """

    def __init__(self, path: str) -> None:
        try:
            self._handler = _PrivateFile(Path(path).expanduser())
        except OSError as error:
            raise SettingsError(f"HYPHA_AUDIT_LOG: cannot write {path}: {error.strerror}") from error
        self._handler.setFormatter(logging.Formatter("%(message)s"))
        _pace.clear()
        self._before = (_log.level, _log.propagate)
        _log.addHandler(self._handler)
        _log.setLevel(logging.INFO)
        # The server's own log need not repeat it.
        _log.propagate = False

    def close(self) -> None:
        """Keep no more; idempotent."""
        if self._handler in _log.handlers:
            _log.removeHandler(self._handler)
            self._handler.close()
            _log.setLevel(self._before[0])
            _log.propagate = self._before[1]


class _PrivateFile(logging.handlers.WatchedFileHandler):
    """Appends to a file that nobody else may read."""

    def __init__(self, path: Path) -> None:
        self._failed = False
        super().__init__(path, encoding="ascii", errors="backslashreplace")

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding="ascii", errors="backslashreplace", opener=_open_private)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:
            # It was moved away and cannot be made anew.
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk is told once and stops nobody."""
        if not self._failed:
            self._failed = True
            _server_log.error("the audit log %s cannot be written: events are lost", self.baseFilename)


def _open_private(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        # One that was there before may have been made by somebody with other habits.
        os.fchmod(descriptor, 0o600)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
