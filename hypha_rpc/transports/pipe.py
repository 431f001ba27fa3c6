"""What all socket transports share: delivery, the states of a connection, closing.

Knows the `Receiver` and the rules of `base`; knows no WebSocket library, address,
credentials or meaning of a message. An engine derives from `Pipe`, feeds it with
`_frame`, `_text`, `_drained` and `_ended`, and provides the writing half.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hypha_rpc.transports.base import (
    CLOSE_TIMEOUT_S,
    MAX_EARLY_BYTES,
    MAX_EARLY_FRAMES,
    Buffer,
    Closed,
    Limits,
    Receiver,
)

_log = logging.getLogger("hypha_rpc.transport")

#: A control message is small; a longer text is dropped unparsed.
MAX_TEXT = 1024 * 1024
MAX_REASON = 123
#: The closing handshake gets this long, so that `wait_closed` keeps its promise.
HANDSHAKE_S = CLOSE_TIMEOUT_S - 0.5

CUT = Closed(1006, "")


class Pipe:
    """The delivering and closing half of a transport.

    The states, in order: *held* (nothing is delivered, all is kept), *live*,
    *closing* (``close`` was called or the pipe failed: nothing is delivered any
    more), *ended* (the socket is gone).
    """

    def __init__(self, limits: Limits) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._limits = limits
        self._receiver: Receiver | None = None
        # The receiver's method, bound once: it is called for every frame.
        self._deliver_frame: Callable[[Buffer], None] = _NOBODY.on_frame
        self._live = False
        self._closing = False
        self._failure: Closed | None = None
        self._closed: Closed | None = None
        self._held: deque[bytes | Mapping[str, Any]] = deque()
        self._held_bytes = 0
        self._first: asyncio.Future[Mapping[str, Any] | None] = loop.create_future()
        self._gone: asyncio.Future[None] = loop.create_future()
        self._cutter: asyncio.TimerHandle | None = None
        self._writable = True
        self._announcing = False

    # ------------------------------------------------------------------ Transport

    @property
    def limits(self) -> Limits:
        """What this pipe carries."""
        return self._limits

    @property
    def writable(self) -> bool:
        """Whether less than `HIGH_WATER` bytes wait to be written."""
        return self._writable

    @property
    def closed(self) -> Closed | None:
        """How the pipe ended, or None while its socket lives."""
        return self._closed

    def start(self, receiver: Receiver) -> None:
        """Begin delivering to *receiver*; call once.

        What was kept follows from the event loop, in order, before anything newer.
        """
        if self._receiver is not None:
            raise RuntimeError("the transport has been started already")
        self._receiver = receiver
        self._deliver_frame = receiver.on_frame
        if self._held or self._closed is not None:
            self._loop.call_soon(self._release)
        else:
            self._live = not self._closing

    def send(self, parts: Sequence[Buffer]) -> None:
        """Send the concatenation of *parts* as one frame; dropped once closing."""
        if not self._closing:
            self._write_frame(parts)

    def send_control(self, message: Mapping[str, Any]) -> None:
        """Send *message* as one text frame of JSON; dropped once closing."""
        if not self._closing:
            self._write_text(json.dumps(message))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the closing handshake; idempotent."""
        if self._closing:
            self._drop_held()
            return
        self._stop_delivery()
        self._write_close(code if _may_be_sent(code) else 1000, _cut_reason(reason))
        self._cut_later()

    async def wait_closed(self) -> None:
        """Return when the socket is gone.

        Has no deadline of its own: after ``close`` a timer cuts the socket, and
        before it waiting for the peer is what was asked for.
        """
        await asyncio.wait([self._gone])

    # ------------------------------------------------------------------ opening

    async def first_message(self) -> Mapping[str, Any] | None:
        """Return the first text message, None if it is no JSON object or none came.

        The opening time limit of the caller bounds the wait.
        """
        await asyncio.wait([self._first])
        return self._first.result()

    async def discard(self) -> None:
        """End the pipe of a failed opening: say good-bye without waiting for an answer."""
        self.close()
        self._cut()
        await asyncio.wait([self._gone], timeout=HANDSHAKE_S)

    # ------------------------------------------------------------------ fed by the engine

    def _frame(self, data: Buffer) -> None:
        """Deliver or keep one binary message; *data* need not outlive the call."""
        if not self._live:
            self._hold(data)
            return
        guarded(self._deliver_frame, data)

    def _text(self, data: str | bytes | bytearray) -> None:
        """Deliver or keep one text message; only the first one may be no JSON object."""
        self._parsed(_parse_object(data), len(data))

    def _parsed(self, message: Mapping[str, Any] | None, size: int) -> None:
        """Deliver or keep one control message of *size* bytes; None is none."""
        if not self._first.done():
            self._first.set_result(message)
        elif message is None:
            _log.debug("Dropped a text frame of %d bytes that is no JSON object", size)
        elif self._live:
            self._control(message)
        else:
            self._hold(message)

    def _drained(self) -> None:
        """The engine's send queue fell below `LOW_WATER`."""
        self._writable = True
        if not self._announcing:
            # Some loops resume a writer inside `write`; the receiver must not be entered from `send`.
            self._announcing = True
            self._loop.call_soon(self._announce)

    def _ended(self, closed: Closed) -> None:
        """The socket is gone; whatever comes later is ignored."""
        if self._closed is not None:
            return
        self._closed = self._failure or closed
        self._closing = True
        if self._cutter is not None:
            self._cutter.cancel()
            self._cutter = None
        if not self._first.done():
            self._first.set_result(None)
        self._gone.set_result(None)
        if self._live:
            self._tell_closed()
        elif self._receiver is not None and not self._held:
            # Closing, or nothing left to release: only the end is still to be told.
            self._loop.call_soon(self._release)

    def _fail(self, code: int, reason: str) -> None:
        """The peer broke a rule or a bound: close with *code* without waiting for an answer."""
        if self._closing:
            return
        _log.debug("Closing with %d: %s", code, reason)
        self._failure = Closed(code, reason)
        self._stop_delivery()
        self._write_close(code, _cut_reason(reason))
        self._hang_up()

    # ------------------------------------------------------------------ for the engine

    def _cut_later(self) -> None:
        """See to it that the socket is gone in time, whatever the peer does."""
        if self._cutter is None and self._closed is None:
            self._cutter = self._loop.call_later(HANDSHAKE_S, self._cut)

    def _peer_left(self) -> None:
        """The peer said good-bye: nothing more comes from it or goes to it; what is held is still delivered."""
        self._closing = True
        self._live = False

    def _stop_delivery(self) -> None:
        self._closing = True
        self._live = False
        self._drop_held()

    # ------------------------------------------------------------------ provided by the engine

    def _write_frame(self, parts: Sequence[Buffer]) -> None:
        raise NotImplementedError

    def _write_text(self, text: str) -> None:
        raise NotImplementedError

    def _write_close(self, code: int, reason: str) -> None:
        raise NotImplementedError

    def _hang_up(self) -> None:
        """Close the socket after what is written already, soon, and call `_ended`."""
        raise NotImplementedError

    def _cut(self) -> None:
        """Close the socket at once, whatever is still to be written, and call `_ended`."""
        raise NotImplementedError

    # ------------------------------------------------------------------ inside

    def _hold(self, item: Buffer | Mapping[str, Any]) -> None:
        if self._closing:
            return
        if isinstance(item, Mapping):
            self._held.append(item)
        else:
            kept = bytes(item)
            self._held.append(kept)
            self._held_bytes += len(kept)
        if len(self._held) > MAX_EARLY_FRAMES or self._held_bytes > MAX_EARLY_BYTES:
            self._fail(1008, "Too much before the connection was in use")

    def _drop_held(self) -> None:
        self._held.clear()
        self._held_bytes = 0

    def _release(self) -> None:
        """Deliver what was kept, then go live, or tell the end."""
        assert self._receiver is not None
        held, receiver = self._held, self._receiver
        while held:  # emptied by `close`
            item = held.popleft()
            if isinstance(item, Mapping):
                guarded(receiver.on_control, item)
            else:
                guarded(receiver.on_frame, item)
        self._drop_held()
        if self._closed is not None:
            self._tell_closed()
        else:
            self._live = not self._closing

    def _control(self, message: Mapping[str, Any]) -> None:
        assert self._receiver is not None
        guarded(self._receiver.on_control, message)

    def _announce(self) -> None:
        self._announcing = False
        if self._live and self._writable and self._receiver is not None:
            guarded(self._receiver.on_writable)

    def _tell_closed(self) -> None:
        """Tell the receiver once; it is let go, so that nothing can follow."""
        receiver, closed = self._receiver, self._closed
        assert receiver is not None
        assert closed is not None
        self._live = False
        self._receiver = _NOBODY
        self._deliver_frame = _NOBODY.on_frame
        if receiver is not _NOBODY:
            guarded(receiver.on_closed, closed)


