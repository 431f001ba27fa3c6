"""Cutting a frame into pieces and putting pieces together, with bounds (protocol §5, security S47)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hypha_rpc.errors import MessageTooLarge

__all__ = ["MAX_INDEX", "PartialMessage", "pieces", "slack"]

MAX_INDEX: Final = 65_536
slack: Final = 1024
"""A frame may exceed the chunk size by this much before it is cut."""


def pieces(frame: bytes, chunk_size: int) -> Iterator[memoryview]:
    """The pieces of *frame*, each of *chunk_size* bytes but the last."""
    view = memoryview(frame)
    for start in range(0, len(view), chunk_size):
        yield view[start : start + chunk_size]


class PartialMessage:
    """A message whose pieces are arriving, in any order.

    Args:
        limit: most bytes it may grow to.
        now: time of creation.
    """

    __slots__ = ("_limit", "_pieces", "size", "touched")

    def __init__(self, limit: int, now: float) -> None:
        self._limit = limit
        self._pieces: dict[int, bytes] = {}
        self.size = 0
        self.touched = now

    def put(self, index: int, piece: bytes, now: float) -> None:
        """Store *piece* at *index*; the same index again replaces it.

        Raises:
            ValueError: an index outside 0 ... `MAX_INDEX`.
            MessageTooLarge: the message would exceed its limit.
        """
        if not 0 <= index < MAX_INDEX:
            raise ValueError(f"index of a piece must be 0 ... {MAX_INDEX - 1}")
        size = self.size - len(self._pieces.get(index, b"")) + len(piece)
        if size > self._limit:
            raise MessageTooLarge(f"message exceeds {self._limit} bytes")
        self._pieces[index] = piece
        self.size = size
        self.touched = now

    def append(self, piece: bytes, now: float) -> None:
        """Store *piece* behind the last one."""
        self.put(len(self._pieces), piece, now)

    def join(self) -> bytes:
        """The whole message.

        Raises:
            ValueError: a piece is missing.
        """
        count = len(self._pieces)
        if set(self._pieces) != set(range(count)):
            raise ValueError("a piece of the message is missing")
        return b"".join(self._pieces[index] for index in range(count))
