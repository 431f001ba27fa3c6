"""Registering, fetching, removing services; calls and results (behaviours C, D, E, F)."""

from __future__ import annotations

import asyncio
import functools
import threading

import numpy
import pytest

from hypha_rpc import connect_to_server, run_in_executor
from hypha_rpc.errors import (
    CallbackExpired,
    CallTimeout,
    MethodNotFound,
    RemoteException,
    SerializationError,
    ServiceNotFound,
)
from hypha_rpc.rpc import ObjectProxy, RemoteService


class Counter:
    """A service as an object."""

    id = "counter"
    name = "Counter"

    def __init__(self):
        self.count = 0

    def add(self, n=1):
        """Count up."""
        self.count += n
        return self.count

    async def later(self):
        await asyncio.sleep(0)
        return self.count

    def _hidden(self):
        return "never"


def hello(name: str, greeting: str = "Hello") -> str:
    """Greet somebody.

    Args:
        name: whom to greet
        greeting: how
    """
    return f"{greeting} {name}"


# -- C: registering ------------------------------------------------------------------------


async def test_registering_tells_the_absolute_id(pair):  # B030
    info = await pair.provider.register_service({"id": "svc", "f": len, "config": {"custom": [1, 2]}})
    assert info.id == info["id"] == f"{pair.workspace}/provider:svc"
    assert info.config.workspace == pair.workspace
    assert info.config.custom == [1, 2]
    assert info.type == "generic"


async def test_functions_keep_name_doc_and_schema(pair):  # B031, B244, B245
    await pair.provider.register_service({"id": "svc", "hello": hello})
    service = await pair.consumer.get_service("svc")
    assert isinstance(service, RemoteService)
    assert service.hello.__name__ == "hello"
    assert service.hello.__doc__.startswith("Greet somebody.")
    (record,) = [found for found in await pair.consumer.list_services() if found.id == service.id]
    assert record.service_schema.hello == {
        "type": "function",
        "function": {
            "name": "hello",
            "description": "Greet somebody.",
            "parameters": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "description": "whom to greet"},
                    "greeting": {"type": "string", "description": "how"},
                },
                "required": ["name"],
            },
        },
    }


async def test_members_may_have_the_names_of_dict_methods(pair):  # B032
    names = ("get", "put", "pop", "keys", "values", "items")
    await pair.provider.register_service({"id": "dictlike", **{n: functools.partial(str.upper, n) for n in names}})
    service = await pair.consumer.get_service("dictlike")
    for name in names:
        assert await getattr(service, name)() == name.upper()
    assert set(names) <= set(dict.keys(service))


@pytest.mark.parametrize("options", [{"overwrite": True}, None], ids=["keyword", "dict"])
async def test_overwriting_replaces_the_functions(pair, options):  # B033
    await pair.provider.register_service({"id": "svc", "f": lambda: 1})
    service = await pair.consumer.get_service("svc")
    assert await service.f() == 1
    new = {"id": "svc", "f": lambda: 2}
    await (
        pair.provider.register_service(new, **options)
        if options
        else pair.provider.register_service(new, {"overwrite": True})
    )
    assert await service.f() == 2


async def test_the_same_id_again_is_refused(pair):  # B034
    await pair.provider.register_service({"id": "svc", "f": lambda: 1})
    with pytest.raises(Exception, match="Service already exists: svc"):
        await pair.provider.register_service({"id": "svc", "f": lambda: 2})
    assert await (await pair.consumer.get_service("svc")).f() == 1


async def test_unregistering_takes_every_id_form(pair):  # B035, B206
    for form in ("svc", "provider:svc", f"{pair.workspace}/provider:svc"):
        await pair.provider.register_service({"id": "svc", "f": lambda: 1})
        service = await pair.consumer.get_service("svc")
        await pair.provider.unregister_service(form)
        with pytest.raises(ServiceNotFound, match="Service not found"):
            await pair.consumer.get_service("svc")
        with pytest.raises(MethodNotFound, match="Method expired or not found"):
            await service.f()
    with pytest.raises(KeyError, match="Service not found: svc"):
        await pair.provider.unregister_service("svc")


