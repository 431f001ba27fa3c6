"""The frame: one or two msgpack maps back to back (protocol §2.1).

::

    frame    = segment1 [segment2]
    segment1 = "header": type, to, from, ws, user, method, session, parent
    segment2 = "extra":  args, with_kwargs, promise, t, ...

A reader takes the header from the first bytes of the frame without looking at
the rest, so that a router never touches a payload. `restamp` rewrites a header
around an untouched payload. What values mean is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgpack

from hypha_rpc.errors import RemoteProtocolError
from hypha_rpc.wire.bulk import Bulk, BulkFrame, Frame, TooFine, read_bulky, spread
from hypha_rpc.wire.limits import MAX_HEADER

__all__ = [
    "ROUTING_KEYS",
    "FrameError",
    "FrameReader",
    "FrameWriter",
    "pack_pairs",
    "read_assembled",
    "read_extra",
    "read_frame",
    "read_header",
    "restamp",
    "top_level_keys",
]

Buffer = bytes | bytearray | memoryview

ROUTING_KEYS: Final = frozenset({"type", "to", "from", "ws", "user", "method", "session", "parent", "ctx"})
"""Names that only the header may carry (protocol §2.5, security S2)."""

# An array reserves its declared length before its items are read, and msgpack nests 1024 deep: unchecked, the declared
# lengths of a frame of 16 MiB could ask for 128 GiB (security S42). Arrays longer than this are looked at twice.
_CAREFUL_ARRAY: Final = 1024
_TEXT_KEYS: Final = frozenset({str})
_WINDOW: Final = 4096
_KEEP_BUFFER: Final = 1024 * 1024
_Unpacker: Final = msgpack.Unpacker
_EMPTY_EXTRA: Final[dict[str, Any]] = {}


class FrameError(RemoteProtocolError, ValueError):
    """Bytes that are no frame. The text never contains the bytes."""


def _only_timestamps(code: int, data: bytes) -> Any:
    raise FrameError(f"unknown msgpack extension type {code}")


def _declared_size(data: Buffer, offset: int) -> int:
    """Number of pairs the msgpack map at *offset* declares, or -1 when there is no map."""
    first = data[offset]
    if 0x80 <= first <= 0x8F:
        return first & 0x0F
    if first == 0xDE:
        return int.from_bytes(data[offset + 1 : offset + 3], "big")
    if first == 0xDF:
        return int.from_bytes(data[offset + 1 : offset + 5], "big")
    return -1


def read_header(data: Buffer) -> tuple[dict[str, Any], int]:
    """Read segment 1.

    Args:
        data: one whole frame.

    Returns:
        The header and the offset at which segment 2 begins (``len(data)`` when
        there is none).

    Raises:
        FrameError: *data* does not start with a well-formed map of at most
            `MAX_HEADER` bytes with distinct text keys (and no array of more than 1024 items).
    """
    size = len(data)
    first = data[0] if size else 0
    declared = first & 0x0F if first & 0xF0 == 0x80 else _declared_size(data, 0) if size else -1
    if declared < 0:
        raise FrameError("a frame starts with a msgpack map")
    unpacker = _Unpacker(
        max_buffer_size=MAX_HEADER, max_array_len=_CAREFUL_ARRAY, strict_map_key=True, ext_hook=_only_timestamps
    )
    try:
        unpacker.feed(data if size <= _WINDOW else data[:_WINDOW])
        try:
            header = unpacker.unpack()
        except msgpack.OutOfData:
            if size <= _WINDOW:
                raise
            unpacker = _Unpacker(
                max_buffer_size=MAX_HEADER, max_array_len=_CAREFUL_ARRAY, strict_map_key=True, ext_hook=_only_timestamps
            )
            unpacker.feed(data[:MAX_HEADER])
            header = unpacker.unpack()
    except FrameError:
        raise
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise FrameError(f"malformed header: {type(error).__name__}") from error
    if len(header) != declared or not _TEXT_KEYS.issuperset(map(type, header)):
        raise FrameError("a header key occurs twice or is no text")
    return header, unpacker.tell()


def read_extra(data: Buffer, offset: int) -> dict[str, Any]:
    """Read segment 2, without interpreting its values.

    Args:
        data: one whole frame.
        offset: where segment 2 begins, from `read_header`.

    Returns:
        The map; empty when the segment is absent. What follows it is ignored.

    Raises:
        FrameError: it is no map with distinct text keys, or malformed inside.
    """
    if offset >= len(data):
        return _EMPTY_EXTRA
    first = data[offset]
    declared = first & 0x0F if first & 0xF0 == 0x80 else _declared_size(data, offset)
    if declared < 0:
        raise FrameError("the payload of a frame is a msgpack map")
    view = memoryview(data)[offset:]
    try:
        try:
            extra = _unpack(view, _CAREFUL_ARRAY)
        except ValueError as error:
            # msgpack has no class of its own for an array that is too long.
            if type(error) is not ValueError:
                raise
            _check_lengths(view)
            extra = _unpack(view, len(view))
    except FrameError:
        raise
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise FrameError(f"malformed payload: {type(error).__name__}") from error
    if len(extra) != declared or not _TEXT_KEYS.issuperset(map(type, extra)):
        raise FrameError("a payload key occurs twice or is no text")
    result: dict[str, Any] = extra
    return result


class FrameReader:
    """Reads small frames with one unpacker for all of them: making one costs more than reading.

    Gives what `read_header` and `read_extra` give; whatever is large, unusual or wrong
    is left to them. Used from one thread.
    """

    __slots__ = ("_at", "_feed", "_skip", "_tell", "_unpack")

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        """Begin anew: after a failure the unpacker holds what was not read."""
        unpacker = _Unpacker(
            max_buffer_size=4 * _WINDOW, max_array_len=_CAREFUL_ARRAY, strict_map_key=True, ext_hook=_only_timestamps
        )
        self._feed, self._unpack, self._tell, self._skip = (
            unpacker.feed,
            unpacker.unpack,
            unpacker.tell,
            unpacker.read_bytes,
        )
        self._at = 0

    def read(self, data: Buffer) -> tuple[dict[str, Any], int, dict[str, Any] | None]:
        """Read a whole frame.

        Args:
            data: one whole frame.

        Returns:
            The header; the offset at which segment 2 begins; segment 2, or None when it is
            absent or has to be read with `read_extra`.

        Raises:
            FrameError: see `read_header`.
        """
        size = len(data)
        if 0 < size <= _WINDOW and data[0] & 0xF0 == 0x80:
            begin = self._at
            try:
                self._feed(data)
                header = self._unpack()
                offset = self._tell() - begin
                if len(header) == data[0] & 0x0F and _TEXT_KEYS.issuperset(map(type, header)):
                    if offset == size:
                        self._at = begin + size
                        return header, offset, None
                    extra = self._unpack()
                    if self._tell() - begin == size and _is_small_map(extra, data[offset]):
                        self._at = begin + size
                        return header, offset, extra
            except (ValueError, TypeError, msgpack.UnpackException):
                # What is wrong, and in which segment, the careful readers find out.
                self._renew()
            else:
                self._renew()
        header, offset = read_header(data)
        return header, offset, None

    def header(self, data: Buffer) -> tuple[dict[str, Any], int]:
        """`read_header`, faster for small headers."""
        size = min(len(data), _WINDOW)
        if size and data[0] & 0xF0 == 0x80:
            begin = self._at
            try:
                self._feed(data if size == len(data) else data[:size])
                header = self._unpack()
                offset = self._tell() - begin
                if offset < size:
                    self._skip(size - offset)
                self._at = begin + size
                if len(header) == data[0] & 0x0F and _TEXT_KEYS.issuperset(map(type, header)):
                    return header, offset
            except (ValueError, TypeError, msgpack.UnpackException):
                self._renew()
            else:
                self._renew()
        return read_header(data)


def _is_small_map(value: Any, first: int) -> bool:
    """Whether *value* is a whole map of distinct text keys that began with the byte *first*."""
    return (
        first & 0xF0 == 0x80
        and type(value) is dict
        and len(value) == first & 0x0F
        and _TEXT_KEYS.issuperset(map(type, value))
    )


def read_assembled(data: Buffer, offset: int) -> dict[str, Any]:
    """`read_extra` for a message that came in pieces: the binaries of arrays in it are views of *data*.

    Raises:
        FrameError: see `read_extra`.
    """
    if offset >= len(data):
        return _EMPTY_EXTRA
    try:
        declared, extra = read_bulky(memoryview(data)[offset:])
    except TooFine:
        return read_extra(data, offset)
    except ValueError as error:
        raise FrameError(f"malformed payload: {type(error).__name__}") from error
    if len(extra) != declared:
        raise FrameError("a payload key occurs twice or is no text")
    return extra


def _unpack(view: memoryview, longest_array: int) -> Any:
    try:
        return msgpack.unpackb(view, max_array_len=longest_array, strict_map_key=False, ext_hook=_only_timestamps)
    except msgpack.ExtraData as more:
        return more.unpacked


class _Pieces:
    """The buffer as a file, so that checking it does not copy all of it."""

    __slots__ = ("_at", "_view")

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._at = 0

    def read(self, size: int) -> bytes:
        piece = self._view[self._at : self._at + size]
        self._at += len(piece)
        return bytes(piece)


def _check_lengths(view: memoryview) -> None:
    """Raise unless every item that the first object in *view* declares is there.

    Then all arrays together have at most as many items as *view* has bytes.
    Skipping builds and reserves nothing.
    """
    size = max(len(view), 1)
    _Unpacker(_Pieces(view), read_size=min(size, _WINDOW * 16), max_buffer_size=size).skip()


def read_frame(data: Buffer) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read both segments; fields of a merged frame stay in the header.

    Raises:
        FrameError: see `read_header` and `read_extra`.
    """
    header, offset = read_header(data)
    return header, read_extra(data, offset)


