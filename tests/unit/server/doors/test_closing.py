from __future__ import annotations

import pytest

from hypha.doors.closing import code_of, reason_of


def test_a_reason_is_cut_to_123_bytes_between_characters():
    assert reason_of("short") == "short"
    assert reason_of("x" * 200) == "x" * 123
    assert reason_of("é" * 100) == "é" * 61
    assert len(reason_of("\ud800" * 200).encode()) == 123


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", 1005),
        (b"\x03", 1002),
        (b"\x03\xe8", 1000),
        (b"\x03\xe8bye", 1000),
        (b"\x03\xe8\xff", 1002),
        (b"\x03\xec", 1002),  # 1004
        (b"\x03\xed", 1002),  # 1005
        (b"\x03\xee", 1002),  # 1006
        (b"\x03\xf7", 1002),  # 1015
        (b"\x03\xf0", 1008),
        (b"\x0b\xb8", 3000),
        (b"\x13\x87", 4999),
        (b"\x13\x88", 1002),
        (b"\x00\x00", 1002),
    ],
)
def test_the_code_of_a_close_frame(payload: bytes, code: int):
    assert code_of(payload) == code