async def test_unregistering_anothers_service_keeps_the_own(pair):  # B046
    await pair.provider.register_service({"id": "svc", "f": lambda: "mine"})
    with pytest.raises(ValueError, match="not a service of this client"):
        await pair.provider.unregister_service("consumer:svc")
    assert await (await pair.consumer.get_service("svc")).f() == "mine"


async def test_export_registers_an_object_as_default(pair):  # B036
    await pair.provider.export(Counter())
    app = await pair.consumer.get_app("provider")
    assert await app.add(3) == 3
    assert "_hidden" not in app
    assert [entry.id for entry in await pair.consumer.list_apps()] == [f"{pair.workspace}/provider:default"]


async def test_objects_lambdas_plain_and_async_functions_mix(pair):  # B037
    counter = Counter()
    await pair.provider.register_service(counter)
    service = await pair.consumer.get_service("counter")
    assert [await service.add(), await service.add(n=4), await service.later()] == [1, 5, 5]
    with pytest.raises(AttributeError):
        _ = service._hidden


@pytest.mark.parametrize(
    ("case", "names"),
    [
        ("camel", {"helloWorld"}),
        ("snake", {"hello_world"}),
        (None, {"hello_world"}),
        ("camel+snake", {"helloWorld", "hello_world"}),
    ],
)
async def test_case_conversion(pair, case, names):  # B038
    await pair.provider.register_service({"id": "svc", "hello_world": lambda: "hi"})
    service = await pair.consumer.get_service("svc", case_conversion=case)
    assert {key for key in dict.keys(service) if key.lower().startswith("hello")} == names
    for name in names:
        assert await service[name]() == "hi"


async def test_a_local_registration_is_nobodys_business(pair):  # B043, B184
    await pair.provider.register_service({"id": "local", "f": len}, notify=False)
    assert not [entry for entry in await pair.consumer.list_services() if entry.id.endswith(":local")]
    await pair.provider.unregister_service("local", notify=False)


async def test_a_refused_registration_leaves_nothing(pair):  # B044
    with pytest.raises(RuntimeError, match="Failed to notify workspace manager: .*description"):
        await pair.provider.register_service({"id": "bad", "description": "x" * 5000, "f": len})
    assert "bad" not in pair.provider.rpc.get_all_local_services()


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"visibility": "secret"}, "visibility must be one of public, protected, unlisted"),
        ({"visibility": "public", "authorized_workspaces": []}, "can only be set when visibility is 'protected'"),
        ({"visibility": "unlisted", "authorized_workspaces": ["a"]}, "can only be set when visibility is 'protected'"),
        ({"authorized_workspaces": "a"}, "authorized_workspaces must be a list"),
        ({"authorized_workspaces": [1]}, "must be a string"),
        ({"trusted_keys": ["zz"]}, "Each trusted key must be a 64-char hex string"),
    ],
)
async def test_a_config_that_cannot_be_is_named(pair, config, text):  # B142, B143
    with pytest.raises(ValueError, match=text):
        await pair.provider.register_service({"id": "svc", "config": config, "f": len})
    assert "svc" not in pair.provider.rpc.get_all_local_services()


@pytest.mark.parametrize("service_id", ["", "a*b", "a.b", "x/y:z@w@v", 5])
async def test_ids_that_cannot_be_called_are_refused(pair, service_id):
    with pytest.raises((ValueError, AssertionError), match="service id|Service id"):
        await pair.provider.register_service({"id": service_id, "f": len})


async def test_a_service_needs_an_id_and_names_without_dots(pair):
    with pytest.raises(ValueError, match="Service id not found"):
        await pair.provider.register_service({"f": len})
    with pytest.raises(ValueError, match=r"'a\.b' contains a dot"):
        await pair.provider.register_service({"id": "svc", "a.b": len})


async def test_private_is_protected(pair):
    info = await pair.provider.register_service({"id": "svc", "config": {"visibility": "private"}, "f": len})
    assert info.config.visibility == "protected"


# -- the ids of get_service -----------------------------------------------------------------


