"""Bytes from strangers: only documented errors, and no memory that was not sent (security S42-S45)."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import msgpack
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypha_rpc.errors import SerializationError
from hypha_rpc.wire import Decoder, FrameError, default_forms, read_extra, read_frame
from hypha_rpc.wire.frame import top_level_keys
from hypha_rpc.wire.values import DecodingError

HEAD = msgpack.packb({"type": "method"})
MIB = 1024 * 1024


def array_of(length: int) -> bytes:
    return b"\xdd" + length.to_bytes(4, "big")


def peak_of(work: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refuse(data: bytes) -> None:
    with pytest.raises(FrameError):
        read_frame(data)


def decode(value: Any) -> Any:
    return Decoder(default_forms()).decode_arguments([value])[0]


# -- declared lengths ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10_000, 100_000, MIB, 16 * MIB])
def test_nested_arrays_reserve_no_more_than_was_sent(size: int) -> None:
    nested = b"\x81\xa1a" + array_of(size - 6000) * 900
    data = (HEAD + nested).ljust(size, b"\xc0")
    assert peak_of(lambda: refuse(data)) < size + 9 * MIB


@pytest.mark.parametrize("where", [b"\x81\xa4type", HEAD + b"\x81\xa4args"], ids=["header", "payload"])
def test_nested_arrays_below_the_careful_length_reserve_a_bounded_amount(where: bytes) -> None:
    data = (where + array_of(1024) * 1000).ljust(10_000, b"\xc0")
    assert peak_of(lambda: refuse(data)) < 9 * MIB


@pytest.mark.parametrize(
    "head", [b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"], ids=["array", "map", "str", "bin", "ext"]
)
def test_five_bytes_that_declare_four_gigabytes_reserve_nothing(head: bytes) -> None:
    declared = head + b"\xff\xff\xff\xff"
    for data in (b"\x81\xa1a" + declared, HEAD + b"\x81\xa1a" + declared, declared, HEAD + declared):
        assert peak_of(lambda data=data: refuse(data)) < MIB


def test_nested_maps_reserve_nothing() -> None:
    data = HEAD + b"\x81\xa1a" + (b"\xdf" + (7 * MIB).to_bytes(4, "big") + b"\xa1a") * 900
    assert peak_of(lambda: refuse(data.ljust(16 * MIB, b"\xc0"))) < 17 * MIB


def test_the_smallest_items_cost_at_most_a_fixed_multiple() -> None:
    # One byte that is an empty map is a Python object of 64 bytes and a pointer: the price of having values at all.
    count = 200_000
    data = HEAD + b"\x81\xa4args" + array_of(count) + b"\x80" * count
    assert peak_of(lambda: read_frame(data)) < 100 * count


def test_a_hundred_thousand_levels_are_refused() -> None:
    for opener in (b"\x91", b"\x81\xa1a"):
        refuse(HEAD + b"\x81\xa1a" + opener * 100_000 + b"\xc0")
        refuse(b"\x81\xa1a" + opener * 100_000 + b"\xc0")
    assert top_level_keys(HEAD + b"\x81\xa1a" + b"\x91" * 100_000, len(HEAD)) is None


def test_values_nest_128_deep_and_no_deeper() -> None:
    value: Any = 1
    for _ in range(127):
        value = [value]
    assert decode(value) == value
    with pytest.raises(DecodingError, match="nested deeper than 128 levels"):
        decode([[value]])


# -- anything at all -------------------------------------------------------------------------


def attempt(data: bytes) -> None:
    """Read and decode *data*; only the documented errors may come of it."""
    try:
        _, extra = read_frame(data)
        Decoder(default_forms()).decode_arguments(list(extra.values()))
    except (FrameError, SerializationError):
        return


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_documented_errors(data: bytes) -> None:
    attempt(data)
    attempt(HEAD + data)
    attempt(HEAD + b"\x81\xa4args\x91" + data)
    top_level_keys(HEAD + data, len(HEAD))


atoms = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=16)
)
FORMS = sorted(default_forms().decoders)
DTYPES = [*"int8 float64 bool <U2 S4 S U O V8 datetime64[D] M8 >i2 i4,i4".split(), "", "x" * 100, 7]
rtypes = st.sampled_from([*FORMS, "unknown", 5])
wild_keys = st.text(max_size=4) | st.integers(-5, 5) | st.binary(max_size=2) | st.just("_rtype")


def form(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A map that claims to be one of our forms and mostly is not."""
    anything = inner | atoms
    pair_lists = st.lists(st.tuples(anything, anything), max_size=3)
    return st.fixed_dictionaries(
        {"_rtype": rtypes},
        optional={
            "_rvalue": anything | pair_lists,
            "_rshape": st.lists(st.integers(-1, 4) | st.just(2**62), max_size=4) | anything,
            "_rdtype": st.sampled_from(DTYPES) | anything,
            "_rtrace": anything,
            "_rerr": anything,
            "_rmethod": st.text(max_size=3) | anything,
            "_rtarget": st.text(max_size=3) | anything,
            "_rschema": anything,
        },
    )


wild = st.recursive(
    atoms,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(wild_keys, inner, max_size=4) | form(inner),
    max_leaves=20,
)


