"""The fast door: picows behind uvicorn's upgrade.

uvicorn parses the upgrade request and hands it, with the socket, to a protocol
object of our choice; this one feeds the request to picows' own protocol, which
owns the socket from then on. One private name of picows is used
(``picows.picows.WSProtocol``): `works` tries it at start, and
`hypha.doors.asgi` serves instead when that fails. picows gives frames, not
messages: fragments, PING between them and the closing handshake are handled here.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import struct
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import picows

from hypha.auth.admission import LEGACY_QUERY_REASON
from hypha.doors.batch import BURST_LENGTH, Batch, binary_header
from hypha.doors.closing import NO_CODE, code_of, reason_of
from hypha.doors.context import DoorContext
from hypha.doors.handshake import LEGACY_MEMBERS, PeerSocket, to_json

__all__ = ["Bridge", "PicowsDoor", "echo_listener"]

_log = logging.getLogger("hypha.doors")
# picows reports every connection at INFO and every protocol error of a peer at ERROR: not our log's business.
_engine_log = logging.getLogger("hypha.doors.engine")
_engine_log.setLevel(logging.CRITICAL)

Buffer = bytes | bytearray | memoryview

_HEADROOM: Final = b"\0" * 14
_JOIN: Final = bytearray().join
_SMALL: Final = 8192
_EARLY_SLACK: Final = 16 * 1024
_CLOSE_PATIENCE_S: Final = 3.0
# Offsets in Linux's `struct tcp_info`, and how long no acknowledgment is no accident.
_TCP_INFO_BYTES: Final = 104
_RETRANSMITS: Final = 2
_UNACKED_AND_LAST_ACK: Final = struct.Struct("=24xI28xI")
_NO_ACK_MS: Final = 2_000
_UNSENT: Final = 128 * 1024
_LOCAL_QUEUE: Final = 256 * 1024
_BINARY: Final = picows.WSMsgType.BINARY
_TEXT: Final = picows.WSMsgType.TEXT
_CONTINUATION: Final = picows.WSMsgType.CONTINUATION
_PROTOCOL_ERROR: Final = 1002
_ABNORMAL: Final = 1006
_FORWARDED: Final = ("connection_lost", "get_buffer", "pause_writing", "resume_writing", "eof_received")


class PicowsDoor:
    """Makes a protocol for every upgraded socket; ``protocol`` is given to uvicorn as its ``ws`` class.

    Args:
        context: the server.
        path: where the door is, e.g. ``/ws``.
    """

    def __init__(self, context: DoorContext, path: str) -> None:
        self.context = context
        self.batch = Batch()
        self._path = path

    def protocol(self, config: Any, server_state: Any, app_state: Any) -> Bridge:
        """What uvicorn calls with its own state, of which nothing is needed here."""
        return Bridge(self)

    def listener(self, request: picows.WSUpgradeRequest, bridge: Bridge) -> Any:
        """Decide about an upgrade request."""
        url = urlsplit(request.path.decode("latin-1"))
        if url.path.rstrip("/") != self._path:
            return _refusal(HTTPStatus.NOT_FOUND, b"no WebSocket here")
        status = self.context.sites.refusal(request.headers.get("host", ""), request.headers.get("origin"))
        if status is not None:
            return _refusal(status, b"not for this page")
        if LEGACY_MEMBERS.intersection(parse_qs(url.query, keep_blank_values=True)):
            return _LegacyListener()
        if self.context.busy(bridge.address):
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, b"try again later")
        return _Listener(self.context, bridge, self.batch)


def _refusal(status: HTTPStatus, body: bytes) -> picows.WSUpgradeResponseWithListener:
    response = picows.WSUpgradeResponse.create_error_response(status, body)
    return picows.WSUpgradeResponseWithListener(response, None)


class Bridge(asyncio.BufferedProtocol):
    """Stands between uvicorn's transport and picows' protocol for one socket.

    uvicorn speaks to it once with `data_received` (the upgrade request); after that
    the event loop reads straight into picows' buffer. Until the peer is let in,
    what it sends is counted: it gets no room for more than its first message
    (security §8).
    """

    def __init__(self, door: PicowsDoor) -> None:
        from picows.picows import WSProtocol  # type: ignore[attr-defined]  # the private name

        limits = door.context.limits
        self.address = ""
        self._door = door
        self._transport: asyncio.Transport | None = None
        self._early = limits.first_frame_bytes + _EARLY_SLACK
        self._inner: Any = WSProtocol(
            None,
            None,
            False,
            self._listener,
            _engine_log,
            False,
            limits.first_frame_timeout,
            False,
            20,
            20,
            picows.WSAutoPingStrategy.PING_WHEN_IDLE,
            False,
            limits.max_frame_bytes,
            None,
            16 * 1024,
        )
        for name in _FORWARDED:
            setattr(self, name, getattr(self._inner, name))
        self.ws: picows.WSTransport | None = None

    def connection_made(self, transport: Any) -> None:
        """Take the socket from uvicorn."""
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Feed the upgrade request, piecewise if it is larger than the buffer."""
        view = memoryview(data)
        while view:
            buffer = memoryview(self._inner.get_buffer(-1))
            size = min(len(buffer), len(view))
            buffer[:size] = view[:size]
            self._inner.buffer_updated(size)
            view = view[size:]

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes of a peer that is not let in yet."""
        self._early -= nbytes
        if self._early >= 0:
            self._inner.buffer_updated(nbytes)
        elif self.ws is not None:
            if not self.ws.is_close_frame_sent:
                self.ws.send_close(picows.WSCloseCode.MESSAGE_TOO_BIG)
            self.ws.disconnect()
        elif self._transport is not None:
            self._transport.abort()

    def trust(self) -> None:
        """The peer is let in: from now on nobody stands between the event loop and picows."""
        setattr(self, "buffer_updated", self._inner.buffer_updated)  # noqa: B010 - a method by another one
        if self._transport is not None and not self._transport.is_closing():
            # Some event loops keep the methods they found when the protocol was set.
            self._transport.set_protocol(self)

    def _listener(self, request: picows.WSUpgradeRequest) -> Any:
        return self._door.listener(request, self)


class _LegacyListener(picows.WSListener):
    """Tells a client that puts credentials into the URL to upgrade (protocol §1.1)."""

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        reason = reason_of(LEGACY_QUERY_REASON).encode()
        transport.send_close(picows.WSCloseCode.POLICY_VIOLATION, reason)
        transport.disconnect()


class _EchoListener(picows.WSListener):
    """Sends back what it gets: for the self-test."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self._bridge.trust()

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        transport.send(frame.msg_type, frame.get_payload_as_bytes())


