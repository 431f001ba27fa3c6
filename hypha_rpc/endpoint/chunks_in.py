"""Big frames from peers of level 1, received as chunks under credit (extensions §3): the receiving half.

Every message has one area, reserved when its first piece has been checked, into which
the pieces are copied. How much a sender may send ahead is decided here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from hypha_rpc.endpoint.chunks_out import PIECE
from hypha_rpc.endpoint.storage import Area, Lot, Storage
from hypha_rpc.errors import HyphaError, LimitExceeded, RemoteProtocolError
from hypha_rpc.wire.forms.errors import encode_error
from hypha_rpc.wire.frame import FrameError, read_extra

if TYPE_CHECKING:
    from hypha_rpc.endpoint.calls import Call
    from hypha_rpc.endpoint.core import Core

__all__ = ["Admitted", "ChunksIn", "Host"]

Buffer = bytes | bytearray | memoryview
Progress = Callable[[int, int], None]

MIB: Final = 1024 * 1024
WINDOW_LEAST: Final = MIB
WINDOW_MOST: Final = 16 * MIB
WINDOW_ALL: Final = 32 * MIB
SPAN_S: Final = 0.2
_MOST_OF: Final = 2**40
_MADE: Final = 256
_CONTEXT: Final = ("from", "to", "ws", "user")


class Admitted(NamedTuple):
    """What a message will be.

    Attributes:
        answers: the pending call that it answers, or None.
        under: the pending call that a callback belongs to, or None.
        session: the session of the call that it makes, or None.
    """

    answers: Call | None = None
    under: Call | None = None
    session: str | None = None


class Host(Protocol):
    """The endpoint behind the pieces."""

    def admit(self, piece: Buffer, context: Mapping[str, Any]) -> Admitted:
        """Look at the first piece of a message, before anything is kept of it (security S47).

        Raises:
            HyphaError, PermissionError: it would be refused as a whole.
        """

    def waits_for(self, call: Call) -> bool:
        """Whether somebody still waits for *call*."""

    def receive_assembled(self, data: Buffer, context: Mapping[str, Any]) -> None:
        """Take the whole message."""

    def cancelled(self, sender: str, session: str) -> None:
        """*sender* has aborted what made its call *session*."""

    def answer_refused(self, call: Call, error: BaseException) -> None:
        """The answer to *call* cannot be received."""


class _Message:
    """One message under way.

    Attributes:
        received: bytes so far.
        granted: the sender was told that it may send up to here.
        told_at: `received` when it was last told.
        marks: times and what had been received then, of the last moments.
        touched: when the last piece came.
        began: when the first one came.
    """

    __slots__ = (
        "area",
        "began",
        "context",
        "granted",
        "key",
        "kind",
        "lot",
        "marks",
        "received",
        "size",
        "told_at",
        "touched",
    )

    def __init__(self, key: str, size: int, context: dict[str, Any]) -> None:
        self.key = key
        self.size = size
        self.context = context
        self.lot: Lot
        self.area: Area
        self.kind = Admitted()
        self.received = 0
        self.granted = 0
        self.told_at = 0
        self.marks: deque[tuple[float, int]] = deque()
        self.touched = 0.0
        self.began = 0.0

    def rate(self, now: float) -> int:
        """Bytes of the last 200 ms."""
        marks = self.marks
        while marks and marks[0][0] <= now - SPAN_S:
            marks.popleft()
        return self.received - (marks[0][1] if marks else self.received)


class ChunksIn:
    """The messages that are arriving as chunks.

    Args:
        core: the shared state.
        host: the endpoint.
        storage: room for them.
    """

    def __init__(self, core: Core, host: Host, storage: Storage) -> None:
        self._core = core
        self._host = host
        self._storage = storage
        self._messages: dict[tuple[str, str], _Message] = {}
        self._made: dict[tuple[str, str], str] = {}
        self._watchers: dict[str, Progress] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def watch(self, call_id: str, progress: Progress) -> None:
        """Tell *progress* how many bytes of the answer to a call have come, of how many."""
        self._watchers[call_id] = progress

    def unwatch(self, call_id: str) -> None:
        """The call is over."""
        self._watchers.pop(call_id, None)

    # -- pieces --------------------------------------------------------------------

    def chunk(self, header: dict[str, Any], data: Buffer, offset: int) -> None:
        """Take one ``chunk`` frame."""
        sender, key = header.get("from"), header.get("session")
        at, size = header.get("at"), header.get("of")
        if not isinstance(sender, str) or not isinstance(key, str) or not key:
            self._core.port.dropped("a chunk without sender or key")
            return
        if type(at) is not int or type(size) is not int or not 0 <= at <= size <= _MOST_OF:
            self._end(sender, key, RemoteProtocolError("a chunk has impossible numbers"))
        elif size == 0:
            self._aborted(sender, key)
        else:
            self._piece(sender, key, (at, size), header, _payload(data, offset))

    def _piece(
        self, sender: str, key: str, place: tuple[int, int], header: dict[str, Any], piece: memoryview | None
    ) -> None:
        at, size = place
        message = self._messages.get((sender, key))
        if message is None and at > 0:
            self._reject(sender, key, LimitExceeded("There is no unfinished message of this key"))
            return
        if piece is None or not len(piece) or len(piece) > PIECE or at + len(piece) > size:
            self._end(sender, key, RemoteProtocolError("a chunk has no fitting piece"))
            return
        if message is None:
            message = self._open(sender, key, size, (header, piece))
            if message is None:
                return
        answers = message.kind.answers
        if answers is not None and not self._host.waits_for(answers):
            self._end(sender, key, LimitExceeded("Nobody waits for this answer"))
        elif message.size != size:
            self._end(sender, key, RemoteProtocolError("the size of a message has changed"))
        elif at == message.received:
            self._add(sender, message, piece)

    def _open(self, sender: str, key: str, size: int, first: tuple[dict[str, Any], memoryview]) -> _Message | None:
        header, piece = first
        message = _Message(key, size, {name: header[name] for name in _CONTEXT if name in header})
        try:
            message.kind = self._host.admit(piece, message.context)
            message.lot = self._storage.open(sender, own=self._core.is_own(sender))
            try:
                message.area = self._storage.reserve(message.lot, size)
            except BaseException:
                self._storage.close(message.lot)
                raise
        except (HyphaError, PermissionError) as error:
            self._reject(sender, key, error)
            if message.kind.answers is not None:
                self._host.answer_refused(message.kind.answers, error)
            return None
        self._messages[sender, key] = message
        message.began = self._core.now
        self._core.port.wake(self._core.now + self._core.options.partial_idle_s)
        return message

    def _add(self, sender: str, message: _Message, piece: memoryview) -> None:
        now = self._core.now
        try:
            message.area.write(message.received, piece)
        except LimitExceeded as error:
            self._end(sender, message.key, error)
            return
        message.marks.append((now, message.received))
        message.received += len(piece)
        message.touched = now
        call = message.kind.answers or message.kind.under
        if call is not None:
            call.heard = now
            watcher = self._watchers.get(call.id) if self._watchers and message.kind.answers is not None else None
            if watcher is not None:
                watcher(message.received, message.size)
        if message.received == message.size:
            self._complete(sender, message)
        else:
            self._grant(sender, message)

    def _complete(self, sender: str, message: _Message) -> None:
        del self._messages[sender, message.key]
        self._remember(sender, message)
        self._credit(sender, message, message.size)
        data = message.area.view()
        self._forget(message)
        self._core.began = message.began
        try:
            self._host.receive_assembled(data, message.context)
        except FrameError as error:
            self._core.port.dropped(str(error))
        finally:
            self._core.began = None

    def _remember(self, sender: str, message: _Message) -> None:
        """Which call a message made: aborting the message cancels it."""
        if message.kind.session is None:
            return
        if len(self._made) >= _MADE:
            self._made.pop(next(iter(self._made)))
        self._made[sender, message.key] = message.kind.session

    # -- credit ----------------------------------------------------------------------

    def _grant(self, sender: str, message: _Message) -> None:
        """Tell the sender how far it may go: at the first piece, then every MiB or quarter of a window."""
        window = self._window(message)
        first = message.granted == 0
        if not first and message.received - message.told_at < min(MIB, window // 4):
            return
        # Exactly the end means that all has arrived: who may send all of it is told one byte more.
        upto = message.received + window
        self._credit(sender, message, upto if upto < message.size else message.size + 1)

    def _window(self, message: _Message) -> int:
        """Bytes that may be on their way: those of the last 200 ms, in whole pieces, a fair share of all."""
        wanted = min(max(message.rate(self._core.now), WINDOW_LEAST), WINDOW_MOST)
        share = WINDOW_ALL // len(self._messages)
        return max(min(wanted, share) // PIECE, 1) * PIECE

    def _credit(self, sender: str, message: _Message, upto: int) -> None:
        if upto != message.size and upto <= message.granted:
            return
        message.granted = upto
        message.told_at = message.received
        self._tell(sender, message.context, {"type": "credit", "key": message.key, "upto": upto})

    def _tell(self, sender: str, context: Mapping[str, Any], header: dict[str, Any]) -> None:
        header["to"] = sender
        me = context.get("to")
        if isinstance(me, str) and me != self._core.address:
            header["from"] = me
        self._core.send(header)

    # -- ends --------------------------------------------------------------------------

    def _end(self, sender: str, key: str, error: BaseException) -> None:
        """The message breaks a rule or a bound."""
        message = self._messages.pop((sender, key), None)
        if message is not None:
            self._forget(message)
            if message.kind.answers is not None:
                self._host.answer_refused(message.kind.answers, error)
        self._reject(sender, key, error)

    def _reject(self, sender: str, key: str, error: BaseException) -> None:
        described = encode_error(error, with_trace=False, may_have_run=False)
        self._core.send({"type": "method", "to": sender, "method": f"{key}.reject"}, {"args": [described], "x": 1})

    def _aborted(self, sender: str, key: str) -> None:
        message = self._messages.pop((sender, key), None)
        if message is not None:
            self._forget(message)
            return
        session = self._made.pop((sender, key), None)
        if session is not None:
            self._host.cancelled(sender, session)

    def _forget(self, message: _Message) -> None:
        message.area.close()
        self._storage.close(message.lot)

    def forget_sender(self, sender: str) -> None:
        """The sender is gone: free its pieces."""
        for name in [name for name in self._messages if name[0] == sender]:
            self._forget(self._messages.pop(name))
        for name in [name for name in self._made if name[0] == sender]:
            del self._made[name]

    def clear(self) -> None:
        """Free everything."""
        for message in self._messages.values():
            self._forget(message)
        self._messages.clear()
        self._made.clear()

    def expire(self) -> None:
        """Free messages that have not grown for too long."""
        idle = self._core.options.partial_idle_s
        for (sender, key), message in list(self._messages.items()):
            if self._core.now - message.touched > idle:
                self._end(sender, key, LimitExceeded("an incomplete message did not grow"))

    def next_tick(self) -> float | None:
        """When `expire` is wanted, or None."""
        idle = self._core.options.partial_idle_s
        return min((message.touched + idle for message in self._messages.values()), default=None)


def _payload(data: Buffer, offset: int) -> memoryview | None:
    """The piece in a ``chunk`` frame as a view, or None."""
    view = memoryview(data)[offset:]
    if len(view) > 8 and bytes(view[:3]) == b"\x81\xa1b":
        for code, width in ((0xC6, 4), (0xC5, 2), (0xC4, 1)):
            if view[3] == code:
                piece = view[4 + width :]
                return piece if len(piece) == int.from_bytes(view[4 : 4 + width], "big") else None
    found = read_extra(data, offset).get("b")
    return memoryview(found) if isinstance(found, bytes) else None
