"""The forms of one connection: those of the protocol, files of peers, codecs of the program (python-client §8.1)."""

from __future__ import annotations

import types
from abc import ABCMeta
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from hypha_rpc.client import files
from hypha_rpc.wire.forms import arrays
from hypha_rpc.wire.values import ATOMS, default_forms

if TYPE_CHECKING:
    from hypha_rpc.wire.values import Decoder, Encoder, FormTable

__all__ = ["Codecs", "client_forms"]

_FIXED: Final = ATOMS | {
    dict,
    list,
    tuple,
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
}
"""Types whose form cannot be changed: the fast ways of the library rely on them."""


def client_forms(*, writable_arrays: bool = False) -> FormTable:
    """A table for one client.

    Args:
        writable_arrays: received arrays are copied where they would be read-only.
    """
    forms = default_forms().copy()
    files.register(forms)
    if writable_arrays:
        arrays.make_writable(forms)
    return forms


class Codecs:
    """The codecs that a program has registered on one connection.

    Args:
        forms: the table of that connection.
    """

    def __init__(self, forms: FormTable) -> None:
        self._forms = forms
        self._before: FormTable | None = None
        self._codecs: dict[str, _Codec] = {}

    def register(self, codec: Mapping[str, Any]) -> None:
        """Add *codec*; one of the same name or type is replaced.

        Args:
            codec: ``name``; ``encoder`` with the ``type`` it is for (or a tuple of
                types), ``decoder``, or both. The encoder gets the object and returns a
                map, whose values are encoded in turn, or any other value that can be
                sent. The decoder gets the decoded map, with ``_rtype``.

        Raises:
            ValueError: name, type or functions are missing, or the type is one that
                cannot be overridden (X13).
        """
        name = codec.get("name")
        encoder, decoder = codec.get("encoder"), codec.get("decoder")
        if not isinstance(name, str) or not name:
            raise ValueError("a codec needs a 'name'")
        if encoder is None and decoder is None:
            raise ValueError(f"codec {name!r} needs an 'encoder' or a 'decoder'")
        for function in (encoder, decoder):
            if function is not None and not callable(function):
                raise ValueError(f"encoder and decoder of codec {name!r} must be callable")
        kinds = _checked_types(name, codec.get("type")) if encoder is not None else ()
        # The latest wins: it goes to the end, and the table is made anew, so that what it replaces leaves no trace.
        self._codecs.pop(name, None)
        self._codecs[name] = _Codec(name, kinds, encoder, decoder)
        if self._before is None:
            self._before = self._forms.copy()
        self._forms.become(self._before)
        for known in self._codecs.values():
            known.put_into(self._forms)


class _Codec(NamedTuple):
    """A codec that has been checked."""

    name: str
    kinds: tuple[type, ...]
    encoder: Callable[[Any], Any] | None
    decoder: Callable[[Any], Any] | None

    def put_into(self, forms: FormTable) -> None:
        """Add its forms to *forms*."""
        for kind in self.kinds:
            form = _CodecEncoder(self.name, cast(Callable[[Any], Any], self.encoder))
            forms.encode(kind, form)
            if isinstance(kind, ABCMeta):
                # Classes may belong to it without being derived from it.
                forms.encode_if(partial(_is_a, kind), form, first=True)
        if self.decoder is not None:
            forms.decode(self.name, _CodecDecoder(self.decoder))


def _checked_types(name: str, given: Any) -> tuple[type, ...]:
    kinds = given if isinstance(given, tuple) else (given,)
    if not kinds or not all(isinstance(kind, type) for kind in kinds):
        raise ValueError(f"codec {name!r} has an encoder and so needs a 'type'")
    for kind in kinds:
        if kind in _FIXED:
            raise ValueError(f"codec {name!r}: {kind.__name__} has a fixed form, which no codec can override")
    return kinds


def _is_a(kind: type, value: Any) -> bool:
    return isinstance(value, kind)


class _CodecEncoder:
    """Encodes with a function of the program."""

    def __init__(self, name: str, encode: Callable[[Any], Any]) -> None:
        self.name = name
        self._encode = encode

    def __call__(self, value: Any, encoder: Encoder) -> Any:
        result = self._encode(value)
        if not isinstance(result, dict):
            return encoder.encode(result)
        # The general way of maps: functions, nested values, `_rintf`.
        encoded = encoder.encode(result)
        if isinstance(encoded, dict):
            encoded.setdefault("_rtype", self.name)
        return encoded


class _CodecDecoder:
    """Decodes with a function of the program."""

    def __init__(self, decode: Callable[[Any], Any]) -> None:
        self._decode = decode

    def __call__(self, value: dict[str, Any], decoder: Decoder) -> Any:
        return self._decode(decoder.mapping(decoder.members(value)))
