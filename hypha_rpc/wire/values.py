"""Values and their wire forms, driven by one table (protocol §3).

An `Encoder` turns Python values into msgpack natives and maps with ``_rtype``; a
`Decoder` goes the other way. Both look up *one small function a form* in a
`FormTable`; new forms register there and nobody edits a chain of ifs. What needs
a conversation (functions, generators) is asked of the `Exporter` and `Importer`
that the caller provides; without them such values are refused.

Errors carry the path of the culprit, such as ``args[0]['b'][1]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from hypha_rpc.errors import SerializationError
from hypha_rpc.wire.bulk import BULK, Bulk
from hypha_rpc.wire.limits import WireLimits

__all__ = [
    "ATOMS",
    "Decoder",
    "DecodingError",
    "Encoder",
    "Exporter",
    "ForeignReferenceError",
    "FormTable",
    "Importer",
    "OutOfRangeError",
    "UnsupportedTypeError",
    "default_forms",
    "is_plain",
]

ATOMS: Final = frozenset({type(None), bool, int, float, str, bytes})
"""Types that are their own wire form."""

_TEXT_KEYS: Final = frozenset({str})


class UnsupportedTypeError(SerializationError):
    """A value of a type that has no wire form."""


class OutOfRangeError(SerializationError, OverflowError):
    """An integer outside -2^63 ... 2^64-1 (protocol §3.2)."""


class DecodingError(SerializationError, ValueError):
    """Received bytes that describe no value."""


class ForeignReferenceError(SerializationError, PermissionError):
    """A received function that its sender had no right to pass on (security S8)."""

    def __str__(self) -> str:
        return f"{self.message} at {self.path}"


class Exporter(Protocol):
    """Gives functions of this side a name that the peer can call."""

    def export_function(self, function: Callable[..., Any]) -> Mapping[str, Any]:
        """Return the ``_rtype: method`` map for *function* (protocol §3.4)."""

    def export_generator(self, source: Any) -> Mapping[str, Any]:
        """Return the ``_rtype: generator`` map for an iterator, plain or async (protocol §3.5)."""

    def export_interface(self, interface: dict[str, Any]) -> dict[str, Any] | None:
        """Register an ``_rintf`` map and return what travels, or None if nothing in it is callable (protocol §3.6)."""


class Importer(Protocol):
    """Makes proxies of what a peer names."""

    def import_function(self, reference: dict[str, Any]) -> Any:
        """Return a callable for a ``_rtype: method`` map.

        Raises:
            PermissionError: a foreign reference (security S8).
        """

    def import_generator(self, reference: dict[str, Any]) -> Any:
        """Return an async iterator for a ``_rtype: generator`` map.

        Raises:
            PermissionError: a foreign reference (security S8).
        """


EncodeForm = Callable[[Any, "Encoder"], Any]
DecodeForm = Callable[[dict[str, Any], "Decoder"], Any]


class FormTable:
    """Which function encodes a type and which decodes an ``_rtype``.

    Types may be given by their qualified name (``"numpy.ndarray"``), so that
    optional packages are not imported to know them.
    """

    def __init__(self) -> None:
        self._by_type: dict[type, EncodeForm] = {}
        self._by_name: dict[str, EncodeForm] = {}
        self._fallbacks: list[tuple[Callable[[Any], bool], EncodeForm]] = []
        self._cache: dict[type, EncodeForm | None] = {}
        self.decoders: dict[str, DecodeForm] = {}

    def copy(self) -> FormTable:
        """An independent table with the same forms."""
        twin = FormTable()
        twin.become(self)
        return twin

    def become(self, other: FormTable) -> None:
        """Have the forms of *other*, and no more."""
        self._by_type = dict(other._by_type)
        self._by_name = dict(other._by_name)
        self._fallbacks = list(other._fallbacks)
        self._cache = {}
        self.decoders = dict(other.decoders)

    def encode(self, kind: type | str, form: EncodeForm) -> None:
        """Encode instances of *kind* (and of its subclasses, unless a nearer form exists) with *form*."""
        if isinstance(kind, str):
            self._by_name[kind] = form
        else:
            self._by_type[kind] = form
        self._cache.clear()

    def encode_if(self, predicate: Callable[[Any], bool], form: EncodeForm, *, first: bool = False) -> None:
        """Encode values of otherwise unknown types for which *predicate* holds with *form*; *first*: before others."""
        self._fallbacks.insert(0 if first else len(self._fallbacks), (predicate, form))
        self._cache.clear()

    def decode(self, rtype: str, form: DecodeForm) -> None:
        """Decode maps whose ``_rtype`` is *rtype* with *form*."""
        self.decoders[rtype] = form

    def find(self, value: Any) -> EncodeForm | None:
        """The form that encodes *value*: of the nearest class in its MRO, else the first fallback."""
        kind = type(value)
        try:
            form = self._cache[kind]
        except KeyError:
            form = self._cache[kind] = self._search(kind)
        if form is not None:
            return form
        return next((fallback for holds, fallback in self._fallbacks if holds(value)), None)

    def _search(self, kind: type) -> EncodeForm | None:
        for base in kind.__mro__:
            form = self._by_type.get(base) or self._by_name.get(f"{base.__module__}.{base.__qualname__}")
            if form is not None:
                return form
        return None


_shared: FormTable | None = None


def default_forms() -> FormTable:
    """The table of every form of protocol §3, built once; `FormTable.copy` it to add to it."""
    global _shared
    if _shared is None:
        from hypha_rpc.wire import forms

        _shared = FormTable()
        forms.register_all(_shared)
    return _shared


def is_plain(value: Any, depth: int = 64) -> bool:
    """Whether *value* consists of msgpack natives only, so that it needs no encoding.

    A big binary does: it is packed by reference (`bulk.Bulk`). Exact types only:
    subclasses (proxies, enums, tuples with names) take the general way. The inner
    loops run in C (``set(map(type, ...))``).
    """
    kind = type(value)
    if kind in ATOMS:
        return kind is not bytes or len(value) < BULK
    if kind is dict:
        if not _TEXT_KEYS.issuperset(map(type, value)):
            return False
        items: Iterable[Any] = value.values()
    elif kind is list or kind is tuple:
        items = value
    else:
        return False
    kinds = set(map(type, items))
    if ATOMS.issuperset(kinds):
        return bytes not in kinds or all(type(item) is not bytes or len(item) < BULK for item in items)
    if depth <= 0:
        return False
    return all(is_plain(item, depth - 1) for item in items)


class Encoder:
    """Encodes the values of one message.

    Args:
        forms: the table to use.
        exporter: names functions; without one, functions are refused.
        limits: bounds; only ``depth`` matters here.
        bulk: big binaries become `bulk.Bulk`, which only a `FrameWriter` packs.
    """

    __slots__ = ("_depth", "_limits", "bulk", "exporter", "forms")

    def __init__(
        self,
        forms: FormTable,
        exporter: Exporter | None = None,
        limits: WireLimits | None = None,
        *,
        bulk: bool = False,
    ) -> None:
        self.forms = forms
        self.exporter = exporter
        self.bulk = bulk
        self._limits = limits or _DEFAULT_LIMITS
        self._depth = 0

    def encode_arguments(self, values: Sequence[Any], root: str = "args") -> list[Any]:
        """Encode *values*; the path of an error starts with *root*.

        Raises:
            SerializationError: a value has no wire form.
        """
        try:
            return self._items(values)
        except SerializationError as error:
            error.path = root + error.path
            raise

    def encode(self, value: Any) -> Any:
        """Encode one value.

        Raises:
            SerializationError: it has no wire form; ``path`` is relative to it.
        """
        kind = type(value)
        if kind is int:
            if not -(2**63) <= value < 2**64:
                raise OutOfRangeError("Integer value out of range")
            return value
        if kind is str:
            return checked_text(value)
        if kind in ATOMS:
            return Bulk(value) if kind is bytes and self.bulk and len(value) >= BULK else value
        form = self.forms.find(value)
        if form is None:
            raise _unsupported(kind)
        self._depth += 1
        try:
            if self._depth > self._limits.depth:
                raise SerializationError(f"nested deeper than {self._limits.depth} levels, or contains itself")
            return form(value, self)
        except SerializationError:
            raise
        except Exception as error:  # supervision boundary: codecs and models are code of the program
            raise SerializationError(f"cannot be encoded: {_described(error)}") from error
        finally:
            self._depth -= 1

    def items(self, values: Iterable[Any]) -> list[Any]:
        """Encode every item of a sequence form."""
        return self._items(values)

    def mapping(self, pairs: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
        """Encode the values of a map form and check its keys (X09: text only, refused at the sender)."""
        encoded: dict[str, Any] = {}
        for key, value in pairs:
            if not isinstance(key, str):
                why = f"dictionary keys must be text, not {type(key).__name__}: {key!r:.60}"
                raise SerializationError(f"{why}; convert them, e.g. with str()", f"[{key!r:.60}]")
            try:
                encoded[checked_text(str.__str__(key))] = self.encode(value)
            except SerializationError as error:
                error.path = f"[{key!r}]{error.path}"
                raise
        return encoded

    def _items(self, values: Iterable[Any]) -> list[Any]:
        encoded: list[Any] = []
        for value in values:
            try:
                encoded.append(self.encode(value))
            except SerializationError as error:
                error.path = f"[{len(encoded)}]{error.path}"
                raise
        return encoded


class Decoder:
    """Decodes the values of one message.

    Args:
        forms: the table to use.
        importer: makes proxies of functions; without one they stay maps.
        limits: bounds on what is accepted.
        mapping: class for received maps; called with a dict.
    """

    __slots__ = ("_depth", "forms", "importer", "limits", "mapping")

    def __init__(
        self,
        forms: FormTable,
        importer: Importer | None = None,
        limits: WireLimits | None = None,
        mapping: Callable[[dict[Any, Any]], Any] = dict,
    ) -> None:
        self.forms = forms
        self.importer = importer
        self.limits = limits or _DEFAULT_LIMITS
        self.mapping = mapping
        self._depth = 0

    def decode_arguments(self, values: list[Any], root: str = "args") -> list[Any]:
        """Decode *values*; the path of an error starts with *root*.

        Raises:
            SerializationError: something describes no value.
            PermissionError: a foreign reference (security S8).
        """
        if ATOMS.issuperset(map(type, values)):
            return values
        try:
            return self._items(values)
        except SerializationError as error:
            error.path = root + error.path
            raise

    def decode(self, value: Any) -> Any:
        """Decode one value.

        Raises:
            SerializationError: it describes no value; ``path`` is relative to it.
        """
        kind = type(value)
        if kind is not dict and kind is not list:
            return value
        self._depth += 1
        try:
            if self._depth > self.limits.depth:
                raise DecodingError(f"nested deeper than {self.limits.depth} levels")
            if kind is list:
                return value if ATOMS.issuperset(map(type, value)) else self._items(value)
            rtype = value.get("_rtype")
            form = self.forms.decoders.get(rtype) if isinstance(rtype, str) else None
            if form is not None:
                return form(value, self)
            return self.mapping(self.members(value))
        except SerializationError:
            raise
        except Exception as error:  # supervision boundary: codecs are code of the program, fed by a peer (security S43)
            raise DecodingError(f"cannot be decoded: {_described(error)}") from error
        finally:
            self._depth -= 1

    def members(self, value: dict[Any, Any]) -> dict[Any, Any]:
        """Decode the values of a map."""
        if ATOMS.issuperset(map(type, value.values())):
            return value
        decoded: dict[Any, Any] = {}
        for key, item in value.items():
            try:
                decoded[key] = self.decode(item)
            except SerializationError as error:
                error.path = f"[{key!r:.60}]{error.path}"
                raise
        return decoded

    def _items(self, values: list[Any]) -> list[Any]:
        decoded: list[Any] = []
        for value in values:
            try:
                decoded.append(self.decode(value))
            except SerializationError as error:
                error.path = f"[{len(decoded)}]{error.path}"
                raise
        return decoded


_DEFAULT_LIMITS: Final = WireLimits()


_INSTEAD: Final[dict[str, str]] = {
    "datetime.datetime": "its isoformat() or timestamp()",
    "datetime.date": "its isoformat()",
    "datetime.time": "its isoformat()",
    "datetime.timedelta": "its total_seconds()",
    "decimal.Decimal": "str() or float() of it",
    "fractions.Fraction": "str() or float() of it",
    "uuid.UUID": "str() of it",
    "pathlib.PurePath": "str() of it",
    "pathlib._local.PurePath": "str() of it",
    "builtins.complex": "a list of its real and imag, or a numpy array",
    "builtins.range": "list() of it",
    "builtins.slice": "a list of its start, stop and step",
    "enum.Enum": "its value or name",
    "builtins.coroutine": "its result, by awaiting it first",
    "_asyncio.Future": "its result, by awaiting it first",
    "_asyncio.Task": "its result, by awaiting it first",
}
"""What programs send in place of common values that have no form."""


def _unsupported(kind: type) -> UnsupportedTypeError:
    """The refusal of a type, in the words of public peers; what to do instead is a note."""
    error = UnsupportedTypeError(
        f"hypha-rpc: Unsupported data type: {kind}, you can register a custom codec to encode/decode the object."
    )
    names = (f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__)
    instead = next((_INSTEAD[name] for name in names if name in _INSTEAD), None)
    if instead is not None:
        error.add_note(f"Send {instead}, or register a codec for {kind.__name__}.")
    return error


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error!s:.200}"


def checked_text(text: str) -> str:
    """Return *text* if it can be UTF-8, else raise."""
    try:
        if not text.isascii():
            text.encode()
    except UnicodeEncodeError:
        raise SerializationError("text with lone surrogates cannot be sent") from None
    return text
