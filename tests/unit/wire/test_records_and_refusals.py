"""Dataclasses, arrays of the standard library, models with dates; and what is refused, with its path and a way out."""

from __future__ import annotations

import array
import dataclasses
import datetime
import decimal
import enum
import fractions
import pathlib
import types
import uuid
from typing import Any

import numpy
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypha_rpc.errors import SerializationError
from hypha_rpc.objects import ObjectProxy
from hypha_rpc.wire import Decoder, Encoder, default_forms
from hypha_rpc.wire.values import UnsupportedTypeError
from tests.unit.wire.same import same
from tests.unit.wire.test_round_trip import crossed


class Plain(enum.Enum):
    ONE = 1


class Colour(enum.StrEnum):
    RED = "red"


class Flag(enum.IntFlag):
    A = 1
    B = 2


@dataclasses.dataclass(frozen=True)
class Place:
    x: int
    label: str = "here"


@dataclasses.dataclass
class Route:
    stops: list[Place]
    weights: Any = None
    steps: int = dataclasses.field(init=False, default=3)


# -- what travels ----------------------------------------------------------------------------


def test_a_dataclass_arrives_as_a_map_of_its_fields() -> None:
    route = Route([Place(1), Place(2, "there")], numpy.arange(2))
    arrived = crossed([route], ObjectProxy)[0]
    assert [stop.label for stop in arrived.stops] == ["here", "there"]
    assert same(arrived.weights, numpy.arange(2))
    assert arrived.steps == 3


def test_a_field_that_cannot_be_sent_is_named() -> None:
    with pytest.raises(SerializationError) as caught:
        Encoder(default_forms()).encode_arguments([Route([Place(1, object())])])  # type: ignore[arg-type]
    assert caught.value.path == "args[0]['stops'][0]['label']"


def test_a_dataclass_that_can_be_called_is_a_function() -> None:
    @dataclasses.dataclass
    class Scale:
        factor: int

        def __call__(self, x: int) -> int:
            return x * self.factor

    with pytest.raises(SerializationError, match="a function cannot be sent here"):
        Encoder(default_forms()).encode(Scale(2))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from("bhilqBHILQ"), st.lists(st.integers(0, 100), max_size=5))
def test_arrays_of_integers_arrive_as_arrays_of_their_width(code: str, items: list[int]) -> None:
    sent = array.array(code, items)
    arrived = crossed(sent)
    assert arrived.tolist() == items
    assert arrived.dtype == numpy.dtype(code)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from("fd"), st.lists(st.floats(width=32), max_size=5))
def test_arrays_of_floats_arrive_as_arrays_of_their_width(code: str, items: list[float]) -> None:
    sent = array.array(code, items)
    assert same(crossed(sent), numpy.array(sent, dtype=code))


def test_an_array_of_characters_is_refused() -> None:
    with pytest.raises(SerializationError, match="type code 'u'"):
        Encoder(default_forms()).encode(array.array("u", "a"))


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (Colour.RED, "red"),
        (Flag.A | Flag.B, 3),
        (numpy.bool_(True), numpy.array(True)),
        (numpy.int16(-3), numpy.array(-3, "int16")),
        (numpy.float64(1.5), 1.5),
        (numpy.datetime64("2024-02-29"), numpy.array("2024-02-29", "datetime64[D]")),
        (numpy.timedelta64(3, "s"), numpy.array(3, "timedelta64[s]")),
        (bytearray(b"x"), b"x"),
        (memoryview(b"abcd")[::2], memoryview(b"ac")),
        (frozenset({1}), {1}),
        (type("Sub", (bytes,), {})(b"x"), b"x"),
    ],
    ids=repr,
)
def test_relatives_of_the_natives_arrive_as_documented(value: Any, arrives: Any) -> None:
    assert same(crossed(value), arrives)


# -- what is refused -------------------------------------------------------------------------

