"""One event loop in a thread, shared by all blocking connections, and the way into it.

A call enters by `call_soon_threadsafe` and its thread waits on a lock. The thread starts
with the first user and ends with the last. Knows nothing of connections.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from hypha_rpc.errors import ConnectionLost
from hypha_rpc.sync.direct import DirectCall
from hypha_rpc.sync.threads import CURRENT, Threads, ThreadsExecutor

__all__ = ["Portal", "User", "acquire", "current", "release"]

T = TypeVar("T")

_CANCEL_S: Final = 2.0
_STOP_S: Final = 10.0
_WARN_S: Final = 5.0
# Waiting for a lock without end cannot be interrupted by Ctrl-C on Windows.
_WINDOWS_WAIT_S: Final = 0.25
_CLOSED: Final = "Connection is closed"

# These are looked up at every call.
_Lock: Final = threading.Lock
_get_ident: Final = threading.get_ident
_get_running_loop: Final = asyncio._get_running_loop


class Waiter:
    """A thread that waits for one outcome of the loop."""

    __slots__ = ("_error", "_future", "_lock", "_portal", "_result", "_withdrawn")

    def __init__(self, portal: Portal) -> None:
        self._portal: Portal | None = portal
        self._lock = _Lock()
        self._lock.acquire()
        self._future: asyncio.Future[Any] | None = None
        self._withdrawn = False
        self._result: Any = None
        self._error: BaseException | None = None

    # -- in the loop ---------------------------------------------------------------

    def start(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Call *function* and follow what comes of it."""
        if self._withdrawn:
            self.settle(None, asyncio.CancelledError())
            return
        try:
            outcome = function(*args, **kwargs)
            if type(outcome) is DirectCall:
                self._future = outcome
                outcome.report_to(self)
                return
            if not isinstance(outcome, asyncio.Future):
                if getattr(type(outcome), "__await__", None) is None:
                    self.settle(outcome, None)
                    return
                outcome = asyncio.ensure_future(outcome)
        except BaseException as error:  # noqa: BLE001 - supervision boundary: raised in the waiting thread
            self.settle(None, error)
            return
        self._future = outcome
        outcome.add_done_callback(self._done)

    def _done(self, future: asyncio.Future[Any]) -> None:
        self._future = None
        if future.cancelled():
            self.settle(None, asyncio.CancelledError())
            return
        error = future.exception()
        self.settle(None if error is not None else future.result(), error)

    def settle(self, result: Any, error: BaseException | None) -> None:
        """Wake the thread; idempotent."""
        portal, self._portal = self._portal, None
        if portal is None:
            return
        self._result, self._error = result, error
        portal.forget(self)
        self._lock.release()

    def cancel(self) -> None:
        """The thread waits no more."""
        self._withdrawn = True
        if self._future is not None:
            self._future.cancel()

    # -- in the waiting thread -----------------------------------------------------

    def wait(self) -> Any:
        """Wait for the outcome; return or raise it."""
        __tracebackhide__ = True  # notebooks and pytest show the caller's line, not this one
        slots = CURRENT.slots
        if slots is not None:
            slots.leave()
        try:
            if _get_running_loop() is not None:
                self._wait_inside_a_loop()
            elif sys.platform == "win32":
                while not self._lock.acquire(timeout=_WINDOWS_WAIT_S):
                    pass
            else:
                self._lock.acquire()
        finally:
            if slots is not None:
                slots.resume()
        error = self._error
        if error is None:
            return self._result
        try:
            if isinstance(error, asyncio.CancelledError):
                raise ConnectionLost(_CLOSED)
            raise error
        finally:
            # No cycle of the error, its traceback and this frame.
            self._error = None
            del error

    def _wait_inside_a_loop(self) -> None:
        """The same where an event loop stands still meanwhile; after a while its owner is told."""
        if self._lock.acquire(timeout=_WARN_S):
            return
        warnings.warn(
            "a blocking call of hypha_rpc.sync waits inside a running event loop, which can do nothing else meanwhile; "
            "if what it waits for runs in this loop, it will wait for ever. In async code and notebooks: "
            "`from hypha_rpc import connect_to_server`, then `server = await connect_to_server(...)` "
            "and `await` for every call",
            RuntimeWarning,
            stacklevel=5,
        )
        while not self._lock.acquire(timeout=_WINDOWS_WAIT_S if sys.platform == "win32" else _WARN_S):
            pass

    def withdraw(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel what is waited for, and wait until it has ended, within bounds."""
        try:
            loop.call_soon_threadsafe(self.cancel)
        except RuntimeError:
            return  # the loop has been closed
        self._lock.acquire(timeout=_CANCEL_S)


class User:
    """Someone for whom the loop thread is kept."""

    def serves(self) -> bool:
        """Whether the program shall go on for it after its main thread has ended."""
        return False

    def close(self) -> None:
        """The interpreter ends: leave politely."""


class Portal:
    """An event loop in a thread of its own, with threads for users' functions.

    Attributes:
        loop: the loop.
        threads: for users' functions, and for the loop's executor.
        users: who needs it.
        changed: set when a user has left.
    """

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.threads = Threads()
        self.loop.set_default_executor(ThreadsExecutor(self.threads))
        self.users: set[User] = set()
        self.changed = threading.Event()
        self._waiters: set[Waiter] = set()
        self._refusal: str | None = None
        # Daemon: what keeps a program alive is decided in `lifetime`, not by this thread.
        self._thread = threading.Thread(target=self._main, name="hypha-rpc-sync", daemon=True)
        self._thread.start()
        self._ident = self._thread.ident

    def run(self, function: Callable[..., Awaitable[T]], /, *args: Any, **kwargs: Any) -> T:
        """Call *function* in the loop, wait for what it returns, and return that.

        Cancellation:
            An exception in the waiting thread, such as `KeyboardInterrupt`, cancels it.

        Raises:
            RuntimeError: this is the thread of the loop.
            ConnectionError: the loop has ended.
        """
        __tracebackhide__ = True  # notebooks and pytest show the caller's line, not this one
        if _get_ident() == self._ident:
            raise RuntimeError(self._reentry(function))
        waiter = Waiter(self)
        self._waiters.add(waiter)
        # Looked at after `add`: either this sees the refusal, or the end of the loop sees the waiter.
        if self._refusal is not None:
            self._waiters.discard(waiter)
            raise ConnectionLost(self._refusal)
        try:
            self.loop.call_soon_threadsafe(waiter.start, function, args, kwargs)
            result: T = waiter.wait()
            return result
        except BaseException as error:
            if waiter in self._waiters:
                # Not answered: interrupted, or the loop has ended at this moment.
                self._waiters.discard(waiter)
                if isinstance(error, RuntimeError) and self.loop.is_closed():
                    raise ConnectionLost(_CLOSED) from None
                waiter.withdraw(self.loop)
            raise

    @staticmethod
    def _reentry(function: Callable[..., Any]) -> str:
        name = getattr(function, "__name__", "the function")
        return (
            f"{name}() of hypha_rpc.sync blocks its thread and was called in the thread of the event loop that would "
            f"answer it. An async function that is called by others runs there: use `await {name}.aio(...)` in it, "
            "or make it a plain function, which gets a thread of its own"
        )

    def forget(self, waiter: Waiter) -> None:
        """*waiter* has its outcome."""
        self._waiters.discard(waiter)

    @property
    def alive(self) -> bool:
        """Whether calls are taken."""
        return self._refusal is None

    def inside(self) -> bool:
        """Whether this is the thread of the loop."""
        return threading.get_ident() == self._ident

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Call *function* in the loop soon; nothing happens when it has ended."""
        try:
            self.loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            if not self.loop.is_closed():
                raise

    def stop(self) -> None:
        """End the loop, its thread and the idle threads; waits for them unless called from the loop."""
        self._refusal = self._refusal or _CLOSED
        self.post(self.loop.stop)
        if not self.inside():
            self._thread.join(_STOP_S)

    def abandon(self) -> None:
        """This process is a fork: the loop and its thread belong to the parent, which must not be disturbed."""
        self._refusal = (
            "Connection is closed: it belongs to the parent process and does not survive a fork; connect again here"
        )
        _ABANDONED.append(self)

    def _main(self) -> None:
        loop = self.loop
        try:
            loop.run_forever()
        finally:
            self._refusal = self._refusal or _CLOSED
            self._cancel_tasks()
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
            for waiter in list(self._waiters):
                waiter.settle(None, ConnectionLost(_CLOSED))
            self.threads.close()

    def _cancel_tasks(self) -> None:
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=_CANCEL_S))


# A closed loop would take itself out of the parent's selector, so it is kept as it is.
_ABANDONED: Final[list[Portal]] = []


class _Shared:
    """The one portal of the process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.portal: Portal | None = None


_SHARED: Final = _Shared()


def acquire(user: User) -> Portal:
    """The portal, kept alive for *user* until `release`."""
    with _SHARED.lock:
        portal = _SHARED.portal
        if portal is None:
            portal = _SHARED.portal = Portal()
        portal.users.add(user)
        return portal


def release(portal: Portal, user: User) -> None:
    """*user* needs it no more; without users it ends. Idempotent."""
    with _SHARED.lock:
        if user not in portal.users:
            return
        portal.users.discard(user)
        portal.changed.set()
        if portal.users:
            return
        if _SHARED.portal is portal:
            _SHARED.portal = None
    portal.stop()


def current() -> Portal | None:
    """The portal, if anybody uses it."""
    return _SHARED.portal


def _after_fork() -> None:
    # Only this thread is here: a lock that another one held would never be released.
    _SHARED.lock = threading.Lock()
    portal, _SHARED.portal = _SHARED.portal, None
    if portal is not None:
        portal.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