def top_level_keys(data: Buffer, offset: int) -> list[Any] | None:
    """The keys of segment 2, without building its values.

    Args:
        data: one whole frame.
        offset: where segment 2 begins.

    Returns:
        The keys; an empty list when the segment is absent; None when it is not
        exactly one well-formed map (security S2, extensions §5).
    """
    if offset >= len(data):
        return []
    declared = _declared_size(data, offset)
    if declared < 0:
        return None
    view = memoryview(data)[offset:]
    unpacker = _Unpacker(max_buffer_size=max(len(view), 1), strict_map_key=False, ext_hook=_only_timestamps)
    unpacker.feed(view)
    try:
        keys = []
        for _ in range(unpacker.read_map_header()):
            keys.append(unpacker.unpack())
            unpacker.skip()
    except (ValueError, TypeError, msgpack.UnpackException, FrameError):
        return None
    return keys if unpacker.tell() == len(view) else None


def pack_pairs(pairs: Mapping[str, Any]) -> tuple[int, bytes]:
    """Pack *pairs* without a map header, ready to be appended by `restamp`.

    Returns:
        The number of pairs and their bytes.
    """
    packed = b"".join(msgpack.packb(item) for pair in pairs.items() for item in pair)
    return len(pairs), packed


_pack_header = msgpack.Packer().pack


