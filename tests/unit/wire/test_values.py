"""Encoder, decoder and their table: what the golden messages and the round trips do not show."""

from __future__ import annotations

import collections
import enum
import sys
from typing import Any, NamedTuple

import numpy
import pytest

from hypha_rpc.errors import SerializationError
from hypha_rpc.objects import ObjectProxy
from hypha_rpc.wire import Decoder, Encoder, FormTable, WireLimits, default_forms
from hypha_rpc.wire.forms import arrays
from hypha_rpc.wire.values import ForeignReferenceError, OutOfRangeError, UnsupportedTypeError, is_plain


class Pair(NamedTuple):
    left: int
    right: str


class Level(enum.IntEnum):
    LOW = 1


class Exporter:
    def __init__(self) -> None:
        self.exported: list[Any] = []

    def export_function(self, function: Any) -> dict[str, Any]:
        self.exported.append(function)
        return {"_rtype": "method", "_rmethod": f"S.{len(self.exported)}", "_rtarget": "c"}

    def export_generator(self, generator: Any) -> dict[str, Any]:
        self.exported.append(generator)
        return {"_rtype": "generator", "_rmethod": f"S.{len(self.exported)}", "_rtarget": "c"}


class Importer:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def import_function(self, reference: dict[str, Any]) -> Any:
        if self.error is not None:
            raise self.error
        return ("function", reference["_rmethod"])

    def import_generator(self, reference: dict[str, Any]) -> Any:
        return ("generator", reference["_rmethod"])


def encode(value: Any, exporter: Any = None) -> Any:
    return Encoder(default_forms(), exporter).encode_arguments([value])[0]


def decode(value: Any, importer: Any = None, **options: Any) -> Any:
    return Decoder(default_forms(), importer, **options).decode_arguments([value])[0]


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (Pair(1, "a"), [1, "a"]),
        (Level.LOW, 1),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (collections.Counter("aa"), {"a": 2}),
        (ObjectProxy({"items": 1, "get": [ObjectProxy({"keys": 2})]}), {"items": 1, "get": [{"keys": 2}]}),
        (bytearray(b"ab"), b"ab"),
        (frozenset({1}), {"_rtype": "set", "_rvalue": [1]}),
        (numpy.str_("ä"), "ä"),
        (numpy.bytes_(b"a"), b"a"),
        (memoryview(b"abcdef")[::2], {"_rtype": "memoryview", "_rvalue": b"ace"}),
        (type("Text", (str,), {})("t"), "t"),
        (type("Number", (float,), {})(1.5), 1.5),
    ],
    ids=repr,
)
def test_subclasses_travel_as_the_native_they_extend(value: Any, wire: Any) -> None:
    encoded = encode(value)
    assert encoded == wire
    assert type(encoded) is type(wire)