REFUSED = [
    (datetime.datetime(2024, 1, 1), "isoformat"),
    (datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC), "isoformat"),
    (datetime.date(2024, 1, 1), "isoformat"),
    (datetime.time(1), "isoformat"),
    (datetime.timedelta(1), "total_seconds"),
    (decimal.Decimal("1.5"), "str()"),
    (fractions.Fraction(1, 3), "str()"),
    (uuid.UUID(int=1), "str()"),
    (pathlib.Path("a"), "str()"),
    (pathlib.PurePosixPath("a"), "str()"),
    (1 + 2j, "real and imag"),
    (range(3), "list()"),
    (slice(1), "start"),
    (Plain.ONE, "value or name"),
    (types.MappingProxyType({}), None),
    (object(), None),
    (types.SimpleNamespace(a=1), None),
    ({}.keys(), None),
]


@pytest.mark.parametrize(("value", "advice"), REFUSED, ids=lambda value: repr(value)[:40])
def test_what_has_no_form_is_refused_with_its_path_and_what_to_send_instead(value: Any, advice: str | None) -> None:
    with pytest.raises(UnsupportedTypeError) as caught:
        Encoder(default_forms()).encode_arguments([{"b": [0, value]}])
    error = caught.value
    assert error.path == "args[0]['b'][1]"
    assert error.message.startswith(f"hypha-rpc: Unsupported data type: {type(value)}")
    assert error.message.endswith("you can register a custom codec to encode/decode the object.")
    notes = getattr(error, "__notes__", [])
    assert (advice in notes[0] and "register a codec" in notes[0]) if advice else not notes


# -- models ----------------------------------------------------------------------------------


class Event(pydantic.BaseModel):
    when: datetime.datetime
    day: datetime.date
    long: datetime.timedelta
    price: decimal.Decimal
    key: uuid.UUID
    where: pathlib.Path
    kind: Plain
    colour: Colour = Colour.RED
    pair: tuple[int, str] = (1, "a")
    tags: set[str] = {"x"}
    data: bytes = b"\x00\xff"
    more: Event | None = None


def event(**more: Any) -> Event:
    return Event(
        when=datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC),
        day=datetime.date(2024, 2, 29),
        long=datetime.timedelta(hours=1),
        price=decimal.Decimal("1.50"),
        key=uuid.UUID(int=7),
        where=pathlib.Path("a/b"),
        kind=Plain.ONE,
        **more,
    )


def test_a_model_with_dates_and_the_like_arrives_as_its_json_says_and_can_be_read_again() -> None:
    sent = event(more=event())
    arrived = crossed([sent])[0]
    assert isinstance(arrived, pydantic.BaseModel)
    assert arrived.when == "2024-02-29T12:00:00Z"  # type: ignore[attr-defined]
    assert arrived.price == "1.50"  # type: ignore[attr-defined]
    assert arrived.data == b"\x00\xff"  # type: ignore[attr-defined]
    assert Event.model_validate(arrived.model_dump()) == sent


@settings(max_examples=40, deadline=None)
@given(st.datetimes(timezones=st.just(datetime.UTC)), st.decimals(allow_nan=False, allow_infinity=False), st.uuids())
def test_any_date_decimal_and_id_in_a_model_can_be_read_again(
    when: datetime.datetime, price: decimal.Decimal, key: uuid.UUID
) -> None:
    sent = event().model_copy(update={"when": when, "price": price, "key": key})
    assert Event.model_validate(crossed([sent])[0].model_dump()) == sent


class Measurement(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    values: numpy.ndarray


def test_a_model_without_a_schema_arrives_as_a_map_of_its_fields() -> None:
    arrived = crossed([Measurement(values=numpy.arange(3))], ObjectProxy)[0]
    assert type(arrived) is ObjectProxy
    assert same(arrived["values"], numpy.arange(3))


def test_the_schema_of_a_class_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    crossed(event())
    monkeypatch.setattr(Event, "model_json_schema", None)
    assert crossed([event()])[0].kind == 1


def test_received_arrays_are_read_only_unless_asked_for() -> None:
    from hypha_rpc.client.codecs import client_forms

    wire = Encoder(default_forms()).encode([numpy.arange(3), array.array("f", [1.0])])
    for writable in (False, True):
        for arrived in Decoder(client_forms(writable_arrays=writable)).decode(wire):
            assert arrived.flags.writeable is writable
            if writable:
                arrived[0] = 5
                assert arrived[0] == 5
