"""The endpoint: what arrives, what is called, what is answered, what time does.

Ties the two halves together. Everything it learns comes in through `receive`,
`call`, `reply`, `fail`, `track`, `tick` and the news about peers and links;
everything it does goes out through its `Port` and the callers' `Waiter`s.

The receiver reads identity from segment 1 only and builds contexts itself
(protocol §2.5, security S2); a method runs at most once a call; every pending
call settles by answer, by the loss of its target or link, or by silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from hypha_rpc.endpoint.bigs import BigFrames
from hypha_rpc.endpoint.callee import Callee
from hypha_rpc.endpoint.caller import Caller
from hypha_rpc.endpoint.core import Core
from hypha_rpc.endpoint.exports import ExportTable
from hypha_rpc.endpoint.leases import MAX_IDS, LeaseKey
from hypha_rpc.endpoint.options import LEVEL, EndpointOptions
from hypha_rpc.endpoint.ports import Port, Reference, Sealer, Waiter
from hypha_rpc.endpoint.running import Running
from hypha_rpc.wire.frame import FrameError, FrameReader, read_assembled, read_extra, read_header
from hypha_rpc.wire.limits import MAX_ROUTING_TEXT
from hypha_rpc.wire.values import FormTable

__all__ = ["Endpoint"]

_SWEEP_S: Final = 60.0
_REDIAL_GRACE_S: Final = 2.0
_ANSWERS: Final = frozenset({"resolve", "reject", "heartbeat"})

Buffer = bytes | bytearray | memoryview
ReadExtra = Callable[[Buffer, int], dict[str, Any]]


class Endpoint:
    """One client (or the manager) as the wire sees it.

    Args:
        port: the driver.
        address: own absolute address, ``workspace/client``.
        id_prefix: at least 96 random bits as text without ``.``; session ids begin with it (security S3).
        forms: wire forms; the shared default if not given.
        options: limits and hooks.
        server_url: the server's public URL, for ``_rserver``.
        sealer: the keys, if this client encrypts.
    """

    def __init__(
        self,
        port: Port,
        address: str,
        id_prefix: str,
        *,
        forms: FormTable | None = None,
        options: EndpointOptions | None = None,
        server_url: str | None = None,
        sealer: Sealer | None = None,
    ) -> None:
        self.core = Core(port, address, id_prefix, forms=forms, options=options, server_url=server_url, sealer=sealer)
        self.caller = Caller(self.core)
        self.callee = Callee(self.core, self.caller.transfers)
        self.callee.offer_builtin(self)
        self.big = BigFrames(self)
        self._read = FrameReader().read
        self._swept = 0.0
        self._paused = False
        self._query_at: float | None = None

    @property
    def address(self) -> str:
        """Own absolute address."""
        return self.core.address

    @property
    def exports(self) -> ExportTable:
        """What others may call here."""
        return self.core.exports

    @property
    def closed(self) -> BaseException | None:
        """Why the conversation has ended, or None."""
        return self.core.closed

    # -- calls out ---------------------------------------------------------------

    def call(
        self,
        reference: Reference,
        args: Sequence[Any],
        kwargs: dict[str, Any] | None,
        waiter: Waiter,
        now: float,
        *,
        silence_s: float | None = None,
        deadline: float | None = None,
    ) -> str | None:
        """Call a function of a peer; *waiter* gets the outcome.

        Args:
            reference: what to call.
            args: positional arguments.
            kwargs: keyword arguments.
            waiter: settled exactly once (for fire and forget: at once, with None).
            now: monotonic time in seconds.
            silence_s: longest silence; default by the options and the kind of method.
            deadline: when the call fails even if its callee is alive; the callee is told and stops.

        Returns:
            The id for `abandon`, or None when nothing is pending.

        Raises:
            SerializationError: an argument has no wire form; nothing was sent, nothing is left.
            TooManyPending: `EndpointOptions.max_pending` is reached.
            ConnectionLost: the endpoint is closed.
            DeadlineExceeded: *deadline* has passed already; nothing was sent.
        """
        self.core.now = now
        return self.caller.call(reference, args, kwargs, waiter, silence_s, deadline)

    def abandon(self, call_id: str) -> None:
        """Nobody waits for call *call_id* any more; a callee of level 1 is told to stop."""
        self.caller.abandon(call_id)

    def release(self, keys: Sequence[LeaseKey], now: float) -> None:
        """References to things held here have gone (`Port.unused`)."""
        self.core.now = now
        self.core.holdings.ended(keys)

    def dispose(self, reference: Reference, now: float) -> None:
        """Let go of what *reference* names at once; its owner withdraws it."""
        self.core.now = now
        if reference.lease is not None:
            self.core.holdings.give_up(reference.lease.key)

    # -- answers -----------------------------------------------------------------

    def track(self, job: Running, now: float) -> None:
        """The function of *job* goes on: give signs of life until it is answered."""
        self.core.now = now
        self.callee.track(job)

    def reply(self, job: Running, value: Any, now: float) -> None:
        """Answer *job* with a result; one that has no wire form becomes a rejection."""
        self.core.now = now
        self.callee.reply(job, value)

    def prepare(self, value: Any) -> bytes:
        """Pack a plain result once, for `reply_prepared` to send many times.

        Raises:
            SerializationError: it cannot be packed.
        """
        return self.callee.prepare(value)

    def reply_prepared(self, job: Running, prepared: bytes, now: float) -> None:
        """Answer *job* with what `prepare` returned."""
        self.core.now = now
        self.callee.reply_prepared(job, prepared)

    def fail(self, job: Running, error: BaseException, now: float) -> None:
        """Answer *job* with an error."""
        self.core.now = now
        self.callee.fail(job, error)

    # -- big frames ----------------------------------------------------------------

    def next_piece(self, now: float) -> list[Buffer] | None:
        """The next piece of a big frame, as the buffers of one frame to send; None while there is none.

        The driver asks when the transport holds less than one piece (`chunks_out.ChunksOut.pump`).
        """
        self.core.now = now
        return self.big.outgoing.next_piece()

    def watch(self, call_id: str, progress: Callable[[int, int], None]) -> None:
        """Tell *progress* how many bytes of the request of a call, then of its answer, have gone, of how many.

        Only what is too big for one frame is told about. Ends with `unwatch`.
        """
        self.caller.transfers.watch(call_id, progress)
        self.big.incoming.watch(call_id, progress)

    def unwatch(self, call_id: str) -> None:
        """Nobody looks at the progress of call *call_id* any more."""
        self.big.incoming.unwatch(call_id)

    # -- frames in ---------------------------------------------------------------

    def receive(self, data: Buffer, now: float) -> None:
        """Take one frame; *data* is not kept.

        Never raises for what a peer sent: a call that cannot be understood is
        rejected, anything else is reported to the port and dropped (security S43).
        """
        core = self.core
        core.now = now
        if core.closed is not None:
            return
        try:
            header, offset, extra = self._read(data)
            if header.get("type") == "method":
                self._method(header, data, offset, extra)
            else:
                self._other(header, data, offset)
        except FrameError as error:
            core.port.dropped(str(error))

    def check_first(self, piece: bytes, context: Mapping[str, Any]) -> bool:
        """Whether the message that *piece* begins may be; raises what it would be refused with (`BigFrames`)."""
        return self.big.check_first(piece, context)

    def receive_assembled(self, data: bytes | memoryview, context: Mapping[str, Any]) -> None:
        """Take a frame that came in pieces; it has the identity of who completed it (protocol §5).

        Raises:
            FrameError: the pieces are no frame.
        """
        header, offset = read_header(data)
        for name in ("from", "to", "ws", "user"):
            header.pop(name, None)
            if name in context:
                header[name] = context[name]
        if header.get("type") == "method":
            self._method(header, data, offset, None, read_assembled)
        else:
            self._other(header, data, offset)

    def _method(
        self,
        header: dict[str, Any],
        data: Buffer,
        offset: int,
        extra: dict[str, Any] | None,
        read_extra: ReadExtra = read_extra,
    ) -> None:
        """A call, or the answer to one."""
        method, sender = header.get("method"), header.get("from")
        if not isinstance(method, str) or not isinstance(sender, str):
            self.core.port.dropped("a call without method or sender")
            return
        session, _, name = method.partition(".")
        if name in _ANSWERS:
            call = self.caller.calls.get(session)
            if call is not None:
                if extra is None:
                    try:
                        extra = read_extra(data, offset) if offset < len(data) else header
                    except FrameError as error:
                        self.caller.unreadable(call, sender, error)
                        return
                self.caller.answer(call, name, sender, extra)
                return
            if session.startswith(self.core.id_prefix):
                if offset < len(data):
                    self._late(sender, session, name, read_extra(data, offset))
                return
        if extra is None:
            try:
                extra = read_extra(data, offset) if offset < len(data) else header
            except FrameError as error:
                self.callee.refuse_unread(header, sender, error)
                return
        self.callee.serve(method, sender, header, extra)

    def _late(self, sender: str, session: str, name: str, extra: dict[str, Any]) -> None:
        """An answer to nobody is normal (protocol §4.3); what is in it is let go, or it ends a transfer."""
        if name == "reject" and self.big.outgoing.active:
            self.caller.transfers.rejected(sender, session, extra)
        self.caller.late(sender, extra)

    def _other(self, header: dict[str, Any], data: Buffer, offset: int) -> None:
        """A frame of extensions §3, or an event."""
        kind, sender = header.get("type"), header.get("from")
        if kind in ("cancel", "query"):
            session = header.get("session")
            if isinstance(sender, str) and isinstance(session, str):
                self.callee.cancel(sender, session) if kind == "cancel" else self.callee.query(sender, session)
        elif kind in ("chunk", "credit"):
            self.big.receive(header, data, offset)
        elif kind in ("release", "lease"):
            ids = read_extra(data, offset).get("ids")
            if isinstance(sender, str) and isinstance(ids, list) and len(ids) <= MAX_IDS:
                self.callee.release(sender, ids) if kind == "release" else self.callee.renew(sender, ids)
        elif isinstance(kind, str) and len(kind) <= MAX_ROUTING_TEXT:
            self.core.port.event(header, read_extra(data, offset) if offset < len(data) else header)
        else:
            self.core.port.dropped("a frame without a type")

    # -- time, peers, links ------------------------------------------------------

    def tick(self, now: float) -> float | None:
        """Let time pass: expire silent calls, send heartbeats that are due, sweep.

        Returns:
            When the next tick is wanted, or None while nothing is pending.
        """
        core = self.core
        core.now = now
        self.caller.next_wake = float("inf")
        self.caller.expire(silence=not self._paused)
        self.callee.beat()
        if not self._paused:
            core.holdings.tick(now)
        if now >= core.exports.next_doom():
            self._expire_exports(now)
        if self._query_at is not None and now >= self._query_at:
            self._query_at = None
            self.caller.query()
        if not self._paused:
            self.big.outgoing.tick()
            self.big.incoming.expire()
        if now - self._swept >= _SWEEP_S:
            self._swept = now
            self._expire_exports(now)
            core.forget_levels()
            self.callee.messages.expire(now)
        return self._next_tick()

    def _expire_exports(self, now: float) -> None:
        """Withdraw what nobody holds any more."""
        core = self.core
        life_s = core.options.session_life_s
        core.exports.expire_sessions(now, life_s)
        for service in core.exports.interfaces():
            idle = core.levels.get(service.allowed_caller or "", 0) >= LEVEL and now - service.used > life_s
            if idle or now >= service.doomed_at:
                self.callee.dispose_of(service)

    def _next_tick(self) -> float | None:
        # While the link is down nothing expires: a wish in the past would come back at once, for ever.
        expires = self.caller.calls.earliest(silence=not self._paused)
        renew = None if self._paused else self.core.holdings.next_tick()
        big = (None, None) if self._paused else (self.big.outgoing.next_tick(), self.big.incoming.next_tick())
        wishes = [at for at in (expires, renew, self._query_at, *big) if at is not None]
        wishes.append(self.core.exports.next_doom())
        wishes.extend(job.next_event() for job in self.callee.running)
        if self.core.exports.sessions or len(self.callee.messages) or self.core.exports.interfaces():
            wishes.append(self._swept + _SWEEP_S)
        earliest = min(wishes, default=float("inf"))
        self.caller.next_wake = earliest
        return earliest if earliest != float("inf") else None

    def peer_gone(self, address: str, now: float, *, may_resume: bool = False) -> int:
        """A client has left: settle what waits for it, doom what runs for it, forget what it sent or holds.

        Args:
            address: the client.
            now: monotonic time in seconds.
            may_resume: its link broke without a good-bye, so it may be back in a moment; what it
                holds lives on for `EndpointOptions.orphan_grace_s` (extensions §3).

        Returns:
            How many sessions were closed, or will be.
        """
        core = self.core
        core.now = now
        level = core.levels.pop(address, 0)
        may_resume = may_resume and level >= LEVEL
        self.caller.peer_gone(address)
        self.callee.peer_gone(address, may_resume=may_resume)
        self.big.incoming.forget_sender(address)
        if not may_resume:
            return core.exports.close_sessions_of(address)
        at = now + core.options.orphan_grace_s
        core.port.wake(at)
        return core.exports.doom(address, at)

    def peer_resumed(self, address: str) -> None:
        """A lost client is back before its grace ended: what runs for it goes on, what it holds lives on."""
        self.callee.peer_resumed(address)
        self.core.exports.doom(address, float("inf"))

    def link_down(self, now: float) -> None:
        """Our connection broke: the silence clock stands, unfinished transfers fail (extensions §3)."""
        self.core.now = now
        self._paused = True
        self.callee.messages.clear()
        self.big.incoming.clear()
        self.caller.link_down()

    def link_up(self, now: float, *, resumed: bool) -> None:
        """Our connection is back; answers that were kept for us have been delivered already if *resumed*."""
        self.core.now = now
        self._paused = False
        self.caller.calls.restart_clocks(now)
        if not resumed:
            self.caller.manager_lost()
        if len(self.caller.calls):
            self._query_at = now if resumed else now + _REDIAL_GRACE_S
            self.core.port.wake(self._query_at)

    def close(self, error: BaseException) -> None:
        """End of the conversation: every pending call fails with *error*, everything is forgotten."""
        core = self.core
        if core.closed is not None:
            return
        core.closed = error
        self.caller.close(error)
        self.callee.close()
        self.big.incoming.clear()
        core.exports.clear()
        core.holdings.clear()
        core.levels.clear()

    def stats(self) -> dict[str, int]:
        """Sizes of every table; all zero but ``services`` when nothing is under way."""
        return {
            "calls": len(self.caller.calls),
            "running": len(self.callee.running),
            "services": len(self.exports.services),
            "sessions": len(self.exports.sessions),
            "held": len(self.core.holdings),
            "partial_messages": len(self.callee.messages) + len(self.big.incoming),
            "transfers": len(self.caller.transfers),
        }
