"""Withdrawn tokens, and who may withdraw one (security S18).

A token dies with any token it descends from. The set is looked at in memory, so
that nobody who comes in waits for a disk, and written through to a store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import time
from typing import TYPE_CHECKING, Final, Protocol

from hypha.store import Put, Store

if TYPE_CHECKING:
    from hypha.auth.identity import User

__all__ = ["KeptRevocations", "MemoryRevocations", "Revocations", "may_revoke"]

_MAX_LIFE_S = 365 * 86400.0
_KIND: Final = "revoked"


class Revocations(Protocol):
    """The set of revoked tokens."""

    def is_revoked(self, token_id: str, ancestors: Sequence[str] = ()) -> bool:
        """Whether *token_id* or one of its *ancestors* was revoked."""

    def revoke(self, token_id: str) -> asyncio.Future[None] | None:
        """Withdraw *token_id* and all that descend from it, at once.

        Returns:
            Done when it would survive a restart; None when nothing does.
        """


class MemoryRevocations:
    """Revoked tokens of this process.

    Args:
        clock: seconds since the epoch.
        limit: how many are kept; when full, revoking fails rather than
            letting an older one live again.
    """

    def __init__(self, *, clock: Callable[[], float] = time, limit: int = 1_000_000) -> None:
        self._clock = clock
        self._limit = limit
        self._until: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def is_revoked(self, token_id: str, ancestors: Sequence[str] = ()) -> bool:
        """Whether *token_id* or one of its *ancestors* was revoked."""
        return token_id in self._until or any(ancestor in self._until for ancestor in ancestors)

    def revoke(self, token_id: str) -> asyncio.Future[None] | None:
        """Withdraw *token_id* and all that descend from it, at once.

        Raises:
            RuntimeError: too many are kept already.
        """
        self._drop_expired()
        if len(self._until) >= self._limit:
            raise RuntimeError("Too many revoked tokens")
        # A descendant can have been minted a moment ago with the longest life there is, and outlive this token.
        # Deleting first keeps the order of the table the order of expiry.
        self._until.pop(token_id, None)
        self._until[token_id] = self._clock() + _MAX_LIFE_S
        return None

    def _drop_expired(self) -> None:
        now = self._clock()
        for token_id in list(self._until):
            if self._until[token_id] > now:
                return
            del self._until[token_id]


class KeptRevocations(MemoryRevocations):
    """Revoked tokens that stay revoked after a restart.

    Args:
        store: where they are kept; asked once, here.
        clock: seconds since the epoch.
        limit: as for `MemoryRevocations`.
    """

    def __init__(self, store: Store, *, clock: Callable[[], float] = time, limit: int = 1_000_000) -> None:
        super().__init__(clock=clock, limit=limit)
        self._store = store
        kept = sorted((float(until), token_id) for token_id, until in store.load(_KIND).items())
        self._until.update({token_id: until for until, token_id in kept})

    def revoke(self, token_id: str) -> asyncio.Future[None]:
        """Withdraw *token_id* and all that descend from it, at once.

        Returns:
            Done when it would survive a restart.

        Raises:
            RuntimeError: too many are kept already.
        """
        super().revoke(token_id)
        until = self._until[token_id]
        return self._store.write([Put(_KIND, token_id, repr(until).encode(), expires_at=until)])


def may_revoke(caller: User, target: User) -> bool:
    """Whether *caller* may revoke the token of *target* without being administrator of its workspace.

    True for the token the caller presented, for tokens minted with it, and for
    tokens that name the caller as their user or parent. A child is not its
    siblings' owner.
    """
    own = caller.token_ids[-1:]
    if own and own[0] in target.token_ids:
        return True
    return not caller.is_child and caller.id in (target.id, target.parent)
