"""Small frames sent in a burst, as one write: masking and framing of several messages at once (RFC 6455 §5).

Pure bytes; when to collect and when to write is the transport's decision.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

__all__ = ["masked_messages"]


def masked_messages(messages: Sequence[bytes]) -> bytes:
    """Frame *messages*, each below 64 KiB, as whole binary messages of a client.

    Args:
        messages: payloads in the order of sending.

    Returns:
        The bytes for the socket; every message has a random mask of its own.
    """
    keys = os.urandom(4 * len(messages))
    pieces: list[bytes] = []
    for index, message in enumerate(messages):
        size = len(message)
        key = keys[4 * index : 4 * index + 4]
        pieces.append(bytes((0x82, 0x80 | size)) if size < 126 else bytes((0x82, 0xFE, size >> 8, size & 0xFF)))
        pieces.append(key)
        mask = (key * (size // 4 + 1))[:size]
        pieces.append((int.from_bytes(message, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big"))
    return b"".join(pieces)
