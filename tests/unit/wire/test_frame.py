"""The two segments of a frame: what is read, what is refused, and rewriting a header (protocol §2.1, security S42)."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from hypha_rpc.wire import FrameError, FrameWriter, read_extra, read_frame, read_header
from hypha_rpc.wire.frame import pack_pairs, restamp, top_level_keys
from hypha_rpc.wire.limits import MAX_HEADER

pack = msgpack.packb


@pytest.fixture
def writer() -> FrameWriter:
    return FrameWriter()


def test_both_segments_come_back(writer: FrameWriter) -> None:
    header, extra = {"type": "method", "to": "w/c"}, {"args": [1, {"a": b"b"}], "promise": "*", "t": 15.0}
    assert read_frame(writer.write(header, extra)) == (header, extra)


@pytest.mark.parametrize("extra", [None, {}])
def test_an_empty_payload_is_absent(writer: FrameWriter, extra: Any) -> None:
    data = writer.write({"type": "x"}, extra)
    assert data == pack({"type": "x"})
    assert read_header(data) == ({"type": "x"}, len(data))
    assert read_extra(data, len(data)) == {}


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_is_read(kind: Any) -> None:
    data = kind(pack({"type": "x"}) + pack({"args": [1]}))
    assert read_frame(data) == ({"type": "x"}, {"args": [1]})


def test_what_follows_the_second_segment_is_ignored() -> None:
    data = pack({"type": "x"}) + pack({"a": 1}) + b"\xc1rubbish"
    assert read_frame(data) == ({"type": "x"}, {"a": 1})


def test_every_width_of_map_header_is_read() -> None:
    body = pack("type") + pack("x")
    for head in (b"\x81", b"\xde\x00\x01", b"\xdf\x00\x00\x00\x01"):
        assert read_header(head + body)[0] == {"type": "x"}
        assert read_extra(head + body, 0) == {"type": "x"}


def test_a_header_may_exceed_the_first_window_up_to_its_limit() -> None:
    big = {"type": "x", "fill": "y" * (MAX_HEADER - 100)}
    data = pack(big) + pack({"args": ["z" * 100_000]})
    assert read_header(data) == (big, len(pack(big)))
    with pytest.raises(FrameError):
        read_header(pack({"type": "x", "fill": "y" * MAX_HEADER}))


def test_a_payload_that_begins_in_the_first_window_is_not_part_of_the_header() -> None:
    for length in range(4080, 4110):
        header = {"type": "y" * length}
        assert read_header(pack(header) + pack({"a": 1}))[0] == header


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc0",
        b"\x90",
        b"hello",
        b"\x81",
        b"\x81\xa4ty",
        b"\xde",
        b"\xdf\xff\xff\xff\xff",
        b"\x82\xa1a\x01\xa1a\x02",
        b"\x81\x01\x02",
        b"\x81\xc4\x01a\x02",
        b"\x81\xc0\x02",
        b"\x81\x90\x02",
        b"\x81\xa1a\xc1",
        b"\x81\xa1a\xd4\x05\x00",
        b"\x81\xa1a\xc7\x01\xff\x00",
        b"\x81\xa2\xff\xff\x01",
    ],
    ids=bytes.hex,
)
def test_a_malformed_segment_is_a_frame_error(data: bytes) -> None:
    with pytest.raises(FrameError) as caught:
        read_header(data)
    assert len(str(caught.value)) < 200
    if data:
        with pytest.raises(FrameError):
            read_extra(pack({"type": "x"}) + data, len(pack({"type": "x"})))


def test_the_text_of_an_error_does_not_show_the_bytes() -> None:
    with pytest.raises(FrameError) as caught:
        read_header(pack({"secret-token": 1})[:-1] + b"\xc1")
    assert "secret" not in str(caught.value)


def test_keys_inside_the_payload_may_be_numbers() -> None:
    assert read_extra(pack({"args": [{1: 2}]}), 0) == {"args": [{1: 2}]}


def test_timestamps_are_the_only_extension() -> None:
    moment = msgpack.Timestamp(1, 2)
    assert read_extra(pack({"args": [moment]}), 0) == {"args": [moment]}
    with pytest.raises(FrameError, match="extension type 7"):
        read_extra(pack({"args": [msgpack.ExtType(7, b"x")]}), 0)


@pytest.mark.parametrize("length", [1023, 1024, 1025, 5000, 100_000])
def test_long_arrays_are_read(length: int) -> None:
    extra = {"args": [list(range(length)), "after"]}
    assert read_extra(pack(extra) + b"trailing", 0) == extra


def test_a_long_array_behind_a_big_binary_is_read() -> None:
    extra = {"args": [b"x" * 1_000_000, [0] * 2000, b"y" * 300_000]}
    assert read_extra(pack(extra), 0) == extra


def test_a_failed_write_leaves_nothing_behind(writer: FrameWriter) -> None:
    for broken in ({"a": 2**70}, {"a": "\udc00"}, {"a": object()}):
        with pytest.raises((OverflowError, ValueError, TypeError)):
            writer.write({"type": "x"}, broken)
        assert writer.write({"type": "y"}, {"b": 1}) == pack({"type": "y"}) + pack({"b": 1})


def test_a_big_frame_does_not_keep_its_buffer_and_the_next_is_right(writer: FrameWriter) -> None:
    big = writer.write({"type": "x"}, {"args": [b"x" * 3_000_000]})
    assert len(big) > 3_000_000
    assert writer.write({"type": "y"}) == pack({"type": "y"})


@pytest.mark.parametrize("count", [0, 1, 7, 12, 13, 15, 16, 17, 300])
@pytest.mark.parametrize("stamped", [0, 1, 3])
def test_restamp_is_the_same_as_packing_everything(count: int, stamped: int) -> None:
    header = {f"k{n}": n for n in range(count)}
    stamp = {f"s{n}": {"id": n} for n in range(stamped)}
    data = restamp(header, pack_pairs(stamp))
    assert read_header(data + pack({"args": []})) == ({**header, **stamp}, len(data))


def test_restamp_of_a_header_of_map_32() -> None:
    header = {f"{n:x}": 0 for n in range(66_000)}
    assert msgpack.unpackb(restamp(header, pack_pairs({"from": "w/c"}))) == {**header, "from": "w/c"}


@pytest.mark.parametrize(
    ("payload", "keys"),
    [
        (b"", []),
        (pack({}), []),
        (pack({"args": [1], "from": "x"}), ["args", "from"]),
        (pack({"a": {"from": 1}}), ["a"]),
        (pack({"a": 1}) + b"\x00", None),
        (pack([1]), None),
        (b"\x81\xa1a", None),
        (b"\x81\xa1a\xc1", None),
        (b"\x82\xa1a\x01\xa1a\x02", ["a", "a"]),
        (pack({1: 2}), [1]),
    ],
    ids=repr,
)
def test_top_level_keys_without_building_values(payload: bytes, keys: Any) -> None:
    head = pack({"type": "x"})
    assert top_level_keys(head + payload, len(head)) == keys
