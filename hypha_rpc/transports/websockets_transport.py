"""WebSocket frames moved by the sans-I/O core of the `websockets` package.

The core parses and writes frames, answers PING and CLOSE; sockets, back-pressure,
whole messages and time limits are made here. Chosen over that package's asyncio
client because ``send`` must not wait. Knows no proxies and no credentials.
Imported at the first connect.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from typing import cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from hypha_rpc.transports._engine_log import engine_log
from hypha_rpc.transports.base import FLOODED, HIGH_WATER, LOW_WATER, Buffer, Closed, Limits
from hypha_rpc.transports.dial import dispose, keep_queue_short
from hypha_rpc.transports.pipe import CUT, Pipe
from hypha_rpc.transports.target import Target
from hypha_rpc.transports.websocket import Headers, UpgradeFailed, UpgradeRefused

__all__ = ["WebSocketsTransport", "upgrade"]


async def upgrade(
    target: Target, sock: socket.socket, *, tls: ssl.SSLContext | None, headers: Headers, limits: Limits
) -> WebSocketsTransport:
    """Make a WebSocket of the connected *sock*; see `websocket.Engine`."""
    keep_queue_short(sock)
    loop = asyncio.get_running_loop()
    core = ClientProtocol(parse_uri(target.url), max_size=limits.max_frame, logger=engine_log)
    pipe = WebSocketsTransport(limits, core)
    name = target.host if tls is not None else None
    try:
        await loop.create_connection(pipe.protocol, sock=sock, ssl=tls, server_hostname=name)
    except BaseException:
        await dispose(sock)
        raise
    try:
        await pipe.upgrade(headers)
    except BaseException:
        await pipe.discard()
        raise
    return pipe


class WebSocketsTransport(Pipe, asyncio.Protocol):
    """A `Transport` over one `websockets` core."""

    def __init__(self, limits: Limits, core: ClientProtocol) -> None:
        super().__init__(limits)
        self._core = core
        self._wire: asyncio.Transport | None = None
        self._upgraded: asyncio.Future[None] = self._loop.create_future()
        self._message: bytearray | None = None
        self._message_is_text = False

    # ------------------------------------------------------------------ opening

    def protocol(self) -> WebSocketsTransport:
        """Return itself: the protocol factory of `loop.create_connection`."""
        return self

    async def upgrade(self, headers: Headers) -> None:
        """Send the upgrade request and wait for its answer; the caller's time limit bounds it."""
        request = self._core.connect()
        for name, value in headers:
            if name.lower() == "host":
                del request.headers["Host"]
            request.headers[name] = value
        self._core.send_request(request)
        self._flush()
        await asyncio.wait([self._upgraded])
        error = self._core.handshake_exc
        if isinstance(error, InvalidStatus):
            response = error.response
            raise UpgradeRefused(response.status_code, response.headers.get("Location")) from error
        if error is not None:
            raise UpgradeFailed(str(error)[:200]) from error

    # ------------------------------------------------------------------ called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket (and TLS, if any) is ready."""
        self._wire = cast("asyncio.Transport", transport)
        self._wire.set_write_buffer_limits(HIGH_WATER, LOW_WATER)

    def data_received(self, data: bytes) -> None:
        """Feed the core and deliver what it makes of it."""
        self._core.receive_data(data)
        self._after_receiving()

    def eof_received(self) -> None:
        """The peer has closed its side; the loop closes ours."""
        self._core.receive_eof()
        self._after_receiving()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._core.receive_eof()
        self._message = None
        self._settle_upgrade()
        self._ended(self._verdict())

    def pause_writing(self) -> None:
        """More than `HIGH_WATER` bytes wait."""
        self._writable = False

    def resume_writing(self) -> None:
        """Less than `LOW_WATER` bytes wait."""
        self._drained()

    # ------------------------------------------------------------------ receiving

    def _settle_upgrade(self) -> None:
        if not self._upgraded.done():
            self._upgraded.set_result(None)

    def _after_receiving(self) -> None:
        core = self._core
        if core.state is OPEN and self._wire is not None and self._wire.get_write_buffer_size() > FLOODED:
            # Only answers to PING: a peer that pings without reading must not fill the send queue.
            core.data_to_send()
        else:
            self._flush()
        for event in core.events_received():
            if isinstance(event, Frame) and not self._closing:
                self._on_frame(event)
            elif isinstance(event, Response):
                self._settle_upgrade()
        if core.handshake_exc is not None:
            self._settle_upgrade()
        if core.close_sent is not None and (core.close_rcvd is not None or core.parser_exc is not None):
            # The handshake is complete, or the core has given the peer up.
            self._peer_left()
            self._hang_up()

    def _on_frame(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is Opcode.BINARY or opcode is Opcode.TEXT:
            if frame.fin:
                self._deliver(frame.data, is_text=opcode is Opcode.TEXT)
            else:
                self._message = bytearray(frame.data)
                self._message_is_text = opcode is Opcode.TEXT
        elif opcode is Opcode.CONT and self._message is not None:
            self._message += frame.data
            if frame.fin:
                message, self._message = self._message, None
                self._deliver(message, is_text=self._message_is_text)

    def _deliver(self, data: Buffer, *, is_text: bool) -> None:
        if is_text:
            self._text(bytes(data))
        else:
            self._frame(data)

    def _verdict(self) -> Closed:
        """How the connection ended, as the core saw it."""
        core = self._core
        if core.close_rcvd is not None:
            return Closed(int(core.close_rcvd.code), core.close_rcvd.reason)
        # An end of the stream counts as an error of the parser, too, but tells nothing.
        if core.close_sent is not None and core.parser_exc is not None and not isinstance(core.parser_exc, EOFError):
            return Closed(int(core.close_sent.code), core.close_sent.reason)
        return CUT

    # ------------------------------------------------------------------ writing

    def _write_frame(self, parts: Sequence[Buffer]) -> None:
        if self._core.state is OPEN:
            self._core.send_binary(b"".join(parts))
            self._flush()

    def _write_text(self, text: str) -> None:
        if self._core.state is OPEN:
            self._core.send_text(text.encode())
            self._flush()

    def _write_close(self, code: int, reason: str) -> None:
        if self._core.state is OPEN:
            self._core.send_close(code, reason)
            self._flush()

    def _flush(self) -> None:
        """Hand over what the core wants written; an empty piece is its wish to close the stream."""
        wire = self._wire
        for data in self._core.data_to_send():
            if wire is not None and data and not wire.is_closing():
                wire.write(data)

    def _hang_up(self) -> None:
        if self._wire is None or self._closed is not None:
            return
        self._cut_later()
        # What still waits behind a peer that has said good-bye, or broken the rules, is of no use to it.
        if self._wire.get_write_buffer_size():
            self._wire.abort()
        else:
            self._wire.close()

    def _cut(self) -> None:
        if self._wire is not None:
            self._wire.abort()
