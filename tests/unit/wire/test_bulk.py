"""Big binaries are packed by reference and found again without a copy; hostile lengths build nothing."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypha_rpc.wire import Decoder, Encoder, FrameWriter, default_forms
from hypha_rpc.wire.bulk import BULK, Bulk, BulkFrame, TooFine, Truncated, binary_head, pieces_of, read_bulky
from hypha_rpc.wire.frame import FrameError, read_assembled, read_extra, read_header

BIG = bytes(range(256)) * (BULK // 256)
HUGE = BIG * 12


def encoded(*values: Any) -> list[Any]:
    return Encoder(default_forms(), None, bulk=True).encode_arguments(list(values))


def joined(frame: bytes | BulkFrame) -> bytes:
    return frame if isinstance(frame, bytes) else frame.join()


# -- writing ---------------------------------------------------------------------------------


def test_a_big_binary_is_part_of_the_frame_by_reference() -> None:
    array = numpy.arange(1_000_000, dtype="float64")
    frame = FrameWriter().compose({"type": "m"}, {"args": encoded(array, HUGE)})
    assert isinstance(frame, BulkFrame)
    (view,) = frame.between(1000, 1001)
    assert numpy.shares_memory(numpy.frombuffer(view, "u1"), array)
    found = Decoder(default_forms()).decode_arguments(read_extra(frame.join(), 8)["args"])
    assert (found[0] == array).all()
    assert found[1] == HUGE


@pytest.mark.parametrize("make", [lambda: FrameWriter().compose, lambda: FrameWriter().write])
def test_the_bytes_are_those_of_a_plain_packer(make: Any) -> None:
    values = [1, BIG, {"a": [HUGE, "text"]}, b"small"]
    frame = make()({"type": "m"}, {"args": encoded(*values), "x": 1})
    assert joined(frame) == msgpack.packb({"type": "m"}) + msgpack.packb({"args": values, "x": 1})


def test_a_writer_is_as_good_as_new_after_a_big_frame_and_after_a_failure() -> None:
    writer = FrameWriter()
    assert len(writer.compose({"type": "m"}, {"args": encoded(HUGE)})) > len(HUGE)
    with pytest.raises(TypeError, match="object"):
        writer.compose({"type": "m"}, {"args": [Bulk(BIG), object()]})
    assert writer.compose({"type": "m"}, {"args": [1]}) == msgpack.packb({"type": "m"}) + msgpack.packb({"args": [1]})


def test_a_big_frame_of_small_values_is_not_copied_again() -> None:
    numbers = list(range(500_000))
    frame = FrameWriter().compose({}, {"args": [numbers]})
    assert isinstance(frame, BulkFrame)
    assert frame.join() == b"\x80" + msgpack.packb({"args": [numbers]})


@pytest.mark.parametrize("values", [numpy.zeros((300, 300)).T[::2], numpy.zeros(()), numpy.full(200_000, "text")])
def test_arrays_of_any_layout_arrive(values: numpy.ndarray) -> None:
    frame = FrameWriter().compose({}, {"args": encoded(values)})
    (found,) = Decoder(default_forms()).decode_arguments(read_assembled(joined(frame), 1)["args"])
    assert found.dtype == values.dtype
    assert (found == values).all()


def test_without_being_asked_an_encoder_makes_no_references() -> None:
    assert Encoder(default_forms()).encode(BIG) is BIG
    assert isinstance(Encoder(default_forms()).encode(numpy.zeros(BULK, "u1"))["_rvalue"], bytes)


@given(st.lists(st.binary(max_size=50), max_size=8), st.integers(0, 500), st.integers(0, 500))
def test_a_part_of_a_frame_is_that_part_of_its_bytes(parts: list[bytes], start: int, stop: int) -> None:
    frame = BulkFrame(parts)
    assert len(frame) == len(frame.join())
    for one in (frame, frame.join()):
        assert b"".join(pieces_of(one, start, stop)) == frame.join()[start:stop]


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65_535, 65_536])
def test_a_binary_head_is_that_of_msgpack(size: int) -> None:
    assert msgpack.unpackb(binary_head(size) + bytes(size)) == bytes(size)


# -- reading ---------------------------------------------------------------------------------


def test_the_elements_of_an_array_are_a_view_of_the_message() -> None:
    data = joined(FrameWriter().compose({"type": "m"}, {"args": encoded(numpy.arange(BULK), HUGE)}))
    extra = read_assembled(data, read_header(data)[1])
    array, plain = extra["args"]
    assert isinstance(array["_rvalue"], memoryview)
    assert array["_rvalue"].obj is data
    assert array["_rvalue"].readonly
    assert type(plain) is bytes


def test_binaries_of_other_forms_are_bytes() -> None:
    data = joined(FrameWriter().compose({}, {"args": encoded(memoryview(HUGE), {"_rtype": "mine", "_rvalue": HUGE})}))
    first, second = read_assembled(data, 1)["args"]
    assert type(first["_rvalue"]) is type(second["_rvalue"]) is bytes


_leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=300)
    | st.binary(max_size=70_000)
)
_values = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5)
)


@given(_values)
def test_what_is_walked_through_is_what_msgpack_reads(value: Any) -> None:
    packed = msgpack.packb({"v": value, "f": 1})
    assert read_bulky(memoryview(packed + b"tail")) == (2, {"v": value, "f": 1})


@given(st.binary(max_size=60))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    outcomes = []
    for read in (read_assembled, read_extra):
        try:
            outcomes.append(repr(read(b"\x80" + data, 1)))
        except FrameError:
            outcomes.append("refused")
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("code", ["dd", "df", "c6", "db"])
def test_a_length_beyond_the_end_reserves_nothing(code: str) -> None:
    data = bytes.fromhex("81a162" + code + "fffffff0") + b"\x00" * 10
    with pytest.raises((Truncated, TooFine)):
        read_bulky(memoryview(data))
    with pytest.raises(FrameError):
        read_assembled(b"\x80" + data, 1)


def test_many_small_values_and_deep_ones_are_left_to_the_packer() -> None:
    for value in (list(range(100_000)), [[[[0] * 10] * 10] * 10] * 10, _nested(200)):
        packed = msgpack.packb({"args": value})
        with pytest.raises(TooFine):
            read_bulky(memoryview(packed))
        assert read_assembled(b"\x80" + packed, 1) == {"args": value}


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_a_key_that_occurs_twice_is_refused() -> None:
    with pytest.raises(FrameError, match="twice"):
        read_assembled(b"\x80\x82\xa1a\x01\xa1a\x02", 1)
