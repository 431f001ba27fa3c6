"""Users' blocking functions and iterators as the async ones that the async API takes.

Plain functions run in threads, never in the loop; async ones run in the loop. Nothing
else is done to them: name, docstring, schema and signature stay.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

from hypha_rpc.client.serving import SERVING
from hypha_rpc.errors import HyphaError
from hypha_rpc.sync.portal import Portal
from hypha_rpc.sync.threads import CURRENT, Slots
from hypha_rpc.wire.values import ATOMS

__all__ = ["Place", "ThreadedFunction", "ThreadedHandler", "ThreadedIterator", "Unwrap", "is_async"]

Unwrap = Callable[[Any], Any]
"""Makes what arrives blocking."""

_END: Final = object()


def is_async(function: Callable[..., Any]) -> bool:
    """Whether *function* belongs into the loop: async, or an async generator."""
    while isinstance(function, functools.partial):
        function = function.func
    call = type(function).__dict__.get("__call__")
    return any(
        inspect.iscoroutinefunction(candidate) or inspect.isasyncgenfunction(candidate)
        for candidate in (function, call)
        if candidate is not None
    )


class _Call:
    """One run of a function in a thread (`threads.Job`)."""

    def __init__(self, place: Place, call: Callable[[], Any]) -> None:
        self._portal = place.portal
        self._slots = place.slots
        self._context = place.context.copy()
        # The deadline of the call that is being served holds for the calls it makes.
        self._context.run(SERVING.set, SERVING.get())
        self.future: asyncio.Future[Any] = place.portal.loop.create_future()
        self._call: Callable[[], Any] | None = call
        self._result: Any = None
        self._error: BaseException | None = None

    def start(self) -> None:
        self._portal.threads.run(self)

    def run(self) -> None:
        call, self._call = self._call, None
        CURRENT.slots = self._slots
        try:
            if call is not None and not self.future.cancelled():
                self._result = self._context.run(call)
        except BaseException as error:  # noqa: BLE001 - supervision boundary: it is the caller's error
            self._error = error
        finally:
            CURRENT.slots = None
            self._slots.leave()

    def deliver(self) -> None:
        self._portal.post(_settle, self.future, self._result, self._error)

    def refuse(self, error: BaseException) -> None:
        self._slots.leave()
        self._portal.post(_settle, self.future, None, error)


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    elif isinstance(error, StopIteration) or not isinstance(error, Exception):
        # None of these can pass through a future or the loop as what it is: SystemExit would end the loop.
        future.set_exception(_Raised(f"{type(error).__name__}: {error}"))
    else:
        future.set_exception(error)


class _Raised(HyphaError, RuntimeError):
    """A user's function raised something that is no ordinary error."""


class Place:
    """Where users' functions run: in threads, counted among others, in the context where they were handed over.

    So that what belongs to a program's context, such as the notebook cell that shows what
    is printed, is that of the caller, not that of whoever made the connection.

    Args:
        portal: whose threads.
        slots: among whom they count.
    """

    __slots__ = ("context", "portal", "slots")

    def __init__(self, portal: Portal, slots: Slots) -> None:
        self.portal = portal
        self.slots = slots
        self.context = contextvars.copy_context()

    def run_here(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call *function* in this thread, in this context."""
        return self.context.copy().run(function, *args, **kwargs)

    def start(self, call: Callable[[], Any]) -> asyncio.Future[Any]:
        """Run *call* in a thread as soon as it has a slot; its outcome is in the future (in the loop)."""
        job = _Call(self, call)
        self.slots.enter(job.start)
        return job.future


class ThreadedFunction:
    """A plain function as an async one.

    Args:
        place: where it runs.
        function: the user's.
        unwrap: makes its arguments blocking.
    """

    __slots__ = ("__dict__", "_place", "_unwrap", "function")

    def __init__(self, place: Place, function: Callable[..., Any], unwrap: Unwrap) -> None:
        self._place = place
        self._unwrap = unwrap
        self.function = function
        self.__dict__["__doc__"] = getattr(function, "__doc__", None)
        for name in ("__name__", "__qualname__", "__module__", "__schema__", "__self__"):
            if (value := getattr(function, name, None)) is not None:
                self.__dict__[name] = value
        # For inspect.signature.
        self.__dict__["__wrapped__"] = function

    async def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the function in a thread."""
        given = [self._argument(value) for value in args]
        named = {key: self._argument(value) for key, value in kwargs.items()}
        result = await self._place.start(functools.partial(self.function, *given, **named))
        if type(result) not in ATOMS and inspect.isawaitable(result):
            return await result
        return result

    def _argument(self, value: Any) -> Any:
        # A client may call itself, then callbacks are its own functions.
        return value.in_its_context() if type(value) is ThreadedFunction else self._unwrap(value)

    def in_its_context(self) -> Callable[..., Any]:
        """The function itself, to be called in any thread, in the context where it was handed over."""
        return functools.update_wrapper(functools.partial(self._place.run_here, self.function), self.function)

    def __repr__(self) -> str:
        return f"<threaded {self.function!r}>"


class ThreadedHandler:
    """A plain event handler: its events are handled in order, one at a time.

    It equals every other one of the same function, so that ``off(event, function)`` finds it.
    """

    def __init__(
        self, portal: Portal, function: Callable[..., Any], unwrap: Unwrap, failed: Callable[[BaseException], None]
    ) -> None:
        self._place = Place(portal, Slots(1))
        self._unwrap = unwrap
        self._failed = failed
        self.function = function

    def __call__(self, /, *data: Any) -> None:
        """Handle an event in a thread, after those before it."""
        # Handed over at once: the last event of a connection comes while its tasks are being cancelled.
        call = functools.partial(self.function, *(self._unwrap(value) for value in data))
        self._place.start(call).add_done_callback(self._finished)

    def _finished(self, future: asyncio.Future[Any]) -> None:
        if not future.cancelled() and (error := future.exception()) is not None:
            self._failed(error)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ThreadedHandler) and self.function == other.function

    def __hash__(self) -> int:
        return hash(self.function)


class ThreadedIterator:
    """A plain iterator as an async one: each item is made in a thread."""

    def __init__(self, place: Place, source: Iterator[Any]) -> None:
        self._place = place
        self._source = source
        # A generator that still makes an item nobody waits for cannot be closed yet.
        self._busy = threading.Lock()

    def __aiter__(self) -> ThreadedIterator:
        return self

    async def __anext__(self) -> Any:
        item = await self._place.start(self._next)
        if item is _END:
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        """Close the iterator; its ``finally`` has run when this returns."""
        if hasattr(self._source, "close"):
            await self._place.start(self._close)

    def _next(self) -> Any:
        with self._busy:
            return next(self._source, _END)

    def _close(self) -> None:
        with self._busy:
            close: Callable[[], Any] = self._source.close  # type: ignore[attr-defined]
            close()
