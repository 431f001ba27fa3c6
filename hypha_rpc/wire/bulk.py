"""Big binaries: sent from where they lie, and found again in a received message without copying it.

A `FrameWriter` packs everything but the big binaries; the frame is then a list of
buffers (`BulkFrame`). `read_bulky` reads a message that came in pieces: binaries of
arrays stay views of it. Knows msgpack's bytes, not what they mean.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

__all__ = ["BULK", "Bulk", "BulkFrame", "Frame", "TooFine", "binary_head", "pieces_of", "read_bulky", "spread"]

Buffer = bytes | bytearray | memoryview

BULK: Final = 128 * 1024
"""Binaries of this size and more are sent without being copied into a frame."""

_DEPTH: Final = 100
_BYTES_A_NODE: Final = 2048
_LEAST_NODES: Final = 256
_VIEWS: Final = frozenset({"ndarray", "typedarray"})


class Bulk:
    """A big binary in an encoded value: packed by reference.

    The memory must not change until the frame is sent.
    """

    __slots__ = ("view",)

    def __init__(self, data: Buffer) -> None:
        self.view = memoryview(data).cast("B")


class BulkFrame:
    """A frame as a sequence of buffers that are never joined.

    Args:
        parts: its bytes, in order.
    """

    __slots__ = ("_ends", "_parts", "_size")

    def __init__(self, parts: Sequence[Buffer]) -> None:
        self._parts = [memoryview(part).cast("B") for part in parts if len(part)]
        self._ends: list[int] = []
        self._size = 0
        for part in self._parts:
            self._size += len(part)
            self._ends.append(self._size)

    def __len__(self) -> int:
        return self._size

    def between(self, start: int, stop: int) -> list[memoryview]:
        """The bytes from *start* to *stop* as views."""
        found: list[memoryview] = []
        index = bisect_right(self._ends, start)
        while start < stop and index < len(self._parts):
            part, end = self._parts[index], self._ends[index]
            offset = start - (end - len(part))
            view = part[offset : offset + stop - start]
            found.append(view)
            start += len(view)
            index += 1
        return found

    def join(self) -> bytes:
        """All bytes in one piece."""
        return b"".join(self._parts)


Frame = bytes | BulkFrame
"""What a writer makes of a message."""


def pieces_of(frame: Frame, start: int, stop: int) -> list[memoryview]:
    """The bytes of *frame* from *start* to *stop* as views."""
    return [memoryview(frame)[start:stop]] if isinstance(frame, bytes) else frame.between(start, stop)


def binary_head(size: int) -> bytes:
    """What precedes a binary of *size* bytes in msgpack."""
    if size < 0x100:
        return bytes((0xC4, size))
    if size < 0x10000:
        return b"\xc5" + size.to_bytes(2, "big")
    return b"\xc6" + size.to_bytes(4, "big")


def spread(packed: Buffer, bulks: Sequence[tuple[int, Bulk]]) -> Iterator[Buffer]:
    """Put *bulks* in the places of the nils that were packed for them."""
    view, at = memoryview(packed), 0
    for offset, bulk in bulks:
        yield view[at:offset]
        yield binary_head(len(bulk.view))
        yield bulk.view
        at = offset + 1
    yield view[at:]


# ---------------------------------------------------------------------- reading


class TooFine(Exception):
    """The message is not worth walking through: many small values, or something rare; read it as usual."""


class Truncated(ValueError):
    """A declared length exceeds what is there."""


def read_bulky(view: memoryview) -> tuple[int, dict[Any, Any]]:
    """Read the map that *view* starts with; binaries of arrays stay views of it.

    Returns:
        How many pairs the map declares, and the map. What follows it is ignored.

    Raises:
        TooFine: read it with `frame.read_extra`.
        ValueError: malformed.
    """
    walker = _Walker(view)
    try:
        declared = walker.map_size()
        if declared is None:
            raise TooFine
        return declared, walker.map_of(declared)
    except (IndexError, struct.error) as error:
        raise Truncated("the message ends too early") from error


class _Walker:
    """Walks through msgpack, one value after the other."""

    __slots__ = ("_at", "_depth", "_left", "_view")

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._at = 0
        self._depth = 0
        self._left = max(len(view) // _BYTES_A_NODE, _LEAST_NODES)

    def value(self) -> Any:
        """The next value."""
        self._left -= 1
        if self._left < 0:
            raise TooFine
        code = self._view[self._at]
        if code <= 0x7F:
            self._at += 1
            return code
        if code >= 0xE0:
            self._at += 1
            return code - 0x100
        if 0xA0 <= code <= 0xBF:
            self._at += 1
            return str(self._take(code & 0x1F), "utf-8")
        if code <= 0x8F:
            self._at += 1
            return self.map_of(code & 0x0F)
        if code <= 0x9F:
            self._at += 1
            return self._array(code & 0x0F)
        reader = _READERS.get(code)
        if reader is None:
            raise TooFine
        self._at += 1
        return reader(self)

    def map_size(self) -> int | None:
        """The number of pairs of the map that comes next, or None when none does."""
        code = self._view[self._at]
        self._at += 1
        if 0x80 <= code <= 0x8F:
            return code & 0x0F
        if code in (0xDE, 0xDF):
            return self.length(2 if code == 0xDE else 4)
        return None

    def length(self, size: int) -> int:
        """An unsigned integer of *size* bytes."""
        return int.from_bytes(self._take(size), "big")

    def number(self, form: str, size: int) -> Any:
        """A number in the form of `struct`."""
        return struct.unpack(form, self._take(size))[0]

    def _take(self, size: int) -> memoryview:
        taken = self._view[self._at : self._at + size]
        if len(taken) != size:
            raise Truncated("a length exceeds what is there")
        self._at += size
        return taken

    def text(self, size: int) -> str:
        """A text whose length has *size* bytes."""
        return str(self._take(self.length(size)), "utf-8")

    def binary(self, size: int) -> Any:
        """A binary whose length has *size* bytes; a big one stays a view until its place is known."""
        data = self._take(self.length(size))
        return data if len(data) >= BULK else bytes(data)

    def _enter(self, size: int) -> None:
        # Every item has one byte at least: nothing is reserved for what cannot be there (security S42).
        if size > len(self._view) - self._at:
            raise Truncated("a length exceeds what is there")
        if size > self._left or self._depth >= _DEPTH:
            raise TooFine
        self._depth += 1

    def _array(self, size: int) -> list[Any]:
        self._enter(size)
        items = [_settled(self.value()) for _ in range(size)]
        self._depth -= 1
        return items

    def array(self, size: int) -> list[Any]:
        """An array whose length has *size* bytes."""
        return self._array(self.length(size))

    def map_of(self, size: int) -> dict[Any, Any]:
        """A map of *size* pairs."""
        self._enter(size)
        pairs: dict[Any, Any] = {}
        for _ in range(size):
            key = self.value()
            if type(key) is not str:
                raise TooFine
            pairs[key] = self.value()
        self._depth -= 1
        keep = "_rvalue" if isinstance(kind := pairs.get("_rtype"), str) and kind in _VIEWS else None
        for key, item in pairs.items():
            if type(item) is memoryview:
                pairs[key] = item.toreadonly() if key == keep else bytes(item)
        return pairs

    def map(self, size: int) -> dict[Any, Any]:
        """A map whose length has *size* bytes."""
        return self.map_of(self.length(size))


def _settled(value: Any) -> Any:
    return bytes(value) if type(value) is memoryview else value


_READERS: Final[dict[int, Callable[[_Walker], Any]]] = {
    0xC0: lambda walker: None,
    0xC2: lambda walker: False,
    0xC3: lambda walker: True,
    0xC4: lambda walker: walker.binary(1),
    0xC5: lambda walker: walker.binary(2),
    0xC6: lambda walker: walker.binary(4),
    0xCA: lambda walker: walker.number(">f", 4),
    0xCB: lambda walker: walker.number(">d", 8),
    0xCC: lambda walker: walker.length(1),
    0xCD: lambda walker: walker.length(2),
    0xCE: lambda walker: walker.length(4),
    0xCF: lambda walker: walker.length(8),
    0xD0: lambda walker: walker.number(">b", 1),
    0xD1: lambda walker: walker.number(">h", 2),
    0xD2: lambda walker: walker.number(">i", 4),
    0xD3: lambda walker: walker.number(">q", 8),
    0xD9: lambda walker: walker.text(1),
    0xDA: lambda walker: walker.text(2),
    0xDB: lambda walker: walker.text(4),
    0xDC: lambda walker: walker.array(2),
    0xDD: lambda walker: walker.array(4),
    0xDE: lambda walker: walker.map(2),
    0xDF: lambda walker: walker.map(4),
}
