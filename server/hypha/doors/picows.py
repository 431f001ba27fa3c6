"""The fast door: picows behind uvicorn's upgrade.

uvicorn parses the upgrade request and hands it, with the socket, to a protocol
object of our choice; this one feeds the request to picows' own protocol, which
owns the socket from then on. One private name of picows is used
(``picows.picows.WSProtocol``); `available` tries it at start, and
`hypha.doors.asgi` serves instead when that fails.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import picows

from hypha.auth.admission import LEGACY_QUERY_REASON
from hypha.doors.handshake import DoorContext, PeerSocket

__all__ = ["PicowsDoor", "available"]

_log = logging.getLogger("hypha.doors")
# picows reports every connection at INFO and every protocol error of a peer at ERROR: not our log's business.
_engine_log = logging.getLogger("hypha.doors.engine")
_engine_log.setLevel(logging.CRITICAL)

Buffer = bytes | bytearray | memoryview

_HEADROOM: Final = b"\0" * 14
_JOIN: Final = bytearray().join
_SMALL: Final = 8192
_LEGACY: Final = frozenset({"workspace", "client_id", "token", "reconnection_token"})
_CLOSE_PATIENCE_S: Final = 3.0
_BINARY: Final = picows.WSMsgType.BINARY
_TEXT: Final = picows.WSMsgType.TEXT


def available() -> bool:
    """Whether the private part of picows that the bridge needs is as it was."""
    try:
        from picows.picows import WSProtocol
    except ImportError:
        return False
    wanted = ("connection_made", "connection_lost", "get_buffer", "buffer_updated", "pause_writing", "resume_writing")
    return all(callable(getattr(WSProtocol, name, None)) for name in wanted)


class PicowsDoor:
    """Makes a protocol for every upgraded socket; ``protocol`` is given to uvicorn as its ``ws`` class.

    Args:
        context: the server.
        path: where the door is, e.g. ``/ws``.
    """

    def __init__(self, context: DoorContext, path: str) -> None:
        self._context = context
        self._path = path

    def protocol(self, config: Any, server_state: Any, app_state: Any) -> Bridge:
        """What uvicorn calls with its own state, of which nothing is needed here."""
        return Bridge(self)

    def listener(self, request: picows.WSUpgradeRequest) -> Any:
        """Decide about an upgrade request."""
        url = urlsplit(request.path.decode("latin-1"))
        if url.path.rstrip("/") != self._path:
            return _refusal(HTTPStatus.NOT_FOUND, b"no WebSocket here")
        if _LEGACY.intersection(parse_qs(url.query, keep_blank_values=True)):
            return _LegacyListener()
        if self._context.busy():
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, b"try again later")
        return _Listener(self._context)


def _refusal(status: HTTPStatus, body: bytes) -> picows.WSUpgradeResponseWithListener:
    response = picows.WSUpgradeResponse.create_error_response(status, body)
    return picows.WSUpgradeResponseWithListener(response, None)


class Bridge(asyncio.BufferedProtocol):
    """Stands between uvicorn's transport and picows' protocol for one socket.

    uvicorn speaks to it once with `data_received` (the upgrade request); after that
    the event loop reads straight into picows' buffer.
    """

    def __init__(self, door: PicowsDoor) -> None:
        from picows.picows import WSProtocol

        limits = door._context.limits
        inner = WSProtocol(
            None,
            None,
            False,
            door.listener,
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
        self.connection_made = inner.connection_made
        self.connection_lost = inner.connection_lost
        self.get_buffer = inner.get_buffer
        self.buffer_updated = inner.buffer_updated
        self.pause_writing = inner.pause_writing
        self.resume_writing = inner.resume_writing
        self.eof_received = inner.eof_received

    def data_received(self, data: bytes) -> None:
        """Feed the upgrade request, piecewise if it is larger than the buffer."""
        view = memoryview(data)
        while view:
            buffer = self.get_buffer(-1)
            size = min(len(buffer), len(view))
            buffer[:size] = view[:size]
            self.buffer_updated(size)
            view = view[size:]


class _LegacyListener(picows.WSListener):
    """Tells a client that puts credentials into the URL to upgrade (protocol §1.1)."""

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        transport.send_close(picows.WSCloseCode.POLICY_VIOLATION, LEGACY_QUERY_REASON[:123].encode())
        transport.disconnect()


class _Listener(picows.WSListener):
    """Messages of one socket: puts fragments together, answers PING and CLOSE."""

    def __init__(self, context: DoorContext) -> None:
        self._context = context
        self._max = context.limits.max_frame_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self._kind: Any = None
        self._peer: PeerSocket | None = None
        self._on_binary: Any = None

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        _tune(transport.underlying_transport.get_extra_info("socket"))
        self._peer = PeerSocket(self._context, _Outlet(transport))
        self._on_binary = self._peer.on_binary

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        kind = frame.msg_type
        if kind == _BINARY and frame.fin and self._kind is None:
            try:
                self._on_binary(frame.get_payload_as_memoryview())
            except Exception:  # supervision boundary: a frame never ends the switch
                _log.exception("a frame could not be routed")
        else:
            self._rare(transport, frame)

    def _rare(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        kind, peer = frame.msg_type, self._peer
        if peer is None:
            return
        if kind == picows.WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
            peer.on_pong()
        elif kind == picows.WSMsgType.PONG:
            peer.on_pong()
        elif kind == picows.WSMsgType.CLOSE:
            code = frame.get_close_code()
            transport.send_close(code if code != picows.WSCloseCode.NO_INFO else picows.WSCloseCode.OK)
            transport.disconnect()
        else:
            self._collect(transport, frame, peer)

    def _collect(self, transport: picows.WSTransport, frame: picows.WSFrame, peer: PeerSocket) -> None:
        if frame.msg_type != picows.WSMsgType.CONTINUATION:
            self._kind = frame.msg_type
        self._parts.append(frame.get_payload_as_bytes())
        self._size += len(self._parts[-1])
        if self._size > self._max:
            transport.send_close(picows.WSCloseCode.MESSAGE_TOO_BIG)
            transport.disconnect()
            return
        if not frame.fin:
            return
        message, kind = b"".join(self._parts), self._kind
        self._parts, self._size, self._kind = [], 0, None
        if kind == _BINARY:
            peer.on_binary(message)
        elif kind == _TEXT:
            try:
                peer.on_text(message.decode())
            except UnicodeDecodeError:
                transport.send_close(picows.WSCloseCode.INVALID_TEXT)
                transport.disconnect()

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        peer, self._peer = self._peer, None
        if peer is not None:
            peer.on_closed(_close_code(transport))

    def pause_writing(self) -> None:
        """The send queue grows; the switch looks at its size itself."""

    def resume_writing(self) -> None:
        """The send queue has drained."""


def _close_code(transport: picows.WSTransport) -> int:
    """The code the peer closed with; 1006 when it was cut."""
    handshake = transport.close_handshake
    if handshake is None or handshake.recv is None:
        return 1006
    code = handshake.recv.code
    return int(getattr(code, "value", code))


def _tune(sock: socket.socket | None) -> None:
    """Let the kernel notice a dead link by unacknowledged data (RELIABILITY: within 15 s)."""
    if sock is not None and hasattr(socket, "TCP_USER_TIMEOUT") and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 15_000)


class _Outlet:
    """`Outlet` over a picows transport."""

    __slots__ = ("_closer", "_reading", "_transport", "_waiting")

    def __init__(self, transport: picows.WSTransport) -> None:
        self._transport = transport
        self._waiting = transport.underlying_transport.get_write_buffer_size
        self._reading = True
        self._closer: asyncio.TimerHandle | None = None

    @property
    def pending(self) -> int:
        return self._waiting()

    def send(self, parts: Sequence[Buffer]) -> None:
        size = sum(map(len, parts))
        if size <= _SMALL:
            self._transport.send(_BINARY, b"".join(parts))
        else:
            # The engine writes its header into the head-room: the payload is copied once.
            self._transport.send_reuse_external_bytearray(_BINARY, _JOIN((_HEADROOM, *parts)), len(_HEADROOM))

    def send_control(self, message: dict[str, Any]) -> None:
        self._transport.send(_TEXT, json.dumps(message, separators=(",", ":")).encode())

    def close(self, code: int, reason: str) -> None:
        text = reason.encode()[:123].decode(errors="ignore").encode()
        self._transport.send_close(code, text)  # type: ignore[arg-type]  # the engine takes plain integers
        self.abort_later()

    def abort(self) -> None:
        self._transport.disconnect(False)

    def abort_later(self) -> None:
        if self._closer is None and not self._transport.is_disconnected:
            loop = asyncio.get_running_loop()
            self._closer = loop.call_later(_CLOSE_PATIENCE_S, self.abort)

    def ping(self) -> None:
        self._transport.send_ping()

    def pause_reading(self) -> None:
        if self._reading and not self._transport.is_disconnected:
            self._reading = False
            self._transport.underlying_transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            if not self._transport.is_disconnected:
                self._transport.underlying_transport.resume_reading()
