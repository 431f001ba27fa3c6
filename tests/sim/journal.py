"""What happened, by token: executions, calls and their outcomes, and everything that should not have happened."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class Record:
    """One call that somebody made.

    Attributes:
        token: in its arguments, in its result, in the journal of who executed it.
        life: the client object that made it.
        began: when.
        done: whether it has an outcome.
        error: what it failed with.
        cancelled: whoever made it does not want it any more.
    """

    token: str
    kind: str
    caller: str
    callee: str
    life: object
    began: float
    done: bool = False
    error: BaseException | None = None
    cancelled: bool = False
    ended: float = 0.0


@dataclass
class Journal:
    """Outlives every process of the world."""

    executions: Counter[str] = field(default_factory=Counter)
    records: dict[str, Record] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)

    def ran(self, token: str) -> None:
        """A function was executed for *token*."""
        self.executions[token] += 1
        if self.executions[token] > 1:
            self.wrong(f"executed {self.executions[token]} times: {token}")

    def wrong(self, text: str) -> None:
        """A property does not hold."""
        if len(self.violations) < 50:
            self.violations.append(text)

    def succeeded(self, record: Record, value: Any, expected: Any) -> None:
        """*record* has the result *value*."""
        if value != expected:
            self.wrong(f"wrong result of {record.kind} {record.token}: {value!r:.120} instead of {expected!r:.120}")
        if not self.executions[record.token]:
            self.wrong(f"a result without an execution: {record.kind} {record.token}")


class Complaints(logging.Handler):
    """Collects what is logged as an error: in this world nothing may be."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(logging.ERROR)
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f": {_where(record.exc_info[1])}"
        self._journal.wrong(f"logged by {record.name}: {text}")


def _where(error: BaseException) -> str:
    """The error and the last places it went through."""
    places, trace = [], error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return f"{error!r} at {' < '.join(reversed(places[-6:]))}"
