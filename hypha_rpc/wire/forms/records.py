"""Dataclasses as maps of their fields, arrays of the standard library as typed arrays.

Public peers encode neither; what travels is a form of the protocol (§3.2, §3.3)
that they read: a map with attribute access, a one-dimensional array.
"""

from __future__ import annotations

import array
import dataclasses
import sys
from typing import TYPE_CHECKING, Any, Final

from hypha_rpc.errors import SerializationError

if TYPE_CHECKING:
    from hypha_rpc.wire.values import Encoder, FormTable

__all__ = ["register"]

_FAMILY: Final = {"f": "float", "d": "float", **dict.fromkeys("bhilq", "int"), **dict.fromkeys("BHILQ", "uint")}


def register(table: FormTable) -> None:
    """Register the forms of this module; after functions, for a dataclass that can be called is one."""
    table.encode_if(_is_dataclass, _encode_dataclass)
    table.encode(array.array, _encode_array)


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _encode_dataclass(value: Any, encoder: Encoder) -> Any:
    return encoder.mapping([(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)])


def _encode_array(value: array.array[Any], encoder: Encoder) -> Any:
    family = _FAMILY.get(value.typecode)
    if family is None:
        raise SerializationError(f"arrays of type code {value.typecode!r} cannot be sent; send them as text")
    if sys.byteorder == "big":
        value = value[:]
        value.byteswap()
    return {"_rtype": "typedarray", "_rvalue": value.tobytes(), "_rdtype": f"{family}{8 * value.itemsize}"}