async def test_every_form_of_id_finds_the_service(pair):
    await pair.provider.register_service({"id": "svc", "f": lambda: "found"})
    ws = pair.workspace
    for query in ("svc", "provider:svc", f"{ws}/svc", f"{ws}/provider:svc", "*:svc", f"{ws}/*:svc", "svc@*"):
        service = await pair.consumer.get_service(query)
        assert service.id == f"{ws}/provider:svc", query
        assert service.config.url.endswith(f"/{ws}/services/provider:svc")
        assert await service.f() == "found"


async def test_ambiguous_ids_need_a_mode(pair):
    for client in (pair.provider, pair.consumer):
        await client.register_service({"id": "twin", "who": functools.partial(str, client.config.client_id)})
    with pytest.raises(RemoteException, match="Multiple services found"):
        await pair.consumer.get_service("twin")
    first = await pair.consumer.get_service("twin", mode="first")
    last = await pair.consumer.get_service("twin", {"mode": "last"})
    assert [await first.who(), await last.who()] == ["provider", "consumer"]
    assert await (await pair.consumer.get_service("consumer:twin")).who() == "consumer"


async def test_a_bare_name_finds_the_newest_public_service_of_anybody(server_url, anonymous):
    name = f"popular-{anonymous.config.client_id.lower()}"
    await anonymous.register_service({"id": name, "config": {"visibility": "public"}, "who": lambda: "first"})
    async with connect_to_server(server_url=server_url) as stranger:
        assert await (await stranger.get_service(name)).who() == "first"
        async with connect_to_server(server_url=server_url) as newer:
            await newer.register_service({"id": name, "config": {"visibility": "public"}, "who": lambda: "newest"})
            assert await (await stranger.get_service(name)).who() == "newest"
        assert await (await stranger.get_service(name)).who() == "first"


@pytest.mark.parametrize("query", ["no-such-service", "nobody:svc", "public/no-such-service"])
async def test_an_unknown_service_is_a_clear_error(anonymous, query):
    with pytest.raises(ServiceNotFound, match="Service not found: ") as caught:
        await anonymous.get_service(query)
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, RemoteException)


async def test_the_manager_has_an_id_of_its_own(anonymous):
    manager = await anonymous.get_service("~")
    assert await manager.echo("same") == "same"


# -- D: calls --------------------------------------------------------------------------------


async def test_returned_dicts_are_proxies_at_every_depth(pair):  # B050
    await pair.provider.register_service({"id": "svc", "f": lambda: {"items": [{"keys": {"deep": 1}}]}})
    result = await (await pair.consumer.get_service("svc")).f()
    assert isinstance(result, ObjectProxy)
    assert result.items[0].keys.deep == 1
    assert dict(result) == {"items": [{"keys": {"deep": 1}}]}


async def test_arguments_arrive_unchanged(pair):  # B051
    def collect(a, b=2, *rest, c=3, **more):
        return [a, b, list(rest), c, more]

    await pair.provider.register_service({"id": "svc", "collect": collect})
    service = await pair.consumer.get_service("svc")
    assert await service.collect(1) == [1, 2, [], 3, {}]
    assert await service.collect(1, 5, 6, 7, c=8, z=9) == [1, 5, [6, 7], 8, {"z": 9}]
    assert await service.collect({"_rkwargs": True}) == [{"_rkwargs": True}, 2, [], 3, {}]
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'a'"):
        await service.collect()


async def test_a_call_is_sent_when_made(pair):  # B052
    arrived = asyncio.Event()
    await pair.provider.register_service({"id": "svc", "knock": arrived.set})
    service = await pair.consumer.get_service("svc")
    pending = service.knock()
    await asyncio.wait_for(arrived.wait(), 5)
    assert await pending is None


