"""One stream of the HTTP transport: what goes down to a peer, and the peer behind it (protocol §7.1).

A stream is to the switch what a socket is: `StreamPeer` is a `PeerSocket` whose
first frame came in the request, `StreamOutlet` its `Outlet`. How requests are
read and answered is `hypha.doors.rpc`'s business.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from hypha.auth.admission import Refusal
from hypha.auth.identity import root_user
from hypha.doors.context import DoorContext
from hypha.doors.handshake import PeerSocket
from hypha_rpc.wire.lengths import pack_control, with_length

__all__ = ["Introduction", "StreamOutlet", "StreamPeer"]

Buffer = bytes | bytearray | memoryview
Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

CONTENT_TYPE: Final = b"application/x-msgpack-stream"

_CLOSE_PATIENCE_S: Final = 3.0
_QUIET_S: Final = 30.0
_BURST_BYTES: Final = 256 * 1024
_DRAINED: Final = 64 * 1024
_PING: Final = with_length((pack_control({"type": "ping"}),))
_ORDERLY: Final = 1000
_ABNORMAL: Final = 1006
_HEADERS: Final = (
    (b"content-type", CONTENT_TYPE),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


@dataclass(frozen=True, slots=True)
class Introduction:
    """What the request for a stream says.

    Attributes:
        frame: the members of a first frame (protocol §1.2, extensions §1).
        token: the bearer token, or None.
        secret: what the peer shows with each POST from now on (``X-Hypha-Stream``), or None.
        address: the network address it came from.
    """

    frame: dict[str, Any]
    token: str | None
    secret: str | None
    address: str

    @property
    def level(self) -> int:
        """The extension level of the peer."""
        level = self.frame.get("x")
        return level if isinstance(level, int) else 0


class StreamOutlet:
    """`Outlet` over an HTTP response: a queue, whose bound the switch keeps, and the coroutine that empties it.

    Args:
        context: the server.
        level: extension level of the peer; only our own are told why a stream ends.
    """

    def __init__(self, context: DoorContext, level: int) -> None:
        self._context = context
        self._level = level
        self._queue: deque[bytes] = deque()
        self._size = 0
        self._filled = asyncio.Event()
        self._pauses = 0
        self._closer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._ending = False
        self.refusal: tuple[int, str] | None = None
        self.aborted: asyncio.Future[None] = self._loop.create_future()
        self.reading = asyncio.Event()
        self.reading.set()
        self.peer: StreamPeer | None = None

    async def write(self, send: Send) -> None:
        """Answer the request: with the stream, until it ends, or not at all when it was refused."""
        await self._filled.wait()
        if self.refusal is not None:
            return
        await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
        while True:
            while self._queue:
                await self._write_burst(send)
            if self._ending:
                break
            self._filled.clear()
            await self._wait()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write_burst(self, send: Send) -> None:
        queue = self._queue
        burst = [queue.popleft()]
        size = len(burst[0])
        while queue and size + len(queue[0]) <= _BURST_BYTES:
            burst.append(queue.popleft())
            size += len(burst[-1])
        body = burst[0] if len(burst) == 1 else b"".join(burst)
        await send({"type": "http.response.body", "body": body, "more_body": True})
        self._size -= size
        if self._size < _DRAINED and self.peer is not None:
            # Big frames in pieces wait in the switch until there is room (extensions §3).
            self.peer.on_drained()

    async def _wait(self) -> None:
        """Wait for more; a stream that is quiet for long says that it is there (protocol §7.1)."""
        try:
            async with asyncio.timeout(_QUIET_S):
                await self._filled.wait()
        except TimeoutError:
            self._put(_PING)

    def end(self) -> None:
        """Nothing is sent any more."""
        self._ending = True
        self._queue.clear()
        self._size = 0
        # Whoever waits to be read is told that the stream is gone.
        self.reading.set()
        if self._closer is not None:
            self._closer.cancel()
            self._closer = None
        if not self.aborted.done():
            self.aborted.cancel()

    def refuse(self, status: int, detail: str) -> None:
        """Answer with an error instead of a stream."""
        if self.refusal is None:
            self.refusal = (status, detail)
        self._ending = True
        self._filled.set()

    def _put(self, data: bytes) -> None:
        if not self._ending:
            self._queue.append(data)
            self._size += len(data)
            self._filled.set()

    # -- Outlet ------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Bytes waiting to be written."""
        return self._size

    @property
    def unacknowledged(self) -> bool:
        """Not known here: only the runner has the socket."""
        return False

    def send(self, parts: Sequence[Buffer]) -> None:
        """Send one frame."""
        self._put(with_length(parts))

    def send_control(self, message: dict[str, Any]) -> None:
        """Send a control message."""
        self._put(with_length((pack_control(message),)))

    def close(self, code: int, reason: str) -> None:
        """End the stream when what is queued has been written; a public peer sees the end only."""
        if self.peer is None or self.peer.connection is None:
            self.refuse(503 if code == _GOING_AWAY else 500, reason)
            return
        if self._level:
            self.send_control({"type": "close", "code": code, "reason": reason})
        self._ending = True
        self._filled.set()
        # What is paused would never see the end.
        self.reading.set()
        self.abort_later()

    def abort(self) -> None:
        """End the stream without a word: at once, even where the peer does not read."""
        self._ending = True
        self._queue.clear()
        self._filled.set()
        self.reading.set()
        if not self.aborted.done():
            self.aborted.set_result(None)

    def abort_later(self) -> None:
        """End the stream unless it ends by itself soon."""
        if self._closer is None and not self.aborted.done():
            self._closer = self._loop.call_later(_CLOSE_PATIENCE_S, self.abort)

    def ping(self) -> None:
        """Ask for a sign of life by the call that every peer answers (protocol §6.1): there is no PING."""
        connection = self.peer.connection if self.peer is not None else None
        if connection is None:
            return
        header = {
            "type": "method",
            "from": f"*/{self._context.info['manager_id']}",
            "to": connection.address,
            "method": "services.built-in.ping",
            "session": "still-there",
            "ws": connection.workspace,
            "user": root_user().to_wire(),
        }
        self.send((msgpack.packb(header), msgpack.packb({"args": ["ping"], "promise": "*", "t": 10})))

    def pause_reading(self) -> None:
        """Take no frames of this peer until `resume_reading`."""
        self._pauses += 1
        self.reading.clear()

    def resume_reading(self) -> None:
        """Take frames again."""
        self._pauses -= 1
        if self._pauses == 0:
            self.reading.set()


