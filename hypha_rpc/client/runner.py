"""Runs the users' functions: inline, as a task, or in an executor. The only maker of tasks for them."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from hypha_rpc.client.serving import SERVING
from hypha_rpc.errors import CallCancelled
from hypha_rpc.wire.values import ATOMS

if TYPE_CHECKING:
    from hypha_rpc.endpoint import Endpoint, Running

__all__ = ["Runner"]

_log = logging.getLogger("hypha_rpc.client")
_EAGER = sys.version_info >= (3, 12)


class Runner:
    """Starts functions for an endpoint and reports what comes of them.

    A plain function answers in the same stack. An async one gets a task, which the
    runner owns: `close` cancels and awaits them all.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, endpoint: Endpoint, job: Running, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Run the function of *job* (`Port.start`)."""
        if job.until is None:
            self._start(endpoint, job, args, kwargs)
            return
        token = SERVING.set(job)
        try:
            self._start(endpoint, job, args, kwargs)
        finally:
            SERVING.reset(token)

    def _start(self, endpoint: Endpoint, job: Running, args: list[Any], kwargs: dict[str, Any]) -> None:
        function = job.target.function
        if job.target.in_executor and not _is_async(function):
            call = functools.partial(function, *args, **kwargs)
            self._follow(endpoint, job, asyncio.get_running_loop().run_in_executor(None, call))
            return
        try:
            result = function(*args, **kwargs)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - supervision boundary: becomes the caller's error
            endpoint.fail(job, _reportable(error), endpoint.core.now)
            return
        if type(result) in ATOMS or getattr(type(result), "__await__", None) is None:
            endpoint.reply(job, result, endpoint.core.now)
        else:
            self._follow(endpoint, job, result)

    def _follow(self, endpoint: Endpoint, job: Running, outcome: Awaitable[Any]) -> None:
        loop = asyncio.get_running_loop()
        endpoint.track(job, loop.time())
        coroutine = _finish(endpoint, job, outcome)
        if _EAGER:
            task = asyncio.Task(coroutine, loop=loop, eager_start=True)  # type: ignore[call-arg,unused-ignore]
            if task.done():
                return
        else:
            task = loop.create_task(coroutine)
        job.handle = task
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._followed, outcome))

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run *coroutine* in a task; what it raises is for whoever awaits the task."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.debug("a generator failed when it was ended: %s", type(error).__name__)

    def _followed(self, outcome: Awaitable[Any], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() and inspect.iscoroutine(outcome):
            # Cancelled before its first step; the coroutine would be reported as never awaited.
            outcome.close()

    def cancel(self, job: Running) -> None:
        """Cancel the task of *job*; a thread cannot be stopped, its result is dropped (`Port.cancel`)."""
        if job.handle is not None:
            job.handle.cancel()

    def close(self) -> list[asyncio.Task[None]]:
        """Cancel everything; returns the tasks to await."""
        tasks = [task for task in self._tasks if task is not _current()]
        for task in tasks:
            task.cancel()
        return tasks


async def _finish(endpoint: Endpoint, job: Running, outcome: Awaitable[Any]) -> None:
    """Await *outcome* and answer with it; never raises, but passes its own cancellation on."""
    time = asyncio.get_running_loop().time
    try:
        result = await outcome
    except asyncio.CancelledError as error:
        endpoint.fail(job, _reportable(error), time())
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
    except Exception as error:  # noqa: BLE001 - supervision boundary: a user function's failure becomes the caller's
        endpoint.fail(job, _reportable(error), time())
    else:
        endpoint.reply(job, result, time())


def _reportable(error: BaseException) -> BaseException:
    """What the caller is told: its traceback begins with the user's function, not with who called that."""
    if isinstance(error, asyncio.CancelledError):
        return CallCancelled("The call was cancelled at the callee")
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == _HERE:
        trace = trace.tb_next
    return error.with_traceback(trace)


_HERE: Final = _reportable.__code__.co_filename


def _current() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _is_async(function: Callable[..., Any]) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    call = type(function).__dict__.get("__call__")
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
