"""Maps, lists, sets, ordered maps, memoryviews, and subclasses of the natives (protocol §3.2, §3.3)."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import msgpack

from hypha_rpc.wire.values import DecodingError, OutOfRangeError, checked_text

if TYPE_CHECKING:
    from hypha_rpc.wire.values import Decoder, Encoder, FormTable

__all__ = ["register"]


def register(table: FormTable) -> None:
    """Register the forms of this module."""
    table.encode(dict, _encode_dict)
    table.encode(OrderedDict, _encode_ordered)
    table.encode(list, _encode_sequence)
    table.encode(tuple, _encode_sequence)
    table.encode(set, _encode_set)
    table.encode(frozenset, _encode_set)
    table.encode(memoryview, _encode_memoryview)
    table.encode(bytearray, _encode_bytes)
    table.encode(bytes, _encode_bytes)
    table.encode(str, _encode_text)
    table.encode(int, _encode_integer)
    table.encode(float, _encode_float)
    table.encode(msgpack.Timestamp, _encode_timestamp)
    table.decode("set", _decode_set)
    table.decode("orderedmap", _decode_orderedmap)
    table.decode("memoryview", _decode_memoryview)


def _encode_dict(value: dict[Any, Any], encoder: Encoder) -> Any:
    # dict.get and dict.items, not the value's own: proxies may have members of those names.
    if dict.get(value, "_rintf") is True and encoder.exporter is not None:
        interface = encoder.exporter.export_interface(value)
        if interface is not None:
            value = interface
    return encoder.mapping(dict.items(value))


def _encode_ordered(value: OrderedDict[Any, Any], encoder: Encoder) -> Any:
    if all(isinstance(key, str) for key in value):
        return encoder.mapping(dict.items(value))
    # What a JavaScript Map became here goes back as one; public Python sends only text keys.
    return {"_rtype": "orderedmap", "_rvalue": [encoder.items(pair) for pair in dict.items(value)]}


def _encode_sequence(value: list[Any] | tuple[Any, ...], encoder: Encoder) -> Any:
    return encoder.items(value)


def _encode_set(value: set[Any] | frozenset[Any], encoder: Encoder) -> Any:
    return {"_rtype": "set", "_rvalue": encoder.items(value)}


def _encode_memoryview(value: memoryview, encoder: Encoder) -> Any:
    return {"_rtype": "memoryview", "_rvalue": value.tobytes()}


def _encode_bytes(value: bytes | bytearray, encoder: Encoder) -> Any:
    return bytes(value)


def _encode_text(value: str, encoder: Encoder) -> Any:
    return checked_text(str.__str__(value))


def _encode_integer(value: int, encoder: Encoder) -> Any:
    plain = int(value)
    if not -(2**63) <= plain < 2**64:
        raise OutOfRangeError("Integer value out of range")
    return plain


def _encode_float(value: float, encoder: Encoder) -> Any:
    return float(value)


def _encode_timestamp(value: msgpack.Timestamp, encoder: Encoder) -> Any:
    return value


def _sequence(value: dict[str, Any]) -> list[Any]:
    items = value.get("_rvalue")
    if not isinstance(items, list):
        raise DecodingError(f"the value of a {value['_rtype']} must be an array")
    return items


def _decode_set(value: dict[str, Any], decoder: Decoder) -> Any:
    items = decoder.decode(_sequence(value))
    try:
        # A tuple inside a set travelled as an array; it comes back hashable.
        return {tuple(item) if type(item) is list else item for item in items}
    except TypeError as error:
        raise DecodingError("an item of a set is not hashable") from error


def _decode_orderedmap(value: dict[str, Any], decoder: Decoder) -> Any:
    pairs = decoder.decode(_sequence(value))
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise DecodingError("an ordered map must be an array of pairs")
    try:
        return OrderedDict((tuple(key) if type(key) is list else key, item) for key, item in pairs)
    except TypeError as error:
        raise DecodingError("a key of an ordered map is not hashable") from error


def _decode_memoryview(value: dict[str, Any], decoder: Decoder) -> Any:
    data = value.get("_rvalue")
    if not isinstance(data, bytes):
        raise DecodingError("the value of a memoryview must be binary")
    return memoryview(data)
