"""Every golden message is read as it is written down, and what we send reads the same (protocol Appendix D)."""

from __future__ import annotations

import collections
import datetime
import enum
from typing import Any

import msgpack
import numpy
import pydantic
import pytest

from hypha_rpc.errors import SerializationError
from hypha_rpc.objects import ObjectProxy
from hypha_rpc.wire import Decoder, Encoder, FrameWriter, default_forms, read_extra, read_frame, read_header
from hypha_rpc.wire.forms.generators import STOP
from tests.unit.wire import vectors
from tests.unit.wire.same import same


class Color(enum.StrEnum):
    RED = "red"


class Point(pydantic.BaseModel):
    """A point."""

    x: int
    y: float = 0.5


SENT: dict[str, Any] = {
    "py.none": None,
    "py.true": True,
    "py.false": False,
    "py.int_small": 5,
    "py.int_neg": -5,
    "py.int_u8": 200,
    "py.int_i64_min": -(2**63),
    "py.int_u64_max": 2**64 - 1,
    "py.float_int_valued": 1.0,
    "py.float": 1.5,
    "py.nan": float("nan"),
    "py.inf": float("inf"),
    "py.neg_zero": -0.0,
    "py.str_ascii": "hello",
    "py.str_utf8": "héllo ✓",
    "py.str_empty": "",
    "py.str_300": "x" * 300,
    "py.bytes": b"ab\x00\xff",
    "py.bytes_empty": b"",
    "py.memoryview": memoryview(b"abc"),
    "py.list": [1, "a", None, [2]],
    "py.tuple": (1, (2, 3)),
    "py.dict_nested": {"a": {"b": [1]}, "c": None},
    "py.dict_empty": {},
    "py.objectproxy": ObjectProxy({"a": 1}),
    "py.set": {1},
    "py.set_empty": set(),
    "py.ordereddict": collections.OrderedDict(z=1, a=2),
    "py.str_enum": Color.RED,
    "py.ndarray_f32_2x2": numpy.arange(4, dtype="float32").reshape(2, 2),
    "py.ndarray_i64": numpy.arange(2),
    "py.ndarray_big_endian": numpy.array([0, 1], dtype=">i2"),
    "py.ndarray_bool": numpy.array([True, False]),
    "py.ndarray_fortran": numpy.asfortranarray(numpy.arange(6, dtype="uint8").reshape(2, 3)),
    "py.ndarray_unicode": numpy.array(["ab", "c"]),
    "py.ndarray_empty": numpy.zeros((0, 3), "float64"),
    "py.ndarray_scalar_f32": numpy.float32(1.5),
    "py.ndarray_scalar_f64": numpy.float64(1.5),
    "py.ndarray_scalar_i64": numpy.int64(3),
    "py.exception": ValueError("bad"),
    "py.exception_keyerror": KeyError("k"),
    "py.unknown_rtype": {"_rtype": "my-type", "v": [1]},
    "py.pydantic": Point(x=1),
    # What came from JavaScript and goes back there.
    "js.null": None,
    "js.true": True,
    "js.int": 5,
    "js.neg": -5,
    "js.float": 1.5,
    "js.max_safe": 2**53 - 1,
    "js.unsafe_int": 2.0**53,
    "js.nan": float("nan"),
    "js.inf": float("inf"),
    "js.string": "héllo",
    "js.uint8array": b"\x01\x02",
    "js.arraybuffer": memoryview(b"\x09\x08"),
    "js.array": [1, "a", None, [2]],
    "js.object": {"a": {"b": [1]}, "c": None},
    "js.object_numeric_key": {"1": "a"},
    "js.map": collections.OrderedDict([("k", 1), (2, "x")]),
    "js.date": msgpack.Timestamp(1700000000, 123000000),
    "js.sparse": [None, None, 1],
}
"""Case -> the value that it describes."""

FREE = {"_rtrace", "_rdoc", "_rname", "_rasync", "_rerr", "_rx", "_rschema"}
"""Keys whose content is the sender's own affair (protocol Appendix D), and ours of extensions §1 and §2."""

