"""Threads on demand for users' functions, and who of them counts.

A thread is made when none is idle, and ends when it has been idle for a while or when
`Threads.close` is called. Knows nothing of connections, loops or the wire.

`Slots` bounds how many functions of one client run at once. A function that waits for a
remote call does not count: what it waits for may need a thread here (python-client §16,
X18).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol, TypeVar

from hypha_rpc.errors import ConnectionLost, TooManyPending

__all__ = ["CURRENT", "Job", "Slots", "Threads", "ThreadsExecutor"]

T = TypeVar("T")

_IDLE_S: Final = 5.0
_JOIN_S: Final = 2.0
_MAX_THREADS: Final = 4000
_MAX_WAITING: Final = 10_000


class Job(Protocol):
    """Work for one thread."""

    def run(self) -> None:
        """Do it; the outcome is kept."""

    def deliver(self) -> None:
        """Tell the outcome to whoever waits; the thread is idle again."""

    def refuse(self, error: BaseException) -> None:
        """There is no thread for it."""


class _Current(threading.local):
    """What the current thread is doing."""

    slots: Slots | None = None


CURRENT: Final = _Current()


class _Worker:
    """One thread."""

    def __init__(self, owner: Threads, number: int) -> None:
        self._owner = owner
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self.busy = True
        # Daemon: a function that never returns must not keep the process alive.
        self.thread = threading.Thread(target=self._work, name=f"hypha-rpc-call-{number}", daemon=True)

    def give(self, job: Job | None) -> None:
        """Run *job* next; None ends the thread."""
        self._jobs.put(job)

    def _work(self) -> None:
        while (job := self._next()) is not None:
            job.run()
            self.busy = False
            job.deliver()
            # Otherwise it would be held while the thread is idle.
            del job
            if not self._owner.rest(self):
                break
        self._owner.ended(self)

    def _next(self) -> Job | None:
        try:
            return self._jobs.get(timeout=_IDLE_S)
        except Empty:
            pass
        # It may have been given a job at this moment.
        return None if self._owner.retire(self) else self._jobs.get()


class Threads:
    """A pool that grows as needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._made = 0
        self._closed = False

    def __len__(self) -> int:
        return len(self._all)

    def run(self, job: Job) -> None:
        """Run *job* in a thread of its own; one that cannot get a thread is refused."""
        error: BaseException | None = None
        with self._lock:
            if self._closed:
                error = ConnectionLost("Connection is closed")
            elif self._idle:
                worker = self._idle.pop()
                worker.busy = True
                worker.give(job)
                return
            elif len(self._all) >= _MAX_THREADS:
                error = TooManyPending(f"{len(self._all)} functions run already")
            else:
                error = self._start(job)
        if error is not None:
            job.refuse(error)

    def _start(self, job: Job) -> BaseException | None:
        self._made += 1
        worker = _Worker(self, self._made)
        worker.give(job)
        try:
            worker.thread.start()
        except RuntimeError as error:
            # The machine has no more threads, or the interpreter is ending.
            return error
        self._all.add(worker)
        return None

    def rest(self, worker: _Worker) -> bool:
        """*worker* has nothing to do; False: it shall end."""
        with self._lock:
            if self._closed:
                return False
            self._idle.append(worker)
            return True

    def retire(self, worker: _Worker) -> bool:
        """*worker* was idle for long; False: it has just been given a job."""
        with self._lock:
            if worker not in self._idle:
                return False
            self._idle.remove(worker)
            return True

    def ended(self, worker: _Worker) -> None:
        """The thread of *worker* is ending."""
        with self._lock:
            self._all.discard(worker)

    def close(self) -> None:
        """End all idle threads and wait for them; the others end when their functions do."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            leaving = [worker for worker in self._all if not worker.busy]
        for worker in idle:
            worker.give(None)
        for worker in {*idle, *leaving}:
            if worker.thread is not threading.current_thread():
                worker.thread.join(_JOIN_S)


class Slots:
    """At most *limit* functions run at once; they start in the order in which they came.

    Args:
        limit: how many.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running = 0
        self._waiting: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()

    def enter(self, start: Callable[[], None]) -> None:
        """Call *start* now or when there is a slot; `leave` must follow.

        Raises:
            TooManyPending: too many wait already.
        """
        with self._lock:
            if self._running >= self._limit:
                if len(self._waiting) >= _MAX_WAITING:
                    raise TooManyPending(f"{len(self._waiting)} calls wait for a thread")
                self._waiting.append(start)
                return
            self._running += 1
        start()

    def leave(self) -> None:
        """A function has ended, or waits for a remote call from now on."""
        with self._lock:
            self._running -= 1
            if not self._waiting or self._running >= self._limit:
                return
            self._running += 1
            start = self._waiting.popleft()
        start()

    def resume(self) -> None:
        """A function goes on; never waits, so the limit may be passed for a moment."""
        with self._lock:
            self._running += 1


class _Submitted:
    """A job of the executor."""

    def __init__(self, future: Future[Any], call: Callable[[], Any]) -> None:
        self._future = future
        self._call = call

    def run(self) -> None:
        """Do it (`Job`)."""
        if not self._future.set_running_or_notify_cancel():
            return
        try:
            result = self._call()
        except BaseException as error:  # noqa: BLE001 - supervision boundary: it is the submitter's
            self._future.set_exception(error)
        else:
            self._future.set_result(result)

    def deliver(self) -> None:
        """The future has been told (`Job`)."""

    def refuse(self, error: BaseException) -> None:
        """There is no thread (`Job`)."""
        self._future.set_exception(error)


class ThreadsExecutor(ThreadPoolExecutor):
    """An executor on `Threads`.

    The standard one refuses work as soon as the main thread has ended, and a client that
    serves on needs it to look up host names.

    Args:
        threads: where to run.
    """

    def __init__(self, threads: Threads) -> None:
        super().__init__(max_workers=1)  # never used: no thread of its own is started
        self._own_threads = threads

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run a function in a thread."""
        future: Future[T] = Future()
        self._own_threads.run(_Submitted(future, lambda: fn(*args, **kwargs)))
        return future
