"""Connecting, services, calls and who may call them (behaviours A, C, D, H), where other tests show only a part."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy
import pytest

import hypha_rpc
from hypha_rpc import connect_to_server
from hypha_rpc.errors import CallTimeout, RemoteException
from hypha_rpc.exporting import API
from hypha_rpc.rpc import RPC


def double(value: int) -> int:
    return value * 2


class Machine:
    """Something with methods, which can be called itself."""

    factor = 2

    def method(self, value: int) -> int:
        return self.factor * value

    def __call__(self, value: int) -> int:
        return self.factor * value

    @classmethod
    def of_the_class(cls, value: int) -> int:
        return cls.factor * value

    @staticmethod
    def static(value: int) -> int:
        return value * 2


async def later(value: int) -> int:
    await asyncio.sleep(0)
    return value * 2


ALL_KINDS = {
    "plain": double,
    "later": later,
    "shorthand": lambda value: value * 2,
    "partial": functools.partial(lambda factor, value: factor * value, 2),
    "method": Machine().method,
    "of_the_class": Machine.of_the_class,
    "static": Machine.static,
    "called": Machine(),
    "built_in": (2).__mul__,
}


# -- A: connecting -------------------------------------------------------------------------------


async def test_b006_config_tells_who_we_are(server_url: str) -> None:
    async with connect_to_server(server_url=server_url, client_id="me-myself") as server:
        assert server.config.client_id == server.config["client_id"] == "me-myself"
        assert server.config.workspace == server.config["workspace"] == server.rpc.connection_info["workspace"]


# -- C: services ---------------------------------------------------------------------------------


async def test_b036_an_exported_object_is_the_service_default(pair: Any) -> None:
    await pair.provider.export(Machine())
    service = await pair.consumer.get_service(f"{pair.provider.config.client_id}:default")
    assert await service.method(4) == 8


async def test_b037_all_kinds_of_functions_mix(pair: Any) -> None:
    service = await pair.offer(**ALL_KINDS)
    assert {name: await service[name](21) for name in ALL_KINDS} == dict.fromkeys(ALL_KINDS, 42)


def test_b042_the_api_remembers_what_is_exported_and_its_handler_can_be_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("HYPHA_SERVER_URL", "HYPHA_TOKEN", "HYPHA_CLIENT_ID", "HYPHA_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    assert isinstance(hypha_rpc.api, API)
    api, told = API(), list[Any]()
    with pytest.raises(ValueError, match="HYPHA_SERVER_URL"):
        api.export("mine", {"name": "thing"})
    assert api.get_registry() == {"thing": "mine"}
    api.set_export_handler(lambda *args, **kwargs: told.append((args, kwargs)))
    api.export("other", {"name": "thing"}, more=1)
    assert told == [(("other",), {"config": {"name": "thing"}, "more": 1})]
    assert api.get_registry() == {"thing": "mine"}
    api.set_export_handler(api._default_export_handler)
    with pytest.raises(ValueError, match="HYPHA_SERVER_URL"):
        api.export({"double": double})
    assert len(api.get_registry()) == 2


async def test_b042_an_exported_object_is_offered_where_the_environment_says(
    pair: Any, monkeypatch: pytest.MonkeyPatch, eventually: Any
) -> None:
    given = {"SERVER_URL": pair.url, "TOKEN": pair.token, "WORKSPACE": pair.workspace, "CLIENT_ID": "exporter"}
    for name, value in given.items():
        monkeypatch.setenv(f"HYPHA_{name}", value)
    serving = API().export({"double": double}, {"name": "Doubling"})
    async with asyncio.timeout(10):
        while not (found := [entry for entry in await pair.consumer.list_services() if entry["name"] == "Doubling"]):
            await asyncio.sleep(0.02)
    service = await pair.consumer.get_service(found[0]["id"])
    assert await service.double(4) == 8
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


async def test_b043_a_local_registration_needs_no_manager() -> None:
    rpc = RPC(None, "alone", workspace="w")
    await rpc.register_service({"id": "svc", "double": double}, {"notify": False})
    assert "svc" in rpc.get_all_local_services()
    await rpc.unregister_service("svc", notify=False)
    assert "svc" not in rpc.get_all_local_services()
    rpc.close()


# -- D: calls --------------------------------------------------------------------------------------


async def test_b052_calls_that_nobody_awaits_run_at_the_same_time(pair: Any) -> None:
    everybody = asyncio.Barrier(3)

    async def meet(number: int) -> int:
        await asyncio.wait_for(everybody.wait(), 5)
        return number

    service = await pair.offer(meet=meet)
    calls = [service.meet(number) for number in range(3)]
    assert [await call for call in calls] == [0, 1, 2]


async def test_b057_a_long_call_with_a_callback_outlives_the_timeout_of_its_caller(pair: Any) -> None:
    async def work(tell: Any) -> str:
        await tell("begun")
        await asyncio.sleep(2.2)
        await tell("ended")
        return "done"

    info = await pair.provider.register_service({"id": "slow", "work": work})
    options = {"server_url": pair.url, "token": pair.token, "workspace": pair.workspace, "method_timeout": 1}
    heard: list[str] = []
    async with connect_to_server(options) as impatient:
        assert await (await impatient.get_service(info["id"])).work(heard.append) == "done"
    assert heard == ["begun", "ended"]


async def test_b058_a_function_that_never_returns_is_ended_by_the_limit_of_its_caller(pair: Any) -> None:
    service = await pair.offer(never=asyncio.Event().wait, double=double)
    with pytest.raises(CallTimeout, match="timed out"):
        await service.never.options(timeout=0.3)()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(service.never(), 0.1)
    assert pair.consumer.rpc.stats()["calls"] == 0
    assert await service.double(3) == 6


async def test_b060_every_kind_of_function_works_in_the_executor(pair: Any) -> None:
    async def items(count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    def numbers(count: int) -> Iterator[int]:
        yield from range(count)

    config = {"visibility": "public", "run_in_executor": True}
    service = {"id": "threads", "config": config, "numbers": numbers, "items": items, **ALL_KINDS}
    info = await pair.provider.register_service(service)
    proxy = await pair.consumer.get_service(info["id"])
    assert {name: await proxy[name](21) for name in ALL_KINDS} == dict.fromkeys(ALL_KINDS, 42)
    for generator in (proxy.numbers, proxy.items):
        assert [item async for item in await generator(4)] == [0, 1, 2, 3]


# -- E: values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [True, False, None, "", b"", b"\x00a\x00", {}, [], 2**63, float("-inf")], ids=repr)
async def test_b071_b072_edge_values_keep_their_types(pair: Any, value: Any) -> None:
    seen: list[Any] = []

    def echo(value: Any) -> Any:
        seen.append(value)
        return value

    service = await pair.offer(echo=echo)
    for got in (await service.echo(value), seen[0]):
        assert got == value
        assert isinstance(got, type(value))


async def test_b075_an_array_comes_back_from_the_server(server_url: str) -> None:
    array = numpy.random.default_rng(1).random((512, 512))
    async with connect_to_server(server_url=server_url) as server:
        returned = await server.echo(array)
    assert isinstance(returned, numpy.ndarray)
    assert returned.shape == (512, 512)
    assert numpy.array_equal(returned, array)


# -- H: context and permissions ----------------------------------------------------------------------


async def test_b140_every_function_gets_the_context_whatever_its_signature(pair: Any) -> None:
    def caller(context: Any) -> Any:
        return [context["ws"], context["from"]]

    def only_context(context: Any) -> Any:
        return caller(context)

    def with_default(value: int = 3, context: Any = None) -> Any:
        return [value, *caller(context)]

    async def by_keyword(value: int, *rest: int, context: Any, **more: int) -> Any:
        return [value, *rest, more, *caller(context)]

    config = {"visibility": "public", "require_context": True}
    functions = {"only_context": only_context, "with_default": with_default, "by_keyword": by_keyword}
    info = await pair.provider.register_service({"id": "ctx", "config": config, **functions})
    service = await pair.consumer.get_service(info["id"])
    who = [pair.workspace, f"{pair.workspace}/{pair.consumer.config.client_id}"]
    assert await service.only_context() == who
    assert await service.with_default() == [3, *who]
    assert await service.with_default(4) == [4, *who]
    assert await service.by_keyword(1, 2, more=5) == [1, 2, {"more": 5}, *who]


async def test_b141_without_the_rule_a_function_gets_the_arguments_only(pair: Any) -> None:
    service = await pair.offer(show=lambda *args, **kwargs: [list(args), kwargs])
    assert await service.show(1, two=2) == [[1], {"two": 2}]


async def test_b144_b145_b146_b147_the_list_says_who_of_outside_may_call(pair: Any, server_url: str) -> None:
    provider = pair.provider
    query = f"{pair.workspace}/{provider.config.client_id}:inner"

    async def offer(workspaces: list[str]) -> None:
        config = {"visibility": "protected", "authorized_workspaces": workspaces}
        await provider.register_service({"id": "inner", "config": config, "double": double}, overwrite=True)

    async def may(client: Any) -> bool:
        try:
            service = await client.get_service(query)
            return bool(await service.double(4) == 8)
        except (PermissionError, RemoteException) as error:
            assert any(word in str(error).lower() for word in ("not authorized", "permission", "denied")), error
            return False

    first_one, second_one = connect_to_server(server_url=server_url), connect_to_server(server_url=server_url)
    async with first_one as first, second_one as second:
        for listed, expected in (([], [False, False]), ([first], [True, False]), ([second], [False, True])):
            await offer([client.config["workspace"] for client in listed])
            assert [await may(client) for client in (first, second)] == expected
            assert await may(pair.consumer), "the same workspace always may"
        proxy = await second.get_service(query)
        assert await proxy.double(1) == 2
        await offer([first.config["workspace"]])
        with pytest.raises((PermissionError, RemoteException), match="[Pp]ermission"):
            await proxy.double(1)