def echo_listener(request: picows.WSUpgradeRequest, bridge: Bridge) -> picows.WSListener:
    """The `PicowsDoor.listener` of the self-test."""
    return _EchoListener(bridge)


class _Listener(picows.WSListener):
    """Messages of one socket: puts fragments together, answers PING and CLOSE."""

    def __init__(self, context: DoorContext, bridge: Bridge, batch: Batch) -> None:
        self._batch = batch
        self._context = context
        self._bridge = bridge
        self._max_binary = context.limits.max_frame_bytes
        self._max_text = context.limits.max_text_bytes
        self._message = bytearray()
        self._kind: picows.WSMsgType | None = None
        self._peer: PeerSocket | None = None
        self._on_binary: Any = None
        self._code = _ABNORMAL

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        bridge = self._bridge
        bridge.ws = transport
        _tune(transport.underlying_transport.get_extra_info("socket"))
        self._peer = PeerSocket(self._context, _Outlet(transport, self._batch), bridge.address, admitted=bridge.trust)
        self._on_binary = self._peer.on_binary

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        batch, last = self._batch, frame.last_in_buffer
        if not last and not batch.open:
            batch.begin()
        try:
            if frame.msg_type is _BINARY and frame.fin and self._kind is None and not frame.rsv1:
                self._on_binary(frame.get_payload_as_memoryview())
            elif self._peer is not None:
                self._rare(transport, frame, self._peer)
        except Exception:  # noqa: BLE001 - supervision boundary: a frame never ends the switch
            _log.exception("a frame could not be handled")
        if last and batch.open:
            batch.flush()

    def _rare(self, transport: picows.WSTransport, frame: picows.WSFrame, peer: PeerSocket) -> None:
        kind = frame.msg_type
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            # No extension was agreed upon: compression is declined (security S41).
            self._end(transport, _PROTOCOL_ERROR)
        elif kind is picows.WSMsgType.PING:
            peer.on_pong()
            if peer.outlet.pending <= self._context.limits.send_queue_bytes:
                transport.send_pong(frame.get_payload_as_bytes())
        elif kind is picows.WSMsgType.PONG:
            peer.on_pong()
        elif kind is picows.WSMsgType.CLOSE:
            self._code = code_of(frame.get_payload_as_bytes())
            self._end(transport, self._code)
        else:
            self._collect(transport, frame, peer)

    def _end(self, transport: picows.WSTransport, code: int) -> None:
        if not transport.is_close_frame_sent:
            # The engine takes plain integers, too; 0 is a close frame without a code.
            transport.send_close(0 if code == NO_CODE else code)  # type: ignore[arg-type]
        transport.disconnect()

    def _collect(self, transport: picows.WSTransport, frame: picows.WSFrame, peer: PeerSocket) -> None:
        kind = frame.msg_type
        if (kind is _CONTINUATION) is (self._kind is None):
            self._end(transport, _PROTOCOL_ERROR)
            return
        if kind is not _CONTINUATION:
            self._kind = kind
        self._message += frame.get_payload_as_memoryview()
        if len(self._message) > (self._max_text if self._kind is _TEXT else self._max_binary):
            self._message = bytearray()
            self._end(transport, picows.WSCloseCode.MESSAGE_TOO_BIG.value)
        elif frame.fin:
            message, whole = self._message, self._kind
            self._message, self._kind = bytearray(), None
            self._take(transport, peer, whole, message)

    def _take(
        self, transport: picows.WSTransport, peer: PeerSocket, kind: picows.WSMsgType | None, message: bytearray
    ) -> None:
        if kind is _BINARY:
            peer.on_binary(message)
            return
        try:
            text = message.decode()
        except UnicodeDecodeError:
            self._end(transport, picows.WSCloseCode.INVALID_TEXT.value)
        else:
            peer.on_text(text)

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        peer, self._peer = self._peer, None
        if peer is not None:
            peer.outlet.abort()
            peer.on_closed(self._code)

    def pause_writing(self) -> None:
        """The send queue grows; the switch looks at its size itself."""

    def resume_writing(self) -> None:
        """The send queue has drained."""
        if self._peer is not None:
            self._peer.on_drained()


