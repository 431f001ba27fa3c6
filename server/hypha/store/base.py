"""What a store is: records of bytes by kind and id, read at the start, written through.

A record has a kind (``account``, ``revoked`` ...) and an id that is unique
among them; what its bytes mean is known only to whoever wrote them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

__all__ = ["AlreadyThere", "Change", "Delete", "DeleteBelow", "Put", "Store", "StoreError", "kept"]


class StoreError(OSError):
    """A record could not be read or kept; the text says where and why, and goes to the caller."""


class AlreadyThere(Exception):
    """A record that had to be new exists."""


@dataclass(frozen=True, slots=True)
class Put:
    """Keep a record.

    Attributes:
        expires_at: seconds since the epoch after which it may be dropped; None for never.
        new: fail with `AlreadyThere` if there is one; else it is replaced.
    """

    kind: str
    id: str
    value: bytes
    expires_at: float | None = None
    new: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """Drop a record; one that does not exist is fine."""

    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class DeleteBelow:
    """Drop all records of *kind* whose id begins with *prefix*."""

    kind: str
    prefix: str


Change = Put | Delete | DeleteBelow

_PATIENCE_S: Final = 4.0


async def kept(write: asyncio.Future[None]) -> None:
    """Wait until a write of `Store.write` is done, 4 s at most.

    Raises:
        StoreError: it failed, or the disk does not respond.
        AlreadyThere: a record that had to be new exists.
    """
    done, _ = await asyncio.wait({write}, timeout=_PATIENCE_S)
    if not done:
        raise StoreError("The server's store cannot be used: the disk does not respond")
    write.result()


class Store(Protocol):
    """Where records are kept. Used from the loop it was opened in."""

    def load(self, kind: str) -> Mapping[str, bytes]:
        """All records of *kind* by id. Waits for the disk: for the start of the server only.

        Raises:
            StoreError: they cannot be read.
        """

    async def get(self, kind: str, record_id: str) -> bytes | None:
        """The newest version of one record, or None.

        Raises:
            StoreError: it cannot be read.
        """

    def write(self, changes: Sequence[Change]) -> asyncio.Future[None]:
        """Make *changes*, all or none of them, in the order of the calls.

        Nobody has to wait for the future; it is done when they would survive the end of the machine.

        Raises (from the future):
            StoreError: they could not be kept.
            AlreadyThere: a record that had to be new exists.
        """

    async def close(self) -> None:
        """Finish what was begun, within bounds, and end; idempotent."""
