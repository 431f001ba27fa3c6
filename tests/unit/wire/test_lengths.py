"""A stream of payloads with lengths in front, however it is cut; control messages told from frames."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypha_rpc.errors import MessageTooLarge
from hypha_rpc.wire.lengths import LengthReader, pack_control, read_control, with_length

KINDS = frozenset({"ping", "close"})


def read(reader: LengthReader, data: bytes) -> list[bytes]:
    return [bytes(payload) for payload in reader.feed(data)]


@given(payloads=st.lists(st.binary(max_size=40), max_size=8), size=st.integers(1, 60))
def test_payloads_come_out_whole_wherever_the_stream_is_cut(payloads: list[bytes], size: int) -> None:
    stream = b"".join(with_length((payload,)) for payload in payloads)
    reader = LengthReader(40)
    found = [item for at in range(0, len(stream), size) for item in read(reader, stream[at : at + size])]
    assert found == payloads
    assert not reader.unfinished


def test_a_stream_that_ends_within_a_payload_is_unfinished() -> None:
    reader = LengthReader(100)
    assert read(reader, with_length((b"whole",)) + b"\0\0\0\x05cut") == [b"whole"]
    assert reader.unfinished


def test_the_parts_of_a_payload_are_concatenated() -> None:
    assert with_length((b"ab", memoryview(b"cd"), bytearray(b"e"))) == b"\0\0\0\x05abcde"


def test_a_payload_that_is_too_long_is_refused_before_it_has_arrived() -> None:
    reader = LengthReader(10)
    payloads = reader.feed(with_length((b"0123456789",)) + b"\0\0\0\x0b")
    assert bytes(next(payloads)) == b"0123456789"
    with pytest.raises(MessageTooLarge, match="11 bytes"):
        next(payloads)


def test_a_control_message_is_known_by_its_type() -> None:
    assert read_control(pack_control({"type": "ping"}), KINDS) == {"type": "ping"}
    assert read_control(pack_control({"code": 1, "type": "close"}), KINDS) == {"code": 1, "type": "close"}


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x80",
        b"garbage",
        b"\x81\xa4type",
        msgpack.packb(["ping"]),
        msgpack.packb({"type": "pong"}),
        msgpack.packb({"type": ["ping"]}),
        msgpack.packb({"type": "ping", "to": "ws/c"}),
        msgpack.packb({"type": "ping"}) + msgpack.packb({"args": []}),
        msgpack.packb({"type": "method", "to": "ws/c", "method": "f"}),
        msgpack.packb({"type": "ping", "pad": "x" * 70_000}),
    ],
)
def test_anything_else_is_a_frame(payload: bytes) -> None:
    assert read_control(payload, KINDS) is None
