"""The users' calls on their way out: made at once, held while the link is down, made again if they never arrived.

Whether a call may be repeated is decided by the kind of its error, never by its text
(python-client §7.7): only what provably did not reach its callee is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from hypha_rpc.client.proxies import PendingCall
from hypha_rpc.errors import ConnectionLost, PeerGone, TooManyPending

if TYPE_CHECKING:
    from hypha_rpc.client.rpc import RPC
    from hypha_rpc.endpoint import Reference

__all__ = ["Outbox"]

_MAX_WAITING: Final = 10_000
_AGAIN_S: Final = 0.1
_PATIENCE_S: Final = 1.0
_PATIENCE_AFTER_RECONNECT_S: Final = 6.0


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
            raise RuntimeError(
                "a remote function must be called in the event loop of its connection; "
                "from another thread use asyncio.run_coroutine_threadsafe, or hypha_rpc.sync"
            )
        call = kind(rpc, (reference, args, kwargs), loop)
        if self.open and reference.target[0] != "*":
            try:
                call.call_id = rpc.endpoint.call(reference, args, kwargs, call, loop.time())
            except Exception as error:  # noqa: BLE001 - supervision boundary, see `make`
                call.rpc = None
                call.set_exception(error)
        elif self.open:
            self.make(call)
        elif rpc.endpoint.closed is not None:
            call.set_exception(ConnectionLost("Connection is closed"))
        else:
            self._wait(call)
        return call

    def make(self, call: PendingCall) -> None:
        """Hand *call* to the endpoint."""
        request, rpc = call.request, self._rpc
        if request is None or call.done():
            return
        reference, args, kwargs = request
        if reference.target.startswith("*/"):
            reference = reference._replace(target=rpc.manager_address)
        try:
            call_id = rpc.endpoint.call(reference, args, kwargs, call, rpc.loop.time())
        except Exception as error:  # noqa: BLE001 - supervision boundary: what encoding runs into is the caller's
            call.rpc = None
            call.set_exception(error)
            return
        if not call.done():
            call.call_id = call_id

    def call_again(self, call: PendingCall, error: BaseException) -> bool:
        """Make *call* again a little later if *error* says that it never reached its callee.

        A peer whose link dropped is away for a moment, and after our own reconnection
        the others may still be coming back.
        """
        rpc = self._rpc
        if not isinstance(error, PeerGone) or error.may_have_run or call.request is None:
            return False
        now = rpc.loop.time()
        if call.give_up_at is None:
            call.give_up_at = now + (_PATIENCE_AFTER_RECONNECT_S if rpc.freshly_reconnected() else _PATIENCE_S)
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
        give_up_at = self._rpc.loop.time() + self._rpc.endpoint.core.options.method_timeout_s
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
                call.set_exception(ConnectionLost("WebSocket reconnection timed out"))
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
