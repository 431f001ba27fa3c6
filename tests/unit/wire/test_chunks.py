"""Cutting frames and putting the pieces together (protocol §5, security S47)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypha_rpc.errors import MessageTooLarge
from hypha_rpc.wire.chunks import MAX_INDEX, PartialMessage, pieces


@given(st.binary(max_size=300), st.integers(1, 50), st.randoms())
def test_pieces_in_any_order_are_the_frame_again(frame: bytes, size: int, random: object) -> None:
    cut = list(enumerate(pieces(frame, size)))
    assert all(len(piece) == size for _, piece in cut[:-1])
    random.shuffle(cut)  # type: ignore[attr-defined]
    message = PartialMessage(1000, 0.0)
    for index, piece in cut:
        message.put(index, bytes(piece), 1.0)
    assert message.join() == frame
    assert message.size == len(frame)


def test_appended_pieces_follow_each_other() -> None:
    message = PartialMessage(10, 0.0)
    message.append(b"ab", 1.0)
    message.append(b"cd", 2.0)
    assert message.join() == b"abcd"
    assert message.touched == 2.0


def test_a_piece_sent_again_replaces_the_first() -> None:
    message = PartialMessage(10, 0.0)
    message.put(0, b"12345678", 1.0)
    message.put(0, b"ab", 1.0)
    assert (message.join(), message.size) == (b"ab", 2)


def test_a_missing_piece_is_an_error() -> None:
    message = PartialMessage(10, 0.0)
    message.put(1, b"b", 1.0)
    with pytest.raises(ValueError, match="missing"):
        message.join()


@pytest.mark.parametrize("index", [-1, MAX_INDEX, 2**40])
def test_an_index_out_of_bounds_is_refused(index: int) -> None:
    message = PartialMessage(10, 0.0)
    with pytest.raises(ValueError, match="index"):
        message.put(index, b"", 1.0)
    assert message.size == 0


def test_a_message_grows_to_its_limit_and_no_further() -> None:
    message = PartialMessage(4, 0.0)
    message.append(b"abcd", 1.0)
    with pytest.raises(MessageTooLarge, match="4 bytes"):
        message.append(b"e", 1.0)
    message.put(0, b"wxyz", 2.0)
    assert message.join() == b"wxyz"