DEVIATIONS: dict[str, str] = {
    # case: where it is said that ours differs from what the vector's sender does
    "py.bytearray": "python-client §8: bytearray and frozenset SHOULD be sent as bytes and set",
    "py.frozenset": "python-client §8: bytearray and frozenset SHOULD be sent as bytes and set",
    "js.map": "protocol §3.3: public Python never sends orderedmap; ours gives a JavaScript Map back",
    "js.date": "protocol §3.2: public Python has no encoder for Timestamp; ours gives a Date back",
    "py.dict_int_keys": "protocol §3.2: an encoder MUST NOT put non-string map keys on the wire",
    "py.dict_bytes_keys": "protocol §3.2: an encoder MUST NOT put non-string map keys on the wire",
    "js.typedarray_bigint64": "protocol §3.3: a decoder MUST raise on a nil dtype of a typed array",
    "js.ndarray_helper": "protocol §3.3: the value of an ndarray is binary; public Python refuses it, too",
}
"""Where we deliberately send more, or refuse what is in the vectors."""

UNREADABLE = {"js.typedarray_bigint64", "js.ndarray_helper"}

READ: dict[str, Any] = {
    **SENT,
    "py.tuple": [1, [2, 3]],
    "py.ordereddict": {"z": 1, "a": 2},
    "py.str_enum": "red",
    "py.ndarray_scalar_f32": numpy.array(1.5, "float32"),
    "py.ndarray_scalar_f64": 1.5,
    "py.ndarray_scalar_i64": numpy.array(3, "int64"),
    "py.unknown_rtype": {"v": [1], "_rtype": "my-type"},
    "js.undefined": None,
    "js.float_integral": 1,
    "js.neg_zero": 0,
    "js.uint8array_view": b"\x02\x03",
    "js.dataview": memoryview(b"\x05\x06"),
    "js.set": {1, "a"},
    "js.typedarray_int8": numpy.array([1, -1], "int8"),
    "js.typedarray_int16": numpy.array([1, -2], "int16"),
    "js.typedarray_int32": numpy.array([1, -2], "int32"),
    "js.typedarray_uint16": numpy.array([1, 258], "uint16"),
    "js.typedarray_uint32": numpy.array([1, 2], "uint32"),
    "js.typedarray_float32": numpy.array([1.5, -2], "float32"),
    "js.typedarray_float64": numpy.array([1, 2], "float64"),
    "js.typedarray_subarray": numpy.array([1, 2, 3, 4], "int16"),
    "js.kwargs_marker": {"a": 1, "_rkwargs": True},
    "js.regex": {},
    "js.ndarray_manual": numpy.array([1, 2], "float32"),
    "py.dict_int_keys": {1: "a"},
    "py.dict_bytes_keys": {b"k": 1},
}
"""Case -> what our program gets."""


def unpacked(case: vectors.Case) -> Any:
    """The natives of a value case, read as the only argument of a call."""
    return read_extra(b"\x81\xa4args\x91" + bytes.fromhex(case["hex"]), 0)["args"][0]


def decoded(natives: Any) -> Any:
    return Decoder(default_forms()).decode_arguments([natives])[0]


def without_free(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_free(item) for key, item in value.items() if key not in FREE}
    return [without_free(item) for item in value] if isinstance(value, list) else value


VALUE_SECTIONS = ("value", "function", "service", "generator", "interface", "codec", "iostream", "encryption")


@pytest.mark.parametrize("case", vectors.cases(*VALUE_SECTIONS), ids=vectors.name_of)
def test_bytes_of_a_value_are_read_as_written_down(case: vectors.Case) -> None:
    assert vectors.meant(case["decoded"]) == unpacked(case)


@pytest.mark.parametrize("case", vectors.cases("value"), ids=vectors.name_of)
def test_a_value_becomes_what_the_program_expects(case: vectors.Case) -> None:
    natives = unpacked(case)
    if case["name"] in UNREADABLE:
        assert case["name"] in DEVIATIONS
        with pytest.raises(SerializationError) as caught:
            decoded(natives)
        assert caught.value.path == "args[0]"
        return
    value = decoded(natives)
    if case["decoded"] is not None and isinstance(case["decoded"], dict) and case["decoded"].get("_rtype") == "error":
        assert isinstance(value, Exception)
        assert value.remote_message in case["decoded"]["_rvalue"]  # type: ignore[attr-defined]
        assert str(value).startswith("RemoteError:")
    else:
        assert same(value, READ[case["name"]])