async def test_calls_fit_all_of_asyncio(pair):  # B053, B062
    await pair.provider.register_service({"id": "svc", "double": lambda x: 2 * x})
    service = await pair.consumer.get_service("svc")
    assert await asyncio.gather(*(service.double(n) for n in range(5))) == [0, 2, 4, 6, 8]
    assert await asyncio.wait_for(service.double(4), 5) == 8
    assert await asyncio.ensure_future(service.double(5)) == 10
    done, _ = await asyncio.wait([service.double(6)])
    assert [future.result() for future in done] == [12]
    assert await asyncio.create_task(pair.consumer.echo(7)) == 7
    assert await asyncio.gather(pair.consumer.echo(8), asyncio.create_task(pair.consumer.list_services())) != []
    async with asyncio.TaskGroup() as group:
        task = group.create_task(pair.consumer.echo(9))
    assert task.result() == 9


async def test_many_calls_at_once_get_their_own_results(pair):  # B054, B065
    order = []

    def note(n):
        order.append(n)
        return n * n

    await pair.provider.register_service({"id": "svc", "note": note})
    service = await pair.consumer.get_service("svc")
    results = await asyncio.gather(*(service.note(n) for n in range(300)))
    assert results == [n * n for n in range(300)]
    assert order == list(range(300))


async def test_failures_stay_with_their_call(pair):  # B055
    await pair.provider.register_service({"id": "svc", "invert": lambda x: 1 / x})
    service = await pair.consumer.get_service("svc")
    outcomes = await asyncio.gather(*(service.invert(n % 3) for n in range(30)), return_exceptions=True)
    for n, outcome in enumerate(outcomes):
        if n % 3:
            assert outcome == 1 / (n % 3)
        else:
            assert isinstance(outcome, ZeroDivisionError)
            assert isinstance(outcome, RemoteException)


async def test_errors_keep_type_text_and_trace(pair):  # B056, B064
    def broken(name):
        raise KeyError(f"no {name}")

    async def broken_later():
        await asyncio.sleep(0)
        raise ValueError("bad value")

    await pair.provider.register_service({"id": "svc", "broken": broken, "broken_later": broken_later})
    service = await pair.consumer.get_service("svc")
    with pytest.raises(KeyError) as caught:
        await service.broken("such")
    error = caught.value
    assert str(error) == "RemoteError:'no such'\nKeyError: 'no such'"
    assert (error.remote_type, error.remote_message) == ("KeyError", "'no such'")
    assert "in broken" in error.remote_traceback
    assert any("in broken" in note for note in error.__notes__)
    assert error.method == "services.svc.broken"
    with pytest.raises(ValueError, match="^RemoteError:bad value\nValueError: bad value"):
        await service.broken_later()


async def test_an_error_passing_through_keeps_its_text(pair):
    async def outer():
        inner = await pair.provider.get_service("inner")
        await inner.fail()

    def fail():
        raise LookupError("deep inside")

    await pair.provider.register_service({"id": "inner", "fail": fail})
    await pair.provider.register_service({"id": "outer", "outer": outer})
    with pytest.raises(LookupError) as caught:
        await (await pair.consumer.get_service("outer")).outer()
    assert str(caught.value) == "RemoteError:deep inside\nLookupError: deep inside"


async def test_a_traceback_shows_the_users_code_only(pair):
    def given(x):
        return {}[x]

    async def awaited(x):
        return {}[x]

    await pair.provider.register_service({"id": "svc", "given": given, "awaited": awaited})
    service = await pair.consumer.get_service("svc")
    for name in ("given", "awaited"):
        with pytest.raises(KeyError) as remote:
            await service[name]("q")
        lines = [line for line in remote.value.remote_traceback.splitlines() if line.startswith("  File ")]
        assert len(lines) == 1
        assert lines[0].endswith(f"in {name}")
        with pytest.raises(TypeError) as mismatch:
            await service[name]()
        assert not getattr(mismatch.value, "__notes__", [])
        with pytest.raises(TypeError, match=r"\(at args\[0\]\['a'\]\)") as here:
            await service[name]({"a": object()})
        trace = here.value.__traceback__
        while trace is not None:
            assert "/wire/" not in trace.tb_frame.f_code.co_filename
            trace = trace.tb_next


