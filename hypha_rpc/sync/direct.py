"""Calls whose outcome wakes the thread that waits in the same stack, without another turn of the loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from hypha_rpc.client.proxies import PendingCall, RemoteFunction

if TYPE_CHECKING:
    from hypha_rpc.client.rpc import RPC
    from hypha_rpc.endpoint import Reference

__all__ = ["DirectCall", "DirectFunction"]


class Sleeper(Protocol):
    """Who waits for one call."""

    def settle(self, result: Any, error: BaseException | None) -> None:
        """The call has ended."""


class DirectCall(PendingCall):
    """A call under way for a thread; nobody awaits it."""

    __slots__ = ("_sleeper",)

    def __init__(
        self,
        rpc: RPC,
        request: tuple[Reference, tuple[Any, ...], dict[str, Any]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(rpc, request, loop)
        self._sleeper: Sleeper | None = None

    def report_to(self, sleeper: Sleeper) -> None:
        """Wake *sleeper* with the outcome, which may be there already."""
        self._sleeper = sleeper
        if self.done():
            self._report()

    def set_result(self, result: Any, /) -> None:
        """Settle with a result (`Waiter`)."""
        super().set_result(result)
        self._report()

    def set_exception(self, exception: BaseException | type[BaseException], /) -> None:
        """Settle with an error, unless the call is made again (`Waiter`)."""
        super().set_exception(exception)
        self._report()

    def set_exception_quietly(self, exception: BaseException) -> None:
        """Settle with an error."""
        super().set_exception_quietly(exception)
        self._report()

    def cancel(self, msg: Any = None) -> bool:
        """Stop waiting."""
        cancelled = super().cancel(msg)
        self._report()
        return cancelled

    def _report(self) -> None:
        sleeper = self._sleeper
        if sleeper is None or not self.done():
            return
        self._sleeper = None
        if self.cancelled():
            sleeper.settle(None, asyncio.CancelledError())
        elif (error := self.exception()) is not None:
            sleeper.settle(None, error)
        else:
            sleeper.settle(self.result(), None)


class DirectFunction:
    """A remote function whose calls are `DirectCall`."""

    __slots__ = ("_function",)

    def __init__(self, function: RemoteFunction) -> None:
        self._function = function

    @property
    def __name__(self) -> str:
        return self._function.__name__

    def __call__(self, /, *args: Any, **kwargs: Any) -> PendingCall:
        """Send the call."""
        function = self._function
        return function._rpc.outbox.call(function._reference, args, kwargs, DirectCall)
