"""End-to-end encryption, both sides: a provider with its key, and the checks of a consumer.

Run as ``python -m programs.sealed provider URL`` or ``python -m programs.sealed consumer URL READY_JSON``.
"""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import FunctionType
from typing import Any

from hypha_rpc import connect_to_server

from .report import order, tell

LIFE_S = 120.0
CHECK_S = 20.0


async def numbers(count: int) -> AsyncIterator[int]:
    """The generator that travels."""
    for number in range(count):
        yield number


def who(context: Any = None) -> dict[str, Any]:
    """What the context says of the encryption."""
    return {"encryption": context.get("encryption"), "key": context.get("caller_public_key")}


def echo(value: Any) -> Any:
    """The value."""
    return value


def fail() -> None:
    """Fail."""
    raise ValueError("so it is")


async def call_back(function: Any) -> list[Any]:
    """Call a callback twice."""
    return [await function(1), await function(2)]


def count(to: int) -> AsyncIterator[int]:
    """A generator in a result."""
    return numbers(to)


async def total(items: Any) -> int:
    """Add up a generator in an argument."""
    return sum([item async for item in items])


def adder(to: int) -> Callable[[int], int]:
    """A function in a result."""
    return lambda number: number + to


KEPT: dict[str, Any] = {}


def keep(listener: Any) -> None:
    """Keep an interface beyond the call."""
    KEPT["listener"] = listener


async def tell_kept(value: Any) -> Any:
    """Call the interface that was kept."""
    return await KEPT["listener"]["heard"](value)


def service(name: str, *trusted: str) -> dict[str, Any]:
    """The service that is called."""
    functions = (who, echo, fail, call_back, count, total, adder, keep, tell_kept)
    return {
        "id": name,
        "config": {"visibility": "public", "require_context": ["who"], "trusted_keys": list(trusted)},
        # Copies: the public client hangs the rules of a service on its function objects (python-client X14).
        **{
            item.__name__: FunctionType(item.__code__, globals(), item.__name__, item.__defaults__)
            for item in functions
        },
    }


async def provide(url: str) -> None:
    """Offer one service to all, and one to the keys that the parent names."""
    server = await connect_to_server({"server_url": url, "encryption": True})
    await server.register_service(service("sealed"))
    tell(
        "ready",
        workspace=server.config.workspace,
        client_id=server.config.client_id,
        token=await server.generate_token(),
        key=server.rpc.get_public_key(),
    )
    while line := await order(LIFE_S):
        await server.register_service(service("guarded", line), overwrite=True)
        tell("guarded", key=line)


class Consumer:
    """A consumer that encrypts, and its checks: each method without underscore is one."""

    def __init__(self, url: str, ready: Mapping[str, Any]) -> None:
        self._url, self._ready = url, ready

    async def _open(self) -> None:
        place = {"workspace": self._ready["workspace"], "token": self._ready["token"]}
        self._server = await connect_to_server({"server_url": self._url, "encryption": True, **place})
        self._plain = await connect_to_server({"server_url": self._url, **place})
        self._service = await self._fetch("sealed")
        tell("open", key=self._server.rpc.get_public_key())

    async def _fetch(self, name: str, key: str | None = None) -> Any:
        options = {"encryption_public_key": key or self._ready["key"]}
        return await self._server.get_service(f"{self._ready['client_id']}:{name}", options)

    async def context(self) -> None:
        """The callee learns the key of its caller."""
        found = await self._service.who()
        assert dict(found) == {"encryption": True, "key": self._server.rpc.get_public_key()}, found

    async def values(self) -> None:
        """Values survive."""
        value = {"text": "x", "bytes": b"\x00\x01", "list": [1, None, 2.5]}
        assert dict(await self._service.echo(value)) == value

    async def plain_calls(self) -> None:
        """An unencrypted caller is welcome where no keys are named."""
        plain = await self._plain.get_service(f"{self._ready['client_id']}:sealed")
        assert not (await plain.who())["encryption"]
        assert await plain.echo(5) == 5

    async def errors(self) -> None:
        """The error of the function arrives."""
        await _fails(self._service.fail(), "so it is")

    async def callbacks(self) -> None:
        """A callback is called back."""
        assert await self._service.call_back(lambda number: number * 10) == [10, 20]

    async def generator_in_a_result(self) -> None:
        """A generator can be iterated."""
        assert [item async for item in await self._service.count(3)] == [0, 1, 2]

    async def generator_in_an_argument(self) -> None:
        """A generator can be iterated by the callee."""
        assert await self._service.total(numbers(4)) == 6

    async def interface_that_is_kept(self) -> None:
        """A persistent interface can be called after the call."""
        await self._service.keep({"_rintf": True, "heard": lambda value: f"heard {value}"})
        assert await self._service.tell_kept("it") == "heard it"

    async def function_in_a_result(self) -> None:
        """A returned function can be called."""
        assert await (await self._service.adder(5))(1) == 6

    async def big_values(self) -> None:
        """Messages in pieces."""
        block = bytes(1_500_000)
        assert await self._service.echo(block) == block

    async def wrong_key(self) -> None:
        """A call for another key does not succeed."""
        service = await self._fetch("sealed", "07a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7c")
        try:
            await asyncio.wait_for(service.echo(1), 3)
        except Exception:  # noqa: BLE001 - public callees never answer, others reject
            return
        raise AssertionError("a call for another key was answered")

    async def trusted_key(self) -> None:
        """A trusted key may call; no key may not."""
        service = await self._fetch("guarded")
        assert await service.echo(3) == 3
        plain = await self._plain.get_service(f"{self._ready['client_id']}:guarded")
        await _fails(plain.echo(3), "Encryption required")

    async def other_key(self) -> None:
        """A key that is not trusted is refused."""
        other = await connect_to_server(
            {
                "server_url": self._url,
                "encryption": True,
                "workspace": self._ready["workspace"],
                "token": self._ready["token"],
            }
        )
        options = {"encryption_public_key": self._ready["key"]}
        service = await other.get_service(f"{self._ready['client_id']}:guarded", options)
        await _fails(service.echo(3), "not in the trusted keys")
        await other.disconnect()

    async def _close(self) -> None:
        await self._plain.disconnect()
        await self._server.disconnect()


async def _fails(call: Awaitable[Any], text: str) -> None:
    try:
        await call
    except Exception as error:  # noqa: BLE001 - the public client's classes are not ours
        assert text in str(error), str(error)
        return
    raise AssertionError(f"no error with {text!r}")


async def consume(url: str, ready: Mapping[str, Any]) -> None:
    """Run the checks and report each."""
    consumer = Consumer(url, ready)
    await consumer._open()
    await order(LIFE_S)
    for name, check in vars(Consumer).items():
        if name.startswith("_"):
            continue
        error = ""
        try:
            await asyncio.wait_for(check(consumer), CHECK_S)
        except Exception as problem:  # noqa: BLE001 - supervision: whatever a check raises is its result
            error = "".join(traceback.format_exception(problem))[-2000:]
        tell("check", name=name, error=error)
    tell("done")
    await consumer._close()


if __name__ == "__main__":
    if sys.argv[1] == "provider":
        asyncio.run(provide(sys.argv[2]))
    else:
        asyncio.run(consume(sys.argv[2], json.loads(sys.argv[3])))
