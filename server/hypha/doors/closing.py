"""Close codes and reasons as RFC 6455 wants them (protocol §1.5)."""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_REASON_BYTES", "NO_CODE", "code_of", "reason_of"]

MAX_REASON_BYTES: Final = 123
NO_CODE: Final = 1005

_PROTOCOL_ERROR: Final = 1002
_ASSIGNED: Final = frozenset({*range(1000, 1004), *range(1007, 1015)})


def reason_of(text: str) -> str:
    """*text* cut to what a close frame can hold, on a character's border.

    Whatever a peer put into the text: lone surrogates, which JSON can carry, are replaced.
    """
    return text.encode("utf-8", "replace")[:MAX_REASON_BYTES].decode("utf-8", "ignore")


def code_of(payload: bytes) -> int:
    """The code in the payload of a close frame; 1005 if there is none, 1002 if it is not one to be sent."""
    if not payload:
        return NO_CODE
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or not (code in _ASSIGNED or 3000 <= code < 5000):
        return _PROTOCOL_ERROR
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        return _PROTOCOL_ERROR
    return code
