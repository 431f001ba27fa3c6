"""What a program is told when its author has made a common mistake: what is wrong, and what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy
import pytest

from hypha_rpc import connect_to_server
from hypha_rpc.errors import CallbackExpired, DeadlineExceeded, MethodNotFound, PeerGone, SerializationError


class Thing:
    """Nobody knows how to send it."""


def greet(name: str, greeting: str = "Hello") -> str:
    return f"{greeting} {name}"


def numbers() -> Iterator[int]:
    yield from range(3)


def itself() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


@pytest.fixture
async def service(our_pair: Any) -> Any:
    return await our_pair.offer(greet=greet, numbers=numbers, never=asyncio.Event().wait)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Thing(), r"Unsupported data type: <class '.*Thing'>.*custom codec.*\(at args\[0\]\['a'\]\[1\]\)"),
        ({1: 2}, r"keys must be text, not int: 1; convert them, e\.g\. with str\(\) \(at args\[0\]\['a'\]\[1\]\[1\]\)"),
        (2**70, r"Integer value out of range \(at args\[0\]\['a'\]\[1\]\)"),
        (numpy.array([Thing()]), r"dtype object cannot be sent; send tolist\(\)"),
        (itself(), r"nested deeper than 128 levels, or contains itself \(at args\[0\]\['a'\].{,200}\)$"),
    ],
    ids=["object", "key", "number", "array", "circle"],
)
async def test_a_value_that_cannot_be_sent(service: Any, value: Any, text: str) -> None:
    with pytest.raises(SerializationError, match=text):
        await service.greet({"a": [0, value]})


async def test_a_call_that_was_not_awaited(service: Any) -> None:
    with pytest.raises(SerializationError) as caught:
        await service.greet(service.greet("inner"))
    assert "Send its result, by awaiting it first" in caught.value.__notes__[0]
    with pytest.raises(AttributeError, match=r"not awaited, it has no 'upper': write `\(await f\(\.\.\.\)\)\.upper`"):
        service.greet("you").upper()
    with pytest.raises(TypeError, match="not awaited: write `async for item in await"):
        aiter(service.numbers())
    with pytest.raises(TypeError, match="write `async for`"):
        list(await service.numbers())


def test_a_connection_that_was_not_awaited() -> None:
    with pytest.raises(AttributeError, match="not connected yet.*'get_service'.*`server = await connect_to_server"):
        connect_to_server(server_url="http://127.0.0.1:9").get_service("svc")


async def test_wrong_arguments(service: Any) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'greting'"):
        await service.greet("you", greting="Hi")
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'name'"):
        await service.greet()
    with pytest.raises(TypeError, match="unexpected keyword argument 'timeout'") as caught:
        await service.greet("you", timeout=3)
    assert any("f.options(timeout=...)" in note for note in caught.value.__notes__)


async def test_a_member_that_is_not_there(service: Any) -> None:
    with pytest.raises(AttributeError, match="has no member 'gret'; it has greet, "):
        await service.gret("you")


async def test_a_callback_that_was_not_kept(our_pair: Any) -> None:
    kept: list[Any] = []
    service = await our_pair.offer(take=kept.append)
    await service.take(print)
    with pytest.raises(CallbackExpired, match=r"ends with its call; send keep\(function\)"):
        await kept[0]("too late")


async def test_a_call_from_another_thread(service: Any) -> None:
    with pytest.raises(RuntimeError, match="run_coroutine_threadsafe, or hypha_rpc.sync"):
        await asyncio.to_thread(service.greet, "you")


async def test_a_call_that_takes_too_long(service: Any) -> None:
    with pytest.raises(DeadlineExceeded, match="timed out: .*services.svc.never"):
        await service.never.options(timeout=0.1)()


async def test_a_service_that_is_gone(our_pair: Any, service: Any) -> None:
    await our_pair.provider.unregister_service("svc")
    with pytest.raises(MethodNotFound, match=r"services\.svc\.greet \(it was unregistered.*get_service\(\)"):
        await service.greet("you")
    with pytest.raises(KeyError, match="Service not found: .*svc"):
        await our_pair.consumer.get_service("svc")
    await our_pair.provider.disconnect()
    with pytest.raises(PeerGone, match="Target peer .* is not connected"):
        await service.greet("you")
    await our_pair.consumer.disconnect()
    with pytest.raises(ConnectionError, match="Connection is closed"):
        await service.greet("you")


@pytest.mark.parametrize(
    ("definition", "error", "text"),
    [
        ("svc", TypeError, "a service is a dictionary with an 'id', or an object, not str"),
        (None, TypeError, "not NoneType"),
        ({"f": len}, ValueError, "a service needs an 'id'"),
        ({"id": "svc", 5: len}, TypeError, "names of a service's members must be text, not int: 5"),
        (Thing, TypeError, "register an instance of Thing"),
        ({"id": "svc", "config": {"visibility": "privat"}}, ValueError, "visibility must be one of public"),
    ],
)
async def test_a_service_that_is_none(our_pair: Any, definition: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        await our_pair.provider.register_service(definition)
