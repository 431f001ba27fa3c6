"""Connections: who is behind a socket, what it subscribed to, what is kept for it when it drops."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Any, Final, Protocol

from hypha.broker.origin import Identity, Origin

__all__ = ["Connection", "Mailbox", "Mailboxes", "Outlet"]

Buffer = bytes | bytearray | memoryview

_MAX_ABROAD_PEERS: Final = 1000


class Outlet(Protocol):
    """The way back to a peer: a door's side of a connection. No method blocks or raises."""

    @property
    def pending(self) -> int:
        """Bytes waiting to be written."""

    @property
    def unacknowledged(self) -> bool:
        """Whether what was sent is sent again and again and nothing comes back, where the system tells."""

    def send(self, parts: Sequence[Buffer]) -> None:
        """Send the concatenation of *parts* as one binary frame."""

    def send_control(self, message: dict[str, Any]) -> None:
        """Send a text frame of JSON."""

    def close(self, code: int, reason: str) -> None:
        """Close with a closing handshake."""

    def abort(self) -> None:
        """Drop the socket without a word."""

    def abort_later(self) -> None:
        """Drop the socket unless the closing handshake ends it soon."""

    def ping(self) -> None:
        """Send a PING."""

    def pause_reading(self) -> None:
        """Read nothing more until `resume_reading`."""

    def resume_reading(self) -> None:
        """Read again."""


class Connection:
    """One authenticated peer.

    Attributes:
        address: ``workspace/client``.
        level: its extension level (0: public).
        life: random name of the client object, or None.
        writer: whether it may broadcast.
        subscriptions: event types it wants.
        exists: its built-in service is registered (protocol §1.9).
        abroad: peers in other workspaces it exchanged calls with, latest last (security S11).
        frames: how many it has sent.
        heard: when it last gave a sign of life.
        remote: the network address of its socket; empty inside the process.
        repeated_since: when it was first found that frames to it are not acknowledged, or None.
        stalled_since: when its send queue began to stand still, or None.
        stalled_at: bytes in the queue at that time.
    """

    __slots__ = (
        "abroad",
        "address",
        "client_id",
        "closing",
        "exists",
        "frames",
        "heard",
        "invalid",
        "invalid_at",
        "level",
        "life",
        "origin",
        "outlet",
        "paused",
        "remote",
        "repeated_since",
        "stalled_at",
        "stalled_since",
        "subscriptions",
        "user",
        "waiting_for_life",
        "workspace",
        "writer",
    )

    def __init__(
        self,
        workspace: str,
        client_id: str,
        user: Identity,
        outlet: Outlet,
        *,
        level: int,
        life: str | None,
        now: float,
    ) -> None:
        self.workspace = workspace
        self.client_id = client_id
        self.address = f"{workspace}/{client_id}"
        self.user = user
        self.outlet = outlet
        self.origin = Origin(self.address, workspace, user)
        self.level = level
        self.life = life
        self.writer = True
        self.subscriptions: set[str] = set()
        self.exists = False
        self.abroad: OrderedDict[str, None] = OrderedDict()
        self.frames = 0
        self.heard = now
        self.remote = ""
        self.repeated_since: float | None = None
        self.stalled_since: float | None = None
        self.stalled_at = 0
        self.invalid = 0.0
        self.invalid_at = now
        self.paused = False
        self.closing = False
        self.waiting_for_life: list[asyncio.Future[None]] = []

    def alive(self, now: float) -> None:
        """The peer gave a sign of life."""
        self.heard = now
        if self.waiting_for_life:
            for sign in self.waiting_for_life:
                if not sign.done():
                    sign.set_result(None)

    def stuck(self, pending: int) -> bool:
        """Whether its send queue, of *pending* bytes now, was found to stand still and has not moved since."""
        if self.stalled_since is None:
            return False
        if pending < self.stalled_at:
            self.stalled_since = None
            return False
        return True

    def met(self, address: str) -> None:
        """Remember that calls were exchanged with *address*, who is abroad."""
        self.abroad[address] = None
        self.abroad.move_to_end(address)
        if len(self.abroad) > _MAX_ABROAD_PEERS:
            self.abroad.popitem(last=False)

    def count_invalid(self, now: float, per_second: float) -> float:
        """Count one invalid frame; the count drains by *per_second*."""
        self.invalid = max(0.0, self.invalid - (now - self.invalid_at) * per_second) + 1
        self.invalid_at = now
        return self.invalid


class Mailbox:
    """What a peer lost without a clean close finds when it resumes: answers, and the news of its peers."""

    __slots__ = ("expires_at", "frames", "life", "news", "size", "user_id")

    def __init__(self, user_id: str, life: str | None, expires_at: float) -> None:
        self.user_id = user_id
        self.life = life
        self.expires_at = expires_at
        self.frames: deque[bytes] = deque()
        self.news: dict[str, bytes] = {}
        self.size = 0


class Mailboxes:
    """The mailboxes of all lost peers, within bounds (extensions §5); what does not fit is dropped.

    Args:
        seconds: how long one is kept.
        frames: most frames in one.
        size: most bytes in one.
        total: most bytes over all.
    """

    def __init__(self, *, seconds: float, frames: int, size: int, total: int) -> None:
        self._seconds = seconds
        self._frames = frames
        self._size = size
        self._total = total
        self._boxes: dict[str, Mailbox] = {}
        self._used = 0

    def __len__(self) -> int:
        return len(self._boxes)

    def __contains__(self, address: str) -> bool:
        return address in self._boxes

    def addresses(self) -> list[str]:
        """Whose mailboxes are open."""
        return list(self._boxes)

    def open(self, connection: Connection, now: float) -> None:
        """Keep what comes for a lost *connection*."""
        self.discard(connection.address)
        self._boxes[connection.address] = Mailbox(connection.user.id, connection.life, now + self._seconds)

    def put(self, address: str, frame: bytes) -> bool:
        """Keep an answer for *address*; False when there is no room or no mailbox."""
        box = self._boxes.get(address)
        if box is None or len(box.frames) >= self._frames:
            return False
        if box.size + len(frame) > self._size or self._used + len(frame) > self._total:
            return False
        box.frames.append(frame)
        box.size += len(frame)
        self._used += len(frame)
        return True

    def note(self, address: str, about: str, frame: bytes) -> None:
        """Keep the latest news about the peer *about*."""
        box = self._boxes.get(address)
        if box is not None and (about in box.news or len(box.news) < self._frames):
            box.news[about] = frame

    def collect(self, address: str, *, user_id: str, life: str | None, now: float) -> Mailbox | None:
        """The mailbox of a peer that is back, if it is the same one in time; it is closed in any case.

        A client of level 1 shows the same ``life``; a public one has none and its
        reconnection token speaks for it.
        """
        box = self._boxes.get(address)
        if box is None:
            return None
        self.discard(address)
        same = box.user_id == user_id and box.life == life and now <= box.expires_at
        return box if same else None

    def discard(self, address: str) -> None:
        """Close a mailbox."""
        box = self._boxes.pop(address, None)
        if box is not None:
            self._used -= box.size

    def expire(self, now: float) -> list[str]:
        """Close the mailboxes whose time is over; returns their addresses."""
        over = [address for address, box in self._boxes.items() if now > box.expires_at]
        for address in over:
            self.discard(address)
        return over