async def test_an_unknown_method_is_a_clear_error(pair):
    await pair.provider.register_service({"id": "svc", "f": len})
    service = await pair.consumer.get_service("svc")
    with pytest.raises(AttributeError, match="service .*:svc has no member 'g'; it has f$"):
        _ = service.g
    await pair.provider.register_service({"id": "svc", "g": len}, overwrite=True)
    with pytest.raises(MethodNotFound, match="Method expired or not found: .*services.svc.f"):
        await service.f([])


async def test_a_long_call_outlives_the_timeout_of_its_caller(server_url, pair):  # B057
    async def work():
        await asyncio.sleep(2.2)
        return "done"

    await pair.provider.register_service({"id": "svc", "work": work})
    token = await pair.provider.generate_token()
    options = {"server_url": server_url, "token": token, "method_timeout": 1}
    async with connect_to_server(options) as impatient:
        assert await (await impatient.get_service("svc")).work() == "done"


async def test_a_silent_callee_times_out(server_url, pair):  # B058, B063
    import time

    await pair.provider.register_service({"id": "svc", "freeze": lambda: None})
    token = await pair.provider.generate_token()
    code = f"""
import asyncio, time
from hypha_rpc import connect_to_server
async def main():
    server = await connect_to_server(server_url={server_url!r}, token={token!r}, client_id="frozen")
    await server.register_service({{"id": "frozen", "freeze": lambda: time.sleep(30)}})
    print("ready", flush=True)
    await server.serve()
asyncio.run(main())
"""
    import sys

    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 10) == b"ready\n"
        async with connect_to_server(server_url=server_url, token=token, method_timeout=1) as impatient:
            service = await impatient.get_service("frozen:frozen")
            begun = time.monotonic()
            with pytest.raises(TimeoutError, match="^Method call timed out: .*frozen:services.frozen.freeze") as caught:
                await service.freeze()
            assert isinstance(caught.value, CallTimeout)
            assert 0.9 < time.monotonic() - begun < 4
            assert impatient.rpc.stats()["calls"] == 0
    finally:
        process.kill()
        await process.wait()


async def test_the_executor_runs_plain_functions_in_threads(pair):  # B060
    main = threading.get_ident()

    async def which():
        return threading.get_ident()

    service = {"id": "svc", "config": {"run_in_executor": True}, "plain": threading.get_ident, "coro": which}
    await pair.provider.register_service(service)
    proxy = await pair.consumer.get_service("svc")
    assert await proxy.plain() != main
    assert await proxy.coro() == main
    assert await run_in_executor(threading.get_ident) != main


@pytest.mark.parametrize("text", ["", "null", "{}[]();", "🤗 漢字 עברית é", "\x00\x1f\n\t", "   "])
async def test_echo_of_texts(anonymous, text):  # B061, B070
    assert await anonymous.echo(text) == text


async def test_cancelling_frees_the_call_and_stops_the_function(pair, eventually):
    stopped = asyncio.Event()
    started = asyncio.Event()

    async def work():
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            stopped.set()
            raise

    await pair.provider.register_service({"id": "svc", "work": work})
    service = await pair.consumer.get_service("svc")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(service.work(), 0.2)
    assert started.is_set()
    await asyncio.wait_for(stopped.wait(), 5)
    assert pair.consumer.rpc.stats()["calls"] == 0
    await eventually(lambda: pair.provider.rpc.stats()["tasks"] == 0, timeout_s=5, what="the task to end")


# -- E: values --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1,
        2**63,
        -(2**63),
        2**64 - 1,
        1.5,
        float("inf"),
        float("-inf"),
        b"",
        b"\x00\xff",
        [],
        {},
        [1, [2, [3, {"a": [b"x"]}]]],
        {"a": {"b": {"c": None}}},
        {1, 2, 3},
        {"x", ("y", 1)},
    ],
    ids=repr,
)
async def test_values_survive(anonymous, value):  # B071, B072, B074
    result = await anonymous.echo(value)
    assert result == value
    assert type(result) is type(value) or isinstance(value, dict)


