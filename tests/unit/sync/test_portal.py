"""The shared loop thread and the way into it."""

from __future__ import annotations

import asyncio
import contextvars
import signal
import threading

import pytest

from hypha_rpc.errors import ConnectionLost
from hypha_rpc.sync import portal as module
from hypha_rpc.sync.portal import User, acquire, current, release


@pytest.fixture
def user():
    return User()


@pytest.fixture
def portal(user):
    made = acquire(user)
    yield made
    release(made, user)


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def test_results_of_coroutines_futures_and_plain_functions_arrive(portal):
    assert portal.run(double, 4) == 8
    assert portal.run(lambda: asyncio.ensure_future(double(5))) == 10
    assert portal.run(lambda: 3) == 3


def test_errors_arrive_as_they_are(portal):
    async def fail():
        raise KeyError("x")

    with pytest.raises(KeyError):
        portal.run(fail)
    with pytest.raises(ZeroDivisionError):
        portal.run(lambda: 1 / 0)


def test_the_thread_is_shared_and_ends_with_the_last_user():
    before = threading.active_count()
    first, second = User(), User()
    one, two = acquire(first), acquire(second)
    assert one is two is current()
    assert threading.active_count() == before + 1
    release(one, first)
    release(one, first)
    assert two.run(double, 1) == 2
    release(two, second)
    assert current() is None
    assert threading.active_count() == before
    with pytest.raises(ConnectionLost):
        two.run(double, 1)


def test_a_call_in_the_thread_of_the_loop_is_refused(portal):
    async def again():
        portal.run(double, 1)

    with pytest.raises(RuntimeError, match=r"await double\.aio"):
        portal.run(again)


def test_calls_under_way_end_with_the_loop(user):
    portal = acquire(user)
    errors = []

    def call():
        try:
            portal.run(asyncio.sleep, 60)
        except ConnectionLost as error:
            errors.append(error)

    threads = [threading.Thread(target=call) for _ in range(10)]
    for thread in threads:
        thread.start()
    while len(portal._waiters) < 10:
        assert not threading.Event().wait(0.001)
    release(portal, user)
    for thread in threads:
        thread.join(5)
    assert len(errors) == 10


def test_an_exception_of_a_signal_handler_cancels_the_call(portal):
    cancelled, begun = threading.Event(), threading.Event()

    async def forever():
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def interrupt():
        assert begun.wait(5)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    helper = threading.Thread(target=interrupt)
    helper.start()
    with pytest.raises(KeyboardInterrupt):
        portal.run(forever)
    helper.join()
    assert cancelled.is_set()
    assert portal.run(double, 1) == 2


def test_context_variables_of_the_caller_hold_in_the_loop(portal):
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(7)
    assert portal.run(variable.get) == 7


async def test_a_running_loop_that_stands_still_is_told(portal, monkeypatch):
    monkeypatch.setattr(module, "_WARN_S", 0.01)
    with pytest.warns(RuntimeWarning, match=r"await connect_to_server"):
        portal.run(asyncio.sleep, 0.05)


def test_a_fork_leaves_the_loop_of_the_parent_alone(user):
    portal = acquire(user)
    module._after_fork()
    with pytest.raises(ConnectionLost, match="fork"):
        portal.run(double, 1)
    assert current() is None
    module._ABANDONED.remove(portal)
    portal.stop()


def test_the_loop_looks_up_names_without_the_executor_of_the_standard_library(portal):
    async def thread_name():
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, lambda: threading.current_thread().name)

    assert portal.run(thread_name).startswith("hypha-rpc-call")