class _Nobody:
    """Takes the receiver's place once it knows that the pipe has ended."""

    def on_frame(self, data: Buffer) -> None:
        pass

    def on_control(self, message: Mapping[str, Any]) -> None:
        pass

    def on_writable(self) -> None:
        pass

    def on_closed(self, closed: Closed) -> None:
        pass


_NOBODY = _Nobody()


def guarded(callback: Callable[..., None], *arguments: object) -> None:
    """Call into the receiver. Supervision boundary: its errors must not end the connection, nor the loop's callback."""
    try:
        callback(*arguments)
    except Exception:  # noqa: BLE001 - see above
        report_failure(getattr(callback, "__name__", "a callback"))


def report_failure(where: str) -> None:
    """Log the exception being handled, which a receiver raised."""
    _log.exception("The receiver of a transport failed in %s", where)


def _parse_object(data: str | bytes | bytearray) -> Mapping[str, Any] | None:
    """Return the JSON object in *data*, or None; hostile text is not worth a connection (security S43)."""
    if len(data) > MAX_TEXT:
        return None
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def _cut_reason(reason: str) -> str:
    """Cut to what a close frame holds (protocol §1.5)."""
    return reason.encode("utf-8", "replace")[:MAX_REASON].decode("utf-8", "ignore")


def _may_be_sent(code: int) -> bool:
    """RFC 6455 §7.4: codes that may stand in a close frame."""
    return (1000 <= code <= 1014 and code not in (1004, 1005, 1006)) or 3000 <= code <= 4999