@pytest.mark.parametrize("name", sorted(SENT))
def test_what_we_send_reads_as_the_vector_says(name: str) -> None:
    sent = Encoder(default_forms()).encode_arguments([SENT[name]])
    frame = FrameWriter().write({"type": "m"}, {"args": sent})
    (natives,) = read_frame(frame)[1]["args"]
    expected = vectors.meant(vectors.case(name)["decoded"])
    assert without_free(expected) == without_free(natives)


@pytest.mark.parametrize("case", vectors.cases("function", "service", "generator", "interface"), ids=vectors.name_of)
def test_functions_without_an_importer_stay_maps(case: vectors.Case) -> None:
    expected = STOP if case["name"].endswith(".stop_iteration") else unpacked(case)
    assert decoded(unpacked(case)) == expected


SENT_THOUGH_REJECTED = {
    "py.bytearray": (bytearray(b"ab"), b"ab"),
    "py.frozenset": (frozenset({1}), {1}),
}

REFUSED = {
    "py.datetime": datetime.datetime(2024, 1, 1),
    "py.range": range(3),
    "py.complex": 1 + 2j,
    "py.int_2_70": 2**70,
}


@pytest.mark.parametrize("case", vectors.rejected(), ids=vectors.name_of)
def test_what_public_peers_refuse_we_refuse_or_send_in_a_form_of_the_protocol(case: vectors.Case) -> None:
    name = case["name"]
    encoder = Encoder(default_forms())
    if name.startswith("js."):
        assert name in ("js.class_instance", "js.bigint", "js.symbol"), "only JavaScript has these"
    elif name in SENT_THOUGH_REJECTED:
        assert name in DEVIATIONS
        value, arrives = SENT_THOUGH_REJECTED[name]
        assert decoded(encoder.encode_arguments([value])[0]) == arrives
    else:
        with pytest.raises(SerializationError) as caught:
            encoder.encode_arguments([REFUSED[name]])
        kind, _, text = case["error"].partition(": ")
        assert caught.value.message == text
        assert caught.value.path == "args[0]"
        assert kind != "OverflowError" or isinstance(caught.value, OverflowError)


@pytest.mark.parametrize("value", [{1: "a"}, {b"k": 1}, {None: 1}, {(1, 2): 3}])
def test_keys_that_hang_a_peer_never_leave(value: Any) -> None:
    with pytest.raises(SerializationError, match="dictionary keys must be text"):
        Encoder(default_forms()).encode_arguments([value])


def test_every_deviation_names_a_case_and_a_line_of_the_specification() -> None:
    for name, line in DEVIATIONS.items():
        assert vectors.case(name)
        assert "§" in line


@pytest.mark.parametrize("case", vectors.cases("frame", "webrtc"), ids=vectors.name_of)
def test_a_frame_is_read_as_written_down(case: vectors.Case) -> None:
    header, extra = read_frame(bytes.fromhex(case["hex"]))
    segments = [vectors.meant(segment) for segment in case["decoded"]]
    assert segments[0] == header
    assert (segments[1] if len(segments) > 1 else {}) == extra


@pytest.mark.parametrize("case", vectors.cases("http"), ids=vectors.name_of)
def test_a_message_of_the_http_transport_is_read_as_written_down(case: vectors.Case) -> None:
    data = bytes.fromhex(case["hex"])
    if "stream" in case["transport"]:
        assert int.from_bytes(data[:4], "big") == len(data) - 4
        data = data[4:]
    header, offset = read_header(data)
    segments = case["decoded"] if isinstance(case["decoded"], list) else [case["decoded"]]
    assert [vectors.meant(segment) for segment in segments] == [header, read_extra(data, offset)][: len(segments)]


@pytest.mark.parametrize("case", vectors.cases("frame"), ids=vectors.name_of)
def test_a_frame_written_by_us_reads_the_same(case: vectors.Case) -> None:
    header, extra = read_frame(bytes.fromhex(case["hex"]))
    assert read_frame(FrameWriter().write(header, extra)) == (header, extra)
