"""The frames of big messages and streams (extensions §3) are read as they are written down, and ours read the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hypha_rpc.endpoint.chunks_in import _payload
from hypha_rpc.wire.forms.generators import Items
from hypha_rpc.wire.frame import FrameWriter, read_frame, read_header
from hypha_rpc.wire.values import Decoder, default_forms
from tests.unit.wire import vectors

DOCUMENT = json.loads((vectors.FOLDER / "extensions_big.json").read_text("utf-8"))
CASES: list[dict[str, Any]] = DOCUMENT["cases"]


def segments(data: bytes) -> list[Any]:
    header, extra = read_frame(data)
    return [header, extra] if extra else [header]


@pytest.mark.parametrize("case", CASES, ids=vectors.name_of)
def test_a_frame_reads_as_it_is_written_down(case: dict[str, Any]) -> None:
    assert segments(bytes.fromhex(case["hex"])) == vectors.meant(case["decoded"])


# Ours takes the shortest form of a length.
SHORTEST = [case for case in CASES if case["name"] != "ext.chunk_bin16"]
PIECES = [case for case in CASES if case["name"] in ("ext.chunk_first", "ext.chunk_next", "ext.chunk_bin16")]


@pytest.mark.parametrize("case", SHORTEST, ids=vectors.name_of)
def test_what_we_write_is_the_same_bytes(case: dict[str, Any]) -> None:
    header, *rest = vectors.meant(case["decoded"])
    assert FrameWriter().write(header, rest[0] if rest else None) == bytes.fromhex(case["hex"])


def test_the_counts_are_those_of_the_cases() -> None:
    for section, count in DOCUMENT["counts"].items():
        assert sum(case["section"] == section for case in CASES) == count


@pytest.mark.parametrize("case", PIECES, ids=vectors.name_of)
def test_a_piece_is_found_without_a_copy(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["hex"])
    _, offset = read_header(data)
    piece = _payload(data, offset)
    assert piece is not None
    assert piece == vectors.meant(case["decoded"])[1]["b"]
    assert piece.obj is data


@pytest.mark.parametrize(("name", "items", "end"), [("items", [1, 2, 3], False), ("items_last", [4], True)])
def test_items_are_told_from_values(name: str, items: list[int], end: bool) -> None:
    case = next(case for case in CASES if case["name"] == f"ext.{name}")
    _, extra = read_frame(bytes.fromhex(case["hex"]))
    assert Decoder(default_forms()).decode_arguments(extra["args"]) == [Items(items, end)]


@pytest.mark.parametrize(
    "payload", [b"", b"\x81\xa1b\xc4\x05four", b"\x81\xa1b\xc6\x00\x00\x00\x01ab", b"\x81\xa1b\x01"]
)
def test_a_chunk_without_a_proper_piece_has_none(payload: bytes) -> None:
    try:
        assert _payload(b"\x80" + payload, 1) is None
    except ValueError:
        # A frame error, which drops the frame.
        assert payload.endswith(b"four")
