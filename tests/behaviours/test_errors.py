"""Errors of remote functions: classes, texts, hops, and whether the method may have run (python-client §7.5)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hypha_rpc import connect_to_server
from hypha_rpc.errors import MethodNotFound, PeerGone, RemoteException, SerializationError, ServiceNotFound


class OutOfStock(Exception):
    """An error of a program."""


def fail_as(name: str, *args: Any) -> None:
    kinds: dict[str, type[Exception]] = {
        kind.__name__: kind
        for kind in (KeyError, ValueError, TypeError, PermissionError, FileNotFoundError, AssertionError, OutOfStock)
    }
    raise kinds[name](*args)


async def fail_later(name: str, *args: Any) -> None:
    await asyncio.sleep(0)
    fail_as(name, *args)


@pytest.mark.parametrize("kind", [KeyError, ValueError, TypeError, PermissionError, FileNotFoundError, AssertionError])
async def test_b056_b064_a_builtin_error_is_caught_as_itself_and_as_remote(pair: Any, kind: type[Exception]) -> None:
    service = await pair.offer(plain=fail_as, later=fail_later)
    for function in (service.plain, service.later):
        with pytest.raises(kind) as caught:
            await function(kind.__name__, "so it is")
        error: Any = caught.value
        assert isinstance(error, RemoteException)
        assert (error.remote_type, error.service) == (kind.__name__, "svc")
        assert str(error).startswith("RemoteError:")
        assert f"{kind.__name__}: " in str(error) and "so it is" in str(error)
        assert "in fail_as" in error.remote_traceback and "in fail_as" in error.__notes__[0]
        assert error.may_have_run
        assert error.remote_args == ("so it is",)


async def test_b064_an_error_of_a_program_keeps_its_name(pair: Any) -> None:
    service = await pair.offer(fail=fail_as)
    with pytest.raises(RemoteException, match="OutOfStock: all gone") as caught:
        await service.fail("OutOfStock", "all gone")
    assert (caught.value.remote_type, caught.value.remote_module) == ("OutOfStock", OutOfStock.__module__)


async def test_an_error_passed_through_several_of_ours_is_still_itself(pair: Any) -> None:
    inner = await pair.offer(fail=fail_as)

    async def outer(depth: int) -> Any:
        return await (outer(depth - 1) if depth else inner.fail("KeyError", "deep"))

    await pair.consumer.register_service({"id": "outer", "outer": outer})
    service = await pair.provider.get_service(f"{pair.consumer.config.client_id}:outer")
    with pytest.raises(KeyError) as caught:
        await service.outer(3)
    assert str(caught.value) == "RemoteError:'deep'\nKeyError: 'deep'"


async def test_a_method_runs_once_although_its_inner_call_never_reached_anybody(pair: Any) -> None:
    runs: list[int] = []
    options = {"server_url": pair.url, "token": pair.token, "workspace": pair.workspace}
    async with connect_to_server(options) as other:
        info = await other.register_service({"id": "gone", "f": len})
        gone = await pair.provider.get_service(info["id"])

    async def work() -> Any:
        runs.append(1)
        return await gone.f([])

    service = await pair.offer(work=work)
    with pytest.raises(PeerGone, match="is not connected") as caught:
        await service.work()
    assert caught.value.may_have_run
    assert runs == [1]


async def test_the_machinery_says_that_nothing_ran(our_pair: Any) -> None:
    service = await our_pair.offer(f=len)
    await our_pair.offer(g=len)
    with pytest.raises(MethodNotFound, match="Method expired or not found: ") as caught:
        await service.f([])
    assert not caught.value.may_have_run


async def test_an_unknown_service_is_a_key_error_on_every_server(pair: Any) -> None:
    with pytest.raises(ServiceNotFound, match="Service not found") as caught:
        await pair.consumer.get_service("no-such-service")
    assert isinstance(caught.value, KeyError)


async def test_what_a_callee_cannot_send_is_a_type_error_but_not_ours(pair: Any) -> None:
    service = await pair.offer(f=lambda: {"a": [object()]})
    with pytest.raises(TypeError, match=r"Unsupported data type: .*result\[0\]\['a'\]\[0\]") as caught:
        await service.f()
    assert isinstance(caught.value, RemoteException)
    assert not isinstance(caught.value, SerializationError)


async def test_an_error_as_a_value_is_returned_not_raised(pair: Any) -> None:
    service = await pair.offer(echo=lambda value: value)
    error = await service.echo(KeyError("just a value"))
    assert isinstance(error, KeyError) and isinstance(error, RemoteException)
    assert error.remote_message == "'just a value'"
