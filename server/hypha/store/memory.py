"""A store that forgets everything with the process (``--in-memory``)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from hypha.store.base import AlreadyThere, Change, Delete, DeleteBelow, Put

__all__ = ["MemoryStore"]


class MemoryStore:
    """Records in dictionaries (`Store`)."""

    def __init__(self) -> None:
        self._kinds: dict[str, dict[str, bytes]] = {}

    def load(self, kind: str) -> Mapping[str, bytes]:
        """All records of *kind* by id."""
        return dict(self._kinds.get(kind, {}))

    async def get(self, kind: str, record_id: str) -> bytes | None:
        """One record, or None."""
        return self._kinds.get(kind, {}).get(record_id)

    def write(self, changes: Sequence[Change]) -> asyncio.Future[None]:
        """Make *changes*, all or none of them; done at once."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        taken = next((change for change in changes if isinstance(change, Put) and self._clashes(change)), None)
        if taken is not None:
            done.set_exception(AlreadyThere(taken.id))
            # Nobody has to look at the outcome.
            done.exception()
            return done
        for change in changes:
            self._make(change)
        done.set_result(None)
        return done

    def _clashes(self, change: Put) -> bool:
        return change.new and change.id in self._kinds.get(change.kind, {})

    def _make(self, change: Change) -> None:
        records = self._kinds.setdefault(change.kind, {})
        match change:
            case Put():
                records[change.id] = change.value
            case Delete():
                records.pop(change.id, None)
            case DeleteBelow():
                for record_id in [name for name in records if name.startswith(change.prefix)]:
                    del records[record_id]

    async def close(self) -> None:
        """Nothing to finish."""
