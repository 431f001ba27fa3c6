"""The reader of small frames gives what the careful readers give, whatever came before."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypha_rpc.wire.frame import FrameError, FrameReader, FrameWriter, read_extra, read_header

texts = st.text(max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | texts | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | st.integers(0, 9), inner, max_size=4),
    max_leaves=12,
)
maps = st.dictionaries(texts, values, max_size=18)
frames = st.builds(lambda header, extra: FrameWriter().write(header, extra), maps, st.none() | maps)
garbage = st.one_of(
    st.binary(max_size=60),
    st.builds(lambda frame, cut: frame[:cut], frames, st.integers(0, 80)),
    st.builds(lambda frame, more: frame + more, frames, st.binary(max_size=20)),
    st.sampled_from(
        [
            b"\x82\xa1a\x01\xa1a\x02",  # a key twice
            b"\x81\x01\x02",  # a key that is no text
            b"\x81\xa1a\x81\x01\x02",  # one inside that is none
            b"\x80\x82\xa1a\x01\xa1a\x02",
            b"\x80\x81\x01\x02",
            b"\x80\x93\x01\x02\x03",
            b"\x80\xc1",
            b"\x81\xa1a\xd4\x05\x00",  # an extension
            b"\x80\x81\xa1a\xd4\x05\x00",
            b"\x80\x81\xa1a\xdd\xff\xff\xff\xff",  # an array too long to be there
            b"\xdf\x00\x00\x00\x01\xa1a\x01",
            msgpack.packb({"type": "x"}) + msgpack.packb({"args": list(range(2000))}),
            msgpack.packb({"type": "x" * 5000}) + b"\x80",
            msgpack.packb({"type": "x"}) + msgpack.packb({"args": [b"x" * 9000]}),
        ]
    ),
)


def carefully(data: bytes) -> Any:
    """What the careful readers make of *data*."""
    try:
        header, offset = read_header(data)
    except FrameError as error:
        return str(error)
    return header, offset


def payload(data: bytes, offset: int) -> Any:
    try:
        return read_extra(data, offset)
    except FrameError as error:
        return str(error)


def outcome(read: Any, data: bytes) -> Any:
    try:
        return read(data)
    except FrameError as error:
        return str(error)


@given(st.lists(frames | garbage, max_size=8))
def test_a_sequence_is_read_as_each_frame_alone(sequence: list[bytes]) -> None:
    reader = FrameReader()
    for data in sequence:
        expected = carefully(data)
        for form in (data, memoryview(data), bytearray(data)):
            got = outcome(reader.read, form)
            if isinstance(expected, str):
                assert got == expected
                continue
            header, offset, extra = got
            assert (header, offset) == expected
            if extra is not None:
                assert extra == payload(data, offset)
            elif offset < len(data):
                # Left to `read_extra`; small and good ones are not.
                good = isinstance(payload(data, offset), dict)
                assert not good or len(data) > 300 or data[offset] & 0xF0 != 0x80 or _unusual(data, offset)


def _unusual(data: bytes, offset: int) -> bool:
    """More bytes behind segment 2, or keys inside that are no texts."""
    unpacker = msgpack.Unpacker(strict_map_key=True, max_array_len=1024)
    unpacker.feed(data[offset:])
    try:
        unpacker.unpack()
    except ValueError:
        return True
    return unpacker.tell() != len(data) - offset


@given(st.lists(frames | garbage, max_size=8))
def test_headers_are_read_as_each_alone(sequence: list[bytes]) -> None:
    reader = FrameReader()
    for data in sequence:
        for form in (data, memoryview(data)):
            assert outcome(reader.header, form) == carefully(data)


def test_the_reader_can_be_used_for_both() -> None:
    reader = FrameReader()
    data = FrameWriter().write({"type": "method"}, {"args": [1]})
    for _ in range(1000):
        assert reader.header(data) == ({"type": "method"}, 13)
        assert reader.read(data) == ({"type": "method"}, 13, {"args": [1]})


@pytest.mark.parametrize("size", [4095, 4096, 4097, 20_000])
def test_the_border_between_small_and_large(size: int) -> None:
    reader = FrameReader()
    data = FrameWriter().write({"type": "method"}, {"args": [b"x" * (size - 23)]})
    for _ in range(10):
        header, offset, extra = reader.read(data)
        assert (header, offset) == ({"type": "method"}, 13)
        assert reader.header(data) == (header, offset)
        assert (extra or read_extra(data, offset)) == {"args": [b"x" * (size - 23)]}
