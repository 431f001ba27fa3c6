"""Recorded sessions of real peers are read frame by frame, and a switch made of `restamp` delivers the same."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from hypha_rpc.addresses import absolute, workspace_of
from hypha_rpc.wire import read_extra, read_header
from hypha_rpc.wire.frame import pack_pairs, restamp, top_level_keys
from tests.unit.wire import vectors

Entry = dict[str, Any]
RECORDED = ["reconnect", "python", "javascript"]


def binary(entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry["kind"] == "binary"]


def bytes_of(entries: list[Entry], entry: Entry) -> bytes:
    other = vectors.same_as(entry)
    if other is None:
        return vectors.session_bytes(entries, entry, -1)
    original = next(one for one in entries if one["seq"] == other)
    return vectors.session_bytes(entries, entry, read_header(bytes.fromhex(original["hex"]))[1])


@pytest.mark.parametrize("name", RECORDED)
def test_every_frame_of_a_session_is_read_as_recorded(name: str) -> None:
    entries = vectors.session(name)
    assert binary(entries)
    for entry in binary(entries):
        data = bytes_of(entries, entry)
        assert len(data) == entry["length"], entry["seq"]
        header, offset = read_header(data)
        assert vectors.meant(entry["segments"][0]) == header, entry["seq"]
        if vectors.same_as(entry) is None:
            extra = vectors.meant(entry["segments"][1]) if len(entry["segments"]) > 1 else {}
            assert extra == read_extra(data, offset), entry["seq"]


@pytest.mark.parametrize("name", RECORDED)
def test_the_scan_of_the_top_keys_agrees_with_reading(name: str) -> None:
    entries = vectors.session(name)
    for entry in binary(entries):
        data = bytes_of(entries, entry)
        _, offset = read_header(data)
        assert top_level_keys(data, offset) == list(read_extra(data, offset)), entry["seq"]


@pytest.mark.parametrize(("name", "least"), [("python", 90), ("javascript", 60)])
def test_a_sent_frame_restamped_is_the_delivered_frame(name: str, least: int) -> None:
    entries = vectors.session(name)
    sent, delivered = _by_route(entries, "client->server"), _by_route(entries, "server->client")
    compared = 0
    for key, frames in sent.items():
        # Compare by content: heartbeats of one call look alike, order across connections is not kept.
        arrived = delivered.get(key, [])
        if not arrived:
            continue
        _, arrived_data = arrived[0]
        stamp = _stamp(arrived_data, key[0])
        made = Counter(_delivered_form(data, stamp) for _, data in frames)
        seen = Counter(_comparable(data) for _, data in arrived)
        assert not seen - made, (key, [entry["seq"] for entry, _ in arrived])
        compared += sum(seen.values())
    assert compared >= least


Route = tuple[str, str, str]


def _by_route(entries: list[Entry], direction: str) -> dict[Route, list[tuple[Entry, bytes]]]:
    """Frames between two clients, by sender, target and method (or type)."""
    found: dict[Route, list[tuple[Entry, bytes]]] = {}
    for entry in binary(entries):
        data = bytes_of(entries, entry)
        header, _ = read_header(data)
        workspace = "ws-user-alice"
        sender = (
            f"{workspace}/{entry['conn'].partition('#')[0]}" if direction == "client->server" else header.get("from")
        )
        if entry["dir"] != direction or sender is None or workspace_of(sender) == "*":
            continue
        key = (sender, absolute(header["to"], workspace), str(header.get("method", header["type"])))
        found.setdefault(key, []).append((entry, data))
    return found


def _stamp(delivered: bytes, sender: str) -> tuple[int, bytes]:
    """What the server knows about the connection of *sender*."""
    header, _ = read_header(delivered)
    return pack_pairs({"ws": workspace_of(sender), "from": sender, "user": header["user"]})


def _delivered_form(data: bytes, stamp: tuple[int, bytes]) -> bytes:
    header, offset = read_header(data)
    header["to"] = absolute(header["to"], "ws-user-alice")
    for name in ("from", "ws", "user", "ctx"):
        header.pop(name, None)
    return _comparable(restamp(header, stamp) + data[offset:])


def _comparable(data: bytes) -> bytes:
    """The frame with the fields of its header in one order; the payload is compared byte by byte."""
    header, offset = read_header(data)
    return repr(sorted(header.items())).encode() + data[offset:]
