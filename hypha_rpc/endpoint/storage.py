"""Where unfinished messages of others lie, and how much of what (security S47).

Decides for every message whether it may be, and whether in memory or in a file;
a `AreaFactory` makes the area. Knows no frames.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from hypha_rpc.errors import LimitExceeded, MessageTooLarge

if TYPE_CHECKING:
    from hypha_rpc.endpoint.options import EndpointOptions

__all__ = ["Area", "AreaFactory", "AreaUnavailable", "ByteArea", "Lot", "Storage", "byte_area"]

Buffer = bytes | bytearray | memoryview

RAM_ABROAD: Final = 32 * 1000 * 1000
RAM_ALL: Final = 256 * 1000 * 1000


class AreaUnavailable(LimitExceeded):
    """There is no room for an incoming message."""


class Area(Protocol):
    """Room for one message."""

    def write(self, at: int, piece: Buffer) -> None:
        """Copy *piece* to offset *at*."""

    def read(self, at: int, size: int) -> bytes:
        """A copy of *size* bytes from offset *at*."""

    def view(self) -> memoryview:
        """All of it, as long as the view is kept."""

    def close(self) -> None:
        """Let go; views that others keep stay valid."""


AreaFactory = Callable[[int, bool], Area]
"""Makes room for a number of bytes, in memory or in a file."""


class ByteArea:
    """An `Area` that is a plain array of bytes."""

    __slots__ = ("_data",)

    def __init__(self, size: int) -> None:
        self._data = bytearray(size)

    def write(self, at: int, piece: Buffer) -> None:
        """Copy *piece* to offset *at*."""
        self._data[at : at + len(piece)] = piece

    def read(self, at: int, size: int) -> bytes:
        """A copy of *size* bytes from offset *at*."""
        return bytes(self._data[at : at + size])

    def view(self) -> memoryview:
        """All of it."""
        return memoryview(self._data)

    def close(self) -> None:
        """Let go; views that others keep stay valid."""
        self._data = bytearray()


def byte_area(size: int, in_file: bool) -> Area:
    """The `AreaFactory` of those who have no files: what exceeds the memory is refused."""
    if in_file:
        raise AreaUnavailable("there is no room for so many unfinished messages")
    return ByteArea(size)


class Lot:
    """The share of one unfinished message."""

    __slots__ = ("limit", "own", "ram", "sender")

    def __init__(self, sender: str, limit: int, *, own: bool) -> None:
        self.sender = sender
        self.limit = limit
        self.own = own
        self.ram = 0


class Storage:
    """The unfinished messages of one endpoint, as far as their room is concerned.

    Args:
        options: bounds, and who makes areas.
    """

    def __init__(self, options: EndpointOptions) -> None:
        self._options = options
        self._count: dict[str, int] = {}
        self._abroad: dict[str, int] = {}
        self.ram = 0

    def open(self, sender: str, *, own: bool) -> Lot:
        """Admit one more message of *sender*.

        Args:
            sender: its stamped address.
            own: it is of the receiver's workspace.

        Raises:
            LimitExceeded: the sender has too many unfinished ones.
        """
        options = self._options
        count = self._count.get(sender, 0)
        if count >= options.max_partial_per_sender:
            raise LimitExceeded("too many incomplete messages")
        self._count[sender] = count + 1
        return Lot(sender, options.max_partial_own if own else options.max_partial_abroad, own=own)

    def reserve(self, lot: Lot, size: int) -> Area:
        """Room for the whole message of *lot*.

        Raises:
            MessageTooLarge: it is larger than a message of this sender may be.
            AreaUnavailable: there is no room.
        """
        if size > lot.limit:
            raise MessageTooLarge(f"message exceeds {lot.limit} bytes")
        return self._options.areas(size, not self.keep(lot, size))

    def overflow(self) -> Area:
        """Room outside of the memory, that grows.

        Raises:
            AreaUnavailable: there is none.
        """
        return self._options.areas(0, True)

    def keep(self, lot: Lot, size: int) -> bool:
        """Whether *size* more bytes of *lot* may lie in memory; then they are counted."""
        abroad = 0 if lot.own else self._abroad.get(lot.sender, 0)
        if self.ram + size > RAM_ALL or (not lot.own and abroad + size > RAM_ABROAD):
            return False
        self.ram += size
        lot.ram += size
        if not lot.own:
            self._abroad[lot.sender] = abroad + size
        return True

    def close(self, lot: Lot) -> None:
        """The message of *lot* is complete or forgotten."""
        self.ram -= lot.ram
        self._less(self._count, lot.sender, 1)
        if not lot.own:
            self._less(self._abroad, lot.sender, lot.ram)
        lot.ram = 0

    @staticmethod
    def _less(table: dict[str, int], sender: str, amount: int) -> None:
        left = table.get(sender, 0) - amount
        if left > 0:
            table[sender] = left
        else:
            table.pop(sender, None)
