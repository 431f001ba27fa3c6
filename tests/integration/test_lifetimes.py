"""How long calls and the functions in them live: deadlines, cancellation, keep, release (extensions §2, §3)."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from hypha_rpc import keep
from hypha_rpc.errors import CallbackExpired, CallTimeout, DeadlineExceeded


class Recorder:
    """A function that waits for ever, and what became of it."""

    def __init__(self):
        self.started = asyncio.Event()
        self.ended = asyncio.Event()
        self.contexts = []

    async def wait(self, *args, **kwargs):
        self.contexts.append((args, kwargs))
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


async def within(event, seconds=5):
    await asyncio.wait_for(event.wait(), seconds)


# -- deadlines -----------------------------------------------------------------------------


async def test_a_timeout_is_a_setting_of_the_call_not_an_argument(pair):
    await pair.provider.register_service({"id": "svc", "show": lambda **kwargs: kwargs})
    service = await pair.consumer.get_service("svc")
    assert await service.show.options(timeout=5)(timeout=1, progress=2, silence=3) == {
        "timeout": 1,
        "progress": 2,
        "silence": 3,
    }


async def test_a_deadline_ends_the_call_here_and_the_function_there(pair):
    recorder = Recorder()
    await pair.provider.register_service({"id": "svc", "wait": recorder.wait})
    service = await pair.consumer.get_service("svc")
    with pytest.raises(DeadlineExceeded, match="Method call timed out:") as caught:
        await service.wait.options(timeout=0.3)()
    assert caught.value.may_have_run
    await within(recorder.ended)
    assert pair.consumer.rpc.stats()["calls"] == 0


async def test_calls_made_while_serving_end_with_the_call(pair, eventually):
    recorder = Recorder()
    await pair.consumer.register_service({"id": "deep", "wait": recorder.wait, "config": {"require_context": True}})
    deep = await pair.provider.get_service("deep")

    async def middle():
        return await deep.wait()

    await pair.provider.register_service({"id": "svc", "middle": middle})
    service = await pair.consumer.get_service("svc")
    with pytest.raises(DeadlineExceeded):
        await service.middle.options(timeout=0.5)()
    await within(recorder.ended)
    [(_, kwargs)] = recorder.contexts
    assert 0 < kwargs["context"]["deadline"] <= 0.5
    await eventually(lambda: not pair.provider.rpc.stats()["calls"] and not pair.consumer.rpc.stats()["running"])


async def test_a_task_that_outlives_the_call_is_free_of_its_deadline(pair):
    done = asyncio.get_running_loop().create_future()
    await pair.consumer.register_service({"id": "deep", "echo": lambda value: value})
    deep = await pair.provider.get_service("deep")
    answered = asyncio.Event()
    tasks = []

    async def afterwards():
        await answered.wait()
        done.set_result(await deep.echo(7))

    async def middle():
        tasks.append(asyncio.ensure_future(afterwards()))
        return "going on"

    await pair.provider.register_service({"id": "svc", "middle": middle})
    service = await pair.consumer.get_service("svc")
    assert await service.middle.options(timeout=0.2)() == "going on"
    await asyncio.sleep(0.3)  # the deadline has passed
    answered.set()
    assert await asyncio.wait_for(done, 5) == 7


async def test_a_longest_silence_can_be_set_for_one_call(pair):
    never = asyncio.Event()
    await pair.provider.register_service({"id": "svc", "wait": never.wait})
    service = await pair.consumer.get_service("svc")
    pair.provider.rpc.port.pipe = None  # signs of life are kept back, as with a broken link
    with pytest.raises(CallTimeout, match=r"silent for 0\.2 s"):
        await service.wait.options(silence=0.2)()


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"timeout": 0}, ValueError),
        ({"timeout": -1}, ValueError),
        ({"timeout": "5"}, TypeError),
        ({"timeout": True}, TypeError),
        ({"silence": float("nan")}, TypeError),
        ({"progress": 5}, TypeError),
    ],
)
async def test_a_senseless_setting_is_refused(pair, settings, error):
    await pair.provider.register_service({"id": "svc", "f": len})
    service = await pair.consumer.get_service("svc")
    with pytest.raises(error, match=next(iter(settings))):
        service.f.options(**settings)


# -- cancellation --------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cancel", "wait_for", "future"])
async def test_cancelling_stops_the_remote_coroutine(pair, how, eventually):
    for _ in range(3):
        recorder = Recorder()
        await pair.provider.register_service({"id": "svc", "wait": recorder.wait}, overwrite=True)
        service = await pair.consumer.get_service("svc")
        if how == "wait_for":
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(service.wait(), 0.2)
        else:
            call = service.wait() if how == "future" else asyncio.ensure_future(_await(service.wait))
            await within(recorder.started)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        await within(recorder.ended, 1)
        assert pair.consumer.rpc.stats()["calls"] == 0
        await eventually(lambda: pair.provider.rpc.stats()["running"] == 0)


async def _await(function):
    return await function()


class Stuck:
    """A generator whose second step waits for ever."""

    def __init__(self):
        self.waiting = asyncio.Event()
        self.ended = asyncio.Event()

    async def items(self):
        try:
            yield 1
            self.waiting.set()
            await asyncio.Event().wait()
        finally:
            self.ended.set()


@pytest.mark.parametrize("how", ["aclose", "aclose of another task", "cancel", "wait_for", "break"])
async def test_leaving_a_stream_stops_the_step_that_runs(pair, how, eventually):
    for _ in range(3):
        stuck = Stuck()
        await pair.provider.register_service({"id": "svc", "items": stuck.items}, overwrite=True)
        service = await pair.consumer.get_service("svc")
        stream = await service.items()
        assert await anext(stream) == 1
        await within(stuck.waiting)
        begun = asyncio.get_running_loop().time()
        if how == "aclose":
            await stream.aclose()
            assert stuck.ended.is_set(), "closing returns when the generator has ended"
        elif how == "break":
            del stream
            gc.collect()
        elif how == "wait_for":
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(stream), 0.05)
        else:
            waiting = asyncio.ensure_future(_await(stream.__anext__))
            await asyncio.sleep(0)
            if how == "cancel":
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            else:
                await stream.aclose()
                with pytest.raises((StopAsyncIteration, asyncio.CancelledError)):
                    await asyncio.wait_for(waiting, 1)
        await within(stuck.ended, 1)
        assert asyncio.get_running_loop().time() - begun < 0.5
        for client in (pair.provider, pair.consumer):
            await eventually(lambda stats=client.rpc.stats: not stats()["running"] + stats()["calls"])
            await eventually(lambda stats=client.rpc.stats: not stats()["sessions"] + stats()["tasks"])


# -- functions that are kept -----------------------------------------------------------------


async def test_a_kept_callback_lives_until_its_receiver_lets_go(pair, eventually):
    held = []
    await pair.provider.register_service({"id": "hub", "subscribe": held.append})
    hub = await pair.consumer.get_service("hub")
    await hub.subscribe(keep(lambda x: x * 2))
    assert await held[0](21) == 42
    held.clear()
    await eventually(lambda: pair.consumer.rpc.stats()["sessions"] == 0)
    assert pair.provider.rpc.stats()["held"] == 0


async def test_a_callback_that_was_not_kept_says_how_to(pair):
    held = []
    await pair.provider.register_service({"id": "hub", "subscribe": held.append})
    hub = await pair.consumer.get_service("hub")
    await hub.subscribe(lambda x: x)
    with pytest.raises(CallbackExpired, match=r"send keep\(function\)"):
        await held[0](1)


async def test_functions_of_results_are_freed_with_what_they_hold(pair, eventually):
    class Model:
        def predict(self, x):
            return x + 1

    models = []

    def load():
        model = Model()
        models.append(weakref.ref(model))
        return {"predict": model.predict}

    await pair.provider.register_service({"id": "zoo", "load": load})
    zoo = await pair.consumer.get_service("zoo")
    model = await zoo.load()
    assert await model.predict(1) == 2
    assert models[0]() is not None
    del model
    gc.collect()
    await eventually(lambda: models[0]() is None)
    assert pair.provider.rpc.stats()["sessions"] == 0


async def test_a_function_can_be_disposed_of(pair, eventually):
    await pair.provider.register_service({"id": "zoo", "make": lambda: lambda: 1})
    zoo = await pair.consumer.get_service("zoo")
    function = await zoo.make()
    assert await function() == 1
    function.dispose()
    await eventually(lambda: pair.provider.rpc.stats()["sessions"] == 0)
    with pytest.raises(CallbackExpired):
        await function()
    zoo.make.dispose()
    assert await (await zoo.make())() == 1


async def test_a_call_that_waits_for_the_link_keeps_its_function(pair, eventually):
    await pair.provider.register_service({"id": "zoo", "make": lambda: lambda: "alive"})
    zoo = await pair.consumer.get_service("zoo")
    function = await zoo.make()
    await pair.consumer.rpc._connection._websocket.close(1011)
    await eventually(lambda: not pair.consumer.rpc.outbox.open)
    call = function()
    del function
    gc.collect()
    assert await asyncio.wait_for(call, 10) == "alive"
    del call
    gc.collect()
    await eventually(lambda: pair.provider.rpc.stats()["sessions"] == 0)


async def test_a_listener_survives_a_moment_without_its_holder(pair, eventually):
    held = []
    await pair.provider.register_service({"id": "hub", "subscribe": held.append})
    hub = await pair.consumer.get_service("hub")
    await hub.subscribe({"_rintf": True, "on": lambda x: x})
    gone = asyncio.Event()
    pair.consumer.rpc.on("remote_client_disconnected", lambda _: gone.set())
    await pair.provider.rpc._connection._websocket.close(1011)
    await within(gone)
    await eventually(lambda: pair.provider.rpc.stats()["reconnects"] == 1 and pair.provider.rpc.outbox.open)
    assert await asyncio.wait_for(held[0].on(5), 10) == 5
