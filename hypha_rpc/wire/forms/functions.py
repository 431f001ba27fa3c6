"""Functions as references (protocol §3.4); the conversation behind them is the exporter's and importer's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_rpc.errors import SerializationError
from hypha_rpc.wire.values import DecodingError

if TYPE_CHECKING:
    from hypha_rpc.wire.values import Decoder, Encoder, FormTable

__all__ = ["register"]


def register(table: FormTable) -> None:
    """Register the forms of this module."""
    table.encode_if(callable, _encode_function)
    table.decode("method", _decode_function)


def _encode_function(value: Any, encoder: Encoder) -> Any:
    if encoder.exporter is None:
        raise SerializationError("a function cannot be sent here")
    return encoder.exporter.export_function(value)


def _decode_function(value: dict[str, Any], decoder: Decoder) -> Any:
    if not isinstance(value.get("_rmethod"), str) or not isinstance(value.get("_rtarget"), str):
        raise DecodingError("a function needs a target and a method")
    if decoder.importer is None:
        return decoder.mapping(decoder.members(value))
    return decoder.importer.import_function(value)
