"""Big frames to peers of level 1, sent as chunks under credit (extensions §3): the sending half.

A frame is cut where it lies. Transfers take turns by the piece; the port asks for the
next piece when the transport holds less than one, so that everything else goes first.
What becomes of a broken transfer is told to `Owner`; answers are kept for a ``query``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from hypha_rpc.errors import CallTimeout
from hypha_rpc.wire.bulk import Frame, binary_head, pieces_of
from hypha_rpc.wire.frame import FrameWriter

if TYPE_CHECKING:
    from hypha_rpc.endpoint.calls import Call
    from hypha_rpc.endpoint.core import Core

__all__ = ["PIECE", "ChunkSend", "ChunksOut", "Owner"]

Buffer = bytes | bytearray | memoryview
Progress = Callable[[int, int], None]

PIECE: Final = 262_144
STARTING: Final = 512 * 1024
STARTING_ALL: Final = 4 * 1024 * 1024
KEEP_S: Final = 15.0
STALL_S: Final = 60.0
FIRST_CREDIT_S: Final = 5.0
PUBLIC_RATE: Final = 150.0
PUBLIC_BURST: Final = 30.0


class Owner(Protocol):
    """Who is told what becomes of a transfer."""

    def transferred(self, call: Call, error: BaseException | None) -> None:
        """The request of *call* has arrived as a whole, or never will."""

    def send_otherwise(self, transfer: ChunkSend) -> None:
        """The receiver takes no chunks: send the frame in another way."""


class ChunkSend:
    """One frame on its way.

    Attributes:
        key: K, a fresh id.
        target: the receiver.
        frame: its bytes.
        call: the call whose request this is, or None.
        answers: the receiver's call that this answers, or None.
        parent: the receiver's session the frame belongs to, or None.
        sent: bytes handed out.
        limit: the receiver takes bytes up to here.
        credited: it has said so.
        heard: when the transfer last got on.
        asked: the receiver has asked for this answer meanwhile.
        progress: told how much is sent.
        over: nothing more is sent.
        pins: kept alive until the frame has arrived.
    """

    __slots__ = (
        "answers",
        "asked",
        "call",
        "credited",
        "frame",
        "heard",
        "key",
        "limit",
        "over",
        "parent",
        "pins",
        "progress",
        "queued",
        "sent",
        "size",
        "target",
    )

    def __init__(self, key: str, target: str, frame: Frame, now: float) -> None:
        self.key = key
        self.target = target
        self.frame = frame
        self.size = len(frame)
        self.call: Call | None = None
        self.answers: str | None = None
        self.parent: str | None = None
        self.sent = 0
        self.limit = STARTING
        self.credited = False
        self.heard = now
        self.asked = False
        self.progress: Progress | None = None
        self.queued = False
        self.over = False
        self.pins: Any = None

    @property
    def patience(self) -> float:
        """Seconds without any progress after which it is given up."""
        return self.call.limit if self.call is not None else STALL_S


class ChunksOut:
    """The frames that are being sent as chunks.

    Args:
        core: the shared state.
        owner: told of the ends.

    Attributes:
        pump: asks the driver to call `next_piece`; None while the port cannot do that.
        piece: bytes of a piece.
    """

    def __init__(self, core: Core, owner: Owner) -> None:
        self._core = core
        self._owner = owner
        self._transfers: dict[str, ChunkSend] = {}
        self._turns: deque[ChunkSend] = deque()
        self._starting: dict[str, int] = {}
        self._kept: dict[tuple[str, str], tuple[ChunkSend, float]] = {}
        self._waiting: list[tuple[str, str, Callable[[], None]]] = []
        self.piece = min(core.options.chunk_size, PIECE)
        self._writer = FrameWriter()
        self._tokens = PUBLIC_BURST
        self._tokens_at = 0.0
        self.pump: Callable[[], None] | None = None
        # Looked at before every call and answer: empty nearly always.
        self.active = self._transfers

    def __len__(self) -> int:
        return len(self._transfers)

    # -- beginning -----------------------------------------------------------------

    def send(
        self,
        target: str,
        frame: Frame,
        *,
        call: Call | None = None,
        answers: str | None = None,
        parent: str | None = None,
        pins: Any = None,
    ) -> None:
        """Begin to send *frame*."""
        transfer = ChunkSend(self._core.new_id(), target, frame, self._core.now)
        transfer.call, transfer.answers, transfer.parent, transfer.pins = call, answers, parent, pins
        if call is not None:
            call.sent = False
        self._start(transfer)

    def _start(self, transfer: ChunkSend) -> None:
        self._transfers[transfer.key] = transfer
        self._queue(transfer)
        patience = transfer.patience if self._core.server_level else FIRST_CREDIT_S
        self._core.port.wake(self._core.now + patience)

    def _queue(self, transfer: ChunkSend) -> None:
        if not transfer.queued:
            transfer.queued = True
            self._turns.append(transfer)
        if self.pump is not None:
            self.pump()

    def watch(self, call_id: str, progress: Progress) -> None:
        """Tell *progress* how many bytes of the request of a call have been sent, of how many."""
        for transfer in self._transfers.values():
            if transfer.call is not None and transfer.call.id == call_id:
                transfer.progress = progress

    # -- pieces --------------------------------------------------------------------

    def next_piece(self) -> list[Buffer] | None:
        """The next frame to send, as buffers; None while nothing may be sent."""
        if not self._core.server_level and not self._may_send_to_public():
            return None
        for _ in range(len(self._turns)):
            transfer = self._turns.popleft()
            stop = self._reach(transfer)
            if transfer.over or stop <= transfer.sent:
                transfer.queued = False
                continue
            piece = self._cut(transfer, stop)
            if transfer.sent < transfer.size:
                self._turns.append(transfer)
            else:
                transfer.queued = False
            return piece
        return None

    def _reach(self, transfer: ChunkSend) -> int:
        """Up to where the next piece of *transfer* may go."""
        stop = min(transfer.sent + self.piece, transfer.limit, transfer.size)
        if transfer.credited:
            return stop
        if self._starting.get(transfer.target, 0) + stop - transfer.sent > STARTING_ALL:
            return 0
        if not self._core.server_level and stop == transfer.size:
            # The first credit shows that the receiver knows chunks at all (extensions §4).
            return 0
        return stop

    def _cut(self, transfer: ChunkSend, stop: int) -> list[Buffer]:
        at, core = transfer.sent, self._core
        transfer.sent, transfer.heard = stop, core.now
        if transfer.call is not None:
            transfer.call.heard = core.now
            # From the last piece on the call may have run.
            transfer.call.sent = stop == transfer.size
        if not transfer.credited:
            self._starting[transfer.target] = self._starting.get(transfer.target, 0) + stop - at
        header = {"type": "chunk", "to": transfer.target, "session": transfer.key, "at": at, "of": transfer.size}
        head = self._writer.write(header) + b"\x81\xa1b" + binary_head(stop - at)
        if transfer.progress is not None:
            transfer.progress(stop, transfer.size)
        return [head, *pieces_of(transfer.frame, at, stop)]

    def _may_send_to_public(self) -> bool:
        """Take one of the frames that a public server allows in a second; its limit ends connections."""
        now = self._core.now
        self._tokens = min(PUBLIC_BURST, self._tokens + (now - self._tokens_at) * PUBLIC_RATE)
        self._tokens_at = now
        if not self._turns:
            return False
        if self._tokens < 1:
            self._core.port.wake(now + (1 - self._tokens) / PUBLIC_RATE)
            return False
        self._tokens -= 1
        return True

    # -- what the receiver says ------------------------------------------------------

    def credit(self, sender: str, key: Any, upto: Any) -> None:
        """*sender* takes bytes of transfer *key* up to *upto*, or has all of them."""
        transfer = self._transfers.get(key) if isinstance(key, str) else None
        if transfer is None or transfer.target != sender or type(upto) is not int:
            return
        self._credited(transfer)
        transfer.heard = self._core.now
        if transfer.call is not None:
            transfer.call.heard = self._core.now
        if upto == transfer.size and transfer.sent == transfer.size:
            self._finish(transfer, None)
        elif upto > transfer.limit:
            transfer.limit = upto
            self._queue(transfer)

    def _credited(self, transfer: ChunkSend) -> None:
        """Its bytes no longer count as those of a transfer that is starting."""
        if transfer.credited:
            return
        transfer.credited = True
        left = self._starting.get(transfer.target, 0) - transfer.sent
        if left > 0:
            self._starting[transfer.target] = left
        else:
            self._starting.pop(transfer.target, None)
        # Others that wanted to start towards this target may do so now.
        for other in self._transfers.values():
            if other.target == transfer.target and other.sent < other.size:
                self._queue(other)

    def rejected(self, sender: str, key: str, error: BaseException, *, unfit: bool) -> bool:
        """Transfer *key* was refused on its way or by its receiver; nothing of it has run.

        Args:
            sender: in whose name.
            key: K.
            error: why.
            unfit: the receiver takes no chunks at all.

        Returns:
            Whether there is such a transfer.
        """
        transfer = self._transfers.get(key)
        if transfer is None or transfer.target != sender:
            return False
        if unfit:
            self._core.levels.pop(sender, None)
            self._drop(transfer)
            self._owner.send_otherwise(transfer)
        elif transfer.answers is not None and transfer.asked:
            self._drop(transfer)
            self._again(transfer)
        else:
            self._keep(transfer)
            self._finish(transfer, error)
        return True

    # -- ends ------------------------------------------------------------------------

    def _drop(self, transfer: ChunkSend) -> None:
        transfer.over = True
        self._transfers.pop(transfer.key, None)
        self._credited(transfer)

    def _finish(self, transfer: ChunkSend, error: BaseException | None) -> None:
        self._drop(transfer)
        if transfer.call is not None:
            self._owner.transferred(transfer.call, error)
        self._release(transfer)

    def _release(self, transfer: ChunkSend) -> None:
        """Send the answers that waited for callbacks which have arrived now."""
        if transfer.parent is None or self.busy_with(transfer.target, transfer.parent):
            return
        name = (transfer.target, transfer.parent)
        ready = [entry for entry in self._waiting if entry[:2] == name]
        self._waiting = [entry for entry in self._waiting if entry[:2] != name]
        for _, _, send in ready:
            send()

    def busy_with(self, target: str, parent: str) -> bool:
        """Whether a callback under call *parent* of *target* has not arrived yet: the answer must not overtake it."""
        return any(transfer.parent == parent and transfer.target == target for transfer in self._transfers.values())

    def after(self, target: str, parent: str, send: Callable[[], None]) -> None:
        """Call *send* when no callback under call *parent* of *target* is on its way any more."""
        self._waiting.append((target, parent, send))

    def abort(self, transfer: ChunkSend) -> None:
        """Nobody wants *transfer* any more: the receiver forgets the pieces, or cancels the call they made."""
        self._drop(transfer)
        if transfer.sent:
            self._core.send({"type": "chunk", "to": transfer.target, "session": transfer.key, "at": 0, "of": 0})
        self._release(transfer)

    def abort_request(self, call_id: str) -> bool:
        """Abort the request of a call; False when it is not being sent."""
        for transfer in list(self._transfers.values()):
            if transfer.call is not None and transfer.call.id == call_id:
                self.abort(transfer)
                return True
        return False

    # -- answers -----------------------------------------------------------------------

    def _answer(self, target: str, session: str) -> ChunkSend | None:
        for transfer in self._transfers.values():
            if transfer.answers == session and transfer.target == target:
                return transfer
        return None

    def cancel_answer(self, target: str, session: str) -> bool:
        """The answer to call *session* of *target* is not wanted any more; False when there is none."""
        transfer, kept = self._answer(target, session), self._kept.pop((target, session), None)
        if transfer is not None:
            self.abort(transfer)
        return transfer is not None or kept is not None

    def has_answer(self, target: str, session: str) -> bool:
        """Whether the answer to call *session* of *target* is on its way, or kept."""
        return (target, session) in self._kept or self._answer(target, session) is not None

    def ask(self, target: str, session: str) -> bool:
        """*target* asks for the answer to its call *session*: send it again if that was broken off.

        Returns:
            Whether there is one.
        """
        transfer = self._answer(target, session)
        if transfer is not None:
            transfer.asked = True
            return True
        kept = self._kept.pop((target, session), None)
        if kept is None:
            return False
        self._again(kept[0])
        return True

    def _again(self, broken: ChunkSend) -> None:
        self.send(broken.target, broken.frame, answers=broken.answers, pins=broken.pins)

    def _keep(self, transfer: ChunkSend) -> None:
        """Keep a broken answer for a while: its caller may come back and ask."""
        if transfer.answers is not None:
            self._kept[transfer.target, transfer.answers] = (transfer, self._core.now + KEEP_S)
            self._core.port.wake(self._core.now + KEEP_S)

    # -- losses, time --------------------------------------------------------------------

    def forget(self, target: str) -> None:
        """The receiver is gone, and the pieces with it; its calls are settled by others."""
        for transfer in [one for one in self._transfers.values() if one.target == target]:
            self._keep(transfer)
            self._drop(transfer)
        self._waiting = [entry for entry in self._waiting if entry[0] != target]

    def link_down(self) -> None:
        """Our connection is gone, and all pieces with it."""
        for transfer in list(self._transfers.values()):
            self._keep(transfer)
            self._drop(transfer)
        self._forget_state()

    def clear(self) -> None:
        """Forget everything."""
        for transfer in self._transfers.values():
            transfer.over = True
        self._transfers.clear()
        self._kept.clear()
        self._forget_state()

    def _forget_state(self) -> None:
        self._turns.clear()
        self._starting.clear()
        self._waiting.clear()

    def tick(self) -> None:
        """Give up what does not get on; forget answers that nobody asked for; go on where time was needed."""
        now = self._core.now
        for transfer in list(self._transfers.values()):
            if not self._core.server_level and not transfer.credited and now - transfer.heard >= FIRST_CREDIT_S:
                self.abort(transfer)
                self._owner.send_otherwise(transfer)
            elif now - transfer.heard > transfer.patience and not (transfer.call is not None and transfer.call.sent):
                # A call of which everything is on its way ends as any other.
                self._give_up(transfer)
        for name in [name for name, (_, until) in self._kept.items() if now >= until]:
            del self._kept[name]
        if self._turns and self.pump is not None:
            self.pump()

    def _give_up(self, transfer: ChunkSend) -> None:
        self.abort(transfer)
        if transfer.call is not None:
            text = f"Method call timed out: {transfer.target}:{transfer.call.method}, context: its arguments got stuck"
            error = CallTimeout(text, peer=transfer.target, may_have_run=False)
            self._owner.transferred(transfer.call, error)

    def next_tick(self) -> float | None:
        """When `tick` is wanted, or None."""
        wishes = [until for _, until in self._kept.values()]
        for transfer in self._transfers.values():
            if transfer.call is not None and transfer.call.sent:
                continue
            patience = transfer.patience
            if not self._core.server_level and not transfer.credited:
                patience = FIRST_CREDIT_S
            wishes.append(transfer.heard + patience)
        if self._turns and not self._core.server_level:
            wishes.append(self._core.now + 1 / PUBLIC_RATE)
        return min(wishes, default=None)
