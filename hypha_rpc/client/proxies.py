"""What stands for remote things: functions, services, calls under way.

A proxy holds an identity (`Reference`), never a route: it works on after any
number of reconnections of either side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final

from hypha_rpc.endpoint.ports import Reference
from hypha_rpc.objects import ObjectProxy
from hypha_rpc.wire.forms.generators import STOP

if TYPE_CHECKING:
    from hypha_rpc.client.rpc import RPC

__all__ = ["CoroutineCall", "PendingCall", "RemoteFunction", "RemoteGenerator", "RemoteService"]


class PendingCall(asyncio.Future[Any]):
    """A call under way: the future of its result.

    The call was sent when it was made; awaiting only waits. Cancelling frees it at
    once and, between peers that understand it, stops the remote function.

    Attributes:
        call_id: id on the wire while it is pending.
        request: what was called with what, to repeat it if it provably never arrived.
    """

    __slots__ = ("call_id", "give_up_at", "request", "rpc")

    def __init__(
        self,
        rpc: RPC,
        request: tuple[Reference, tuple[Any, ...], dict[str, Any]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(loop=loop)
        self.rpc: RPC | None = rpc
        self.request: tuple[Reference, tuple[Any, ...], dict[str, Any]] | None = request
        self.call_id: str | None = None
        self.give_up_at: float | None = None

    def cancel(self, msg: Any = None) -> bool:
        """Stop waiting; the call is forgotten here and cancelled there."""
        cancelled = super().cancel(msg)
        if cancelled:
            rpc, call_id = self.rpc, self.call_id
            self._release()
            if rpc is not None and call_id is not None:
                rpc.abandon(call_id)
        return cancelled

    def set_result(self, result: Any, /) -> None:
        """Settle with a result (`Waiter`)."""
        self.rpc = self.request = self.call_id = None
        super().set_result(result)

    def set_exception(self, exception: BaseException | type[BaseException], /) -> None:
        """Settle with an error, unless the call never arrived and is made again (`Waiter`)."""
        rpc = self.rpc
        self.call_id = None
        if rpc is not None and isinstance(exception, BaseException) and rpc.outbox.call_again(self, exception):
            return
        self._release()
        super().set_exception(exception)

    def set_exception_quietly(self, exception: BaseException) -> None:
        """Settle with an error that is no news to anybody: nobody is told when it is never retrieved (X43)."""
        self._release()
        super().set_exception(exception)
        self._log_traceback = False

    def _release(self) -> None:
        self.rpc = self.request = self.call_id = None


class CoroutineCall(PendingCall):
    """A `PendingCall` that ``asyncio.create_task`` accepts, too (functions of the connected object)."""

    __slots__ = ()

    def send(self, value: Any) -> Any:
        """Drive the wait like a coroutine."""
        if not self.done():
            self._asyncio_future_blocking = True
            return self
        raise StopIteration(self.result())

    def throw(self, kind: Any, value: Any = None, traceback: Any = None) -> Any:
        """End the wait with an error."""
        self.cancel()
        if isinstance(kind, BaseException):
            raise kind
        raise value if isinstance(value, BaseException) else kind()

    def close(self) -> None:
        """End the wait."""
        self.cancel()

    def __await__(self) -> Generator[Any, None, Any]:
        return super().__await__()


class RemoteFunction:
    """A function of a peer; calling it sends the call and returns its future.

    Attributes:
        __name__, __doc__: as at the provider.
        __schema__: JSON schema ``{"name", "description", "parameters"}``, or None.
        __rpc_object__: the wire reference, by which it is passed on.
    """

    def __init__(self, rpc: RPC, reference: Reference, kind: type[PendingCall] = PendingCall) -> None:
        wire = reference.wire
        name, doc, schema = wire.get("_rname"), wire.get("_rdoc"), wire.get("_rschema")
        self._rpc = rpc
        self._reference = reference
        self._kind = kind
        self.__rpc_object__ = dict(wire)
        self.__name__ = name if isinstance(name, str) and name else _last_part(reference.method)
        self.__doc__ = doc if isinstance(doc, str) else None
        self.__schema__ = schema if isinstance(schema, dict) else None

    @property
    def _encoded_method(self) -> dict[str, Any]:
        return {**self.__rpc_object__, "_rtarget": self._rpc.current_target(self._reference.target)}

    def __call__(self, *args: Any, **kwargs: Any) -> PendingCall:
        """Send the call; what it returns is awaited for the result."""
        return self._rpc.outbox.call(self._reference, args, kwargs, self._kind)

    def as_coroutine(self) -> RemoteFunction:
        """The same function whose calls ``asyncio.create_task`` accepts."""
        return RemoteFunction(self._rpc, self._reference, CoroutineCall)

    def __repr__(self) -> str:
        return f"<RemoteFunction {self.__name__} ({self._reference.target}:{self._reference.method})>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RemoteFunction):
            return NotImplemented
        return self._reference[:2] == other._reference[:2] and self._rpc is other._rpc

    def __hash__(self) -> int:
        return hash(self._reference[:2])

    def __reduce__(self) -> Any:
        raise TypeError("a remote function cannot be pickled: it belongs to a connection; pass the service id instead")


def _last_part(method: str) -> str:
    last = method.rpartition(".")[2]
    return last.partition("#")[2] or last


class RemoteGenerator:
    """A generator of a peer: an async iterator that pulls one item a call (python-client §10).

    Left early, it closes the peer's generator: by ``aclose``, or when it is collected,
    also if it was never started (X26).
    """

    def __init__(self, rpc: RPC, pull: Reference, close: Reference | None) -> None:
        self._rpc = rpc
        self._pull = pull
        self._close: Reference | None = close

    def __aiter__(self) -> RemoteGenerator:
        return self

    async def __anext__(self) -> Any:
        """The next item.

        Raises:
            StopAsyncIteration: there is none.
        """
        if self._close is None and self._pull is _ENDED:
            raise StopAsyncIteration
        try:
            item = await self._rpc.call(self._pull, (), {})
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._end()
            raise
        if item is STOP:
            self._end()
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        """Close the peer's generator; its ``finally`` has run when this returns."""
        close = self._close
        self._end()
        if close is not None and self._rpc.endpoint.closed is None:
            await self._rpc.call(close, (), {})

    def _end(self) -> None:
        self._close, self._pull = None, _ENDED

    def __del__(self) -> None:
        close, rpc = self._close, self._rpc
        if close is not None and rpc.endpoint.closed is None and not rpc.loop.is_closed():
            # May run in any thread, at any moment: the call is made by the loop, its outcome does not matter.
            rpc.loop.call_soon_threadsafe(rpc.tell, close)


_ENDED: Final = Reference("", "")


class RemoteService(ObjectProxy):
    """A service of a peer: a dictionary of its functions and values, with attribute access."""

    def __reduce__(self) -> Any:
        raise TypeError("a remote service cannot be pickled: it belongs to a connection; pass its id instead")