async def test_nan_tuples_and_depth(anonymous):  # B071, B073, B074
    nan = await anonymous.echo(float("nan"))
    assert nan != nan
    assert await anonymous.echo((1, (2,))) == [1, [2]]
    nested: dict = {}
    for _ in range(50):
        nested = {"inside": nested}
    assert await anonymous.echo(nested) == nested


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint16", "int64", ">i4", "float16", "float32", "complex64", "<U3", "S4", "datetime64[s]"]
)
async def test_arrays_survive(anonymous, dtype):  # B075, B077
    array = numpy.arange(12).reshape(3, 4).astype(dtype)
    result = await anonymous.echo({"list": [array]})
    assert result.list[0].dtype == array.dtype
    assert numpy.array_equal(result.list[0], array)


async def test_twenty_megabytes_make_the_round_trip(pair, eventually):  # B076
    await pair.provider.register_service({"id": "svc", "echo": lambda x: x})
    service = await pair.consumer.get_service("svc")
    array = numpy.random.default_rng(1).random((1280, 2048))
    assert numpy.array_equal(await service.echo(array), array)
    await eventually(lambda: pair.provider.rpc.stats()["transfers"] == 0, what="the last answer to arrive")


async def test_what_cannot_be_sent_is_named_with_its_path(anonymous):  # B083, B084, B208
    before = anonymous.rpc.stats()
    with pytest.raises(
        SerializationError, match=r"Unsupported data type: <class 'object'>.*custom codec.*args\[0\]\['b'\]\[1\]"
    ):
        await anonymous.echo({"b": [1, object()]})
    with pytest.raises(TypeError, match=r"keys must be text.*args\[0\]"):
        await anonymous.echo({1: 2})
    with pytest.raises(OverflowError, match="out of range"):
        await anonymous.echo([2**64])
    assert anonymous.rpc.stats() == before


async def test_a_result_that_cannot_be_sent_rejects(pair):
    await pair.provider.register_service({"id": "svc", "f": lambda: {"a": [object()]}})
    with pytest.raises(RemoteException, match=r"Unsupported data type.*result\[0\]\['a'\]\[0\]"):
        await (await pair.consumer.get_service("svc")).f()


async def test_codecs_apply_to_arguments_and_results(pair):  # B086
    class Point:
        def __init__(self, x, y):
            self.x, self.y = x, y

    codec = {
        "name": "point",
        "type": Point,
        "encoder": lambda p: {"x": p.x, "y": p.y},
        "decoder": lambda d: Point(d["x"], d["y"]),
    }
    for client in (pair.provider, pair.consumer):
        client.register_codec(codec)
    await pair.provider.register_service({"id": "svc", "swap": lambda p: Point(p.y, p.x)})
    result = await (await pair.consumer.get_service("svc")).swap(Point(1, 2))
    assert isinstance(result, Point)
    assert (result.x, result.y) == (2, 1)
    with pytest.raises(ValueError, match="needs a 'type'"):
        pair.provider.register_codec({"name": "x", "encoder": str})


# -- F: functions as values ----------------------------------------------------------------------


async def test_callbacks_take_arguments_and_give_results(pair):  # B090-B092
    async def work(progress, n):
        return [await progress(step) for step in range(n)]

    await pair.provider.register_service({"id": "svc", "work": work})
    service = await pair.consumer.get_service("svc")
    seen = []

    async def later(step):
        await asyncio.sleep(0)
        seen.append(step)
        return step * 10

    assert await service.work(later, 10) == [step * 10 for step in range(10)]
    assert seen == list(range(10))
    assert await service.work(lambda step: step + 1, 3) == [1, 2, 3]


async def test_callbacks_nest(pair):  # B093
    async def deep(call, depth):
        return await call(deep, depth - 1) if depth else "bottom"

    await pair.provider.register_service({"id": "svc", "deep": deep})
    service = await pair.consumer.get_service("svc")

    async def down(further, depth):
        return await further(down, depth - 1) if depth else "bottom"

    assert await service.deep(down, 6) == "bottom"


async def test_arrays_pass_through_callbacks(pair):  # B094
    async def apply(function, array):
        return await function(array)

    await pair.provider.register_service({"id": "svc", "apply": apply})
    array = numpy.arange(200_000, dtype="float32")
    result = await (await pair.consumer.get_service("svc")).apply(lambda a: a * 2, array)
    assert numpy.array_equal(result, array * 2)


