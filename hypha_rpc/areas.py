"""Memory for messages that arrive in pieces: untouched until it is written to, or a file nobody else can open.

Implements `endpoint.storage.Area`. Knows nothing of messages, senders or limits.
"""

from __future__ import annotations

import contextlib
import os
from types import ModuleType
from typing import Any, Final

from hypha_rpc.endpoint.storage import Area, AreaUnavailable, ByteArea

mmap: ModuleType | None
try:
    import mmap
except ImportError:  # a browser has no memory to map
    mmap = None

__all__ = ["area"]

_SMALL: Final = 2 * 1024 * 1024
_HUGE: Final = 4 * 1024 * 1024

Buffer = bytes | bytearray | memoryview


def area(size: int, in_file: bool) -> Area:
    """Reserve *size* bytes (`endpoint.storage.AreaFactory`).

    Args:
        size: how many; a file may grow beyond.
        in_file: keep them outside of the memory of this process.

    Raises:
        AreaUnavailable: there is no room, or no file system.
    """
    try:
        if in_file:
            return _FileArea(size)
        return ByteArea(size) if mmap is None or size <= _SMALL else _MappedArea(size)
    except (OSError, OverflowError, ValueError, MemoryError) as error:
        raise AreaUnavailable(f"no room for {size} bytes: {type(error).__name__}") from error


class _MappedArea:
    """Anonymous memory: pages come into being when they are written."""

    __slots__ = ("_view",)

    def __init__(self, size: int) -> None:
        assert mmap is not None
        room = mmap.mmap(-1, max(size, 1))
        if size >= _HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
            # Making thousands of small pages takes longer than filling them.
            with contextlib.suppress(OSError):
                room.madvise(mmap.MADV_HUGEPAGE)
        self._view: memoryview | None = memoryview(room)[:size]

    def write(self, at: int, piece: Buffer) -> None:
        """Copy *piece* to offset *at*."""
        if self._view is not None:
            self._view[at : at + len(piece)] = piece

    def read(self, at: int, size: int) -> bytes:
        """A copy of *size* bytes from offset *at*."""
        return bytes(self._view[at : at + size]) if self._view is not None else b""

    def view(self) -> memoryview:
        """All of it, as long as the view is kept."""
        return self._view if self._view is not None else memoryview(b"")

    def close(self) -> None:
        """Let go; views that others keep stay valid."""
        self._view = None


class _FileArea:
    """A file without a name, readable by its owner only (security S47)."""

    __slots__ = ("_file", "_size")

    def __init__(self, size: int) -> None:
        if mmap is None:
            raise OSError("no files here")
        import tempfile  # costs more to load than the whole of this package's wire

        self._size = size
        self._file: Any = tempfile.TemporaryFile(prefix="hypha-", buffering=0)  # noqa: SIM115 - closed by `close`

    def write(self, at: int, piece: Buffer) -> None:
        """Write *piece* at offset *at*.

        Raises:
            AreaUnavailable: the disk is full.
        """
        try:
            self._file.seek(at)
            self._file.write(piece)
        except OSError as error:
            raise AreaUnavailable(f"a piece could not be stored: {error.strerror}") from error
        self._size = max(self._size, at + len(piece))

    def read(self, at: int, size: int) -> bytes:
        """A copy of *size* bytes from offset *at*."""
        self._file.seek(at)
        data: bytes = self._file.read(size)
        return data

    def view(self) -> memoryview:
        """All of it, mapped as long as the view is kept."""
        if not self._size:
            return memoryview(b"")
        if os.fstat(self._file.fileno()).st_size < self._size:
            self._file.truncate(self._size)
        assert mmap is not None
        return memoryview(mmap.mmap(self._file.fileno(), self._size, access=mmap.ACCESS_READ))

    def close(self) -> None:
        """Let go; views that others keep stay valid."""
        self._file.close()
