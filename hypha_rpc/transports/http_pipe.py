"""The pipe of the HTTP transport: frames down a stream, frames up in POSTs, one POST at a time (protocol §7).

Keeps the contract of `base` over a `Courier`, which makes the requests; knows no
HTTP library, address or credential. What waits while a POST is under way goes
together in the next one, where the server takes that. A POST without an answer is
repeated, under the same number, to servers that take each number once; to others
the connection is given up, as nobody knows whether it arrived.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, NamedTuple, Protocol

from hypha_rpc.errors import MessageTooLarge
from hypha_rpc.transports.base import HIGH_WATER, LOW_WATER, Buffer, Closed, Limits
from hypha_rpc.transports.pipe import CUT, Pipe
from hypha_rpc.wire.lengths import LengthReader, is_control_shaped, pack_control, read_control, with_length

__all__ = ["Courier", "CourierFailed", "HttpPipe", "PostAnswer"]

_log = logging.getLogger("hypha_rpc.transport")

CONTROLS: Final = frozenset({"connection_info", "ping", "pong", "reconnection_token", "error", "close"})

BATCH_BYTES: Final = 1024 * 1024
BATCH_FRAMES: Final = 1000
#: Pauses before a POST is repeated.
PAUSES_S: Final = (0.1, 0.5, 1.0)
#: How often a server that says that it is busy is asked again; it took nothing.
MAX_BUSY: Final = 30
MAX_RETRY_AFTER_S: Final = 5.0
RELEASE_S: Final = 1.0
FAREWELL_S: Final = 1.0


class CourierFailed(Exception):
    """A request got no answer.

    Attributes:
        sent: the server may have received it.
    """

    def __init__(self, text: str, *, sent: bool) -> None:
        super().__init__(text)
        self.sent = sent


class PostAnswer(NamedTuple):
    """Status of a POST, and how long a busy server asks to wait."""

    status: int
    retry_after_s: float


class Courier(Protocol):
    """Makes the requests of one connection."""

    def chunks(self) -> AsyncGenerator[bytes]:
        """The body of the stream, as it comes.

        Raises:
            CourierFailed: it broke.
        """

    def settle(self, workspace: str, *, ours: bool) -> None:
        """POSTs may be made from now on.

        Args:
            workspace: where the server has put us.
            ours: the server is of level 1 at least.
        """

    async def post(self, body: bytes, *, framed: bool, number: int) -> PostAnswer:
        """Make one POST.

        Args:
            body: of the request.
            framed: lengths stand in front of its frames.
            number: which POST of this connection it is; a repeated one keeps its number.

        Raises:
            CourierFailed: there was no answer.
        """

    async def close(self) -> None:
        """Close all connections."""


class _Lost(Exception):
    """The connection cannot be used any more."""


class HttpPipe(Pipe):
    """A `Transport` over one stream and the POSTs that belong to it."""

    def __init__(self, limits: Limits, courier: Courier) -> None:
        super().__init__(limits)
        self._courier = courier
        self._level = 0
        self._queue: deque[bytes] = deque()
        self._waiting = 0
        self._filled = asyncio.Event()
        self._posting = False
        self._number = 0
        # How this side wants to end, and what the other side said about the end.
        self._asked: Closed | None = None
        self._said: Closed | None = None
        self._hanging = False
        self._was_cut = False
        self._stop: asyncio.Future[None] = self._loop.create_future()
        self._task = self._loop.create_task(self._run(), name="hypha-http")

    def _settle(self, info: Mapping[str, Any]) -> None:
        """The server let us in: from now on POSTs may be made, in the words it understands."""
        level, workspace = info.get("x"), info.get("workspace")
        self._level = level if type(level) is int else 0
        self._courier.settle(workspace if isinstance(workspace, str) else "", ours=self._level > 0)

    # ------------------------------------------------------------------ life

    async def _run(self) -> None:
        """Read and write until either ends; then let everything go."""
        reader = self._loop.create_task(self._read(), name="hypha-http-read")
        poster = self._loop.create_task(self._post_all(), name="hypha-http-post")
        both = {reader, poster}
        try:
            await asyncio.wait({*both, self._stop}, return_when=asyncio.FIRST_COMPLETED)
            if self._hanging and not self._stop.done():
                await asyncio.wait({poster}, timeout=FAREWELL_S)
        finally:
            reader.cancel()
            poster.cancel()
            await asyncio.wait(both)
            await self._let_go()
            self._stop.cancel()
            for task in both:
                if not task.cancelled() and (error := task.exception()) is not None:
                    _log.debug("The HTTP connection ended: %s", error)
            self._ended(self._verdict())

    async def _let_go(self) -> None:
        try:
            async with asyncio.timeout(RELEASE_S):
                await self._courier.close()
        except TimeoutError:
            _log.debug("The connections were not closed in time")
        except Exception:  # noqa: BLE001 - supervision boundary: whatever a library says, the end is told
            _log.debug("The connections were not closed properly", exc_info=True)

    def _verdict(self) -> Closed:
        if self._said is not None:
            return self._said
        if self._asked is not None and not self._level and not self._was_cut:
            # A server that knows no good-bye cannot answer it: the stream is over because this side wanted that.
            return self._asked
        return CUT

    # ------------------------------------------------------------------ receiving

    async def _read(self) -> None:
        reader = LengthReader(self._limits.max_frame)
        async with aclosing(self._courier.chunks()) as chunks:
            try:
                async for chunk in chunks:
                    for payload in reader.feed(chunk):
                        self._arrived(payload)
                    if self._said is not None:
                        return
            except MessageTooLarge as error:
                self._fail(1009, str(error))
                # The stream stays until the farewell is posted: a server that sees it end listens no more.
                await asyncio.sleep(FAREWELL_S)

    def _arrived(self, payload: Buffer) -> None:
        message = read_control(payload, CONTROLS)
        if self._said is not None:
            return
        if message is None:
            if not self._first.done() and is_control_shaped(payload):
                # Not what a server begins with.
                self._parsed(None, len(payload))
            self._frame(payload)
        elif message["type"] == "close":
            code, reason = message.get("code"), message.get("reason")
            self._said = Closed(code if type(code) is int else 1005, reason if isinstance(reason, str) else "")
            self._peer_left()
        else:
            if message["type"] == "connection_info" and not self._first.done():
                self._settle(message)
            self._parsed(message, len(payload))

    # ------------------------------------------------------------------ writing

    def send_control(self, message: Mapping[str, Any]) -> None:
        """Send *message* as a control message; dropped once closing."""
        if not self._closing:
            self._put(pack_control(message))

    def _write_frame(self, parts: Sequence[Buffer]) -> None:
        self._put(b"".join(parts))

    def _write_text(self, text: str) -> None:
        self._put(pack_control(json.loads(text)))

    def _write_close(self, code: int, reason: str) -> None:
        self._asked = Closed(code, reason)
        if self._level:
            self._put(pack_control({"type": "close", "code": code, "reason": reason}))
        else:
            self._hanging = True
        self._filled.set()

    def _hang_up(self) -> None:
        self._hanging = True
        self._filled.set()
        self._cut_later()

    def _cut(self) -> None:
        self._was_cut = True
        if not self._stop.done():
            self._stop.set_result(None)

    def _put(self, payload: bytes) -> None:
        self._queue.append(payload)
        self._waiting += len(payload)
        # A single frame, with nothing before it, is on its way already.
        if self._waiting > HIGH_WATER and (self._posting or len(self._queue) > 1):
            self._writable = False
        self._filled.set()

    async def _post_all(self) -> None:
        """Post what is queued, in order, until a farewell that is not answered has been posted."""
        while True:
            while self._queue:
                batch = self._take()
                # What is on its way waits no more: the next POST is filled meanwhile.
                self._waiting -= sum(map(len, batch))
                if not self._writable and self._waiting < LOW_WATER:
                    self._drained()
                self._posting = True
                await self._deliver(batch)
                self._posting = False
            if self._hanging:
                return
            self._filled.clear()
            await self._filled.wait()

    def _take(self) -> list[bytes]:
        queue = self._queue
        batch, size = [queue.popleft()], 0
        if not self._level:
            return batch
        size = len(batch[0])
        while queue and len(batch) < BATCH_FRAMES and size + len(queue[0]) <= BATCH_BYTES:
            batch.append(queue.popleft())
            size += len(batch[-1])
        return batch

    async def _deliver(self, batch: list[bytes]) -> None:
        """Make one POST, as often as it takes."""
        framed = len(batch) > 1 or (not batch[0] and self._level > 0)
        body = b"".join([with_length((frame,)) for frame in batch]) if framed else batch[0]
        if not body:
            return
        self._number += 1
        busy, pauses = 0, iter(PAUSES_S)
        while True:
            try:
                answer = await self._courier.post(body, framed=framed, number=self._number)
            except CourierFailed as error:
                if error.sent and not self._level:
                    raise _Lost(str(error)) from error
                await self._pause(pauses, str(error))
                continue
            if answer.status == 429 or (answer.status == 503 and not self._level):
                busy += 1
                if busy > MAX_BUSY:
                    raise _Lost(f"the server stays busy: HTTP {answer.status}")
                await asyncio.sleep(min(max(answer.retry_after_s, PAUSES_S[0]), MAX_RETRY_AFTER_S))
            elif self._is_over(answer.status):
                return
            else:
                await self._pause(pauses, f"HTTP {answer.status}")

    def _is_over(self, status: int) -> bool:
        """Whether a POST with this answer is done with; False where it may be made again.

        Raises:
            _Lost: the connection is of no use any more.
        """
        if 200 <= status < 300:
            return True
        if status == 413:
            self._fail(1009, "the server does not take a message of this size")
            return True
        if status == 400:
            if self._level:
                # One frame is malformed in the server's eyes; it says so to nobody else, as a socket's server does.
                _log.debug("The server did not take a message")
                return True
            # Public servers say so, too, where the stream is not known yet.
            return False
        if self._level and status in (500, 502, 503, 504):
            return False
        raise _Lost(f"HTTP {status}")

    @staticmethod
    async def _pause(pauses: Any, problem: str) -> None:
        pause = next(pauses, None)
        if pause is None:
            raise _Lost(problem)
        await asyncio.sleep(pause)
