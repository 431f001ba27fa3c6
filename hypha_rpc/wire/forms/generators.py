"""Generators and iterators as references (protocol §3.5); pulling the items is the endpoint's business."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hypha_rpc.errors import SerializationError
from hypha_rpc.wire.values import DecodingError

if TYPE_CHECKING:
    from hypha_rpc.wire.values import Decoder, Encoder, FormTable

__all__ = ["STOP", "Items", "is_stream", "register"]


class _Stop:
    """The end of a generator, as a decoded value."""

    def __repr__(self) -> str:
        return "<end of a generator>"


STOP: Final = _Stop()


class Items(NamedTuple):
    """The answer to a pull of several items (extensions §3).

    Attributes:
        items: in the order of the generator.
        end: there are no more.
    """

    items: list[Any]
    end: bool


def register(table: FormTable) -> None:
    """Register the forms of this module."""
    table.encode_if(is_stream, _encode_generator)
    table.decode("generator", _decode_generator)
    table.decode("stop_iteration", _decode_stop)
    table.decode("items", _decode_items)


def is_stream(value: Any) -> bool:
    """Whether *value* gives items one by one: a generator or iterator, plain or async; files are no streams."""
    kind = type(value)
    return (hasattr(kind, "__next__") or hasattr(kind, "__anext__")) and not isinstance(value, io.IOBase)


def _encode_generator(value: Any, encoder: Encoder) -> Any:
    if encoder.exporter is None:
        raise SerializationError("a generator cannot be sent here")
    return encoder.exporter.export_generator(value)


def _decode_generator(value: dict[str, Any], decoder: Decoder) -> Any:
    if not all(isinstance(value.get(key), str) for key in ("_rmethod", "_rtarget")):
        raise DecodingError("a generator needs a target and a method")
    if decoder.importer is None:
        return decoder.mapping(decoder.members(value))
    return decoder.importer.import_generator(value)


def _decode_items(value: dict[str, Any], decoder: Decoder) -> Any:
    items = value.get("_rvalue")
    if not isinstance(items, list):
        raise DecodingError("items must be an array")
    return Items(decoder.decode(items), value.get("_rend") is True)


def _decode_stop(value: dict[str, Any], decoder: Decoder) -> Any:
    return STOP
