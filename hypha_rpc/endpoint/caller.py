"""The calling half: requests out, answers in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypha_rpc.endpoint.calls import Call, CallTable
from hypha_rpc.endpoint.core import Core
from hypha_rpc.endpoint.options import LEVEL
from hypha_rpc.endpoint.ports import Reference, Waiter
from hypha_rpc.endpoint.references import Outgoing
from hypha_rpc.endpoint.sealed import ENVELOPE, SealedCall, open_payload, sealed_frame
from hypha_rpc.endpoint.transfers import ChunkedSend, Transfers
from hypha_rpc.errors import (
    CallTimeout,
    ConnectionLost,
    DeadlineExceeded,
    PeerGone,
    SerializationError,
    TooManyPending,
)
from hypha_rpc.wire.bulk import Frame
from hypha_rpc.wire.forms.errors import remote_error
from hypha_rpc.wire.frame import FrameError
from hypha_rpc.wire.sealing import SealingError
from hypha_rpc.wire.values import ATOMS, is_plain

__all__ = ["Caller"]


class Caller:
    """Makes calls and settles them."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.calls = CallTable()
        self.transfers = Transfers(self, core)
        self.next_wake = float("inf")

    def call(  # noqa: C901, PLR0912, PLR0915, PLR0917 - in one piece: every further Python call costs a microsecond of latency
        self,
        reference: Reference,
        args: Sequence[Any],
        kwargs: dict[str, Any] | None,
        waiter: Waiter,
        silence_s: float | None,
        deadline: float | None,
    ) -> str | None:
        """See `Endpoint.call`."""
        core = self._core
        if core.closed is not None:
            raise ConnectionLost("Connection is closed")
        if len(self.calls) >= core.options.max_pending:
            raise TooManyPending(f"{len(self.calls)} calls are unanswered")
        target, method, promise, parent, level, _, _, key = reference
        if silence_s is None:
            silence_s = core.options.rintf_timeout_s if "_rintf_" in method else core.options.method_timeout_s
        call_id = core.new_id()
        values: list[Any] = [*args, kwargs] if kwargs else list(args)
        header: dict[str, Any] = {"type": "method", "to": target, "method": method}
        if promise:
            header["session"] = call_id
        if parent is not None:
            header["parent"] = parent
        if promise == "*":
            extra: dict[str, Any] = {"promise": "*", "t": silence_s / 2, "x": LEVEL}
        else:
            extra = self._rare_promise(promise, call_id, silence_s)
        if kwargs:
            extra["with_kwargs"] = True
        if deadline is not None:
            extra["d"] = self._left(reference, deadline)
        if key is not None:
            frame: Frame = self._encoded(header, values, extra, call_id, key)
        elif not values:
            frame = core.compose(header, extra, values)
        elif is_plain(values):
            extra["args"] = values
            frame = core.compose(header, extra, values)
        else:
            frame = self._encoded(header, values, extra, call_id)
        if not promise:
            self.transfers.send(target, frame, key=call_id, answers=False, call=None, parent=parent, pins=values)
            waiter.set_result(None)
            return None
        call = Call(call_id, target, method, waiter, silence_s, core.now)
        if key is not None:
            call = SealedCall(call, key)
        call.level = level
        if deadline is not None:
            call.deadline = deadline
        self.calls.add(call)
        if type(frame) is bytes and len(frame) <= self.transfers.whole:
            core.port.send(frame)
        else:
            self.transfers.send(target, frame, key=call_id, answers=False, call=call, parent=parent, pins=values)
        expires = core.now + silence_s
        if deadline is not None and deadline < expires:
            expires = deadline
        if expires < self.next_wake:
            self.next_wake = expires
            core.port.wake(expires)
        return call_id

    def _left(self, reference: Reference, deadline: float) -> float:
        """Seconds until *deadline*.

        Raises:
            DeadlineExceeded: there are none; nothing was sent.
        """
        left = deadline - self._core.now
        if left <= 0:
            text = f"Method call timed out: {reference.target}:{reference.method}, context: the deadline had passed"
            raise DeadlineExceeded(text, peer=reference.target, method=reference.method, may_have_run=False)
        return left

    def _rare_promise(self, promise: Any, call_id: str, silence_s: float) -> dict[str, Any]:
        """The explicit promise, or none (protocol §4.3)."""
        if not promise:
            return {"x": LEVEL}
        answers: dict[str, Any] = {"interval": silence_s / 2}
        for name in ("resolve", "reject", "heartbeat"):
            reference = {"_rtype": "method", "_rtarget": self._core.address, "_rpromise": False}
            answers[name] = {**reference, "_rmethod": f"{call_id}.{name}"}
        return {"promise": answers, "x": LEVEL}

    def _encoded(
        self, header: dict[str, Any], values: list[Any], extra: dict[str, Any], call_id: str, key: bytes | None = None
    ) -> Frame:
        """A request whose values are not plain; what they export is withdrawn if it cannot be packed."""
        core = self._core
        exporter = Outgoing(core, call_id, header["to"], me=core.address, keeps="session" not in header, key=key)
        try:
            extra["args"] = core.encode(values, exporter, "args")
            return core.compose(header, extra, values) if key is None else sealed_frame(core, header, extra, key)
        except BaseException:
            exporter.discard()
            raise

    def abandon(self, call_id: str) -> None:
        """Nobody waits for call *call_id* any more; a callee of level 1 is told to stop."""
        call = self.calls.pop(call_id)
        if call is None:
            return
        self._end(call)
        if self._knows_extensions(call):
            self._core.send({"type": "cancel", "to": call.target, "session": call.id})

    def answer(self, call: Call, name: str, sender: str, extra: dict[str, Any]) -> None:
        """A ``resolve``, ``reject`` or ``heartbeat`` for *call* arrived from *sender*."""
        core = self._core
        if sender != call.target:
            core.port.dropped("an answer from somebody else than the callee")
            return
        if name == "heartbeat":
            call.heard = core.now
            return
        self.calls.take(call.id)
        try:
            self._settle(call, name, sender, extra)
        finally:
            # After decoding: a callback that the result hands back is still known, and is the function itself.
            if core.exports.sessions or not call.sent:
                self._end(call)

    def _settle(self, call: Call, name: str, sender: str, extra: dict[str, Any]) -> None:
        """Give the waiter of *call* what the answer holds."""
        core = self._core
        if call.key is not None or ENVELOPE in extra:
            opened = self._opened(call, name, extra)
            if opened is None:
                return
            extra = opened
        if "x" in extra:
            core.levels[sender] = LEVEL
        if call.waiter.done():
            core.holdings.refuse(sender, extra.get("args"))
            return
        values = extra.get("args")
        value = values[0] if isinstance(values, list) and values else None
        if type(value) not in ATOMS:
            try:
                root = "result" if name == "resolve" else "error"
                value = core.decoder(sender, None, call.key).decode_arguments([value], root)[0]
            except (SerializationError, PermissionError) as error:
                core.holdings.refuse(sender, values)
                call.waiter.set_exception(error)
                return
        if name == "resolve":
            call.waiter.set_result(value)
        else:
            call.waiter.set_exception(_as_error(value, call))

    def _opened(self, call: Call, name: str, extra: dict[str, Any]) -> dict[str, Any] | None:
        """The payload of an answer to *call*; None when it is not to be trusted: then the call has failed.

        The result of an encrypted call must be encrypted by its callee. An error need not be: it may come from the
        switch, or from a callee that could not open the request.
        """
        core, error = self._core, ""
        if ENVELOPE in extra:
            header = {"from": call.target, "to": core.address, "method": f"{call.id}.{name}"}
            try:
                opened, key = open_payload(core, header, extra)
                if call.key in (None, key):
                    return opened
                error = "it was encrypted with another key"
            except (SealingError, FrameError) as reason:
                error = str(reason)
        elif name == "reject":
            return extra
        else:
            error = "it is not encrypted"
        if not call.waiter.done():
            text = f"The answer to the encrypted call of {call.target}:{call.method} is refused: {error}"
            call.waiter.set_exception(SealingError(text))
        return None

    def unreadable(self, call: Call, sender: str, error: Exception) -> None:
        """An answer for *call* arrived from *sender* whose payload makes no sense: there will be no other."""
        if sender != call.target:
            self._core.port.dropped("an answer from somebody else than the callee")
            return
        self.calls.pop(call.id)
        self._end(call)
        if not call.waiter.done():
            call.waiter.set_exception(error)

    def peer_gone(self, address: str) -> None:
        """The calls to *address* fail."""
        self.transfers.forget(address)
        self._fail(self.calls.of_peer(address), f"Client disconnected: {address}")

    def link_down(self) -> None:
        """Requests that were being sent in pieces never arrive; their methods did not run."""
        self.transfers.link_down()
        for call in self.calls:
            if call.waiter.done():
                # A step of a transfer that was just given up.
                self.calls.pop(call.id)
        broken = [call for call in self.calls if not call.sent]
        for call in broken:
            self.calls.pop(call.id)
        self._fail(broken, "Connection lost while the arguments were being sent", may_have_run=False)

    def manager_lost(self) -> None:
        """The server was lost without keeping our answers: its own calls fail."""
        self._fail(self.calls.of_manager(), "Connection to the server was lost during the call")

    def query(self) -> None:
        """Ask the callees of pending calls what became of them (extensions §3)."""
        for call in self.calls:
            if call.sent and self._knows_extensions(call):
                self._core.send({"type": "query", "to": call.target, "session": call.id})

    def late(self, sender: str, extra: dict[str, Any]) -> None:
        """An answer that nobody waits for any more: what it would keep alive for us is let go."""
        self._core.holdings.refuse(sender, extra.get("args"))

    def expire(self, *, silence: bool) -> None:
        """Settle the calls whose deadline has passed and, if *silence* counts, those whose callee is silent."""
        for call in self.calls.overdue(self._core.now):
            self._end(call)
            text = f"Method call timed out: {call.target}:{call.method}, context: the deadline of the call has passed"
            if not call.waiter.done():
                call.waiter.set_exception(
                    DeadlineExceeded(
                        text, peer=call.target, method=call.method, call_id=call.id, may_have_run=call.sent
                    )
                )
        for call in self.calls.expired(self._core.now) if silence else ():
            if isinstance(call.waiter, ChunkedSend) and self._core.now - call.waiter.heard <= call.limit:
                # On a slow link a piece waits for those before it; while they arrive nobody is silent.
                call.heard = call.waiter.heard
                self.calls.add(call)
                continue
            self._end(call)
            text = f"Method call timed out: {call.target}:{call.method}, context: silent for {call.limit:g} s"
            if not call.waiter.done():
                call.waiter.set_exception(CallTimeout(text, peer=call.target, method=call.method, call_id=call.id))

    def close(self, error: BaseException) -> None:
        """Fail everything with *error*."""
        self.transfers.clear()
        for call in self.calls.all():
            if not call.waiter.done():
                call.waiter.set_exception(error)

    def step(self, target: str, method: str, args: list[Any], waiter: Any) -> None:
        """Make one call of a transfer; its arguments are natives (`transfers.Steps`)."""
        core = self._core
        if core.closed is not None:
            return
        call_id, silence_s = core.new_id(), core.options.method_timeout_s
        self.calls.add(Call(call_id, target, method, waiter, silence_s, core.now))
        header = {"type": "method", "to": target, "method": method, "session": call_id}
        core.send(header, {"args": args, "promise": "*", "t": silence_s / 2, "x": LEVEL})
        core.port.wake(core.now + silence_s)

    def transferred(self, call: Call, error: BaseException | None) -> None:
        """The request of *call* has arrived in pieces, or could not be sent (`transfers.Steps`)."""
        call.sent, call.heard = True, self._core.now
        if error is not None and self.calls.pop(call.id) is not None:
            self._end(call)
            if not call.waiter.done():
                call.waiter.set_exception(error)

    def send_whole(self, frame: bytes) -> None:
        """Send a frame as it is (`transfers.Steps`)."""
        self._core.port.send(frame)

    def now(self) -> float:
        """The time of the current input (`transfers.Steps`)."""
        return self._core.now

    def _knows_extensions(self, call: Call) -> bool:
        return call.level >= 1 or self._core.levels.get(call.target, 0) >= 1

    def _end(self, call: Call) -> None:
        """What a call leaves behind goes with it: its callbacks, its unfinished transfer."""
        if self._core.exports.sessions:
            self._core.exports.close_session(call.id)
        if not call.sent or self.transfers.chunks.active:
            self.transfers.abandon(call.id)

    def _fail(self, calls: list[Call], text: str, *, may_have_run: bool = True) -> None:
        for call in calls:
            self._end(call)
            if not call.waiter.done():
                call.waiter.set_exception(
                    PeerGone(
                        text,
                        peer=call.target,
                        method=call.method,
                        call_id=call.id,
                        may_have_run=may_have_run and call.sent,
                    )
                )


def _as_error(value: Any, call: Call) -> BaseException:
    """What a call is rejected with; public peers may send anything, only exceptions can be raised."""
    error = value if isinstance(value, BaseException) else remote_error(str(value))
    for name, known in (("peer", call.target), ("method", call.method), ("call_id", call.id)):
        if getattr(error, name, known) is None:
            setattr(error, name, known)
    return error