_GOING_AWAY: Final = 1001


class StreamPeer(PeerSocket):
    """A peer whose frames come in POSTs and go down a stream.

    Args:
        context: the server.
        outlet: the stream.
        introduction: what its request said.
        admitted: called once when the peer is let in.
    """

    def __init__(
        self,
        context: DoorContext,
        outlet: StreamOutlet,
        introduction: Introduction,
        admitted: Callable[[StreamPeer], None],
    ) -> None:
        super().__init__(context, outlet, introduction.address, admitted=self._let_in)
        self._stream = outlet
        self._introduction = introduction
        self._let = admitted
        self._digest = _digest(introduction.token)
        self.code = _ABNORMAL
        self.posts = Posts()
        outlet.peer = self
        self.introduce(introduction.frame)

    # -- opening ---------------------------------------------------------------------

    def _let_in(self) -> None:
        self._let(self)

    def _refuse(self, refusal: Refusal) -> None:
        self._started = True
        self._stop_waiting()
        resuming = bool(self._introduction.frame.get("reconnection_token"))
        self._stream.refuse(*_status_of(refusal.message, resuming=resuming))

    # -- what POSTs bring --------------------------------------------------------------

    @property
    def reading(self) -> asyncio.Event:
        """Set while frames of this peer are taken."""
        return self._stream.reading

    def on_control(self, message: dict[str, Any]) -> None:
        """A control message arrived."""
        connection = self.connection
        if connection is None:
            return
        connection.alive(self._context.clock())
        if message["type"] == "close":
            self._leave(message)
        elif self._stream.pending <= self._context.limits.send_queue_bytes:
            self._answer(message["type"])

    def _leave(self, message: dict[str, Any]) -> None:
        """The peer says good-bye: it hears that it was heard, and the stream ends."""
        code = message.get("code")
        self.code = code if type(code) is int else _ORDERLY
        self._stream.close(self.code, "")

    # -- who may post --------------------------------------------------------------------

    def knows(self, secret: str | None) -> bool | None:
        """Whether *secret* is the stream's own; None when it has none."""
        own = self._introduction.secret
        if own is None:
            return None
        return hmac.compare_digest(own.encode(), (secret or "").encode())

    def has_token(self, token: str) -> bool:
        """Whether the stream was opened with *token*, which may have expired since."""
        digest = _digest(token)
        return self._digest is not None and digest is not None and hmac.compare_digest(self._digest, digest)

    @property
    def address(self) -> str:
        """The network address it was opened from."""
        return self._introduction.address


class Posts:
    """The POSTs of one stream: read one after the other, in the order of their arrival.

    Attributes:
        waiting: how many there are.
        turn: held by the one that is read.
        latest: number of the latest one that was taken.
    """

    __slots__ = ("latest", "turn", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        self.turn = asyncio.Lock()
        self.latest = 0


def _digest(token: str | None) -> bytes | None:
    return None if token is None else hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


_SETUP: Final = "Failed to establish connection: "
_USER: Final = "Failed to authenticate user: "


def _status_of(message: str, *, resuming: bool) -> tuple[int, str]:
    """The HTTP status of a refusal, and its text without the words that only sockets need (server §5.8)."""
    text = message.removeprefix(_SETUP).removeprefix(_USER)
    if message.startswith("Authentication error: "):
        detail = text.removeprefix("Authentication error: ")
        return 401, f"Invalid reconnection token: {detail}" if resuming else text
    if resuming and message.startswith(f"{_SETUP}{_USER}"):
        return 401, f"Invalid reconnection token: {text}"
    if text.startswith("Client already exists"):
        return 409, text
    if text.startswith(("Invalid client_id", "Invalid client id", "Invalid workspace", "Invalid ")):
        return 400, text
    if "does not exist" in text:
        return 404, text.strip("'")
    return 403, text.replace("Permission denied for workspace: ", "Permission denied for workspace ")
