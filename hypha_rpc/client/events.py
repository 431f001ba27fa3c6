"""Handlers by event name; used for server events and for the client's own life (python-client §4.4)."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["MessageEmitter"]

Handler = Callable[[Any], Any]
_log = logging.getLogger("hypha_rpc.client")


class MessageEmitter:
    """Calls handlers in the order of their registration.

    Args:
        logger: where failing handlers are reported; the library's own by default.
    """

    def __init__(self, logger: Any = None) -> None:
        self._logger = logger or _log
        self._event_handlers: dict[str, list[Handler]] = {}
        self._handler_tasks: set[asyncio.Task[Any]] = set()

    def on(self, event: str, handler: Handler) -> None:
        """Call *handler*, plain or async, with every message of type *event*."""
        self._event_handlers.setdefault(event, []).append(handler)

    def once(self, event: str, handler: Handler) -> None:
        """Call *handler* with the next message of type *event* only (X05)."""
        self.on(event, _Once(handler))

    def off(self, event: str | None = None, handler: Handler | None = None) -> None:
        """Remove one handler of *event*, all of *event*, or all; what is not there is no error."""
        if event is None:
            self._event_handlers.clear()
        elif handler is None:
            self._event_handlers.pop(event, None)
        else:
            kept = [known for known in self._event_handlers.get(event, []) if not _is(known, handler)]
            if kept:
                self._event_handlers[event] = kept
            else:
                self._event_handlers.pop(event, None)

    def emit(self, message: Mapping[str, Any]) -> Any:
        """Deliver *message* to the handlers of its ``type``.

        Raises:
            ValueError: *message* has no ``type``.
        """
        self._fire(message_type(message), message)

    def _fire(self, event: str, data: Any = None) -> bool:
        """Deliver *data* to the handlers of *event*; returns whether there were any."""
        handlers = list(self._event_handlers.get(event, ()))
        for handler in handlers:
            if isinstance(handler, _Once):
                self.off(event, handler)
            try:
                outcome = handler(data)
            except Exception as error:  # noqa: BLE001 - supervision boundary: a handler's failure is not the emitter's
                self._failed(event, error)
                continue
            if inspect.iscoroutine(outcome):
                self._follow(event, outcome)
        return bool(handlers)

    def _follow(self, event: str, coroutine: Any) -> None:
        try:
            task = asyncio.get_running_loop().create_task(coroutine)
        except RuntimeError as error:
            coroutine.close()
            self._failed(event, error)
            return
        self._handler_tasks.add(task)
        task.add_done_callback(lambda done: self._finished(event, done))

    def _finished(self, event: str, task: asyncio.Task[Any]) -> None:
        self._handler_tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(event, error)

    def _failed(self, event: str, error: BaseException) -> None:
        self._logger.warning("A handler of event %r failed: %s: %s", event, type(error).__name__, error)
        if event != "error":
            self._fire("error", error)

    async def wait_for(self, event: str, timeout: float | None = None) -> Any:
        """Wait for the next *event*.

        Returns:
            Its data.

        Raises:
            TimeoutError: it did not come within *timeout* seconds (X06).
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        handler = _Resolve(future)
        self.on(event, handler)
        try:
            return await asyncio.wait_for(future, timeout)
        finally:
            self.off(event, handler)

    def _stop_handlers(self) -> list[asyncio.Task[Any]]:
        """Remove every handler and cancel the running ones; returns their tasks to await."""
        self._event_handlers.clear()
        tasks = list(self._handler_tasks)
        for task in tasks:
            task.cancel()
        return tasks


class _Once:
    """A handler that is removed before it is called."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    def __call__(self, data: Any) -> Any:
        return self.handler(data)


class _Resolve:
    """A handler that gives the data to a future."""

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self._future = future

    def __call__(self, data: Any) -> None:
        if not self._future.done():
            self._future.set_result(data)


def _is(known: Handler, handler: Handler) -> bool:
    return known == handler or (isinstance(known, _Once) and known.handler == handler)


def message_type(message: Mapping[str, Any]) -> str:
    """The ``type`` of *message*.

    Raises:
        ValueError: there is none.
    """
    kind = message.get("type") if isinstance(message, Mapping) else None
    if not isinstance(kind, str) or not kind:
        raise ValueError("a message needs a 'type'")
    return kind
