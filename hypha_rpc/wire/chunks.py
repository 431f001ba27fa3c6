"""Cutting a frame into pieces and putting pieces together, with bounds (protocol §5, security S47)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hypha_rpc.errors import MessageTooLarge
from hypha_rpc.wire.bulk import Frame, pieces_of

__all__ = ["MAX_INDEX", "PartialMessage", "pieces", "slack"]

MAX_INDEX: Final = 65_536
slack: Final = 1024
"""A frame may exceed the chunk size by this much before it is cut."""


def pieces(frame: Frame, chunk_size: int) -> Iterator[bytes]:
    """The pieces of *frame*, each of *chunk_size* bytes but the last."""
    for start in range(0, len(frame), chunk_size):
        yield b"".join(pieces_of(frame, start, min(start + chunk_size, len(frame))))


class PartialMessage:
    """A message whose pieces are arriving, in any order.

    Args:
        limit: most bytes it may grow to.
        now: time of creation.
    """

    __slots__ = ("_limit", "_pieces", "_sizes", "size", "touched")

    def __init__(self, limit: int, now: float) -> None:
        self._limit = limit
        self._pieces: dict[int, bytes | None] = {}
        self._sizes: dict[int, int] = {}
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
        size = self.size - self._sizes.get(index, 0) + len(piece)
        if size > self._limit:
            raise MessageTooLarge(f"message exceeds {self._limit} bytes")
        self._pieces[index] = piece
        self._sizes[index] = len(piece)
        self.size = size
        self.touched = now

    @property
    def count(self) -> int:
        """How many pieces there are."""
        return len(self._pieces)

    def append(self, piece: bytes, now: float) -> None:
        """Store *piece* behind the last one."""
        self.put(len(self._pieces), piece, now)

    def move_out(self, index: int) -> None:
        """The piece at *index* lies elsewhere from now on."""
        self._pieces[index] = None

    def in_order(self) -> Iterator[bytes | None]:
        """The pieces; None for those that were moved out.

        Raises:
            ValueError: a piece is missing.
        """
        count = len(self._pieces)
        if set(self._pieces) != set(range(count)):
            raise ValueError("a piece of the message is missing")
        return (self._pieces[index] for index in range(count))

    def join(self) -> bytes:
        """The whole message, none of whose pieces was moved out.

        Raises:
            ValueError: a piece is missing.
        """
        return b"".join(piece for piece in self.in_order() if piece is not None)
