"""The serving side: registers the services that the checks call, and stays until told to stop.

Run as ``python -m programs.provider SERVER_URL [TOKEN WORKSPACE]``.

It connects anonymously (or by the token), and reports its workspace and a token for the consumers.
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from hypha_rpc import connect_to_server

from .report import order, tell

LIFE_S = 900.0


def add(a: int, b: int = 10) -> int:
    """Add two numbers."""
    return a + b


def echo(value: Any) -> Any:
    """Return the argument."""
    return value


async def echo_async(value: Any) -> Any:
    """Return the argument, asynchronously."""
    await asyncio.sleep(0)
    return value


def inspect(value: Any) -> list[str]:
    """Say what arrived: the names of its type and of all its bases."""
    return [kind.__name__ for kind in type(value).__mro__]


def inspect_array(value: Any) -> dict[str, Any]:
    """Say what array arrived."""
    return {"dtype": str(value.dtype), "shape": list(value.shape), "data": value.tobytes()}


def arguments(*args: Any, **kwargs: Any) -> list[Any]:
    """Return positional and keyword arguments."""
    return [list(args), kwargs]


def fail(text: str) -> None:
    """Raise a ``ValueError``."""
    raise ValueError(text)


async def fail_async(text: str) -> None:
    """Raise a ``KeyError``, asynchronously."""
    await asyncio.sleep(0)
    raise KeyError(text)


async def sleep(seconds: float) -> float:
    """Be silent for some time."""
    await asyncio.sleep(seconds)
    return seconds


async def call_many(callback: Callable[[int], Any], count: int) -> list[Any]:
    """Call a function of the caller several times, one after the other."""
    return [await callback(number) for number in range(count)]


async def call_together(callback: Callable[[int], Any], count: int) -> list[Any]:
    """Call a function of the caller several times at once."""
    return list(await asyncio.gather(*(callback(number) for number in range(count))))


async def call_failing(callback: Callable[[], Any]) -> str:
    """Return the text of the error that the caller's function raises."""
    try:
        await callback()
    except Exception as error:  # noqa: BLE001 - whatever class a client makes of a remote error
        return str(error)
    return "no error"


async def relay(callback: Callable[[], Any]) -> Any:
    """Call a function of the caller and let its error pass."""
    return await callback()


async def use_toolbox(toolbox: Mapping[str, Any]) -> list[Any]:
    """Call functions at several depths of an argument."""
    first = await toolbox["add"](1, 2)
    second = await toolbox["inner"]["multiply"](3, 4)
    third = await toolbox["listed"][0](5)
    return [first, second, third, toolbox["version"]]


class Adder:
    """Keeps a number: what its methods need travels with a returned function."""

    def __init__(self, number: int) -> None:
        self.number = number

    def add(self, other: int) -> int:
        """Add the kept number."""
        return self.number + other

    async def count(self) -> int:
        """Count up."""
        self.number += 1
        return self.number


def make_adder(number: int) -> Callable[[int], int]:
    """Return a function."""
    return Adder(number).add


def make_counter(number: int) -> dict[str, Any]:
    """Return an object with functions inside."""
    counter = Adder(number)
    return {"start": number, "functions": {"count": counter.count, "add": counter.add}}


def generate(count: int) -> Iterator[int]:
    """Yield numbers."""
    yield from range(count)


async def generate_async(count: int) -> AsyncIterator[int]:
    """Yield numbers asynchronously."""
    for number in range(count):
        await asyncio.sleep(0)
        yield number


async def consume(items: AsyncIterator[Any]) -> list[Any]:
    """Collect what a generator of the caller yields."""
    return [item async for item in items]


async def use_interface(interface: Mapping[str, Any]) -> list[Any]:
    """Call the functions of an interface (protocol 3.6)."""
    return [await interface["greet"]("you"), interface["value"]]


async def use_file(file: Any) -> list[Any]:
    """Read, seek and write a file of the caller."""
    first = await file.read(3)
    lines = await file.readlines()
    await file.seek(0)
    written = await file.write(b"ONE")
    return [first, lines, written, await file.tell(), file["closed"]]


def open_file(data: bytes) -> io.BytesIO:
    """Return a file."""
    return io.BytesIO(data)


async def nest(callback: Callable[..., Any], depth: int) -> Any:
    """Call a function of the caller with one of ours, which does the same."""
    return await callback(nest, depth - 1) if depth else "bottom"


def whoami(context: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the context says about the caller."""
    user = context["user"]
    return {"user": user["id"], "ws": context["ws"], "from": context["from"], "to": context["to"]}


def make_service() -> dict[str, Any]:
    """The main service: protected, as is the default."""
    functions = [add, echo, echo_async, inspect, inspect_array, arguments, fail, fail_async, sleep]
    functions += [call_many, call_together, call_failing, relay, use_toolbox, use_interface]
    functions += [nest, use_file, open_file, make_adder, make_counter, generate, generate_async, consume]
    service: dict[str, Any] = {function.__name__: function for function in functions}
    nested = {"math": {"add": add, "deeper": {"echo": echo}}, "listed": [echo, add], "version": "1.2"}
    return {"id": "interop", "name": "Interop", "description": "what the checks call", **service, **nested}


class Victims:
    """Clients opened on request, so that a consumer can watch one go."""

    def __init__(self, url: str, token: str, workspace: str) -> None:
        self._options = {"server_url": url, "token": token, "workspace": workspace}
        self._open: dict[str, Any] = {}

    async def open(self) -> str:
        """Connect one more client and return the id of its service."""
        server = await connect_to_server(self._options)
        info = await server.register_service({"id": "victim", "sleep": sleep, "echo": echo})
        self._open[info["id"]] = server
        return str(info["id"])

    async def close(self, service_id: str) -> None:
        """Disconnect a client opened before."""
        await self._open.pop(service_id).disconnect()


async def serve(url: str, credentials: Mapping[str, str]) -> None:
    """Connect, register, report, and wait for the end."""
    server = await connect_to_server({"server_url": url, **credentials})
    workspace = server.config["workspace"]
    token = await server.generate_token({"expires_in": 3600})
    victims = Victims(url, token, workspace)
    await server.register_service({**make_service(), "open_victim": victims.open, "close_victim": victims.close})
    await server.register_service(
        {"id": "interop-context", "config": {"require_context": True, "visibility": "public"}, "whoami": whoami}
    )
    user = server.config["user"]
    tell(
        "ready",
        workspace=workspace,
        client_id=server.config["client_id"],
        user_id=user["id"],
        anonymous=user["is_anonymous"],
        token=token,
    )
    await order(LIFE_S)
    await server.disconnect()
    tell("closed")


def main() -> None:
    """Entry point."""
    names = ("token", "workspace")
    asyncio.run(serve(sys.argv[1], dict(zip(names, sys.argv[2:], strict=False))))


if __name__ == "__main__":
    main()
