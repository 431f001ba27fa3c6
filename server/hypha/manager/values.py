"""Values that clients leave here: only plain ones, and how much room they take."""

from __future__ import annotations

from typing import Any

import msgpack

__all__ = ["packed_size"]


def packed_size(value: Any, what: str) -> int:
    """How many bytes *value* takes on the wire.

    What is kept is handed to others as it is, so it must be plain: a callback or an
    array of its sender means nothing to them.

    Args:
        value: what a client sent.
        what: its name in the text of the error.

    Raises:
        ValueError: it is not made of plain values.
    """
    try:
        packed: bytes = msgpack.packb(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{what} must be made of plain values: {error}") from error
    return len(packed)
