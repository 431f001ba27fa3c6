"""Big frames: as chunks to peers of level 1, else through the receiver's ``message_cache`` (protocol §5), both ends.

The sender is a small state machine that is its own `Waiter`: create, then pieces
with at most `WINDOW` unanswered, then process. Direct method ids are used; every
current peer has them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from hypha_rpc.endpoint.chunks_out import ChunkSend, ChunksOut
from hypha_rpc.endpoint.options import LEVEL
from hypha_rpc.endpoint.storage import Area, Lot, Storage
from hypha_rpc.errors import LimitExceeded, SerializationError
from hypha_rpc.wire.bulk import Frame
from hypha_rpc.wire.chunks import PartialMessage, pieces, slack
from hypha_rpc.wire.forms.errors import remote_error

if TYPE_CHECKING:
    from hypha_rpc.endpoint.calls import Call
    from hypha_rpc.endpoint.core import Core
    from hypha_rpc.endpoint.options import EndpointOptions

__all__ = ["ChunkedSend", "MessageStore", "Steps", "Transfers"]

WINDOW: Final = 30
NO_CHUNKS: Final = "NoChunks"
"""Kind of the error by which our server says that a receiver takes no chunks."""
_METHOD: Final = "services.built-in.message_cache."
_UNCHECKED: Final = 8 * 1024 * 1024

Check = Callable[[bytes], bool]


class Steps(Protocol):
    """What transfers need of their endpoint."""

    def step(self, target: str, method: str, args: list[Any], waiter: Any) -> None:
        """Make one plain call that answers *waiter*."""

    def transferred(self, call: Call, error: BaseException | None) -> None:
        """The request of *call* has arrived as a whole, or could not be sent."""

    def send_whole(self, frame: bytes) -> None:
        """Send one frame that needs no cutting."""

    def now(self) -> float:
        """The time of the current input."""


class Transfers:
    """The frames that are under way in pieces."""

    def __init__(self, steps: Steps, core: Core) -> None:
        self.steps = steps
        self.chunk_size = core.options.chunk_size
        self.whole = self.chunk_size + slack
        self.chunks = ChunksOut(core, self)
        self._core = core
        self._active: dict[str | tuple[str, str], ChunkedSend] = {}

    def __len__(self) -> int:
        return len(self._active) + len(self.chunks)

    def send(
        self,
        target: str,
        frame: Frame,
        *,
        key: str,
        answers: bool,
        call: Call | None,
        parent: str | None = None,
        pins: Any = None,
    ) -> None:
        """Send *frame* whole or in pieces.

        Args:
            target: address of the receiver.
            frame: what to send.
            key: id of the message at the receiver, if it must be cut.
            answers: the frame answers call *key* of the receiver: each step restarts that call's clock.
            call: the call whose request this is, if any.
            parent: the receiver's session to which the frame, a callback, belongs.
            pins: kept alive until the frame has arrived.
        """
        if len(frame) <= self.whole:
            self.steps.send_whole(frame if isinstance(frame, bytes) else frame.join())
        elif self._takes_chunks(target, call):
            self.chunks.send(target, frame, call=call, answers=key if answers else None, parent=parent, pins=pins)
        else:
            self._send_in_steps(target, frame, key=key, answers=answers, call=call)

    def _takes_chunks(self, target: str, call: Call | None) -> bool:
        if self.chunks.pump is None:
            return False
        return self._core.levels.get(target, 0) >= LEVEL or (call is not None and call.level >= LEVEL)

    def _send_in_steps(self, target: str, frame: Frame, *, key: str, answers: bool, call: Call | None) -> None:
        transfer = ChunkedSend(self, target, frame, key=key, answers=answers, call=call)
        self._active[transfer.name] = transfer
        transfer.start()

    def watch(self, call_id: str, progress: Callable[[int, int], None]) -> None:
        """Tell *progress* how many bytes of the request of a call have been sent, of how many."""
        self.chunks.watch(call_id, progress)
        transfer = self._active.get(call_id)
        if transfer is not None:
            transfer.progress = progress

    def under_way(self, target: str, key: str) -> bool:
        """Whether the answer to call *key* of *target* is being sent in pieces."""
        return (target, key) in self._active or self.chunks.ask(target, key)

    def cancel_answer(self, target: str, key: str) -> None:
        """The answer to call *key* of *target* is not wanted any more."""
        self.chunks.cancel_answer(target, key)

    def send_otherwise(self, transfer: ChunkSend) -> None:
        """The receiver of *transfer* takes no chunks (`chunks_out.Owner`)."""
        key = transfer.call.id if transfer.call is not None else transfer.answers or self._core.new_id()
        answers = transfer.answers is not None
        self._send_in_steps(transfer.target, transfer.frame, key=key, answers=answers, call=transfer.call)

    def transferred(self, call: Call, error: BaseException | None) -> None:
        """A request sent as chunks has arrived, or never will (`chunks_out.Owner`)."""
        self.steps.transferred(call, error)

    def rejected(self, sender: str, key: str, extra: dict[str, Any]) -> None:
        """The transfer of chunks *key* was refused, by its receiver or by the server in its name."""
        values = extra.get("args")
        value = values[0] if isinstance(values, list) and values else None
        told = value.get("_rerr") if isinstance(value, dict) else None
        unfit = isinstance(told, dict) and told.get("type") == NO_CHUNKS
        try:
            value = self._core.decoder(sender, None).decode_arguments([value], "error")[0]
        except (SerializationError, PermissionError) as problem:
            value = problem
        error = value if isinstance(value, BaseException) else remote_error(str(value))
        self.chunks.rejected(sender, key, error, unfit=unfit)

    def abandon(self, key: str) -> None:
        """Nobody wants transfer *key* any more: stop, and let the receiver forget the pieces."""
        if self.chunks.abort_request(key):
            return
        transfer = self._active.pop(key, None)
        if transfer is not None:
            transfer.abandon()

    def ended(self, transfer: ChunkedSend, error: BaseException | None) -> None:
        """*transfer* is over."""
        if self._active.get(transfer.name) is transfer:
            del self._active[transfer.name]
        if transfer.call is not None:
            self.steps.transferred(transfer.call, error)

    def forget(self, target: str) -> None:
        """The receiver is gone, and the pieces with it."""
        self.chunks.forget(target)
        for name in [name for name, transfer in self._active.items() if transfer.target == target]:
            self._active.pop(name).over = True

    def link_down(self) -> None:
        """The connection is gone and the pieces with it."""
        self.chunks.link_down()
        self._clear_steps()

    def clear(self) -> None:
        """Forget everything."""
        self.chunks.clear()
        self._clear_steps()

    def _clear_steps(self) -> None:
        for transfer in self._active.values():
            transfer.over = True
        self._active.clear()


class ChunkedSend:
    """One frame under way in pieces; the `Waiter` of its own steps."""

    __slots__ = (
        "_answers",
        "_owner",
        "_pieces",
        "_stage",
        "_stored",
        "_unanswered",
        "call",
        "heard",
        "key",
        "name",
        "over",
        "progress",
        "size",
        "target",
    )

    def __init__(
        self, owner: Transfers, target: str, frame: Frame, *, key: str, answers: bool, call: Call | None
    ) -> None:
        self._owner = owner
        self.target = target
        self._pieces = enumerate(pieces(frame, owner.chunk_size))
        self._answers = answers
        self._unanswered = 0
        self._stored = 0
        self._stage = "create"
        self.key = key
        # The key of an answer is the caller's choice; two callers may choose the same.
        self.name = call.id if call is not None else (target, key)
        self.call = call
        self.heard = owner.steps.now()
        self.over = False
        self.size = len(frame)
        self.progress: Callable[[int, int], None] | None = None
        if call is not None:
            call.sent = False

    def start(self) -> None:
        """Send the first step."""
        self._step("create")

    def done(self) -> bool:
        """Whether nobody waits for this transfer any more (`Waiter`)."""
        return self.over

    def set_result(self, result: Any, /) -> None:
        """One step was answered (`Waiter`)."""
        self._unanswered -= 1
        self.heard = self._owner.steps.now()
        if self.call is not None:
            self.call.heard = self.heard
        if self._stage == "process":
            self._end(None)
            return
        if self._stage == "set":
            self._stored = min(self._stored + self._owner.chunk_size, self.size)
            if self.progress is not None:
                self.progress(self._stored, self.size)
        self._stage = "set"
        while self._unanswered < WINDOW and not self.over:
            index, piece = next(self._pieces, (-1, None))
            if piece is None:
                break
            self._step("set", index, bytes(piece))
        if self._unanswered == 0 and not self.over:
            self._stage = "process"
            self._step("process")

    def set_exception(self, exception: BaseException, /) -> None:
        """One step failed: the transfer ends (`Waiter`)."""
        if self._stage != "create":
            self._forget_pieces()
        self._end(exception)

    def abandon(self) -> None:
        """Stop sending and let the receiver forget the pieces."""
        if not self.over:
            self.over = True
            if self._stage != "process":
                # After that the receiver has taken them: an answer that overtakes the last step's ends the call.
                self._forget_pieces()

    def _forget_pieces(self) -> None:
        self._owner.steps.step(self.target, _METHOD + "remove", [self.key], _Nobody())

    def _step(self, name: str, *args: Any) -> None:
        self._unanswered += 1
        self._owner.steps.step(self.target, _METHOD + name, [self.key, *args, self._answers], self)

    def _end(self, error: BaseException | None) -> None:
        if not self.over:
            self.over = True
            self._owner.ended(self, error)


class _Nobody:
    """A waiter for answers that do not matter (removing what may be gone already)."""

    def done(self) -> bool:
        return True

    def set_result(self, result: Any, /) -> None:
        return None

    def set_exception(self, exception: BaseException, /) -> None:
        return None


class _Entry:
    """An incomplete message: its pieces, in memory or outside."""

    __slots__ = ("checked", "lot", "message", "outside", "places", "written")

    def __init__(self, message: PartialMessage, lot: Lot) -> None:
        self.checked = False
        self.message = message
        self.lot = lot
        self.outside: Area | None = None
        self.places: dict[int, tuple[int, int]] = {}
        self.written = 0


class MessageStore:
    """Incomplete messages at the receiver, by sender and key, within bounds.

    Args:
        options: bounds.
        storage: room for them.
    """

    def __init__(self, options: EndpointOptions, storage: Storage) -> None:
        self._options = options
        self._storage = storage
        self._messages: dict[tuple[str, str], _Entry] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def create(self, sender: str, key: str, *, overwrite: bool, own: bool, now: float) -> None:
        """Open message *key* of *sender*.

        Raises:
            ValueError: it exists, and *overwrite* is False.
            LimitExceeded: the sender has too many unfinished ones.
        """
        if (sender, key) in self._messages:
            if not overwrite:
                raise ValueError(
                    f"Message with the same key ({key}) already exists in the cache store, "
                    "please use overwrite=True or remove it first."
                )
            self._drop((sender, key))
        lot = self._storage.open(sender, own=own)
        self._messages[sender, key] = _Entry(PartialMessage(lot.limit, now), lot)

    def _get(self, sender: str, key: str) -> _Entry:
        entry = self._messages.get((sender, key))
        if entry is None:
            raise KeyError(f"Message with key {key} does not exists.")
        return entry

    def put(
        self, sender: str, key: str, index: int | None, piece: Any, now: float, *, check: Check | None = None
    ) -> None:
        """Add a piece, at *index* or behind the last one; what breaks a bound or is refused ends the message.

        Args:
            sender: its stamped address.
            key: of the message.
            index: where the piece belongs.
            piece: the piece.
            now: monotonic time in seconds.
            check: looks at the first piece: raises if the message would be refused, False if it cannot tell yet.
        """
        entry = self._get(sender, key)
        if not isinstance(piece, bytes):
            raise TypeError("a piece of a message must be binary")
        number = entry.message.count if index is None else index
        try:
            if check is None or number == 0:
                entry.checked = check is None or check(piece)
            entry.message.put(number, piece, now)
            if not entry.checked and entry.message.size > _UNCHECKED:
                raise LimitExceeded(f"the first piece has to come within {_UNCHECKED} bytes")
            self._settle(entry, number, piece)
        except (LimitExceeded, PermissionError):
            self.remove(sender, key)
            raise

    def _settle(self, entry: _Entry, number: int, piece: bytes) -> None:
        """Keep the piece in memory while there is room there, else outside (security S47)."""
        if self._storage.keep(entry.lot, len(piece)):
            return
        if entry.outside is None:
            entry.outside = self._storage.overflow()
        at, room = entry.places.get(number, (entry.written, 0))
        if len(piece) > room:
            at = entry.written
            # Replacing pieces by longer and longer ones must not fill the disk.
            if at + len(piece) > 2 * entry.lot.limit:
                raise LimitExceeded("the pieces of a message were replaced too often")
            entry.written += len(piece)
        entry.outside.write(at, piece)
        entry.places[number] = (at, len(piece))
        entry.message.move_out(number)

    def take(self, sender: str, key: str) -> bytes | memoryview:
        """Remove message *key* and return its bytes.

        Raises:
            KeyError: there is none.
            ValueError: a piece is missing.
            LimitExceeded: there is no room for it.
        """
        entry = self._get(sender, key)
        try:
            if entry.outside is None:
                return entry.message.join()
            return self._gather(entry)
        finally:
            self._drop((sender, key))

    def _gather(self, entry: _Entry) -> memoryview:
        """The message of which pieces lie outside, in one area."""
        area, outside, at = self._storage.reserve(entry.lot, entry.message.size), entry.outside, 0
        for number, piece in enumerate(entry.message.in_order()):
            if piece is None and outside is not None:
                piece = outside.read(*entry.places[number])
            if piece is not None:
                area.write(at, piece)
                at += len(piece)
        view = area.view()
        area.close()
        return view

    def remove(self, sender: str, key: str) -> None:
        """Forget message *key*.

        Raises:
            KeyError: there is none.
        """
        self._get(sender, key)
        self._drop((sender, key))

    def _drop(self, name: tuple[str, str]) -> None:
        entry = self._messages.pop(name)
        self._storage.close(entry.lot)
        if entry.outside is not None:
            entry.outside.close()

    def forget_sender(self, sender: str) -> None:
        """The sender is gone: free its pieces."""
        for name in [name for name in self._messages if name[0] == sender]:
            self._drop(name)

    def expire(self, now: float) -> None:
        """Free messages that have not grown for too long."""
        idle = self._options.partial_idle_s
        for name in [name for name, entry in self._messages.items() if now - entry.message.touched > idle]:
            self._drop(name)

    def clear(self) -> None:
        """Free everything."""
        for name in list(self._messages):
            self._drop(name)
