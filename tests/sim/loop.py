"""An event loop without sockets whose clock jumps to the next timer as soon as nothing else is to be done."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable
from typing import Any

_SPINNING = 200_000
_TURN_S = 1e-7


class Stuck(RuntimeError):
    """Nothing can ever happen any more, or the loop spins without time passing."""


class VirtualLoop(asyncio.BaseEventLoop):
    """See the module.

    Attributes:
        reports: what would have been given to the loop's exception handler.
    """

    def __init__(self, start: float = 1000.0) -> None:
        super().__init__()
        self._virtual = start
        self._idle_turns = 0
        self._selector = _Jump(self)
        self.reports: list[str] = []

    def time(self) -> float:
        return self._virtual

    def jump(self, timeout: float | None) -> None:
        """Nothing is ready: go to where the next timer is."""
        if timeout is None:
            raise Stuck("nothing can ever happen any more")
        if timeout > 0:
            self._idle_turns = 0
            self._virtual = max(self._virtual, self._scheduled[0].when())  # type: ignore[attr-defined]
            return
        # Even doing nothing takes time: who waits for a moment that is nearly there must see it pass.
        self._virtual += _TURN_S
        self._idle_turns += 1
        if self._idle_turns > _SPINNING:
            what = [repr(getattr(handle._callback, "__self__", handle)) for handle in self._ready][:3]  # type: ignore[attr-defined]
            raise Stuck(f"the loop spins at {self._virtual:.3f}: {what}")

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.reports.append(f"{context.get('message')}: {error!r}")

    # -- what BaseEventLoop leaves to its subclasses

    def _process_events(self, event_list: list[Any]) -> None:
        assert not event_list

    def _write_to_self(self) -> None:
        """Everything happens in this thread: there is nobody to be woken."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Run *func* in this thread, a little later."""
        future = self.create_future()
        self.call_later(0.001, functools.partial(_run_into, future, func, args))
        return future


def _run_into(future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if future.cancelled():
        return
    try:
        future.set_result(func(*args))
    except Exception as error:  # noqa: BLE001 - whatever it raises is for whoever waits
        future.set_exception(error)


class _Jump(selectors.BaseSelector):
    """Waits for nothing; waiting moves the clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        self._loop.jump(timeout)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> Any:
        raise NotImplementedError("there are no sockets here")

    def unregister(self, fileobj: Any) -> Any:
        raise NotImplementedError("there are no sockets here")

    def get_map(self) -> Any:
        return {}

    def close(self) -> None:
        """Nothing is open."""
