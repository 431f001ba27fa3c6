"""Several frames in one stream of bytes: each with its length in front (protocol §7.1).

::

    stream = *( length payload )     length = 4 bytes, unsigned, big endian

Pure bytes, used by both ends of the HTTP transport. Also tells control messages,
which travel in the same stream, from frames.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import msgpack

from hypha_rpc.errors import MessageTooLarge
from hypha_rpc.wire.frame import FrameError, read_header

__all__ = ["MAX_CONTROL_BYTES", "LengthReader", "is_control_shaped", "pack_control", "read_control", "with_length"]

Buffer = bytes | bytearray | memoryview

#: A longer payload is a frame without looking. A connection's information is the longest control message.
MAX_CONTROL_BYTES: Final = 64 * 1024
_LENGTH: Final = 4
_CALL: Final = b"\xa4type\xa6method"


def with_length(parts: Sequence[Buffer]) -> bytes:
    """Return the concatenation of *parts* with its length in front."""
    size = sum(map(len, parts))
    return b"".join((size.to_bytes(_LENGTH, "big"), *parts))


def pack_control(message: Mapping[str, Any]) -> bytes:
    """Pack a control message, without a length."""
    packed: bytes = msgpack.packb(dict(message))
    return packed


def read_control(data: Buffer, kinds: Collection[str]) -> dict[str, Any] | None:
    """Return the control message that *data* is, None when it is a frame.

    Args:
        data: one payload.
        kinds: the values of ``type`` that make a map without receiver a control message.
    """
    # Most payloads are calls and answers, and are known by their first bytes.
    if not 0 < len(data) <= MAX_CONTROL_BYTES or data[1:13] == _CALL:
        return None
    if not (0x80 < data[0] <= 0x8F or data[0] in (0xDE, 0xDF)):
        return None
    try:
        message, end = read_header(data)
    except FrameError:
        return None
    kind = message.get("type")
    if end != len(data) or "to" in message or type(kind) is not str or kind not in kinds:
        return None
    return message


def is_control_shaped(data: Buffer) -> bool:
    """Whether *data* is one map without a receiver: a control message, known or not."""
    try:
        message, end = read_header(data)
    except FrameError:
        return False
    return end == len(data) and "to" not in message


class LengthReader:
    """Takes a stream apart, however it was cut on its way.

    Args:
        longest: bytes of the longest payload that is taken.
    """

    __slots__ = ("_kept", "_longest")

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._kept = bytearray()

    @property
    def unfinished(self) -> bool:
        """Whether the stream ended within a payload, if it ends here."""
        return bool(self._kept)

    def feed(self, data: bytes) -> Iterator[Buffer]:
        """Yield the payloads that are complete with *data*; each is valid until the next one is asked for.

        Raises:
            MessageTooLarge: one is announced that is longer than allowed.
        """
        source: bytes | bytearray = data
        if self._kept:
            self._kept += data
            source, self._kept = self._kept, bytearray()
        view, at, size = memoryview(source), 0, len(source)
        while size - at >= _LENGTH:
            length = int.from_bytes(view[at : at + _LENGTH], "big")
            if length > self._longest:
                raise MessageTooLarge(f"a payload of {length} bytes is announced, {self._longest} are allowed")
            if size - at - _LENGTH < length:
                break
            at += _LENGTH + length
            yield view[at - length : at]
        if at == 0 and type(source) is bytearray:
            # Most of a long payload is still to come: what there is stays where it is.
            view.release()
            self._kept = source
        else:
            self._kept = bytearray(view[at:])
