"""WebSocket frames moved by picows.

picows delivers frames: fragments, answers to PING and the closing handshake are
made into messages and states here. Knows no URLs to choose from, no proxies, no
credentials. Imported at the first connect.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from functools import partial
from typing import Any

import picows

from hypha_rpc.transports._engine_log import engine_log
from hypha_rpc.transports.base import FLOODED, HIGH_WATER, LOW_WATER, Buffer, Closed, Limits
from hypha_rpc.transports.burst import masked_messages
from hypha_rpc.transports.dial import dispose, keep_queue_short
from hypha_rpc.transports.pipe import CUT, Pipe, report_failure
from hypha_rpc.transports.target import Target
from hypha_rpc.transports.websocket import Headers, UpgradeFailed, UpgradeRefused

__all__ = ["PicowsTransport", "upgrade"]

#: picows writes the frame header into this much room in front of the payload.
HEAD_ROOM = bytes(14)
#: Frames up to this size are collected in a burst.
BURST_FRAME = 8192
#: So many are written at once.
BURST_LENGTH = 8
#: Two small frames closer than this are a burst.
BURST_S = 0.00005
_JOIN = bytearray().join
READ_BUFFER = 64 * 1024

_BINARY = picows.WSMsgType.BINARY
_TEXT = picows.WSMsgType.TEXT
_CONTINUATION = picows.WSMsgType.CONTINUATION
_PING = picows.WSMsgType.PING
_CLOSE = picows.WSMsgType.CLOSE


async def upgrade(
    target: Target, sock: socket.socket, *, tls: ssl.SSLContext | None, headers: Headers, limits: Limits
) -> PicowsTransport:
    """Make a WebSocket of the connected *sock*; see `websocket.Engine`."""
    keep_queue_short(sock)
    options: dict[str, Any] = {"server_hostname": target.host} if tls is not None else {}
    try:
        _, listener = await picows.ws_connect(
            partial(_admit, limits),
            target.url,
            ssl_context=tls,
            websocket_handshake_timeout=None,
            logger_name=engine_log,
            enable_auto_pong=False,
            max_frame_size=limits.max_frame,
            extra_headers=headers,
            max_redirects=0,
            read_buffer_init_size=READ_BUFFER,
            socket_factory=partial(_given, sock),
            use_aiofastnet=False,
            **options,
        )
    except picows.WSHandshakeError as error:
        await dispose(sock)
        raise _refusal(error) from error
    except BaseException:
        await dispose(sock)
        raise
    if not isinstance(listener, PicowsTransport):
        # picows ends the wait without a listener when the connection is lost meanwhile.
        raise ConnectionResetError("closed during the upgrade")
    return listener


class PicowsTransport(Pipe, picows.WSListener):
    """A `Transport` over one picows connection."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._ws: picows.WSTransport | None = None
        self._message: bytearray | None = None
        self._burst: list[bytes] = []
        self._holding = False
        self._sent_at = float("-inf")
        self._message_is_text = False
        self._peer_closed: Closed | None = None

    # ------------------------------------------------------------------ called by picows

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        """The upgrade is done."""
        self._ws = transport
        transport.underlying_transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """Deliver a whole binary message at once; everything else is rare."""
        last = frame.last_in_buffer
        if not last and not self._holding:
            self._hold_back()
        if frame.msg_type is _BINARY and frame.fin and not frame.rsv1 and self._message is None:
            view = frame.get_payload_as_memoryview()
            if self._live:
                try:
                    self._deliver_frame(view)
                except Exception:  # noqa: BLE001 - supervision boundary: a receiver that raises harms no transport
                    report_failure("on_frame")
            else:
                self._frame(view)
            _invalidate(view)
        else:
            self._rare_frame(transport, frame)
        if last and self._burst:
            self._write_burst()

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        """The socket is gone."""
        self._message = None
        self._ended(self._peer_closed or _own_failure(transport) or CUT)
        # picows keeps a parser's error for `wait_disconnected`; unread, asyncio complains about it.
        self._loop.call_soon(_read_error, transport)

    def pause_writing(self) -> None:
        """More than `HIGH_WATER` bytes wait."""
        self._writable = False

    def resume_writing(self) -> None:
        """Less than `LOW_WATER` bytes wait."""
        self._drained()

    # ------------------------------------------------------------------ receiving

    def _rare_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if self._closing and frame.msg_type is not _CLOSE:
            return
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._fail(1002, "Reserved bits without an extension")
        elif frame.msg_type is _PING:
            # A peer that pings without reading must not fill the send queue.
            if transport.underlying_transport.get_write_buffer_size() <= FLOODED:
                transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type is _CLOSE:
            self._on_close(transport, frame)
        elif frame.msg_type is _CONTINUATION:
            self._on_continuation(frame)
        elif frame.msg_type is _TEXT or frame.msg_type is _BINARY:
            self._on_data(frame)

    def _on_data(self, frame: picows.WSFrame) -> None:
        if self._message is not None:
            self._fail(1002, "A message began inside another one")
        elif not frame.fin:
            self._message = bytearray(frame.get_payload_as_memoryview())
            self._message_is_text = frame.msg_type is _TEXT
        elif frame.msg_type is _TEXT:
            self._text(frame.get_payload_as_bytes())

    def _on_continuation(self, frame: picows.WSFrame) -> None:
        message = self._message
        if message is None:
            self._fail(1002, "A continuation of nothing")
        elif len(message) + frame.payload_size > self._limits.max_frame:
            self._message = None
            self._fail(1009, f"Message of more than {self._limits.max_frame} bytes")
        else:
            message += frame.get_payload_as_memoryview()
            if frame.fin:
                self._message = None
                if self._message_is_text:
                    self._text(message)
                else:
                    self._frame(message)

    def _on_close(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """The closing handshake: note the reason, answer if we have not spoken first, hang up."""
        payload = frame.get_payload_as_bytes()
        code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
        self._peer_closed = Closed(code, payload[2:].decode("utf-8", "replace"))
        self._peer_left()
        if not transport.is_close_frame_sent:
            self._write_close(1000 if code == 1005 else code, "")
        self._hang_up()

    # ------------------------------------------------------------------ writing

    def send(self, parts: Sequence[Buffer]) -> None:
        """Send the concatenation of *parts* as one frame; dropped once closing.

        A frame that comes alone is written at once. Small ones that follow each other
        closely, or that answer several frames of one read, leave in one write.
        """
        if self._closing or self._ws is None:
            return
        size = sum(map(len, parts))
        if size <= BURST_FRAME:
            now = self._loop.time()
            if not self._holding and now - self._sent_at < BURST_S:
                self._hold_back()
            if self._holding:
                self._burst.append(b"".join(parts))
                if len(self._burst) >= BURST_LENGTH:
                    # The peers begin while the rest of the burst is still being made.
                    self._write_burst()
                    self._holding = True
                return
            self._sent_at = now
        elif self._burst:
            self._write_burst()
        # One copy: the header and the mask are written into this very buffer.
        self._ws.send_reuse_external_bytearray(_BINARY, _JOIN((HEAD_ROOM, *parts)), 14)

    def _hold_back(self) -> None:
        """Collect small frames until the loop's next turn, or the end of the read."""
        self._holding = True
        self._loop.call_soon(self._write_burst)

    def _write_burst(self) -> None:
        """Write what was collected; idempotent."""
        self._holding = False
        burst, self._burst = self._burst, []
        ws = self._ws
        if not burst or ws is None or ws.is_disconnected or ws.is_close_frame_sent:
            return
        if len(burst) == 1:
            ws.send_reuse_external_bytearray(_BINARY, _JOIN((HEAD_ROOM, burst[0])), 14)
        else:
            ws.underlying_transport.write(masked_messages(burst))

    def _write_frame(self, parts: Sequence[Buffer]) -> None:
        self.send(parts)

    def _write_text(self, text: str) -> None:
        if self._ws is not None:
            self._write_burst()
            self._ws.send(_TEXT, text.encode())

    def _write_close(self, code: int, reason: str) -> None:
        if self._ws is not None:
            self._write_burst()
            self._ws.send_close(code, reason.encode())  # type: ignore[arg-type]  # any code, not only those with a name

    def _hang_up(self) -> None:
        if self._ws is None:
            return
        self._cut_later()
        # What still waits behind a peer that has said good-bye, or broken the rules, is of no use to it.
        waiting = self._ws.underlying_transport.get_write_buffer_size()
        self._ws.disconnect(graceful=not waiting)

    def _cut(self) -> None:
        if self._ws is not None:
            self._ws.disconnect(graceful=False)


# ---------------------------------------------------------------------- for `ws_connect`


def _admit(limits: Limits, request: picows.WSUpgradeRequest, response: picows.WSUpgradeResponse) -> PicowsTransport:
    """Make the listener of an accepted upgrade; nothing was offered, so nothing may have been agreed on."""
    if "Sec-WebSocket-Extensions" in response.headers:
        raise picows.WSHandshakeError("an extension that was not offered")
    return PicowsTransport(limits)


def _given(sock: socket.socket, parsed_url: object) -> socket.socket:
    return sock


def _refusal(error: picows.WSHandshakeError) -> UpgradeRefused | UpgradeFailed:
    response = error.response
    status = int(response.status) if response is not None else 101
    if response is None or status == 101:
        return UpgradeFailed(str(error)[:200])
    return UpgradeRefused(status, response.headers.get("Location"))


# ---------------------------------------------------------------------- small things


def _invalidate(view: memoryview) -> None:
    """Make *view* unusable: the memory under it is picows's and is written to next."""
    try:
        view.release()
    except BufferError:
        # The receiver kept an export of it, against the contract; its memory is not ours to save.
        engine_log.info("A receiver kept a frame's buffer")


def _own_failure(transport: picows.WSTransport) -> Closed | None:
    """Why picows's parser closed the connection, if it did."""
    # Neither need exist, whatever the stubs of picows say.
    handshake: Any = transport.close_handshake
    sent = handshake.sent if handshake is not None else None
    if sent is None or sent.code not in (1002, 1007, 1009):
        return None
    return Closed(int(sent.code), sent.reason)


def _read_error(transport: picows.WSTransport) -> None:
    waiting = transport.wait_disconnected()
    try:
        # The connection is gone, so this ends without waiting.
        waiting.send(None)
    except StopIteration:
        return
    except Exception as error:  # noqa: BLE001 - a border: whatever error picows kept, it has been acted on
        engine_log.info("picows closed the connection: %s", error)
    finally:
        waiting.close()