def restamp(header: dict[str, Any], stamp: tuple[int, bytes]) -> bytes:
    """Pack *header* followed by the ready pairs of *stamp*.

    Args:
        header: the remaining fields; must not contain the stamped keys.
        stamp: from `pack_pairs`.

    Returns:
        The bytes of segment 1.
    """
    packed: bytes = _pack_header(header)
    count = len(header) + stamp[0]
    if count <= 15:
        return bytes((0x80 | count,)) + packed[1:] + stamp[1]
    body = packed[1:] if len(header) <= 15 else packed[3:] if len(header) <= 0xFFFF else packed[5:]
    return b"\xdf" + count.to_bytes(4, "big") + body + stamp[1]


class FrameWriter:
    """Packs frames; one for each endpoint, used from one thread."""

    __slots__ = ("_bulks", "_packer")

    def __init__(self) -> None:
        self._bulks: list[tuple[int, Bulk]] = []
        self._packer = msgpack.Packer(autoreset=False, default=self._note_bulk)

    def write(self, header: Mapping[str, Any], extra: Mapping[str, Any] | None = None) -> bytes:
        """Pack one frame.

        Args:
            header: segment 1.
            extra: segment 2, with values that are encoded already; None or empty: absent.

        Returns:
            The frame.

        Raises:
            OverflowError: an integer outside -2^63 ... 2^64-1.
            ValueError: text with lone surrogates, or nesting too deep.
            TypeError: a value that is no msgpack native.
        """
        packer = self._packer
        try:
            packer.pack(header)
            if extra:
                packer.pack(extra)
            if self._bulks:
                return self._spread().join()
            frame: bytes = packer.bytes()
        except BaseException:
            # A half-packed frame must not precede the next one.
            self._renew()
            raise
        if len(frame) > _KEEP_BUFFER:
            self._renew()
        else:
            packer.reset()
        return frame

    def compose(self, header: Mapping[str, Any], extra: Mapping[str, Any] | None = None) -> Frame:
        """Pack one frame without copying the big binaries in it (`Bulk`); see `write`."""
        packer = self._packer
        try:
            packer.pack(header)
            if extra:
                packer.pack(extra)
            if self._bulks or len(packer.getbuffer()) > _KEEP_BUFFER:
                frame = self._spread()
                return frame if len(frame) > _KEEP_BUFFER else frame.join()
            small: bytes = packer.bytes()
        except BaseException:
            self._renew()
            raise
        packer.reset()
        return small

    def _spread(self) -> BulkFrame:
        """What was packed, with the big binaries in it; the packer's buffer is given away."""
        frame = BulkFrame(list(spread(self._packer.getbuffer(), self._bulks)))
        self._renew()
        return frame

    def _renew(self) -> None:
        self._bulks = []
        self._packer = msgpack.Packer(autoreset=False, default=self._note_bulk)

    def _note_bulk(self, value: Any) -> None:
        """Pack nil for a `Bulk`, and remember where (the packer's ``default``)."""
        if type(value) is int:
            raise OverflowError("Integer value out of range")
        if type(value) is not Bulk:
            raise TypeError(f"can not serialize {type(value).__name__!r} object")
        with self._packer.getbuffer() as packed:
            self._bulks.append((len(packed), value))
