"""Chunks on their way to their receivers: behind everything else, within bounds (extensions §3).

A chunk is passed on at once while its receiver's send queue holds less than one
piece; else it waits here, where other frames overtake it, until the door says
that the queue has drained. Nobody is paused for it: senders keep to the credit that
receivers give, and who does not is refused.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from hypha.broker.connections import Connection

__all__ = ["PIECE", "Lanes"]

Buffer = bytes | bytearray | memoryview

PIECE: Final = 256 * 1024
WINDOW_ALL: Final = 32 * 1024 * 1024
STARTING: Final = 512 * 1024
_PIECES_A_TURN: Final = 4
_OVERHEAD: Final = 1024


class _Waiting(NamedTuple):
    source: Connection
    key: str
    segment: bytes
    payload: bytes


class _Lane:
    """The chunks that wait for one receiver."""

    __slots__ = ("pieces", "size", "turn")

    def __init__(self) -> None:
        self.pieces: deque[_Waiting] = deque()
        self.size = 0
        self.turn: asyncio.Handle | None = None


class Lanes:
    """The lanes of all receivers that have one.

    Args:
        most: bytes that may wait for one receiver, all in all.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._window = min(WINDOW_ALL, most)
        self._lanes: dict[Connection, _Lane] = {}

    def __len__(self) -> int:
        return len(self._lanes)

    def waiting(self, target: Connection) -> int:
        """Bytes that wait for *target*."""
        lane = self._lanes.get(target)
        return lane.size if lane is not None else 0

    def fits(self, target: Connection, at: object, size: int) -> bool:
        """Whether *target* has room for a chunk of *size* bytes that starts at offset *at* of its message.

        What senders may send before they have credit counts beside what receivers grant.
        """
        most = self._most if type(at) is int and at < STARTING else self._window
        return self.waiting(target) + size <= most

    def send(self, source: Connection, target: Connection, key: str, parts: tuple[bytes, Buffer]) -> None:
        """Pass a chunk on, or let it wait; its buffer is valid during the call only."""
        lane = self._lanes.get(target)
        if lane is None:
            if target.outlet.pending < PIECE:
                target.outlet.send(parts)
                return
            lane = self._lanes[target] = _Lane()
        segment, payload = parts
        lane.pieces.append(_Waiting(source, key, segment, bytes(payload)))
        lane.size += len(payload) + _OVERHEAD

    def drained(self, target: Connection) -> None:
        """The send queue of *target* has room again."""
        lane = self._lanes.get(target)
        if lane is not None and lane.turn is None:
            self._go_on(target, lane)

    def _go_on(self, target: Connection, lane: _Lane) -> None:
        lane.turn = None
        for _ in range(_PIECES_A_TURN):
            if target.outlet.pending >= PIECE:
                return
            piece = lane.pieces.popleft()
            lane.size -= len(piece.payload) + _OVERHEAD
            target.outlet.send((piece.segment, piece.payload))
            if not lane.pieces:
                del self._lanes[target]
                return
        if target.outlet.pending < PIECE:
            # Others get their turn in between.
            lane.turn = asyncio.get_running_loop().call_soon(self._go_on, target, lane)

    def gone(self, connection: Connection, refuse: Callable[[Connection, str], None]) -> None:
        """*connection* is no longer there: forget what waits for it and what waits from it.

        Args:
            connection: who has left.
            refuse: called for every transfer to it, with its sender and key.
        """
        lane = self._lanes.pop(connection, None)
        if lane is not None:
            if lane.turn is not None:
                lane.turn.cancel()
            for source, key in dict.fromkeys((piece.source, piece.key) for piece in lane.pieces):
                if source is not connection and not source.closing:
                    refuse(source, key)
        for target, other in list(self._lanes.items()):
            self._forget_source(target, other, connection)

    def _forget_source(self, target: Connection, lane: _Lane, source: Connection) -> None:
        kept = [piece for piece in lane.pieces if piece.source is not source]
        if len(kept) == len(lane.pieces):
            return
        lane.pieces = deque(kept)
        lane.size = sum(len(piece.payload) + _OVERHEAD for piece in kept)
        if not kept:
            if lane.turn is not None:
                lane.turn.cancel()
            del self._lanes[target]