def _repeats(sock: socket.socket | None) -> bool:
    """Whether the kernel sends data again and hears nothing: the link is dead.

    Not ``TCP_USER_TIMEOUT``: it also ends the connection of a peer that is alive and does not read.
    """
    if sock is None or not hasattr(socket, "TCP_INFO") or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    if len(info) < _UNACKED_AND_LAST_ACK.size or not info[_RETRANSMITS]:
        return False
    unacked, last_ack_ms = _UNACKED_AND_LAST_ACK.unpack_from(info)
    return bool(unacked) and last_ack_ms > _NO_ACK_MS


def _tune(sock: socket.socket | None) -> None:
    """Short queues in the kernel."""
    if sock is not None and hasattr(socket, "TCP_NOTSENT_LOWAT") and sock.family in (socket.AF_INET, socket.AF_INET6):
        # Small frames meet a short queue beside big ones.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
        if ipaddress.ip_address(str(sock.getpeername()[0]).partition("%")[0]).is_loopback:
            # There is no distance to bridge: what lies in a longer queue is only older.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _LOCAL_QUEUE)


class _Outlet:
    """`Outlet` over a picows transport."""

    __slots__ = ("_batch", "_closer", "_held", "_pauses", "_transport", "_waiting")

    def __init__(self, transport: picows.WSTransport, batch: Batch) -> None:
        self._transport = transport
        self._batch = batch
        self._held: list[Buffer] = []
        self._waiting = transport.underlying_transport.get_write_buffer_size
        self._pauses = 0
        self._closer: asyncio.TimerHandle | None = None

    @property
    def pending(self) -> int:
        return self._waiting()

    @property
    def unacknowledged(self) -> bool:
        return not self._transport.is_disconnected and _repeats(
            self._transport.underlying_transport.get_extra_info("socket")
        )

    def send(self, parts: Sequence[Buffer]) -> None:
        size = sum(map(len, parts))
        if size <= _SMALL and self._batch.open:
            if not self._held:
                self._batch.add(self)
            self._held.append(binary_header(size))
            # The payload's buffer is valid during this call only.
            self._held.append(b"".join(parts))
            if len(self._held) >= 2 * BURST_LENGTH:
                # The receiver begins while the rest of the batch is still being routed.
                self.flush()
            return
        if self._held:
            self.flush()
        if size <= _SMALL:
            self._transport.send(_BINARY, b"".join(parts))
        else:
            # The engine writes its header into the head-room: the payload is copied once.
            self._transport.send_reuse_external_bytearray(_BINARY, _JOIN((_HEADROOM, *parts)), len(_HEADROOM))

    def flush(self) -> None:
        """Write what was held while a batch was open (`batch.Flushable`)."""
        held, self._held = self._held, []
        transport = self._transport
        if held and not (transport.is_disconnected or transport.is_close_frame_sent):
            transport.underlying_transport.write(b"".join(held))

    def send_control(self, message: dict[str, Any]) -> None:
        self.flush()
        self._transport.send(_TEXT, to_json(message).encode())

    def close(self, code: int, reason: str) -> None:
        self.flush()
        transport = self._transport
        if not transport.is_disconnected and not transport.is_close_frame_sent:
            transport.send_close(code, reason_of(reason).encode())  # type: ignore[arg-type]  # plain integers, too
        self.abort_later()

    def abort(self) -> None:
        closer, self._closer = self._closer, None
        if closer is not None:
            closer.cancel()
        if not self._transport.is_disconnected:
            self._transport.disconnect(False)

    def abort_later(self) -> None:
        if self._closer is None and not self._transport.is_disconnected:
            self._closer = asyncio.get_running_loop().call_later(_CLOSE_PATIENCE_S, self.abort)

    def ping(self) -> None:
        if not self._transport.is_disconnected:
            self._transport.send_ping()

    def pause_reading(self) -> None:
        self._pauses += 1
        if self._pauses == 1 and not self._transport.is_disconnected:
            self._transport.underlying_transport.pause_reading()

    def resume_reading(self) -> None:
        self._pauses -= 1
        if self._pauses == 0 and not self._transport.is_disconnected:
            self._transport.underlying_transport.resume_reading()
