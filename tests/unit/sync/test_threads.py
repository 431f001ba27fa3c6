"""Threads on demand, and who of them counts."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from hypha_rpc.errors import ConnectionLost, TooManyPending
from hypha_rpc.sync import threads as module
from hypha_rpc.sync.threads import Slots, Threads, ThreadsExecutor


class Work:
    """A job that remembers what became of it."""

    def __init__(self, function: Callable[[], object] = lambda: None) -> None:
        self._function = function
        self.done = threading.Event()
        self.thread: threading.Thread | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        self.thread = threading.current_thread()
        self._function()

    def deliver(self) -> None:
        self.done.set()

    def refuse(self, error: BaseException) -> None:
        self.error = error


@pytest.fixture
def pool():
    made = Threads()
    yield made
    made.close()


def test_every_job_gets_a_thread_though_others_are_stuck(pool):
    gate = threading.Event()
    stuck = [Work(gate.wait) for _ in range(50)]
    for work in stuck:
        pool.run(work)
    free = Work()
    pool.run(free)
    assert free.done.wait(5)
    gate.set()
    assert all(work.done.wait(5) for work in stuck)
    assert len({work.thread for work in stuck}) == 50


def test_an_idle_thread_is_used_again(pool):
    first, second = Work(), Work()
    pool.run(first)
    assert first.done.wait(5)
    while not pool._idle:
        assert not threading.Event().wait(0.001)
    pool.run(second)
    assert second.done.wait(5)
    assert second.thread is first.thread


def test_an_idle_thread_ends_after_a_while(pool, monkeypatch):
    monkeypatch.setattr(module, "_IDLE_S", 0.01)
    work = Work()
    pool.run(work)
    assert work.done.wait(5)
    work.thread.join(5)
    assert len(pool) == 0
    again = Work()
    pool.run(again)
    assert again.done.wait(5)


def test_closing_ends_all_idle_threads_and_refuses_work(pool):
    works = [Work() for _ in range(5)]
    for work in works:
        pool.run(work)
    assert all(work.done.wait(5) for work in works)
    pool.close()
    assert not any(work.thread.is_alive() for work in works)
    late = Work()
    pool.run(late)
    assert isinstance(late.error, ConnectionLost)


def test_there_is_a_bound(pool, monkeypatch):
    monkeypatch.setattr(module, "_MAX_THREADS", 1)
    gate = threading.Event()
    pool.run(Work(gate.wait))
    refused = Work()
    pool.run(refused)
    assert isinstance(refused.error, TooManyPending)
    gate.set()


def test_slots_start_in_order_and_no_more_than_the_limit():
    slots, started = Slots(2), []
    for number in range(5):
        slots.enter(lambda number=number: started.append(number))
    assert started == [0, 1]
    slots.leave()
    assert started == [0, 1, 2]
    slots.leave()
    slots.leave()
    assert started == [0, 1, 2, 3, 4]


def test_who_waits_for_a_remote_call_does_not_count():
    slots, started = Slots(1), []
    slots.enter(lambda: started.append("outer"))
    slots.enter(lambda: started.append("nested"))
    assert started == ["outer"]
    slots.leave()  # the outer one waits for a call
    assert started == ["outer", "nested"]
    slots.resume()  # it goes on, though the nested one still runs
    slots.enter(lambda: started.append("third"))
    slots.leave()
    assert started == ["outer", "nested"]
    slots.leave()
    assert started == ["outer", "nested", "third"]


def test_too_many_waiting_are_refused(monkeypatch):
    monkeypatch.setattr(module, "_MAX_WAITING", 1)
    slots = Slots(1)
    slots.enter(lambda: None)
    slots.enter(lambda: None)
    with pytest.raises(TooManyPending):
        slots.enter(lambda: None)


def test_the_executor_gives_results_and_errors(pool):
    executor = ThreadsExecutor(pool)
    assert executor.submit(divmod, 7, 2).result(5) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        executor.submit(divmod, 7, 0).result(5)
    pool.close()
    with pytest.raises(ConnectionLost):
        executor.submit(divmod, 7, 2).result(5)
