"""What stands for remote things: functions, services, calls under way.

A proxy holds an identity (`Reference`), never a route: it works on after any
number of reconnections of either side.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final, NoReturn

from hypha_rpc.client.help import RemoteDoc, RemoteSignature, Routine, members_text, service_html, service_summary
from hypha_rpc.client.settings import DEFAULTS, CallSettings, Progress
from hypha_rpc.client.streams import RemoteGenerator
from hypha_rpc.endpoint.ports import Reference
from hypha_rpc.objects import ObjectProxy

if TYPE_CHECKING:
    from hypha_rpc.client.rpc import RPC

__all__ = ["CoroutineCall", "PendingCall", "RemoteFunction", "RemoteGenerator", "RemoteService"]

_SETTING: Final = re.compile(r"unexpected keyword argument '(timeout|silence|progress)'")


class PendingCall(asyncio.Future[Any]):
    """A call under way: the future of its result.

    The call was sent when it was made; awaiting only waits. Cancelling frees it at
    once and, between peers that understand it, stops the remote function.

    Attributes:
        call_id: id on the wire while it is pending.
        request: what was called with what, to repeat it if it provably never arrived.
        deadline: when it fails, in the time of the loop, or None.
        settings: what it was told beside its arguments.
    """

    __slots__ = ("call_id", "deadline", "give_up_at", "request", "rpc", "settings")

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
        self.deadline: float | None = None
        self.settings = DEFAULTS

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"this call was not awaited, it has no {name!r}: write `(await f(...)).{name}`")

    def __aiter__(self) -> NoReturn:
        raise TypeError("this call was not awaited: write `async for item in await f(...)`")

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
        if isinstance(exception, TypeError) and (found := _SETTING.search(str(exception))):
            exception.add_note(f"A setting of a call stands apart from its arguments: f.options({found[1]}=...)(...)")
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


class RemoteFunction(Routine):
    """A function of a peer; calling it sends the call and returns its future.

    Attributes:
        __name__, __doc__: as at the provider.
        __schema__: JSON schema ``{"name", "description", "parameters"}``, or None.
        __rpc_object__: the wire reference, by which it is passed on.
        __signature__: as the schema says; made when it is looked at.
    """

    __signature__ = RemoteSignature()

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

    def options(
        self, *, timeout: float | None = None, silence: float | None = None, progress: Progress | None = None
    ) -> RemoteFunction:
        """The same function with settings for its calls, apart from its own arguments.

        For example::

            await service.train.options(timeout=60)(data, timeout=3)

        Args:
            timeout: seconds until a call fails with `DeadlineExceeded`, counted from when it is made.
                The remote function is told: it is cancelled then, and calls it makes meanwhile end, too.
            silence: longest time in seconds without a sign of life of the callee, instead of ``method_timeout``.
            progress: called with ``(done, total)`` bytes while a big argument or result moves.

        Raises:
            TypeError, ValueError: a setting makes no sense.
        """
        return _Configured(self, CallSettings(timeout, silence, progress))

    def dispose(self) -> None:
        """Tell the owner that this function will not be called any more; it frees what hangs on it.

        For functions in results and those sent with `keep`; it happens by itself when the
        last reference is gone. A method of a service is not affected.
        """
        if self._reference.lease is not None and self._rpc.endpoint.closed is None:
            self._rpc.endpoint.dispose(self._reference, self._rpc.loop.time())

    def as_coroutine(self) -> RemoteFunction:
        """The same function whose calls ``asyncio.create_task`` accepts."""
        return RemoteFunction(self._rpc, self._reference, CoroutineCall)

    def sealed_for(self, key: bytes) -> RemoteFunction:
        """The same function whose calls are encrypted for the owner of public key *key*."""
        reference = self._reference
        wire = {**reference.wire, "_renc_pub": key}
        return RemoteFunction(self._rpc, reference._replace(key=key, wire=wire), self._kind)

    def __repr__(self) -> str:
        known = str(self.__signature__) if self.__schema__ is not None else ""
        return f"<RemoteFunction {self.__name__}{known} ({self._reference.target}:{self._reference.method})>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RemoteFunction):
            return NotImplemented
        return self._reference[:2] == other._reference[:2] and self._rpc is other._rpc

    def __hash__(self) -> int:
        return hash(self._reference[:2])

    def __reduce__(self) -> Any:
        raise TypeError("a remote function cannot be pickled: it belongs to a connection; pass the service id instead")


class _Configured(RemoteFunction):
    """A remote function with settings for its calls."""

    def __init__(self, function: RemoteFunction, settings: CallSettings) -> None:
        super().__init__(function._rpc, function._reference, function._kind)
        self._settings = settings

    def __call__(self, *args: Any, **kwargs: Any) -> PendingCall:
        """Send the call with its settings."""
        return self._rpc.outbox.call_with(self._settings, self._reference, args, kwargs, self._kind)

    def as_coroutine(self) -> RemoteFunction:
        """The same function whose calls ``asyncio.create_task`` accepts."""
        return _Configured(super().as_coroutine(), self._settings)


def _last_part(method: str) -> str:
    last = method.rpartition(".")[2]
    return last.partition("#")[2] or last


class RemoteService(ObjectProxy):
    """A service of a peer: a dictionary of its functions and values, with attribute access."""

    def __dir__(self) -> list[str]:
        # What a user completes are the members; the methods of dictionaries are there all the same.
        members = [key for key in dict.keys(self) if isinstance(key, str) and key.isidentifier()]
        return sorted({*members, *(name for name in dict.__dir__(self) if name.startswith("__"))})

    def _lacks(self, name: str) -> str:
        if name.startswith("__"):  # asked by protocols, many times
            return name
        return f"service {dict.get(self, 'id')} has no member {name!r}; it has {members_text(self)}"

    def _repr_html_(self) -> str:
        return service_html(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(service_summary(self))

    def __reduce__(self) -> Any:
        raise TypeError("a remote service cannot be pickled: it belongs to a connection; pass its id instead")


# `help(service)` shows what the service offers.
setattr(RemoteService, "__doc__", RemoteDoc(RemoteService.__doc__))  # noqa: B010 - checkers know it as a text
