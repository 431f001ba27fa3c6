"""Bounds on what a receiver decodes (security S42-S45, §8)."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MAX_HEADER", "MAX_ROUTING_TEXT", "WireLimits"]

MAX_ROUTING_TEXT = 4 * 1024
"""Longest routing string of a header (``to``, ``type``, ``session``, ...), in characters."""

MAX_HEADER = 64 * 1024
"""Longest header segment, in bytes."""


@dataclass(frozen=True, slots=True)
class WireLimits:
    """What one receiver is ready to decode.

    Attributes:
        depth: nesting of containers.
        array_dims: dimensions of an array.
        schema_bytes: size of a pydantic JSON schema, estimated by its text.
        schema_depth: nesting of such a schema.
        schema_fields: fields of such a schema.
    """

    depth: int = 128
    array_dims: int = 32
    schema_bytes: int = 64 * 1024
    schema_depth: int = 16
    schema_fields: int = 256
