"""Chunks wait behind everything else, within bounds, and go on when the door says so (extensions §3)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hypha.broker.lanes import PIECE, STARTING, WINDOW_ALL
from hypha_rpc.wire.frame import read_header
from tests.unit.server.broker.conftest import World, frame


def chunk(at: int = 0, *, key: str = "k", to: str = "ws/c2", size: int = PIECE, of: int = 2**30) -> bytes:
    return frame({"type": "chunk", "to": to, "session": key, "at": at, "of": of}, {"b": bytes(size)})


class Pair:
    """A sender and a receiver of level 1, whose send queue holds what the test says."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.source, self.back = world.connect("c1", level=1)
        self.target, self.outlet = world.connect("c2", level=1)

    def send(self, at: int, **more: Any) -> None:
        self.world.router.route(self.source, memoryview(chunk(at, **more)))

    def arrived(self) -> list[int]:
        return [header["at"] for header, _ in self.outlet.frames if header["type"] == "chunk"]

    def rejected(self) -> list[str]:
        return [header["method"] for header, _ in self.back.frames]


@pytest.fixture
def pair(world: World) -> Pair:
    return Pair(world)


def test_a_chunk_is_passed_on_at_once_with_the_senders_identity(pair: Pair) -> None:
    pair.send(0)
    ((header, extra),) = pair.outlet.frames
    assert header == {
        "type": "chunk",
        "to": "ws/c2",
        "session": "k",
        "at": 0,
        "of": 2**30,
        "from": "ws/c1",
        "ws": "ws",
        "user": pair.source.user.to_wire(),
    }
    assert extra == {"b": bytes(PIECE)}
    assert not len(pair.world.router.lanes)


async def test_other_frames_overtake_chunks_that_wait(pair: Pair) -> None:
    pair.outlet.pending = PIECE
    for at in (0, PIECE, 2 * PIECE):
        pair.send(at)
    pair.world.router.route(pair.source, frame({"type": "credit", "to": "ws/c2", "key": "x", "upto": 1}))
    assert [header["type"] for header, _ in pair.outlet.frames] == ["credit"]
    pair.outlet.pending = 0
    pair.world.router.drained(pair.target)
    assert pair.arrived() == [0, PIECE, 2 * PIECE]
    assert not len(pair.world.router.lanes)


def test_the_senders_are_not_paused(pair: Pair) -> None:
    pair.outlet.pending = 40 * 1024 * 1024
    for number in range(16):
        pair.send(number * PIECE)
    assert not pair.world.paused
    assert not pair.rejected()


async def test_what_waits_goes_on_piece_by_piece_while_there_is_room(pair: Pair) -> None:
    pair.outlet.pending = PIECE
    for number in range(20):
        pair.send(number * PIECE)
    sending = pair.outlet.send

    def filling(parts: Any) -> None:
        sending(parts)
        pair.outlet.pending += PIECE // 2

    pair.outlet.send = filling  # type: ignore[method-assign]
    pair.outlet.pending = 0
    pair.world.router.drained(pair.target)
    assert len(pair.arrived()) == 2
    pair.outlet.send = sending  # type: ignore[method-assign]
    pair.outlet.pending = 0
    pair.world.router.drained(pair.target)
    while len(pair.world.router.lanes):
        await asyncio.sleep(0)
    assert pair.arrived() == [number * PIECE for number in range(20)]


def test_more_than_receivers_grant_is_refused(pair: Pair) -> None:
    pair.outlet.pending = PIECE
    count = WINDOW_ALL // PIECE
    for number in range(count + 8):
        pair.send(STARTING + number * PIECE)
    assert set(pair.rejected()) == {"k.reject"}
    assert pair.world.router.lanes.waiting(pair.target) <= WINDOW_ALL
    pair.send(0, key="starting")
    assert "starting.reject" not in pair.rejected()
    for number in range(200):
        pair.send(0, key=f"flood{number}")
    assert "flood199.reject" in pair.rejected()
    assert pair.world.router.lanes.waiting(pair.target) <= 48 * 1024 * 1024


def test_chunks_to_a_public_peer_or_to_nobody_are_rejected(world: World) -> None:
    source, back = world.connect("c1", level=1)
    world.connect("public")
    world.router.route(source, chunk(to="ws/public", key="k1"))
    world.router.route(source, chunk(to="ws/nobody", key="k2"))
    kinds = {header["method"]: extra["args"][0]["_rerr"]["type"] for header, extra in back.frames}
    assert kinds == {"k1.reject": "NoChunks", "k2.reject": "PeerGone"}


def test_who_leaves_rejects_what_waits_for_it(pair: Pair) -> None:
    pair.outlet.pending = PIECE
    for key in ("k1", "k2", "k1"):
        pair.send(0, key=key)
    pair.world.router.detach(pair.target)
    assert sorted(pair.rejected()) == ["k1.reject", "k2.reject"]
    assert not len(pair.world.router.lanes)


def test_who_leaves_takes_what_it_sent_along(pair: Pair) -> None:
    other, _ = pair.world.connect("c3", level=1)
    pair.outlet.pending = PIECE
    pair.send(0)
    pair.world.router.route(other, chunk(PIECE, key="other"))
    pair.world.router.detach(pair.source)
    pair.outlet.pending = 0
    pair.world.router.drained(pair.target)
    assert [header["session"] for header, _ in pair.outlet.frames] == ["other"]
    assert not len(pair.world.router.lanes)


def test_a_chunk_without_a_key_is_invalid(pair: Pair) -> None:
    before = pair.world.router.dropped
    pair.world.router.route(pair.source, frame({"type": "chunk", "to": "ws/c2", "at": 0, "of": 1}, {"b": b"x"}))
    assert pair.world.router.dropped == before + 1
    assert not pair.outlet.frames


def test_nothing_of_the_payload_is_decoded(pair: Pair) -> None:
    header = {"type": "chunk", "to": "ws/c2", "session": "k", "at": 0, "of": 1}
    received: list[bytes] = []
    pair.outlet.send = lambda parts: received.append(b"".join(parts))  # type: ignore[method-assign]
    pair.world.router.route(pair.source, frame(header) + b"\xc1 no msgpack")
    (data,) = received
    assert data[read_header(data)[1] :] == b"\xc1 no msgpack"