@pytest.mark.parametrize(
    ("value", "path", "kind"),
    [
        ({"b": [0, object()]}, "args[0]['b'][1]", UnsupportedTypeError),
        ([2**64], "args[0][0]", OutOfRangeError),
        ({"a": -(2**63) - 1}, "args[0]['a']", OutOfRangeError),
        ({"a": "\ud800"}, "args[0]['a']", SerializationError),
        ({"x": {1: 2}}, "args[0]['x'][1]", SerializationError),
        ([Pair(1, {3})], None, None),  # type: ignore[arg-type]
        ([numpy.array([object()])], "args[0][0]", SerializationError),
        ([numpy.zeros(1, "i4,f4")], "args[0][0]", SerializationError),
        ([print], "args[0][0]", SerializationError),
        ([iter([1])], "args[0][0]", SerializationError),
        ({"d": 1 + 2j}, "args[0]['d']", UnsupportedTypeError),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_cannot_be_sent_is_refused_at_once_with_its_path(value: Any, path: str | None, kind: Any) -> None:
    if path is None:
        assert encode(value)
        return
    with pytest.raises(kind) as caught:
        encode(value)
    assert caught.value.path == path
    assert isinstance(caught.value, TypeError)
    assert path in str(caught.value)


def test_a_codec_that_fails_is_a_serialization_error_with_its_path() -> None:
    def broken(value: Any, encoder: Encoder) -> Any:
        raise ZeroDivisionError("by zero")

    forms = default_forms().copy()
    forms.encode(Pair, broken)
    with pytest.raises(SerializationError, match="ZeroDivisionError: by zero") as caught:
        Encoder(forms).encode_arguments([[Pair(1, "a")]], "result")
    assert caught.value.path == "result[0][0]"


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(SerializationError, match="nested deeper than 128 levels"):
        encode(loop)
    assert not is_plain(loop)


def test_fifty_levels_are_plain_and_come_back() -> None:
    value: Any = {"end": b""}
    for _ in range(50):
        value = [value]
    assert is_plain(value)
    assert decode(encode(value)) == value


def test_is_plain_gives_up_below_its_depth() -> None:
    assert is_plain([[[1]]], 2)
    assert not is_plain([[[1]]], 1)


def test_functions_are_asked_of_exporter_and_importer() -> None:
    exporter = Exporter()
    encoded = encode({"f": [len]}, exporter)
    assert exporter.exported == [len]
    assert decode(encoded, Importer()) == {"f": [("function", "S.1")]}


def test_generators_are_asked_of_exporter_and_importer() -> None:
    exporter = Exporter()
    encoded = encode([iter([1])], exporter)
    assert decode(encoded, Importer()) == [("generator", "S.1")]


def test_a_foreign_reference_names_its_place() -> None:
    with pytest.raises(ForeignReferenceError) as caught:
        decode(
            [{"_rtype": "method", "_rmethod": "a.b", "_rtarget": "c"}],
            Importer(ForeignReferenceError("foreign reference")),
        )
    assert str(caught.value) == "foreign reference at args[0][0]"
    assert isinstance(caught.value, PermissionError)


def test_received_maps_are_of_the_class_asked_for() -> None:
    value = decode([{"a": {"b": 1}}], mapping=ObjectProxy)
    assert value[0].a.b == 1


def test_the_depth_of_a_message_can_be_limited() -> None:
    limits = WireLimits(depth=3)
    assert Decoder(default_forms(), limits=limits).decode([[[1]]]) == [[[1]]]
    with pytest.raises(SerializationError, match="deeper than 3"):
        Decoder(default_forms(), limits=limits).decode([[[[1]]]])
    with pytest.raises(SerializationError, match="deeper than 3"):
        Encoder(default_forms(), limits=limits).encode([[[[1]]]])


def test_a_decoder_is_usable_after_an_error() -> None:
    decoder = Decoder(default_forms(), limits=WireLimits(depth=3))
    for _ in range(5):
        with pytest.raises(SerializationError):
            decoder.decode([{"_rtype": "set", "_rvalue": 1}])
    assert decoder.decode([[[1]]]) == [[[1]]]


# -- the table -------------------------------------------------------------------------------


def test_the_nearest_class_wins_over_its_bases() -> None:
    table = FormTable()
    table.encode(int, lambda value, encoder: "int")
    table.encode(bool, lambda value, encoder: "bool")
    assert table.find(True)(True, None) == "bool"  # type: ignore[misc]
    assert table.find(Level.LOW)(Level.LOW, None) == "int"  # type: ignore[misc]


def test_a_form_registered_later_replaces_the_older_and_the_cache() -> None:
    table = FormTable()
    assert table.find(Pair(1, "a")) is None
    table.encode(tuple, lambda value, encoder: 1)
    assert table.find(Pair(1, "a")) is not None


def test_a_class_may_be_given_by_name() -> None:
    table = FormTable()
    table.encode(f"{Pair.__module__}.Pair", lambda value, encoder: "named")
    assert table.find(Pair(1, "a"))(None, None) == "named"  # type: ignore[misc]


def test_fallbacks_come_last_and_look_at_the_value() -> None:
    table = FormTable()
    table.encode_if(lambda value: value.real > 1, lambda value, encoder: "big")
    assert table.find(2j) is None
    assert table.find(2 + 2j)(None, None) == "big"  # type: ignore[misc]


def test_a_copy_does_not_change_the_original() -> None:
    twin = default_forms().copy()
    twin.decode("mine", lambda value, decoder: 1)
    twin.encode(complex, lambda value, encoder: [value.real, value.imag])
    assert "mine" not in default_forms().decoders
    assert Encoder(twin).encode(1 + 2j) == [1.0, 2.0]
    with pytest.raises(UnsupportedTypeError):
        Encoder(default_forms()).encode(1 + 2j)


# -- without numpy ---------------------------------------------------------------------------


@pytest.fixture
def no_numpy(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(sys.modules, "numpy", None)
    arrays._numpy.cache_clear()
    yield
    monkeypatch.undo()
    arrays._numpy.cache_clear()


@pytest.mark.usefixtures("no_numpy")
def test_without_numpy_an_array_stays_its_map_and_a_typed_array_is_its_bytes() -> None:
    array = {"_rtype": "ndarray", "_rvalue": b"12", "_rshape": [2], "_rdtype": "int8"}
    assert decode([array]) == [array]
    assert decode({"_rtype": "typedarray", "_rvalue": b"12", "_rdtype": "int8"}) == b"12"
