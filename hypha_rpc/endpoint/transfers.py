"""Big frames through the receiver's ``message_cache`` (protocol §5), both ends.

The sender is a small state machine that is its own `Waiter`: create, then pieces
with at most `WINDOW` unanswered, then process. Direct method ids are used; every
current peer has them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from hypha_rpc.errors import LimitExceeded, MessageTooLarge
from hypha_rpc.wire.chunks import PartialMessage, pieces, slack

if TYPE_CHECKING:
    from hypha_rpc.endpoint.calls import Call
    from hypha_rpc.endpoint.options import EndpointOptions

__all__ = ["ChunkedSend", "MessageStore", "Steps", "Transfers"]

WINDOW: Final = 30
_METHOD: Final = "services.built-in.message_cache."


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

    def __init__(self, steps: Steps, chunk_size: int) -> None:
        self.steps = steps
        self.chunk_size = chunk_size
        self.whole = chunk_size + slack
        self._active: dict[str | tuple[str, str], ChunkedSend] = {}

    def __len__(self) -> int:
        return len(self._active)

    def send(self, target: str, frame: bytes, *, key: str, answers: bool, call: Call | None) -> None:
        """Send *frame* whole or in pieces.

        Args:
            target: address of the receiver.
            frame: what to send.
            key: id of the message at the receiver, if it must be cut.
            answers: the frame answers call *key* of the receiver: each step restarts that call's clock.
            call: the call whose request this is, if any.
        """
        if len(frame) <= self.whole:
            self.steps.send_whole(frame)
            return
        transfer = ChunkedSend(self, target, frame, key=key, answers=answers, call=call)
        self._active[transfer.name] = transfer
        transfer.start()

    def under_way(self, target: str, key: str) -> bool:
        """Whether the answer to call *key* of *target* is being sent in pieces."""
        return (target, key) in self._active

    def abandon(self, key: str) -> None:
        """Nobody wants transfer *key* any more: stop, and let the receiver forget the pieces."""
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
        for name in [name for name, transfer in self._active.items() if transfer.target == target]:
            self._active.pop(name).over = True

    def clear(self) -> None:
        """The connection is gone and the pieces with it."""
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
        "_unanswered",
        "call",
        "heard",
        "key",
        "name",
        "over",
        "target",
    )

    def __init__(
        self, owner: Transfers, target: str, frame: bytes, *, key: str, answers: bool, call: Call | None
    ) -> None:
        self._owner = owner
        self.target = target
        self._pieces = enumerate(pieces(frame, owner.chunk_size))
        self._answers = answers
        self._unanswered = 0
        self._stage = "create"
        self.key = key
        # The key of an answer is the caller's choice; two callers may choose the same.
        self.name = call.id if call is not None else (target, key)
        self.call = call
        self.heard = owner.steps.now()
        self.over = False
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


class MessageStore:
    """Incomplete messages at the receiver, by sender and key, within bounds."""

    def __init__(self, options: EndpointOptions) -> None:
        self._options = options
        self._messages: dict[tuple[str, str], PartialMessage] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def create(self, sender: str, key: str, *, overwrite: bool, own: bool, now: float) -> None:
        """Open message *key* of *sender*.

        Raises:
            ValueError: it exists, and *overwrite* is False.
            LimitExceeded: the sender has too many unfinished ones.
        """
        if (sender, key) in self._messages and not overwrite:
            raise ValueError(
                f"Message with the same key ({key}) already exists in the cache store, "
                "please use overwrite=True or remove it first."
            )
        others = sum(1 for owner, other in self._messages if owner == sender and other != key)
        if others >= self._options.max_partial_per_sender:
            raise LimitExceeded("too many incomplete messages")
        limit = self._options.max_partial_own if own else self._options.max_partial_abroad
        self._messages[sender, key] = PartialMessage(limit, now)

    def get(self, sender: str, key: str) -> PartialMessage:
        """The open message *key* of *sender*.

        Raises:
            KeyError: there is none.
        """
        message = self._messages.get((sender, key))
        if message is None:
            raise KeyError(f"Message with key {key} does not exists.")
        return message

    def put(self, sender: str, key: str, index: int | None, piece: Any, now: float) -> None:
        """Add a piece, at *index* or behind the last one; what breaks a bound ends the message."""
        message = self.get(sender, key)
        if not isinstance(piece, bytes):
            raise TypeError("a piece of a message must be binary")
        try:
            if index is None:
                message.append(piece, now)
            else:
                message.put(index, piece, now)
        except MessageTooLarge:
            self.remove(sender, key)
            raise

    def take(self, sender: str, key: str) -> bytes:
        """Remove message *key* and return its bytes."""
        message = self.get(sender, key)
        del self._messages[sender, key]
        return message.join()

    def remove(self, sender: str, key: str) -> None:
        """Forget message *key*.

        Raises:
            KeyError: there is none.
        """
        self.get(sender, key)
        del self._messages[sender, key]

    def forget_sender(self, sender: str) -> None:
        """The sender is gone: free its pieces."""
        for entry in [entry for entry in self._messages if entry[0] == sender]:
            del self._messages[entry]

    def expire(self, now: float) -> None:
        """Free messages that have not grown for too long."""
        idle = self._options.partial_idle_s
        for entry in [entry for entry, message in self._messages.items() if now - message.touched > idle]:
            del self._messages[entry]

    def clear(self) -> None:
        """Free everything."""
        self._messages.clear()
