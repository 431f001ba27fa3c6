"""NumPy arrays and scalars, typed arrays of JavaScript (protocol §3.3, security S44).

NumPy is imported when the first array is met; without it a received ``ndarray``
stays the map it travelled as and a ``typedarray`` becomes its bytes.
"""

from __future__ import annotations

import importlib
import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from hypha_rpc.errors import SerializationError
from hypha_rpc.wire.bulk import BULK, Bulk
from hypha_rpc.wire.values import DecodingError

if TYPE_CHECKING:
    from hypha_rpc.wire.values import Decoder, Encoder, FormTable

__all__ = ["make_writable", "register"]

_KINDS: Final = "biufcSUmM"
_DTYPE_TEXT: Final = re.compile(r"[<>=|]?[A-Za-z][A-Za-z0-9_]*(\[[0-9A-Za-z]+\])?")
_TYPED: Final = frozenset("int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 bool".split())


def register(table: FormTable) -> None:
    """Register the forms of this module."""
    table.encode("numpy.ndarray", _encode_array)
    table.encode("numpy.generic", _encode_array)
    table.encode("numpy.float64", _encode_float64)
    table.encode("numpy.str_", _encode_numpy_text)
    table.encode("numpy.bytes_", _encode_numpy_bytes)
    table.decode("ndarray", _decode_ndarray)
    table.decode("typedarray", _decode_typedarray)


def make_writable(table: FormTable) -> None:
    """Let *table* decode arrays that can be written to; those that would be read-only are copied."""
    table.decode("ndarray", _decode_writable_ndarray)
    table.decode("typedarray", _decode_writable_typedarray)


@lru_cache(maxsize=1)
def _numpy() -> Any:
    try:
        return importlib.import_module("numpy")
    except ImportError:
        return None


def _encode_array(value: Any, encoder: Encoder) -> Any:
    dtype = value.dtype
    if dtype.kind not in _KINDS or dtype.fields is not None:
        raise SerializationError(
            f"arrays of dtype {dtype} cannot be sent; send tolist() of it, or convert it by astype()"
        )
    return {
        "_rtype": "ndarray",
        "_rvalue": _raw_bytes(value) if encoder.bulk else value.tobytes(),
        "_rshape": list(value.shape),
        "_rdtype": str(dtype),
    }


def _raw_bytes(value: Any) -> bytes | Bulk:
    """The elements in C order; those of a big array are sent from where they lie."""
    if value.nbytes < BULK or value.ndim == 0 or not value.flags.c_contiguous:
        data: bytes = value.tobytes()
        return data if len(data) < BULK else Bulk(data)
    return Bulk(memoryview(value.reshape(-1).view(_numpy().uint8)))


def _encode_float64(value: Any, encoder: Encoder) -> Any:
    return float(value)


def _encode_numpy_text(value: Any, encoder: Encoder) -> Any:
    return encoder.encode(str(value))


def _encode_numpy_bytes(value: Any, encoder: Encoder) -> Any:
    return bytes(value)


@lru_cache(maxsize=256)
def _dtype(text: str) -> Any:
    """The dtype *text* names; it must be one of `_KINDS` (no object, no structure)."""
    numpy = _numpy()
    if len(text) > 64 or _DTYPE_TEXT.fullmatch(text) is None:
        raise DecodingError("malformed dtype of an array")
    try:
        dtype = numpy.dtype(text)
    except (TypeError, ValueError) as error:
        raise DecodingError(f"unknown dtype of an array: {text}") from error
    if dtype.kind not in _KINDS or dtype.fields is not None:
        raise DecodingError(f"arrays of dtype {text} are not accepted")
    return dtype


def _raw(value: dict[str, Any]) -> bytes | memoryview:
    """Its bytes: a view of the message it came in when both are big."""
    data = value.get("_rvalue")
    if isinstance(data, list) and all(isinstance(piece, bytes) for piece in data):
        data = b"".join(data)
    if not isinstance(data, (bytes, memoryview)):
        raise DecodingError(f"the value of a {value['_rtype']} must be binary")
    return data


def _decode_ndarray(value: dict[str, Any], decoder: Decoder) -> Any:
    numpy = _numpy()
    if numpy is None:
        if isinstance(value.get("_rvalue"), memoryview):
            value["_rvalue"] = bytes(value["_rvalue"])
        return decoder.mapping(decoder.members(value))
    data, shape, text = _raw(value), value.get("_rshape"), value.get("_rdtype")
    if not isinstance(text, str):
        raise DecodingError("the dtype of an array must be text")
    if not isinstance(shape, list) or not all(type(length) is int and length >= 0 for length in shape):
        raise DecodingError("the shape of an array must be integers of at least 0")
    if len(shape) > decoder.limits.array_dims:
        raise DecodingError(f"an array has more than {decoder.limits.array_dims} dimensions")
    dtype = _dtype(text)
    if math.prod(shape) * dtype.itemsize != len(data):
        raise DecodingError(f"an array of shape {shape} and dtype {text} does not have {len(data)} bytes")
    if data:
        return numpy.frombuffer(data, dtype).reshape(shape)
    if math.prod(shape):
        # Texts without characters: NumPy would give each one a byte that nobody sent.
        raise DecodingError(f"an array of shape {shape} has no bytes")
    try:
        return numpy.empty(shape, dtype)
    except (ValueError, OverflowError) as error:
        raise DecodingError("an array has an impossible shape") from error


def _decode_typedarray(value: dict[str, Any], decoder: Decoder) -> Any:
    data, text = _raw(value), value.get("_rdtype")
    if not isinstance(text, str) or text not in _TYPED:
        raise DecodingError(f"unknown type of a typed array: {text!r:.60}")
    numpy = _numpy()
    if numpy is None:
        return bytes(data)
    dtype = numpy.dtype(text).newbyteorder("<")
    if len(data) % dtype.itemsize:
        raise DecodingError(f"a typed array of {text} does not have {len(data)} bytes")
    return numpy.frombuffer(data, dtype)


def _decode_writable_ndarray(value: dict[str, Any], decoder: Decoder) -> Any:
    return _writable(_decode_ndarray(value, decoder))


def _decode_writable_typedarray(value: dict[str, Any], decoder: Decoder) -> Any:
    return _writable(_decode_typedarray(value, decoder))


def _writable(array: Any) -> Any:
    numpy = _numpy()
    if numpy is None or not isinstance(array, numpy.ndarray) or array.flags.writeable:
        return array
    return array.copy()
