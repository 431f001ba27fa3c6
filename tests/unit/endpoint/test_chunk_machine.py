"""`test_machine` with big frames as chunks under credit: any order of pieces, credits, losses and reconnections.

Chunks have queues of their own, so that all other frames overtake them (extensions §3).
"""

from __future__ import annotations

import contextlib
from collections import defaultdict, deque
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from hypha_rpc.endpoint import chunks_in, chunks_out
from hypha_rpc.wire.frame import read_header
from tests.unit.endpoint.faulty import FaultyWorld, Pair
from tests.unit.endpoint.test_machine import ADDRESSES, CHUNK, SLOW, Conversation, addresses, numbers
from tests.unit.endpoint.world import Peer


class ChunkWorld(FaultyWorld):
    """A switch with lanes for chunks."""

    def __init__(self) -> None:
        super().__init__()
        self.lanes: dict[Pair, deque[bytes]] = defaultdict(deque)

    def born(self, address: str, **options: Any) -> Peer:
        peer = super().born(address, **options)
        peer.endpoint.big.outgoing.pump = lambda: None
        for other in ADDRESSES:
            peer.endpoint.core.levels[other] = 1
        return peer

    def _route(self, sender: str, frame: bytes) -> None:
        header, _ = read_header(frame)
        if header["type"] != "chunk":
            super()._route(sender, frame)
        elif header["to"] in self.down:
            self._refuse(sender, header["to"], header["session"])
        else:
            self.lanes[sender, header["to"]].append(frame)

    def _refuse(self, sender: str, target: str, key: str) -> None:
        error = {"_rtype": "error", "_rvalue": f"Target peer {target} is not connected", "_rtrace": ""}
        answer = {"type": "method", "to": sender, "method": f"{key}.reject"}
        self.queues[target, sender].append(self._writer.write(answer, {"args": [error]}))

    def pump(self, address: str, count: int) -> int:
        """Send some pieces of *address*; returns how many there were."""
        for done in range(count):
            piece = None if address in self.down else self.peers[address].endpoint.next_piece(self.now)
            if piece is None:
                return done
            self.post(address, b"".join(piece))
        return count

    def chunky(self) -> list[Pair]:
        """The pairs that have chunks under way."""
        return sorted(pair for pair, lane in self.lanes.items() if lane)

    def deliver_chunk(self, pair: Pair) -> None:
        self._hand_over(pair[0], pair[1], self.lanes[pair].popleft())

    def run(self, limit: int = 100_000) -> None:
        for _ in range(limit):
            super().run()
            sent = sum(self.pump(address, 3) for address in list(self.peers))
            pairs = self.chunky()
            for pair in pairs:
                self.deliver_chunk(pair)
            if not sent and not pairs and not self.busy():
                return
        raise AssertionError("the world does not become quiet")

    def break_link(self, address: str, *, survive: int, written: bool) -> None:
        for (sender, target), lane in self.lanes.items():
            if sender == address:
                while len(lane) > survive:
                    lane.pop()
            elif target == address:
                for key in () if written else dict.fromkeys(read_header(frame)[0]["session"] for frame in lane):
                    self._refuse(sender, target, key)
                lane.clear()
        super().break_link(address, survive=survive, written=written)

    def end_life(self, address: str) -> None:
        for pair, lane in self.lanes.items():
            if address in pair:
                lane.clear()
        super().end_life(address)


class ChunkConversation(Conversation):
    """Three peers of level 1."""

    def __init__(self) -> None:
        with contextlib.ExitStack() as patches:
            small = {"PIECE": CHUNK, "MIB": 2 * CHUNK, "WINDOW_LEAST": 2 * CHUNK, "WINDOW_MOST": 3 * CHUNK}
            for name, value in {**small, "WINDOW_ALL": 4 * CHUNK}.items():
                patches.enter_context(mock.patch.object(chunks_in, name, value))
            for name, value in {"PIECE": CHUNK, "STARTING": 2 * CHUNK, "STARTING_ALL": 3 * CHUNK}.items():
                patches.enter_context(mock.patch.object(chunks_out, name, value))
            self.patches = patches.pop_all()
        with mock.patch("tests.unit.endpoint.test_machine.FaultyWorld", ChunkWorld):
            super().__init__()

    @property
    def switch(self) -> ChunkWorld:
        assert isinstance(self.world, ChunkWorld)
        return self.world

    @rule(address=addresses, count=st.integers(1, 12))
    def send_pieces(self, address: str, count: int) -> None:
        self.switch.pump(address, count)

    @precondition(lambda self: self.world.chunky())
    @rule(which=numbers, count=st.integers(1, 12))
    def deliver_pieces(self, which: int, count: int) -> None:
        pairs = self.switch.chunky()
        pair = pairs[which % len(pairs)]
        for _ in range(min(count, len(self.switch.lanes[pair]))):
            if self.switch.lanes[pair]:
                self.switch.deliver_chunk(pair)

    @precondition(lambda self: self.world.chunky())
    @rule(which=numbers)
    def lose_a_piece(self, which: int) -> None:
        pairs = self.switch.chunky()
        self.switch.lanes[pairs[which % len(pairs)]].popleft()

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            self.patches.close()


ChunkConversation.TestCase.settings = settings(
    max_examples=3000 if SLOW else 80,
    stateful_step_count=120 if SLOW else 50,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.timeout(3600 if SLOW else 60)
class TestChunkConversation(ChunkConversation.TestCase):  # type: ignore[name-defined, misc]
    """Runs the machine."""