async def test_an_error_in_a_callback_reaches_both_ends(pair):  # B095
    seen = []

    async def work(callback):
        try:
            await callback()
        except RemoteException as error:
            seen.append(type(error).__mro__[2])
            raise

    def fail():
        raise FileNotFoundError("not there")

    await pair.provider.register_service({"id": "svc", "work": work})
    with pytest.raises(OSError, match="not there"):
        await (await pair.consumer.get_service("svc")).work(fail)
    assert len(seen) == 1


async def test_callbacks_leave_nothing_and_end_with_their_call(pair, eventually):  # B096-B098
    kept = []
    await pair.provider.register_service({"id": "svc", "keep": kept.append, "f": lambda: "fine"})
    service = await pair.consumer.get_service("svc")
    for n in range(50):
        await service.keep(functools.partial(str, n))
    assert pair.consumer.rpc.stats()["sessions"] == 0
    with pytest.raises(CallbackExpired, match="Session not found"):
        await kept[0]()
    assert await service.f() == "fine"


async def test_a_function_in_a_result_outlives_the_call(pair):  # B111
    def make(n):
        return {"add": lambda x: x + n, "n": n}

    await pair.provider.register_service({"id": "svc", "make": make})
    made = await (await pair.consumer.get_service("svc")).make(5)
    assert [await made.add(1), await made.add(2), made.n] == [6, 7, 5]


async def test_a_remote_function_is_passed_on_by_reference(server_url, pair):
    token = await pair.provider.generate_token()
    await pair.provider.register_service({"id": "a", "who": lambda: "a"})
    async with connect_to_server(server_url=server_url, token=token) as third:

        async def call(function):
            return await function()

        await third.register_service({"id": "b", "call": call})
        service = await pair.consumer.get_service("a")
        assert await (await pair.consumer.get_service("b")).call(service.who) == "a"


# -- H: context ------------------------------------------------------------------------------------


async def test_the_context_tells_who_calls(pair):  # B140, B141, B157
    def whoami(x, context=None):
        return [x, context["user"]["id"], context.user.id, context.ws, context["from"], context.connection_type]

    service = {"id": "ctx", "config": {"require_context": ["whoami"]}, "whoami": whoami, "plain": lambda x: x}
    await pair.provider.register_service(service)
    proxy = await pair.consumer.get_service("ctx")
    user = pair.consumer.config.user.id
    expected = [1, user, user, pair.workspace, f"{pair.workspace}/consumer", "websocket"]
    assert await proxy.whoami(1) == expected
    assert await proxy.whoami(1, context={"user": {"id": "forged"}}) == expected
    assert await proxy.plain(2) == 2


async def test_protected_services_are_for_their_workspace(server_url, pair):  # B144-B147
    service = {"id": "inner", "config": {"visibility": "protected"}, "f": lambda: "secret"}
    await pair.provider.register_service(service)
    query = f"{pair.workspace}/provider:inner"
    async with connect_to_server(server_url=server_url) as stranger:
        with pytest.raises(PermissionError, match="Permission denied"):
            await stranger.get_service(query)
        service["config"]["authorized_workspaces"] = [stranger.config.workspace]
        await pair.provider.register_service(service, overwrite=True)
        admitted = await stranger.get_service(query)
        assert await admitted.f() == "secret"
        assert "authorized_workspaces" not in admitted.config
        service["config"]["authorized_workspaces"] = []
        await pair.provider.register_service(service, overwrite=True)
        with pytest.raises(PermissionError, match="Permission denied for invoking protected method"):
            await admitted.f()
    assert await (await pair.consumer.get_service("inner")).f() == "secret"


async def test_rules_hang_on_the_service_not_on_the_function(server_url, pair):  # B045
    def f(context=None):
        return context is not None

    await pair.provider.register_service({"id": "p", "config": {"visibility": "protected"}, "f": f})
    await pair.provider.register_service(
        {"id": "o", "config": {"visibility": "public", "require_context": True}, "f": f}
    )
    async with connect_to_server(server_url=server_url) as stranger:
        assert await (await stranger.get_service(f"{pair.workspace}/o")).f() is True
        with pytest.raises(PermissionError):
            await stranger.get_service(f"{pair.workspace}/p")
    assert await (await pair.consumer.get_service("p")).f() is False


