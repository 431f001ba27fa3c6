"""Custom codecs as forms of one connection (python-client §8.1, protocol §3.8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypha_rpc.wire.values import Decoder, Encoder, FormTable

__all__ = ["register_codec"]


def register_codec(forms: FormTable, codec: Mapping[str, Any]) -> None:
    """Add *codec* to *forms*; one of the same name or type replaces the older.

    Args:
        forms: the table of one connection.
        codec: ``name``, ``type`` (for an encoder), ``encoder``, ``decoder``.

    Raises:
        ValueError: name, type or functions are missing (X13).
    """
    name, kind = codec.get("name"), codec.get("type")
    encoder, decoder = codec.get("encoder"), codec.get("decoder")
    if not isinstance(name, str) or not name:
        raise ValueError("a codec needs a 'name'")
    if encoder is None and decoder is None:
        raise ValueError("a codec needs an 'encoder' or a 'decoder'")
    if encoder is not None:
        if not isinstance(kind, type):
            raise ValueError(f"codec {name!r} has an encoder and so needs a 'type'")
        forms.encode(kind, _CodecEncoder(name, encoder))
    if decoder is not None:
        forms.decode(name, _CodecDecoder(decoder))


class _CodecEncoder:
    def __init__(self, name: str, encode: Callable[[Any], Any]) -> None:
        self._name = name
        self._encode = encode

    def __call__(self, value: Any, encoder: Encoder) -> Any:
        result = self._encode(value)
        if isinstance(result, dict):
            encoded = encoder.mapping(dict.items(result))
            encoded.setdefault("_rtype", self._name)
            return encoded
        return encoder.encode(result)


class _CodecDecoder:
    def __init__(self, decode: Callable[[Any], Any]) -> None:
        self._decode = decode

    def __call__(self, value: dict[str, Any], decoder: Decoder) -> Any:
        return self._decode(decoder.mapping(decoder.members(value)))