@settings(max_examples=400, deadline=None)
@given(wild)
def test_arbitrary_messages_raise_only_documented_errors(value: Any) -> None:
    attempt(HEAD + msgpack.packb({"args": value}))


def test_a_key_that_cannot_be_hashed_is_a_frame_error() -> None:
    refuse(HEAD + b"\x81\xa4args\x91\x81\x90\x01")
    refuse(HEAD + b"\x81\xa4args\x91\x81\x80\x01")


# -- arrays (S44) ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ([2**40], "float64"),
        ([-1], "float64"),
        ([-1, -1], "int8"),
        ([2**62, 2**62, 0], "float64"),
        ([0, 2**63], "float64"),
        ([2**64, 2**64], "float64"),
        ([2**40], "S"),
        ([2**40], "U0"),
        ([True], "int8"),
        ([1.0], "int8"),
        ("x", "int8"),
        (None, "int8"),
        ([0] * 33, "int8"),
        ([1], "object"),
        ([1], "O"),
        ([1], "V1"),
        ([1], "i4,i4"),
        ([1], "(2,)i4"),
        ([1], "os.system"),
        ([1], "S99999999999"),
        ([1], None),
        ([1], "int8" * 100),
    ],
    ids=str,
)
@pytest.mark.parametrize("data", [b"", b"12345678"])
def test_an_array_that_does_not_add_up_is_refused(shape: Any, dtype: Any, data: bytes) -> None:
    value = {"_rtype": "ndarray", "_rvalue": data, "_rshape": shape, "_rdtype": dtype}

    def refused() -> None:
        with pytest.raises(DecodingError) as caught:
            decode([value])
        assert caught.value.path == "args[0][0]"

    assert peak_of(refused) < MIB


def test_an_array_of_no_bytes_keeps_its_shape() -> None:
    value = decode({"_rtype": "ndarray", "_rvalue": b"", "_rshape": [0] * 32, "_rdtype": "int16"})
    assert value.shape == (0,) * 32
    assert value.dtype == "int16"


def test_the_bytes_of_an_array_may_come_in_pieces() -> None:
    value = {"_rtype": "ndarray", "_rvalue": [b"\1\0", b"\2\0"], "_rshape": [2], "_rdtype": "int16"}
    assert numpy.array_equal(decode(value), [1, 2])


@pytest.mark.parametrize("dtype", [None, "", "object", "U4", "complex64", "float128"])
def test_an_unknown_typed_array_is_refused(dtype: Any) -> None:
    with pytest.raises(DecodingError):
        decode({"_rtype": "typedarray", "_rvalue": b"12345678", "_rdtype": dtype})


def test_a_typed_array_of_half_an_item_is_refused() -> None:
    with pytest.raises(DecodingError, match="7 bytes"):
        decode({"_rtype": "typedarray", "_rvalue": b"1234567", "_rdtype": "int16"})


# -- other forms -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        {"_rtype": "set", "_rvalue": 5},
        {"_rtype": "set"},
        {"_rtype": "set", "_rvalue": [{"a": 1}]},
        {"_rtype": "set", "_rvalue": [[[1]]]},
        {"_rtype": "orderedmap", "_rvalue": [1]},
        {"_rtype": "orderedmap", "_rvalue": [[1, 2, 3]]},
        {"_rtype": "orderedmap", "_rvalue": [[{}, 2]]},
        {"_rtype": "memoryview", "_rvalue": "text"},
        {"_rtype": "error"},
        {"_rtype": "error", "_rvalue": None},
        {"_rtype": "error", "_rvalue": {"a": 1}},
        {"_rtype": "method"},
        {"_rtype": "method", "_rmethod": 5, "_rtarget": "a"},
        {"_rtype": "generator", "_rmethod": "a.b"},
        {"_rtype": "pydantic_model", "_rvalue": [1]},
    ],
    ids=repr,
)
def test_a_form_with_the_wrong_parts_is_refused_with_its_path(value: Any) -> None:
    with pytest.raises(DecodingError) as caught:
        decode({"a": [0, value]})
    assert caught.value.path == "args[0]['a'][1]"


def test_a_codec_that_fails_is_a_decoding_error_with_its_path() -> None:
    def broken(value: dict[str, Any], decoder: Decoder) -> Any:
        raise LookupError("no such thing")

    forms = default_forms().copy()
    forms.decode("mine", broken)
    with pytest.raises(DecodingError, match="LookupError: no such thing") as caught:
        Decoder(forms).decode_arguments([1, {"b": {"_rtype": "mine"}}])
    assert caught.value.path == "args[1]['b']"
    assert isinstance(caught.value.__cause__, LookupError)


def test_decoding_shares_nothing_with_an_unknown_form() -> None:
    value = {"_rtype": "who-knows", "v": [{"_rtype": "set", "_rvalue": [1]}]}
    assert decode(value) == {"_rtype": "who-knows", "v": [{1}]}


@pytest.mark.parametrize("offset", [0, 3])
def test_reading_a_payload_never_looks_before_its_offset(offset: int) -> None:
    payload = msgpack.packb({"args": [1]})
    assert read_extra(b"\xc1" * offset + payload, offset) == {"args": [1]}
