"""The switch: resolves ``to``, stamps the sender, forwards the untouched payload (protocol §2.4-2.7).

The way of a routed frame has no task, no queue of its own and no payload
decoding; only towards public peers the top-level keys of the payload are looked at
(security S2, extensions §5).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import msgpack

from hypha.audit import audit
from hypha.broker.connections import Connection, Mailboxes
from hypha.broker.lanes import Lanes
from hypha.broker.origin import Origin
from hypha.settings import Limits
from hypha_rpc.addresses import workspace_of
from hypha_rpc.wire.frame import ROUTING_KEYS, FrameError, FrameReader, read_header, restamp, top_level_keys

__all__ = ["LocalPeer", "Router"]

_log = logging.getLogger("hypha.broker")

Buffer = bytes | bytearray | memoryview

SERVER_ONLY: Final = frozenset(
    """client_connected client_updated client_disconnected service_added service_updated service_removed
    workspace_loaded workspace_unloaded workspace_deleted workspace_changed workspace_ready workspace_status_changed
    force-exit peer_not_found error connection_info reconnection_token ping pong connected disconnected reconnected
    services_registered services_registration_failed manager_refreshed remote_client_disconnected""".split()
)
"""Types that no client may send (security S4)."""

LEVEL_1: Final = frozenset({"cancel", "query", "release", "lease", "chunk", "credit", "progress"})
"""Frame types of extensions §3, forwarded to peers of level 1."""

_ANSWERED: Final = frozenset({"method", "chunk", "query"})
"""Types whose sender waits: without an answer it would wait for silence."""

_ANSWERS: Final = (".resolve", ".reject")
_STAMPED: Final = frozenset({"from", "ws", "user", "ctx"})
"""What only the server says of a sender (security S1)."""

_SMALL_MAP: Final = 15
_MAP_HEADS: Final = tuple(bytes((0x80 | count,)) for count in range(_SMALL_MAP + 1))
_NO_CHUNKS: Final = "takes no chunks"
_KINDS: Final = (("Target peer", "PeerGone"), (("Permission", "Read-only"), "PermissionError"))
"""Kinds of errors by their first words."""
_PAUSE_ABOVE: Final = 8 * 1024 * 1024


class LocalPeer(Protocol):
    """An endpoint inside the server (the manager, the web gateway)."""

    def receive(self, data: bytes) -> None:
        """Take one stamped frame."""


class Router:
    """Forwards frames between the connections of this process.

    Args:
        limits: sizes and rates.
        clock: monotonic seconds.
        pause: called with a sender and the receiver that does not keep up with it.
    """

    def __init__(
        self, limits: Limits, clock: Callable[[], float], pause: Callable[[Connection, Connection], None]
    ) -> None:
        self._limits = limits
        self._longest = limits.max_routing_text
        self._full = limits.send_queue_bytes
        self._crowded = min(_PAUSE_ABOVE, self._full)
        self._clock = clock
        self._pause = pause
        self._read_header = FrameReader().header
        self.connections: dict[str, Connection] = {}
        self.workspaces: dict[str, dict[str, Connection]] = {}
        self.mailboxes = Mailboxes(
            seconds=limits.mailbox_seconds,
            frames=limits.mailbox_frames,
            size=limits.mailbox_bytes,
            total=limits.mailbox_total_bytes,
        )
        self.lanes = Lanes(limits.send_queue_bytes)
        self.manager: LocalPeer | None = None
        self.locals: dict[str, LocalPeer] = {}
        self.dropped = 0

    # -- who is there ------------------------------------------------------------

    def attach(self, connection: Connection) -> None:
        """Make *connection* reachable, in place of any former one of its address."""
        former = self.connections.get(connection.address)
        if former is not None:
            self._clear_lanes(former)
        self.connections[connection.address] = connection
        self.workspaces.setdefault(connection.workspace, {})[connection.address] = connection

    def detach(self, connection: Connection) -> bool:
        """Make *connection* unreachable; False when another one has taken its place already."""
        self._clear_lanes(connection)
        if self.connections.get(connection.address) is not connection:
            return False
        del self.connections[connection.address]
        members = self.workspaces[connection.workspace]
        del members[connection.address]
        if not members:
            del self.workspaces[connection.workspace]
        return True

    def _clear_lanes(self, connection: Connection) -> None:
        """What waits for a connection that is gone is refused, what waits from it forgotten."""
        if len(self.lanes):
            self.lanes.gone(connection, functools.partial(self._refuse_transfer, connection.address))

    def _refuse_transfer(self, to: str, source: Connection, key: str) -> None:
        self._refuse(source, {"type": "chunk", "session": key}, to, f"Target peer {to} is not connected")

    def drained(self, connection: Connection) -> None:
        """The send queue of *connection* has room again (told by its door)."""
        if len(self.lanes):
            self.lanes.drained(connection)

    # -- frames of clients ---------------------------------------------------------

    def route(self, source: Connection, data: Buffer) -> None:
        """Forward one binary frame of *source*."""
        try:
            header, offset = self._read_header(data)
        except FrameError as error:
            self._invalid(source, str(error))
            return
        kind, to = header.get("type"), header.get("to")
        if type(kind) is not str or type(to) is not str or (offset > self._longest and not self._sane(header)):
            self._invalid(source, "a frame needs a type and a receiver")
            return
        if kind == "method":
            if "/" not in to:
                if to == "*":
                    self._refuse(source, header, to, "a method cannot be broadcast")
                    return
                to = f"{source.workspace}/{to}"
            target = self.connections.get(to)
            if target is not None:
                self._forward(source, target, header, (data, offset))
            elif to[:2] == "*/":
                self._to_manager(source, header, to, data[offset:])
            else:
                self._absent(source, header, to, data[offset:])
        else:
            self._other(source, header, (data, offset))

    def _sane(self, header: dict[str, Any]) -> bool:
        longest = self._limits.max_routing_text
        return all(len(value) <= longest for key, value in header.items() if type(value) is str and key != "method")

    def _forward(
        self, source: Connection, target: Connection, header: dict[str, Any], payload: tuple[Buffer, int]
    ) -> None:
        data, offset = payload
        if target.level == 0 and (problem := self._unfit(target, header, data, offset)) is not None:
            self._refuse(source, header, target.address, problem)
            return
        pending = target.outlet.pending
        if pending > self._crowded:
            if pending > self._full or target.stuck(pending):
                self._refuse(source, header, target.address, f"Peer {target.address} is not reading")
                return
            self._pause(source, target)
        if source.workspace != target.workspace:
            source.met(target.address)
            target.met(source.address)
        # An answer between our own peers needs no more than its sender's name (nothing is decided by the rest).
        if target.level and "session" not in header and _is_answer(header.get("method")):
            stamp = source.origin.name
        else:
            stamp = source.origin.stamp(target.workspace)
        count = len(header) + stamp[0]
        small = count <= _SMALL_MAP and data[0] & 0xF0 == 0x80
        if small and header["to"] == target.address and _STAMPED.isdisjoint(header):
            # Nothing in it has to be changed: the stamp goes between the size of the map and its pairs.
            target.outlet.send((_MAP_HEADS[count] + stamp[1], data[1:]))
            return
        segment = self._stamped(header, target.address, stamp)
        target.outlet.send((segment, data[offset:]) if offset < len(data) else (segment,))

    def _unfit(self, target: Connection, header: dict[str, Any], data: Buffer, offset: int) -> str | None:
        """Why a public peer must not get this frame, or None (security S2, §8)."""
        if type(header.get("method", "")) is not str or type(header.get("session") or "") is not str:
            return "The routing fields of a frame must be text"
        if len(data) > self._limits.max_frame_bytes_public:
            return f"Frame too large for {target.address}"
        keys = top_level_keys(data, offset)
        if keys is None or not ROUTING_KEYS.isdisjoint(key for key in keys if type(key) is str):
            return "The payload of a frame must be one map without routing fields"
        return None

    def _deliver(self, target: Connection, origin: Origin, header: dict[str, Any], payload: Buffer) -> None:
        segment = self._stamped(header, target.address, origin.stamp(target.workspace))
        target.outlet.send((segment, payload) if len(payload) else (segment,))

    @staticmethod
    def _stamped(header: dict[str, Any], to: str, stamp: tuple[int, bytes]) -> bytes:
        header["to"] = to
        for name in _STAMPED:
            header.pop(name, None)
        return restamp(header, stamp)

    def _to_manager(self, source: Connection, header: dict[str, Any], to: str, payload: Buffer) -> None:
        # A former manager id of this server is its manager as well (protocol §1.8).
        if self.manager is None or not to.startswith("*/manager"):
            self._refuse(source, header, to, f"Target peer {to} is not connected")
            return
        self.manager.receive(self._stamped(header, to, source.origin.home) + bytes(payload))

    def _absent(self, source: Connection, header: dict[str, Any], to: str, payload: Buffer) -> None:
        """No connection here: a local peer takes it, a mailbox keeps it, or the call ends (server §2.9)."""
        local = self.locals.get(to)
        if local is not None:
            local.receive(self._stamped(header, to, source.origin.stamp(workspace_of(to))) + bytes(payload))
            return
        if to in self.mailboxes and header.get("session") is None and _is_answer(header.get("method")):
            stamp = source.origin.stamp(workspace_of(to))
            self.mailboxes.put(to, self._stamped(header, to, stamp) + bytes(payload))
            return
        self._refuse(source, header, to, f"Target peer {to} is not connected")

    # -- other frames of clients ---------------------------------------------------

    def _other(self, source: Connection, header: dict[str, Any], payload: tuple[Buffer, int]) -> None:
        kind, to = header["type"], header["to"]
        data, offset = payload
        if kind in SERVER_ONLY:
            audit("refusal", client=source.address, action=f"send {kind}")
            self._refuse(source, header, to, f"Clients cannot send {kind!r}")
        elif kind in LEVEL_1:
            self._extension(source, header, to if "/" in to else f"{source.workspace}/{to}", payload)
        elif to == "*" or to.endswith("/*"):
            self._broadcast(source, header, data[offset:])
        elif to[:2] == "*/":
            self._refuse(source, header, to, "The manager takes calls only")
        else:
            to = to if "/" in to else f"{source.workspace}/{to}"
            target = self.connections.get(to)
            if target is None:
                self._refuse(source, header, to, f"Target peer {to} is not connected")
            elif target.workspace != source.workspace:
                self._refuse(source, header, to, "Events stay in their workspace")
            else:
                self._forward(source, target, header, payload)

    def _extension(self, source: Connection, header: dict[str, Any], to: str, payload: tuple[Buffer, int]) -> None:
        """A frame of extensions §3; a chunk nobody can take is rejected, and a query nobody is there to answer."""
        data, offset = payload
        target = self.connections.get(to)
        if target is not None and target.level >= 1:
            if header["type"] == "chunk":
                self._chunk(source, target, header, payload)
            else:
                self._forward(source, target, header, payload)
        elif target is not None:
            if header["type"] == "chunk":
                self._refuse(source, header, to, f"Peer {to} {_NO_CHUNKS}")
            else:
                self.dropped += 1
        elif to[:2] == "*/" and to[2:] != "*":
            self._to_manager(source, header, to, data[offset:])
        elif to in self.locals:
            self._absent(source, header, to, data[offset:])
        else:
            self._refuse(source, header, to, f"Target peer {to} is not connected")

    def _chunk(
        self, source: Connection, target: Connection, header: dict[str, Any], payload: tuple[Buffer, int]
    ) -> None:
        """A piece of a big frame: it waits behind everything else, within bounds."""
        data, offset = payload
        key = header.get("session")
        if type(key) is not str:
            self._invalid(source, "a chunk needs a key")
            return
        if not self.lanes.fits(target, header.get("at"), len(data) - offset):
            self._refuse(source, header, target.address, f"Peer {target.address} is not reading")
            return
        if source.workspace != target.workspace:
            source.met(target.address)
            target.met(source.address)
        segment = self._stamped(header, target.address, source.origin.stamp(target.workspace))
        self.lanes.send(source, target, key, (segment, data[offset:]))

    def _broadcast(self, source: Connection, header: dict[str, Any], payload: Buffer) -> None:
        workspace, to = source.workspace, header["to"]
        if to not in ("*", f"{workspace}/*"):
            self._refuse(source, header, to, f"Permission denied for workspace {workspace_of(to)}")
        elif not source.writer:
            text = (
                f"Read-only client {source.address} cannot broadcast messages. "
                "Only point-to-point messages are allowed for read-only clients."
            )
            self._refuse(source, header, to, text)
        else:
            kind = header["type"]
            frame = self._stamped(header, f"{workspace}/*", source.origin.home) + bytes(payload)
            self._to_subscribers(self.workspaces.get(workspace, {}).values(), kind, frame)

    # -- frames of the server --------------------------------------------------------

    def send_from_manager(self, frame: bytes, address: str, user: Any) -> None:
        """Forward a frame of the manager; answers to nobody.

        Args:
            frame: as the manager's endpoint packed it; its ``from`` is the address it was called at.
            address: the manager's own address.
            user: the root user.
        """
        header, offset = read_header(frame)
        to = str(header.get("to"))
        sender = str(header.get("from") or address)
        workspace = workspace_of(to)
        origin = Origin(sender, workspace, user)
        target = self.connections.get(to)
        if target is not None and self._has_room(target):
            self._deliver(target, origin, header, frame[offset:])
            return
        session = header.get("session")
        if isinstance(session, str) and self.manager is not None:
            self.manager.receive(_rejection(to, sender, session, _why_not(to, target)))
        elif to in self.mailboxes and _is_answer(header.get("method")):
            self.mailboxes.put(to, self._stamped(header, to, origin.home) + frame[offset:])

    def send_from_local(self, frame: bytes, origin: Origin, peer: LocalPeer) -> None:
        """Forward a frame that *peer*, inside this process, sends as *origin*."""
        header, offset = read_header(frame)
        to = str(header.get("to"))
        target = self.connections.get(to)
        if target is not None and self._has_room(target):
            self._deliver(target, origin, header, frame[offset:])
            return
        session = header.get("session")
        if isinstance(session, str):
            peer.receive(_rejection(to, origin.address, session, _why_not(to, target)))

    def _has_room(self, target: Connection, most: int | None = None) -> bool:
        """Whether *target* reads; what nobody paces is dropped for one that does not."""
        pending = target.outlet.pending
        if pending <= self._crowded or (pending <= (most or self._full) and not target.stuck(pending)):
            return True
        self.dropped += 1
        return False

    def publish(
        self, workspace: str, kind: str, data: dict[str, Any], *, about: str | None = None, least_level: int = 0
    ) -> None:
        """Send an event of the server to the subscribers in *workspace* (protocol §6.6).

        Args:
            workspace: where.
            kind: event type.
            data: its ``data``.
            about: client address the news is about; kept for lost peers that may resume.
            least_level: extension level that a subscriber must have.
        """
        frame: bytes = msgpack.packb({"type": kind, "to": "*", "data": data})
        members: Iterable[Connection] = self.workspaces.get(workspace, {}).values()
        if least_level:
            members = [member for member in members if member.level >= least_level]
        self._to_subscribers(members, kind, frame)
        if about is not None and len(self.mailboxes):
            self.mailboxes_note(workspace, about, frame)

    def mailboxes_note(self, workspace: str, about: str, frame: bytes) -> None:
        """Keep the latest news about *about* for the lost peers of *workspace*."""
        for address in self.mailboxes.addresses():
            if workspace_of(address) == workspace and address != about:
                self.mailboxes.note(address, about, frame)

    def tell(self, address: str, kind: str, data: dict[str, Any], *, about: str, least_level: int = 0) -> None:
        """Send an event of the server to one client, subscribed or not (security S11)."""
        frame: bytes = msgpack.packb({"type": kind, "to": address, "data": data})
        target = self.connections.get(address)
        if target is not None:
            if target.level >= least_level and self._has_room(target):
                target.outlet.send((frame,))
        else:
            self.mailboxes.note(address, about, frame)

    def _to_subscribers(self, members: Iterable[Connection], kind: str, frame: bytes) -> None:
        for member in members:
            # Events to a reader that does not read are dropped, calls to it are refused. Their senders
            # are not paused, so that they reach the others: half of the queue is left to the rest.
            if kind in member.subscriptions and self._has_room(member, self._full // 2):
                member.outlet.send((frame,))

    # -- refusals --------------------------------------------------------------------

    def _refuse(self, source: Connection, header: dict[str, Any], to: str, text: str) -> None:
        """Answer a frame that expects an answer; drop any other (protocol §2.6)."""
        session, kind = header.get("session"), header["type"]
        rejectable = kind in _ANSWERED or kind not in LEVEL_1
        if not isinstance(session, str) or not rejectable or source.outlet.pending > self._full:
            self.dropped += 1
            return
        sender = to if "/" in to else f"{source.workspace}/{to}"
        # Who asks after a call (`query`) has made it before: whether it ran is not known here.
        source.outlet.send((_rejection(sender, source.address, session, text, may_have_run=kind == "query"),))

    def _invalid(self, source: Connection, reason: str) -> None:
        """Drop a malformed frame; who sends only those is let go (security §8)."""
        self.dropped += 1
        limits = self._limits
        if source.count_invalid(self._clock(), limits.invalid_frames_per_second) == 1:
            _log.info("dropped an invalid frame of %s: %.120s", source.address, reason)
        if source.invalid > limits.invalid_frames_burst and not source.closing:
            source.closing = True
            audit("limit", limit="invalid frames", client=source.address)
            source.outlet.send_control({"type": "error", "message": "Too many invalid frames"})
            source.outlet.close(1008, "Too many invalid frames")


def _is_answer(method: Any) -> bool:
    """Whether a method id can only be the answer to a call (extensions §5)."""
    return type(method) is str and method.endswith(_ANSWERS) and not method.startswith("services.")


def _why_not(to: str, target: Connection | None) -> str:
    return f"Target peer {to} is not connected" if target is None else f"Peer {to} is not reading"


def _rejection(sender: str, to: str, session: str, text: str, *, may_have_run: bool = False) -> bytes:
    """The frame by which the server answers in place of *sender* (protocol §2.6)."""
    kind = next((kind for words, kind in _KINDS if text.startswith(words)), "RuntimeError")
    if text.endswith(_NO_CHUNKS):
        kind = "NoChunks"
    error = {
        "_rtype": "error",
        "_rvalue": text,
        "_rtrace": "",
        "_rerr": {"type": kind, "module": "hypha", "args": [text], "may_have_run": may_have_run},
    }
    header: bytes = msgpack.packb({"type": "method", "from": sender, "to": to, "method": f"{session}.reject"})
    payload: bytes = msgpack.packb({"args": [error]})
    return header + payload