# -- events -----------------------------------------------------------------------------------------


async def test_events_reach_their_subscribers(pair):
    received = asyncio.Queue()
    await pair.consumer.subscribe("lab-news")
    pair.consumer.on("lab-news", received.put_nowait)
    await pair.provider.emit({"type": "lab-news", "to": "*", "data": {"n": 1}})
    message = await asyncio.wait_for(received.get(), 5)
    assert message.data.n == 1
    assert message["from"] == f"{pair.workspace}/provider"
    await pair.provider.emit({"type": "lab-news", "to": "consumer", "data": [2]})
    assert (await asyncio.wait_for(received.get(), 5)).data == [2]
    await pair.consumer.unsubscribe("lab-news")
    await pair.provider.emit({"type": "lab-news", "to": "*", "data": 3})
    await pair.provider.echo(0)
    await pair.consumer.echo(0)
    assert received.empty()


async def test_local_events_once_and_off(anonymous):
    seen = []
    anonymous.once("mine", seen.append)
    anonymous.on("mine", seen.append)
    await anonymous.emit({"type": "mine", "data": 1})
    await anonymous.emit({"type": "mine", "data": 2})
    assert [message["data"] for message in seen] == [1, 1, 2]
    anonymous.off("mine")
    await anonymous.emit({"type": "mine", "data": 3})
    assert len(seen) == 3
    with pytest.raises(ValueError, match="'type'"):
        anonymous.emit({"data": 1})
    with pytest.raises(TimeoutError):
        await anonymous.rpc.wait_for("never", timeout=0.05)


async def test_service_events_of_the_server(pair):
    received = asyncio.Queue()
    await pair.consumer.subscribe(["service_added", "service_removed"])
    for kind in ("service_added", "service_removed"):
        pair.consumer.on(kind, received.put_nowait)
    await pair.provider.register_service({"id": "news", "f": len})
    added = await asyncio.wait_for(received.get(), 5)
    assert (added.type, added.data.id) == ("service_added", f"{pair.workspace}/provider:news")
    await pair.provider.unregister_service("news")
    assert (await asyncio.wait_for(received.get(), 5)).type == "service_removed"


# -- J: nothing is left -------------------------------------------------------------------------------


@pytest.mark.timeout(60)
async def test_ten_thousand_calls_half_failing_leave_nothing(pair):
    import gc
    import os
    import weakref

    class Marker(list):
        """Something a weak reference can watch."""

    async def work(n, callback):
        if n % 2:
            raise ValueError(n)
        return await callback(n) if n % 10 == 0 else n

    await pair.provider.register_service({"id": "svc", "work": work})
    service = await pair.consumer.get_service("svc")

    async def batch(start, size):
        return await asyncio.gather(*(service.work(start + n, abs) for n in range(size)), return_exceptions=True)

    await batch(0, 200)
    tasks, files, threads = len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd")), threading.active_count()
    marker = Marker()
    watched = weakref.ref(marker)
    with pytest.raises(SerializationError):
        await service.work(0, {"unsendable": object(), "marker": marker})
    del marker
    failures = 0
    for start in range(0, 10_000, 100):
        outcomes = await batch(start, 100)
        failures += sum(isinstance(outcome, ValueError) for outcome in outcomes)
    del outcomes
    gc.collect()
    assert failures == 5000
    for client in (pair.consumer, pair.provider):
        stats = client.rpc.stats()
        assert {
            key: stats[key] for key in ("calls", "running", "sessions", "transfers", "waiting", "tasks")
        } == dict.fromkeys(("calls", "running", "sessions", "transfers", "waiting", "tasks"), 0)
    assert watched() is None
    assert len(asyncio.all_tasks()) == tasks
    assert len(os.listdir("/proc/self/fd")) == files
    assert threading.active_count() == threads
    await pair.provider.unregister_service("svc")
    assert pair.provider.rpc.stats()["services"] == 1
