"""The users' calls on their way out: made at once, held while the link is down, made again if they never arrived.

Whether a call may be repeated is decided by the kind of its error, never by its text
(python-client §7.7): only what provably did not reach its callee is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from hypha_rpc.client.progress import follow
from hypha_rpc.client.proxies import PendingCall
from hypha_rpc.client.serving import SERVING, inherited_deadline
from hypha_rpc.errors import (
    AnswerLost,
    CallError,
    ConnectionLost,
    DeadlineExceeded,
    PeerGone,
    SerializationError,
    TooManyPending,
)

if TYPE_CHECKING:
    from hypha_rpc.client.rpc import RPC
    from hypha_rpc.client.settings import CallSettings
    from hypha_rpc.endpoint import Reference

__all__ = ["Outbox"]

_MAX_WAITING: Final = 10_000
_AGAIN_S: Final = 0.1
_PATIENCE_S: Final = 1.0
_PATIENCE_AFTER_RECONNECT_S: Final = 6.0
_WRONG_THREAD: Final = (
    "a remote function must be called in the event loop of its connection; "
    "from another thread use asyncio.run_coroutine_threadsafe, or hypha_rpc.sync"
)


class Outbox:
    """The calls of one client.

    Attributes:
        open: calls are made at once; else they wait for `release`.
    """

    def __init__(self, rpc: RPC) -> None:
        self._rpc = rpc
        self._waiting: deque[tuple[PendingCall, float]] = deque()
        self._retrying: set[PendingCall] = set()
        self.open = False

    def __len__(self) -> int:
        return len(self._waiting) + len(self._retrying)

    def call(
        self, reference: Reference, args: tuple[Any, ...], kwargs: dict[str, Any], kind: type[PendingCall]
    ) -> PendingCall:
        """Call a function of a peer; whatever goes wrong is in the future.

        Raises:
            RuntimeError: this is not the thread of the connection's event loop.
        """
        rpc = self._rpc
        loop = rpc.loop
        # The name with the underscore is the one that does not raise outside of a loop.
        if asyncio._get_running_loop() is not loop:
            raise RuntimeError(_WRONG_THREAD)
        call = kind(rpc, (reference, args, kwargs), loop)
        if SERVING.get() is not None:
            call.deadline = inherited_deadline(None)
        if self.open and reference.target[0] != "*" and call.deadline is None:
            try:
                call.call_id = rpc.endpoint.call(reference, args, kwargs, call, loop.time())
                if rpc.endpoint.core.exports.sessions:
                    self._note_streams(call)
            except Exception as error:  # noqa: BLE001 - supervision boundary, see `make`
                call.rpc = None
                call.set_exception(_told(error))
        else:
            self._send(call)
        return call

    def call_with(
        self,
        settings: CallSettings,
        reference: Reference,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        kind: type[PendingCall],
    ) -> PendingCall:
        """Call a function of a peer with *settings*; see `call`."""
        rpc = self._rpc
        loop = rpc.loop
        if asyncio._get_running_loop() is not loop:
            raise RuntimeError(_WRONG_THREAD)
        call = kind(rpc, (reference, args, kwargs), loop)
        call.settings = settings
        call.deadline = inherited_deadline(None if settings.timeout is None else loop.time() + settings.timeout)
        self._send(call)
        return call

    def _send(self, call: PendingCall) -> None:
        """Make *call*, now or when the link is ready."""
        rpc = self._rpc
        if self.open:
            self.make(call)
        elif rpc.endpoint.closed is not None:
            call.set_exception(ConnectionLost("Connection is closed"))
        else:
            self._wait(call)

    def make(self, call: PendingCall) -> None:
        """Hand *call* to the endpoint."""
        request, rpc = call.request, self._rpc
        if request is None or call.done():
            return
        reference, args, kwargs = request
        if reference.target.startswith("*/"):
            reference = reference._replace(target=rpc.manager_address)
        try:
            call_id = rpc.endpoint.call(
                reference,
                args,
                kwargs,
                call,
                rpc.loop.time(),
                silence_s=call.settings.silence,
                deadline=call.deadline,
            )
        except Exception as error:  # noqa: BLE001 - supervision boundary: what encoding runs into is the caller's
            call.rpc = None
            call.set_exception(_told(error))
            return
        if not call.done():
            call.call_id = call_id
            self._note_streams(call)
            if call.settings.progress is not None and call_id is not None:
                follow(rpc.endpoint, call, call_id, call.settings.progress)

    def _note_streams(self, call: PendingCall) -> None:
        """A generator in the arguments ends with the first attempt: a second one would send an empty one."""
        session = self._rpc.endpoint.core.exports.sessions.get(call.call_id or "")
        if session is not None and session.closers:
            call.request = None

    def call_again(self, call: PendingCall, error: BaseException) -> bool:
        """Make *call* again a little later if *error* says that it never reached its callee, or if it may run twice.

        A peer whose link dropped is away for a moment, and after our own reconnection
        the others may still be coming back.
        """
        rpc, request = self._rpc, call.request
        if request is None or not isinstance(error, CallError):
            return False
        idempotent = request[0].wire.get("_ridem") is True and _was_lost(error)
        if not idempotent and (error.may_have_run or not isinstance(error, PeerGone)):
            return False
        now = rpc.loop.time()
        if call.give_up_at is None:
            patient = idempotent or rpc.freshly_reconnected()
            call.give_up_at = now + (_PATIENCE_AFTER_RECONNECT_S if patient else _PATIENCE_S)
            if call.deadline is not None:
                call.give_up_at = min(call.give_up_at, call.deadline)
        if rpc.endpoint.closed is not None or now >= call.give_up_at:
            return False
        self._retrying.add(call)
        rpc.loop.call_later(_AGAIN_S, self._retry, call)
        return True

    def _retry(self, call: PendingCall) -> None:
        if call not in self._retrying:
            return
        self._retrying.discard(call)
        if self.open:
            self.make(call)
        elif not call.done():
            self._wait(call)

    def _wait(self, call: PendingCall) -> None:
        """Hold *call* until the link is ready again, at most as long as a callee may be silent."""
        if len(self._waiting) >= _MAX_WAITING:
            call.rpc = None
            call.set_exception(TooManyPending(f"{len(self._waiting)} calls wait for the connection"))
            return
        silence = call.settings.silence or self._rpc.endpoint.core.options.method_timeout_s
        give_up_at = self._rpc.loop.time() + silence
        if call.deadline is not None:
            give_up_at = min(give_up_at, call.deadline)
        self._waiting.append((call, give_up_at))
        self._rpc.port.wake(give_up_at)

    def release(self) -> None:
        """Make what waits, and everything from now on at once."""
        self.open = True
        waiting, self._waiting = self._waiting, deque()
        for call, _ in waiting:
            self.make(call)

    def hold(self) -> None:
        """Let calls wait from now on."""
        self.open = False

    def expire(self, now: float) -> float | None:
        """Fail the calls that have waited for too long; returns when to look again."""
        kept: deque[tuple[PendingCall, float]] = deque()
        for call, give_up_at in self._waiting:
            if call.done():
                continue
            if now >= give_up_at:
                call.rpc = None
                call.set_exception(_waited_in_vain(call, now))
            else:
                kept.append((call, give_up_at))
        self._waiting = kept
        return min((give_up_at for _, give_up_at in kept), default=None)

    def close(self, error: BaseException) -> None:
        """Fail everything, also what is with the endpoint, without noise about futures nobody awaits (X43)."""
        self.open = False
        waiting, self._waiting = self._waiting, deque()
        retrying, self._retrying = self._retrying, set()
        calls: list[Any] = [call for call, _ in waiting]
        calls.extend(retrying)
        calls.extend(call.waiter for call in self._rpc.endpoint.caller.calls)
        for call in calls:
            if isinstance(call, PendingCall) and not call.done():
                call.set_exception_quietly(error)


def _was_lost(error: CallError) -> bool:
    """Whether the call or its answer got lost on the way, so that one that may run twice is made again."""
    return isinstance(error, PeerGone) or getattr(error, "remote_type", None) == AnswerLost.__name__


def _waited_in_vain(call: PendingCall, now: float) -> BaseException:
    """Why a call that waited for the link fails; nothing was sent."""
    if call.deadline is not None and now >= call.deadline:
        return DeadlineExceeded("Method call timed out: the connection was down until its deadline", may_have_run=False)
    return ConnectionLost("WebSocket reconnection timed out")


def _told(error: Exception) -> Exception:
    """*error* for its caller: the path says where a value stands that cannot be sent, the encoder's frames nothing."""
    return error.with_traceback(None) if isinstance(error, SerializationError) else error
