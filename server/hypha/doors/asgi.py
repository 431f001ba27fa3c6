"""The plain door: the WebSocket endpoint as an ASGI application, for any runner.

It wraps the web application, so that a refused upgrade gets its HTTP status
from here (protocol §1.5). Behaves as `hypha.doors.picows` does, within what ASGI
can say: there is no PING, so a quiet peer is asked by the call that every peer
answers (protocol §6.1), and a socket is dropped by returning from the
application.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs

import msgpack

from hypha.auth.admission import LEGACY_QUERY_REASON
from hypha.auth.identity import root_user
from hypha.doors.closing import NO_CODE, reason_of
from hypha.doors.context import DoorContext
from hypha.doors.handshake import LEGACY_MEMBERS, PeerSocket, to_json

__all__ = ["AsgiDoor"]

_log = logging.getLogger("hypha.doors")

Buffer = bytes | bytearray | memoryview
Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_CLOSE_PATIENCE_S: Final = 3.0
_DRAINED: Final = 64 * 1024
_TOO_BIG: Final = 1009
_POLICY: Final = 1008
_DENIAL: Final = "websocket.http.response"


class AsgiDoor:
    """An ASGI application with the door in front of another one.

    Args:
        context: the server.
        path: where the door is, e.g. ``/ws``.
        application: serves everything that is no WebSocket.
    """

    def __init__(self, context: DoorContext, path: str, application: Application) -> None:
        self._context = context
        self._path = path
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "websocket":
            await self._application(scope, receive, send)
            return
        message = await receive()
        if message["type"] != "websocket.connect":
            return
        address = str((scope.get("client") or ("",))[0])
        if str(scope["path"]).rstrip("/") != self._path:
            await _deny(scope, send, HTTPStatus.NOT_FOUND, b"no WebSocket here")
        elif (
            status := self._context.sites.refusal(_header(scope, b"host") or "", _header(scope, b"origin"))
        ) is not None:
            await _deny(scope, send, status, b"not for this page")
        elif LEGACY_MEMBERS.intersection(parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)):
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": _POLICY, "reason": reason_of(LEGACY_QUERY_REASON)})
        elif self._context.busy(address):
            await _deny(scope, send, HTTPStatus.SERVICE_UNAVAILABLE, b"try again later")
        else:
            await send({"type": "websocket.accept"})
            await _Socket(self._context, receive, send, address).serve()


def _header(scope: Scope, name: bytes) -> str | None:
    """A header of an upgrade request; *name* in lower case."""
    return next((value.decode("latin-1") for key, value in scope.get("headers", ()) if key == name), None)


async def _deny(scope: Scope, send: Send, status: HTTPStatus, body: bytes) -> None:
    """Refuse the upgrade with an HTTP status; a runner that cannot do that says 403."""
    if _DENIAL not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close"})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": f"{_DENIAL}.start", "status": int(status), "headers": headers})
    await send({"type": f"{_DENIAL}.body", "body": body})


class _Socket:
    """One accepted socket: a task that reads, one that writes, and the way to end both."""

    def __init__(self, context: DoorContext, receive: Receive, send: Send, address: str) -> None:
        self._limits = context.limits
        self._receive = receive
        self._outlet = _Outlet(send, context)
        self._peer = PeerSocket(context, self._outlet, address)
        self._outlet.peer = self._peer
        self._code = NO_CODE

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        reader = loop.create_task(self._read(), name="hypha-socket-read")
        writer = loop.create_task(self._outlet.write(), name="hypha-socket-write")
        # A writer that is done has sent the close frame: the answer to it is still to be read.
        waited: set[asyncio.Future[Any]] = {reader, self._outlet.aborted}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._outlet.end()
            reader.cancel()
            writer.cancel()
            self._peer.on_closed(self._code)
            await asyncio.wait([reader, writer], timeout=_CLOSE_PATIENCE_S)

    async def _read(self) -> None:
        outlet, peer = self._outlet, self._peer
        try:
            while True:
                await outlet.reading.wait()
                message = await self._receive()
                if message["type"] == "websocket.disconnect":
                    self._code = int(message.get("code") or NO_CODE)
                    return
                if not outlet.closing:
                    self._take(peer, message)
        except OSError:
            # The runner's word for a connection that is gone.
            return

    def _take(self, peer: PeerSocket, message: Message) -> None:
        data, text = message.get("bytes"), message.get("text")
        try:
            if data is not None:
                if len(data) > self._limits.max_frame_bytes:
                    peer.dismiss(_TOO_BIG, "")
                else:
                    peer.on_binary(data)
            elif text is not None:
                if len(text) > self._limits.max_text_bytes or len(text.encode()) > self._limits.max_text_bytes:
                    peer.dismiss(_TOO_BIG, "")
                else:
                    peer.on_text(text)
        except Exception:  # noqa: BLE001 - supervision boundary: a frame never ends the switch
            _log.exception("a frame could not be handled")


class _Outlet:
    """`Outlet` over ``send``: a queue, whose bound the switch keeps, and the task that empties it."""

    def __init__(self, send: Send, context: DoorContext) -> None:
        self._send = send
        self._context = context
        self._queue: deque[tuple[int, Message]] = deque()
        self._size = 0
        self._filled = asyncio.Event()
        self._pauses = 0
        self._closer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.aborted: asyncio.Future[None] = self._loop.create_future()
        self.reading = asyncio.Event()
        self.reading.set()
        self.closing = False
        self.peer: PeerSocket | None = None

    async def write(self) -> None:
        """Send what is queued until the close frame is sent or the socket is gone."""
        try:
            while True:
                while self._queue:
                    size, message = self._queue.popleft()
                    await self._send(message)
                    self._size -= size
                    if self._size < _DRAINED and self.peer is not None:
                        self.peer.on_drained()
                    if message["type"] == "websocket.close":
                        return
                self._filled.clear()
                await self._filled.wait()
        except (OSError, RuntimeError):
            # Gone, or closed from the other side: runners say it by either. The reader is told as well.
            self.abort()

    def end(self) -> None:
        """Nothing is sent any more."""
        self.closing = True
        self._queue.clear()
        self._size = 0
        if self._closer is not None:
            self._closer.cancel()
        if not self.aborted.done():
            self.aborted.cancel()

    def _put(self, size: int, message: Message) -> None:
        if not self.closing:
            self._queue.append((size, message))
            self._size += size
            self._filled.set()

    # -- Outlet ------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        return self._size

    @property
    def unacknowledged(self) -> bool:
        """Not known here: only the runner has the socket."""
        return False

    def send(self, parts: Sequence[Buffer]) -> None:
        data = b"".join(parts)
        self._put(len(data), {"type": "websocket.send", "bytes": data})

    def send_control(self, message: dict[str, Any]) -> None:
        text = to_json(message)
        self._put(len(text), {"type": "websocket.send", "text": text})

    def close(self, code: int, reason: str) -> None:
        self._put(0, {"type": "websocket.close", "code": code, "reason": reason_of(reason)})
        self.closing = True
        # What is paused would not see the answer.
        self.reading.set()
        self.abort_later()

    def abort(self) -> None:
        self.closing = True
        if not self.aborted.done():
            self.aborted.set_result(None)

    def abort_later(self) -> None:
        if self._closer is None and not self.aborted.done():
            self._closer = self._loop.call_later(_CLOSE_PATIENCE_S, self.abort)

    def ping(self) -> None:
        connection = self.peer.connection if self.peer is not None else None
        if connection is not None:
            self.send((self._question(connection.address, connection.workspace),))

    def _question(self, address: str, workspace: str) -> bytes:
        """A call of the peer's built-in ``ping``; its answer goes to the manager, who does not wait for it."""
        header = {
            "type": "method",
            "from": f"*/{self._context.info['manager_id']}",
            "to": address,
            "method": "services.built-in.ping",
            "session": "still-there",
            "ws": workspace,
            "user": root_user().to_wire(),
        }
        packed: bytes = msgpack.packb(header) + msgpack.packb({"args": ["ping"], "promise": "*", "t": 10})
        return packed

    def pause_reading(self) -> None:
        self._pauses += 1
        self.reading.clear()

    def resume_reading(self) -> None:
        self._pauses -= 1
        if self._pauses == 0:
            self.reading.set()
