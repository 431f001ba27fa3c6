"""One of several: the modes of ``get_service`` (server §2.7).

It chooses among records that the caller may have; which those are is decided
elsewhere.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeGuard

from hypha.manager.core import ManagerCore
from hypha.manager.directory import Query, Record
from hypha_rpc.endpoint import Reference

__all__ = ["Chooser", "seconds"]

_SELECT_TIMEOUT_S: Final = 2.0
_MAX_TIMEOUT_S: Final = 600.0
_MAX_NAMED: Final = 5
_MODES: Final = "'random', 'first', 'last', 'exact', 'min_load', 'native:random'"
_CRITERIA: Final = ("min", "max", "first_success")


class Chooser:
    """Chooses a record by a mode.

    Args:
        core: what all methods share.
    """

    def __init__(self, core: ManagerCore) -> None:
        self._core = core

    async def pick(self, records: Sequence[Record], mode: str, query: Query, options: Mapping[str, Any]) -> Record:
        """The record that *mode* chooses.

        Args:
            records: at least one, in the order of registration.
            mode: its name.
            query: what was looked for, for the text of an error.
            options: ``select_timeout``.

        Raises:
            AssertionError: there are several, and the mode is ``exact``.
            ValueError: there is no such mode.
        """
        if mode == "exact":
            return _only(records, query)
        if mode == "first":
            return records[0]
        if mode == "last":
            return records[-1]
        if mode in ("random", "native:random"):
            return random.choice(self._near(records) if mode == "native:random" else records)
        if mode == "min_load":
            return min(records, key=self._load)
        if mode.startswith("select:"):
            return await self._select(records, mode, options)
        raise ValueError(
            f"Invalid mode: {mode:.80}. Mode must be {_MODES}, or 'select:criteria:function' format "
            "(e.g., 'select:min:get_load')"
        )

    def _near(self, records: Sequence[Record]) -> Sequence[Record]:
        """Those of clients connected to this process, if there are any."""
        return [record for record in records if record.address in self._core.router.connections] or records

    def _load(self, record: Record) -> float:
        core = self._core
        connection = core.router.connections.get(record.address)
        return 0.0 if connection is None else core.load.per_minute(record.address, connection.frames, core.clock())

    async def _select(self, records: Sequence[Record], mode: str, options: Mapping[str, Any]) -> Record:
        """Ask every candidate at once; those that fail are skipped; none left: any."""
        criteria, function = _selection(mode)
        timeout_s = seconds(options.get("select_timeout"), _SELECT_TIMEOUT_S)
        asked = [asyncio.ensure_future(self._ask(record, function, timeout_s)) for record in records]
        if criteria == "first_success":
            return await _first_success(records, asked)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        good = [(answer, record) for answer, record in zip(answers, records, strict=True) if _is_number(answer)]
        if not good:
            return random.choice(records)
        best = min if criteria == "min" else max
        return best(good, key=_value)[1]

    async def _ask(self, record: Record, function: str, timeout_s: float) -> Any:
        async with asyncio.timeout(timeout_s):
            return await self._core.peers.ask(Reference(record.address, f"services.{record.name}.{function}"))


def seconds(value: Any, default: float) -> float:
    """A time a caller gave, bounded; *default* for None.

    Raises:
        ValueError: it is no number above 0.
    """
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ValueError(f"a timeout must be a number above 0, not {value!r:.80}")
    return min(float(value), _MAX_TIMEOUT_S)


def _only(records: Sequence[Record], query: Query) -> Record:
    if len(records) > 1:
        keys = [_key(record) for record in records[:_MAX_NAMED]]
        raise AssertionError(
            f"Multiple services found for {query.workspace}/{query.client}:{query.name}, e.g. {keys}. "
            "You can either specify the mode as 'random', 'first', 'last', 'native:random', "
            "or use 'select:criteria:function' format."
        )
    return records[0]


async def _first_success(records: Sequence[Record], asked: Sequence[asyncio.Future[Any]]) -> Record:
    """Whoever answers first; the others need not be waited for."""
    waiting = set(asked)
    try:
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for record, answer in zip(records, asked, strict=True):
                if answer in done and not answer.cancelled() and answer.exception() is None:
                    return record
    finally:
        for answer in waiting:
            answer.cancel()
        # Their outcomes are nobody's any more, but must be taken.
        await asyncio.gather(*asked, return_exceptions=True)
    return random.choice(records)


def _selection(mode: str) -> tuple[str, str]:
    parts = mode.split(":")
    if len(parts) != 3 or not parts[2]:
        raise ValueError(f"Invalid select mode format: {mode:.200}. Expected 'select:criteria:function'")
    if parts[1] not in _CRITERIA:
        raise ValueError(f"Unknown selection criteria: {parts[1]:.80}")
    return parts[1], parts[2]


def _is_number(answer: object) -> TypeGuard[float]:
    # NaN is not equal to itself and compares to nothing.
    return isinstance(answer, (int, float)) and not isinstance(answer, bool) and answer == answer


def _value(pair: tuple[Any, Record]) -> float:
    return float(pair[0])


def _key(record: Record) -> str:
    kind = record.info.get("type")
    return f"services:{record.visibility}|{kind}:{record.workspace}/{record.client}:{record.name}@{record.app_id}"
