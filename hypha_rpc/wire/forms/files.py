"""Files and streams as maps of functions (protocol §3.7); the conversation behind them is the exporter's.

What travels is the list of the protocol, no other attribute: a file gives its
holder exactly these functions, for as long as functions sent along live.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

from hypha_rpc.errors import SerializationError

if TYPE_CHECKING:
    from hypha_rpc.wire.values import Decoder, Encoder, FormTable

__all__ = ["decode_file", "own_file", "register"]

_FUNCTIONS: Final = (
    "fileno seek truncate detach write read read1 readall close __enter__ __exit__ flush isatty __iter__ __next__ "
    "readable readline readlines seekable tell writable writelines"
).split()
_VALUES: Final = ("closed", "name", "size", "path", "type")
_HIDDEN: Final = frozenset({"_rtype", "_rnative"})
_SAID: Final = (str, int, bool, type(None))


def register(table: FormTable) -> None:
    """Register the forms of this module."""
    table.encode_if(_is_file, _encode_file)
    # Behaves as a file and is none by its class.
    table.encode("tempfile._TemporaryFileWrapper", _encode_file)
    table.decode("iostream", decode_file)


def _is_file(value: Any) -> bool:
    # An abstract class: the files that `open` gives are not derived from it.
    return isinstance(value, io.IOBase)


def _encode_file(value: Any, encoder: Encoder) -> Any:
    if encoder.exporter is None:
        raise SerializationError("a file cannot be sent here")
    named: dict[str, Any] = {"_rtype": "iostream", "_rnative": f"py:{type(value)}"}
    for name in _FUNCTIONS:
        function = getattr(value, name, None)
        if callable(function):
            named[name] = encoder.encode(function)
    for name in _VALUES:
        said = getattr(value, name, None)
        said = str(said) if hasattr(said, "__fspath__") else said
        if isinstance(said, _SAID) and hasattr(value, name):
            named[name] = encoder.encode(said)
    return named


def decode_file(value: dict[str, Any], decoder: Decoder) -> Any:
    """A map of the members of a file; a file of this side that comes back is itself."""
    members = decoder.members({key: item for key, item in value.items() if key not in _HIDDEN})
    own = own_file(members)
    return decoder.mapping(members) if own is None else own


def own_file(members: dict[str, Any]) -> Any:
    """The file of this process whose functions *members* are, or None."""
    owner = getattr(members.get("close"), "__self__", None)
    wrapped = type(owner).__module__ == "tempfile"
    return owner if isinstance(owner, io.IOBase) or (wrapped and hasattr(owner, "file")) else None
