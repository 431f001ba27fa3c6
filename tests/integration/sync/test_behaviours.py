"""The blocking face does what the async API does (behaviours K, python-client §16)."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import inspect
import io
import threading

import numpy
import pytest

import hypha_rpc
from hypha_rpc import connect_to_server_sync, get_remote_service_sync, keep
from hypha_rpc.errors import CallTimeout, RemoteException, ServiceNotFound
from hypha_rpc.rpc import ObjectProxy
from hypha_rpc.sync import SyncHyphaServer, connect_to_server, get_remote_service

DEPTH = 50


def hello(name: str, greeting: str = "Hello") -> str:
    """Greet somebody.

    Args:
        name: whom to greet
        greeting: how
    """
    return f"{greeting} {name}"


# -- K ------------------------------------------------------------------------------------


def test_everything_of_a_session_blocks(server_url):  # B215
    with connect_to_server_sync({"server_url": server_url}) as server:
        assert isinstance(server, SyncHyphaServer)
        assert isinstance(server, ObjectProxy)
        assert isinstance(server.generate_token(), str)
        info = server.register_service({"id": "hello-world", "hello": hello, "config": {"visibility": "public"}})
        assert info.id == f"{server.config.workspace}/{server.config.client_id}:hello-world"
        assert info.id in {found.id for found in server.list_services()}
        service = server.get_service("hello-world")
        assert service.hello("John") == "Hello John"
        assert service.hello(name="John", greeting="Hi") == "Hi John"
        assert server.echo({"a": [1]}) == {"a": [1]}
        server.unregister_service("hello-world")
        with pytest.raises(ServiceNotFound):
            server.get_service("hello-world")
    with pytest.raises(ConnectionError, match="Connection is closed"):
        service.hello("John")
    server.disconnect()


def test_one_service_by_its_url(blocking):  # B216
    blocking.provider.register_service({"id": "svc", "hello": hello, "config": {"visibility": "public"}})
    url = f"{blocking.url}/{blocking.workspace}/services/provider:svc"
    with get_remote_service_sync(url) as service:
        assert service.hello("John") == "Hello John"
    with pytest.raises(ConnectionError):
        service.hello("John")
    service = get_remote_service(url)
    assert service.hello("Jane") == "Hello Jane"
    service.disconnect()


def test_a_service_function_calls_services_that_lead_back(blocking):  # B217
    provider, consumer = blocking.provider, blocking.consumer
    provider.register_service(
        {
            "id": "outer",
            "through_own": lambda n: provider.get_service("inner").double(n) + 1,
            "through_other": lambda n: consumer.get_service("inner").double(n) + 2,
        }
    )
    provider.register_service({"id": "inner", "double": lambda n: 2 * n})
    service = consumer.get_service("outer")
    assert service.through_own(5) == 11
    assert service.through_other(5) == 12


async def test_in_a_running_loop_with_an_async_client_and_big_arrays(server_url):  # B218
    server = connect_to_server(server_url=server_url)
    try:
        server.register_service({"id": "arrays", "negate": lambda array: -array})
        token = server.generate_token()
        async with hypha_rpc.connect_to_server({"server_url": server_url, "token": token}) as other:
            array = numpy.arange(16 * 2**20, dtype="float32")  # 64 MiB
            remote = await other.get_service("arrays")
            assert numpy.array_equal(await remote.negate(array), -array)
            await other.register_service({"id": "async-arrays", "double": lambda value: 2 * value})
            # The answer comes from this loop, so the blocking call is made in a thread.
            service = await asyncio.to_thread(server.get_service, "async-arrays")
            assert numpy.array_equal(await asyncio.to_thread(service.double, array), 2 * array)
        assert server.echo("in the loop itself") == "in the loop itself"
    finally:
        server.disconnect()


@pytest.mark.parametrize("depth", [10, DEPTH])
def test_callbacks_nested_deeply_return(blocking, depth):  # B219
    def ping(n, back):
        return back(n - 1, ping) if n else "bottom"

    blocking.provider.register_service({"id": "nest", "ping": ping})
    service = blocking.consumer.get_service("nest")

    def pong(n, back):
        return back(n - 1, pong) if n else "bottom"

    assert service.ping(depth, pong) == "bottom"


def test_services_nested_deeply_return_though_one_worker_is_allowed(server_url):  # B219, X18
    with connect_to_server(server_url=server_url, sync_max_workers=1) as server:
        service: list[ObjectProxy] = []
        server.register_service({"id": "nest", "down": lambda n: service[0].down(n - 1) + 1 if n else 0})
        service.append(server.get_service("nest"))
        assert service[0].down(DEPTH) == DEPTH


def test_functions_in_returned_values_and_generators_in_arguments(blocking):  # B220, X17, X19
    kinds = []

    def total(items):
        kinds.append((inspect.isgenerator(iter(items)), hasattr(items, "__anext__")))
        return sum(items)

    blocking.provider.register_service(
        {"id": "svc", "make": lambda n: {"add": lambda m: n + m, "more": [lambda: n]}, "total": total}
    )
    service = blocking.consumer.get_service("svc")
    made = service.make(3)
    assert made.add(4) == 7
    assert made.more[0]() == 3
    assert service.total(n * n for n in range(5)) == 30
    assert service.total(iter([1, 2])) == 3
    assert kinds == [(False, False)] * 2


def test_disconnecting_ends_the_thread(server_url):  # B221, X20
    before = threading.active_count()
    server = connect_to_server(server_url=server_url)
    server.register_service({"id": "svc", "f": hello})
    assert server.get_service("svc").f("you") == "Hello you"
    assert threading.active_count() > before
    server.disconnect()
    assert threading.active_count() == before


# -- values in both directions ------------------------------------------------------------------


def test_functions_keep_name_doc_schema_and_signature(blocking):
    blocking.provider.register_service({"id": "svc", "hello": hello, "bare": lambda x: x})
    service = blocking.consumer.get_service("svc")
    remote = service.hello
    assert remote.__name__ == "hello"
    assert remote.__doc__ == hello.__doc__
    assert str(inspect.signature(remote)) == "(name: str, greeting: str = ...)"
    assert service.bare.__doc__ is None
    assert {"hello", "bare"} < set(dir(service))
    assert "hello(name: str" in service._repr_html_()
    assert "Greet somebody." in remote._repr_html_()
    (found,) = [info for info in blocking.consumer.list_services() if info.id.endswith(":svc")]
    assert found.service_schema.hello.function.parameters.required == ["name"]
    assert found.service_schema.hello.function.parameters.properties.name.description == "whom to greet"


def test_a_service_with_context_gets_the_caller(blocking):
    def who(context=None):
        return [context["from"], context.user["id"]]

    blocking.provider.register_service({"id": "svc", "who": who, "config": {"require_context": True}})
    caller, user = blocking.consumer.get_service("svc").who()
    assert caller == f"{blocking.workspace}/consumer"
    assert user == blocking.consumer.config.user.id


def test_plain_functions_run_in_threads_and_async_ones_in_the_loop(blocking):
    where = {}

    def plain(callback):
        where["plain"] = threading.current_thread().name
        return callback(1) + 1

    async def coroutine(callback):
        where["async"] = threading.current_thread().name
        return await callback(10) + 1

    blocking.provider.register_service({"id": "svc", "plain": plain, "coroutine": coroutine})
    service = blocking.consumer.get_service("svc")

    def callback(n):
        where["callback"] = threading.current_thread().name
        return 2 * n

    async def async_callback(n):
        return 3 * n

    assert service.plain(callback) == 3
    assert service.coroutine(callback) == 21
    assert service.plain(async_callback) == 4
    assert where["plain"].startswith("hypha-rpc-call")
    assert where["callback"].startswith("hypha-rpc-call")
    assert where["async"] == "hypha-rpc-sync"


def test_functions_run_in_the_context_where_they_were_handed_over(blocking):
    where = contextvars.ContextVar("where", default="nowhere")
    where.set("registered")
    service = {"id": "svc", "here": lambda: where.get(), "apply": lambda f: f()}
    blocking.provider.register_service(service)
    where.set("called")
    for client in (blocking.consumer, blocking.provider):
        remote = client.get_service("svc")
        assert remote.here() == "registered"
        assert remote.apply(lambda: where.get()) == "called"


def test_callback_arguments_that_are_functions_block(blocking):
    blocking.provider.register_service({"id": "svc", "apply": lambda f, x: f(x, lambda y: y + 1)})
    assert blocking.consumer.get_service("svc").apply(lambda x, inner: inner(inner(x)), 1) == 3


def test_generators_come_back_plain_and_close_early(blocking, until):
    closed = threading.Event()

    def count(n):
        try:
            yield from range(n)
        finally:
            closed.set()

    async def async_count(n):
        for i in range(n):
            yield i

    blocking.provider.register_service({"id": "svc", "count": count, "async_count": async_count})
    service = blocking.consumer.get_service("svc")
    assert list(service.count(5)) == [0, 1, 2, 3, 4]
    assert list(service.async_count(3)) == [0, 1, 2]
    closed.clear()
    items = service.count(1000)
    assert next(items) == 0
    items.close()
    until(closed.is_set, what="the generator's finally")
    assert list(items) == []
    closed.clear()
    for item in service.count(1000):
        if item == 3:
            break
    until(closed.is_set, what="the generator's finally after break")


def test_an_error_in_a_generator_is_raised_where_it_is_iterated(blocking):
    def broken():
        yield 1
        raise KeyError("gone")

    blocking.provider.register_service({"id": "svc", "broken": broken})
    items = blocking.consumer.get_service("svc").broken()
    assert next(items) == 1
    with pytest.raises(KeyError, match="gone"):
        next(items)
    with pytest.raises(StopIteration):
        next(items)


def test_a_remote_generator_is_passed_on(blocking):
    blocking.provider.register_service(
        {"id": "svc", "count": lambda n: iter(range(n)), "total": lambda items: sum(items)}
    )
    service = blocking.consumer.get_service("svc")
    assert service.total(service.count(5)) == 10


def test_files_cross_in_both_directions(blocking, tmp_path):
    path = tmp_path / "data.txt"
    path.write_text("one\ntwo\n")
    opened = []

    def open_it():
        opened.append(path.open())
        return opened[-1]

    def head(file):
        return [file.readline(), list(file)]

    blocking.provider.register_service({"id": "svc", "head": head, "open": open_it})
    service = blocking.consumer.get_service("svc")
    assert service.head(io.StringIO("a\nb\nc\n")) == ["a\n", ["b\n", "c\n"]]
    with service.open() as file:
        assert file.read(4) == "one\n"
        assert list(file) == ["two\n"]
    assert opened[0].closed
    assert service.head(service.open()) == ["one\n", ["two\n"]]
    opened[1].close()


def test_arrays_and_nested_values_are_equal_after_the_round_trip(blocking):
    blocking.provider.register_service({"id": "svc", "same": lambda value: value})
    same = blocking.consumer.get_service("svc").same
    value = {"a": [1, {"b": None}], "c": b"\0\1", "s": {1, 2}, "deep": [[[[{}]]]]}
    assert same(value) == value
    array = numpy.ones((3, 4), "complex64")
    assert numpy.array_equal(same(array), array)


def test_a_function_of_the_caller_that_comes_back_is_itself(blocking):
    blocking.provider.register_service({"id": "svc", "same": lambda value: value})
    assert blocking.consumer.get_service("svc").same([hello]) == [hello]


def test_an_interface_lives_on_and_runs_in_threads(blocking, until):
    listeners, heard = [], []
    blocking.provider.register_service({"id": "svc", "listen": listeners.append})
    interface = {"_rintf": True, "notify": lambda n: heard.append((n, threading.current_thread().name))}
    blocking.consumer.get_service("svc").listen(interface)
    assert interface["_rintf_service_id"].startswith("_rintf_")
    listeners[0].notify(1)
    ((number, thread),) = heard
    assert number == 1
    assert thread.startswith("hypha-rpc-call")


def test_a_kept_callback_lives_on_until_it_is_disposed_of(blocking):
    callbacks = []
    blocking.provider.register_service({"id": "svc", "keep": callbacks.append})
    kept = keep(lambda n: (n, threading.current_thread().name))
    blocking.consumer.get_service("svc").keep(kept)
    number, thread = callbacks[0](4)
    assert number == 4
    assert thread.startswith("hypha-rpc-call")
    kept.dispose()
    with pytest.raises(RemoteException):
        callbacks[0](5)


def test_objects_are_services(blocking):
    class Counter:
        id = "counter"

        def __init__(self):
            self.count = 0

        def add(self, n=1):
            self.count += n
            return self.count

    blocking.provider.register_service(Counter())
    service = blocking.consumer.get_service("counter")
    assert [service.add(), service.add(n=2)] == [1, 3]
    blocking.provider.export({"f": lambda: "exported"})
    assert blocking.consumer.get_app("provider").f() == "exported"


def test_remote_functions_of_another_connection_are_forwarded(blocking):
    blocking.provider.register_service({"id": "inner", "f": lambda n: n + 1})
    inner = blocking.consumer.get_service("inner")
    blocking.consumer.register_service({"id": "outer", "f": inner.f})
    assert blocking.provider.get_service("outer").f(1) == 2


def test_errors_have_the_classes_of_the_async_api(blocking):
    def fail():
        raise ValueError("no")

    def stop():
        raise SystemExit(3)

    blocking.provider.register_service({"id": "svc", "fail": fail, "stop": stop})
    service = blocking.consumer.get_service("svc")
    with pytest.raises(ValueError, match="RemoteError:no") as caught:
        service.fail()
    assert isinstance(caught.value, RemoteException)
    with pytest.raises(RemoteException, match="SystemExit: 3"):
        service.stop()
    with pytest.raises(TypeError):
        service.fail(object())


def test_options_of_a_call(blocking):
    release = threading.Event()
    told = []
    blocking.provider.register_service({"id": "svc", "wait": lambda: release.wait(10), "size": len})
    service = blocking.consumer.get_service("svc")
    with pytest.raises(CallTimeout):
        service.wait.options(timeout=0.2)()
    release.set()
    assert service.size.options(progress=lambda done, total: told.append((done, total)))(bytes(3_000_000)) == 3_000_000
    with pytest.raises(TypeError):
        blocking.consumer.get_service.options(timeout=1)


def test_events_are_handled_in_order_in_threads(blocking, until):
    heard = []

    def handler(message):
        heard.append((message["data"], threading.current_thread().name))

    server = blocking.consumer
    server.on("numbers", handler)
    server.subscribe("numbers")
    for number in range(20):
        blocking.provider.emit({"type": "numbers", "to": "*", "data": number})
    until(lambda: len(heard) == 20, what="all events")
    assert [number for number, _ in heard] == list(range(20))
    assert all(thread.startswith("hypha-rpc-call") for _, thread in heard)
    server.off("numbers", handler)
    server.once("local", lambda message: heard.append(message["type"]))
    server.emit({"type": "local"})
    server.emit({"type": "local"})
    until(lambda: heard[-1] == "local", what="the local event")
    assert len(heard) == 21


def test_an_event_handler_may_block_and_call(blocking, until):
    answers = []
    server = blocking.consumer
    server.on("ask", lambda message: answers.append(server.echo(message["data"])))
    server.emit({"type": "ask", "data": 7})
    until(lambda: answers == [7], what="the answer")


def test_a_failing_handler_becomes_an_error_event(blocking, until):
    errors = []
    blocking.consumer.on("error", errors.append)
    blocking.consumer.on("bad", lambda message: 1 / 0)
    blocking.consumer.emit({"type": "bad"})
    until(lambda: errors and isinstance(errors[0], ZeroDivisionError), what="the error event")


def test_codecs(blocking):
    class Point:
        def __init__(self, x, y):
            self.x, self.y = x, y

    codec = {
        "name": "point",
        "type": Point,
        "encoder": lambda point: {"x": point.x, "y": point.y},
        "decoder": lambda value: Point(value["x"], value["y"]),
    }
    blocking.provider.register_codec(codec)
    blocking.consumer.register_codec(codec)
    blocking.provider.register_service({"id": "svc", "swap": lambda point: Point(point.y, point.x)})
    swapped = blocking.consumer.get_service("svc").swap(Point(1, 2))
    assert (swapped.x, swapped.y) == (2, 1)


# -- threads ------------------------------------------------------------------------------------------


def test_200_calls_of_200_threads_at_once(blocking):
    blocking.provider.register_service({"id": "svc", "double": lambda n: 2 * n})
    service = blocking.consumer.get_service("svc")
    start = threading.Barrier(200)

    def call(n):
        start.wait(10)
        return service.double(n)

    with concurrent.futures.ThreadPoolExecutor(200) as pool:
        assert list(pool.map(call, range(200))) == [2 * n for n in range(200)]


def test_a_worker_limit_holds_for_functions_that_run(server_url):
    running, most = [], []

    def slow():
        running.append(1)
        most.append(len(running))
        threading.Event().wait(0.01)
        running.pop()

    with connect_to_server(server_url=server_url, sync_max_workers=2) as server:
        server.register_service({"id": "svc", "slow": slow})
        with connect_to_server(server_url=server_url, token=server.generate_token()) as other:
            remote = other.get_service("svc").slow
            with concurrent.futures.ThreadPoolExecutor(10) as pool:
                list(pool.map(lambda _: remote(), range(30)))
    assert max(most) == 2


def test_a_blocking_call_in_the_loop_thread_is_refused(blocking):
    provider = blocking.provider

    async def wrong():
        return provider.echo(1)

    async def right():
        return await provider.echo.aio(1)

    provider.register_service({"id": "svc", "wrong": wrong, "right": right})
    service = blocking.consumer.get_service("svc")
    with pytest.raises(RuntimeError, match=r"await echo\.aio"):
        service.wrong()
    assert service.right() == 1


def test_pending_calls_end_when_another_thread_disconnects(blocking):
    blocking.provider.register_service({"id": "svc", "wait": lambda: threading.Event().wait(1)})
    service = blocking.consumer.get_service("svc")
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(service.wait), pool.submit(blocking.consumer.serve)]
        pool.submit(blocking.consumer.disconnect).result(10)
        with pytest.raises(ConnectionError):
            calls[0].result(10)
        assert calls[1].result(10) is None


def test_a_function_may_disconnect_its_own_client(server_url, until):
    before = threading.active_count()
    server = connect_to_server(server_url=server_url)
    server.register_service({"id": "svc", "leave": server.disconnect})
    with pytest.raises(ConnectionError):
        server.get_service("svc").leave()
    server.disconnect()
    until(lambda: threading.active_count() == before, what="the end of all threads")
