"""A provider and a consumer, each in a process of its own.

``python -m tests.integration.leaks.programs provider URL`` prints its service id and a token, and ends when its input
does. ``... consumer URL SERVICE TOKEN WORKLOAD COUNT ...`` works in as many shares as there are counts, and prints
pictures of all three processes after each.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Any

from hypha_rpc import connect_to_server, keep
from hypha_rpc.errors import RemoteException, SerializationError
from tests.integration.leaks.picture import picture

_AT_ONCE = 50
# Services are registered on purpose, reconnections are counted; everything else is empty when nothing is under way.
_NOT_EMPTY = ("services", "reconnects")


class Unsendable:
    """Nobody knows how to send it."""


class Functions:
    """What the provider offers."""

    def __init__(self) -> None:
        self.server: Any = None
        self.ended = 0
        self.kept: list[Any] = []

    async def apply(self, function: Any, value: int) -> Any:
        """What *function* makes of *value*."""
        return await function(value)

    def plain(self) -> Iterator[int]:
        """Numbers for ever."""
        try:
            yield from range(10**9)
        finally:
            self.ended += 1

    async def later(self) -> AsyncIterator[int]:
        """Numbers for ever, asynchronously."""
        try:
            for number in range(10**9):
                yield number
        finally:
            self.ended += 1

    async def first(self, items: Any) -> Any:
        """The first of some items; the others are never asked for."""
        return await anext(aiter(items))

    def bad_result(self) -> Any:
        """Something that cannot be sent after something that can."""
        return [self.plain, self.plain(), Unsendable()]

    def take(self, thing: Any) -> None:
        """Keep *thing*."""
        self.kept.append(thing)

    async def call_kept(self, value: int) -> list[Any]:
        """What everything that was kept makes of *value*; then it is let go."""
        kept, self.kept = self.kept, []
        return [await (thing.on if isinstance(thing, dict) else thing)(value) for thing in kept]

    def look(self) -> dict[str, int]:
        """The picture of this process, the tables of its connection, and how many generators have ended."""
        return {**picture(), **tables(self.server), "ended": self.ended}


def tables(server: Any) -> dict[str, int]:
    """The sizes of all tables that are empty when nothing is under way."""
    return {f"table {name}": size for name, size in server.rpc.stats().items() if name not in _NOT_EMPTY}


class Consumer:
    """The side that calls.

    Attributes:
        handed_out: weak references to everything it has given away.
    """

    def __init__(self, url: str, server: Any, service: Any) -> None:
        self.url, self.server, self.service = url, server, service
        self.handed_out: weakref.WeakSet[Any] = weakref.WeakSet()

    async def look(self) -> dict[str, dict[str, int]]:
        """Pictures of both ends when all is quiet, or of what is still there after a while."""
        deadline = time.monotonic() + 5
        while True:
            theirs = await self.service.look()
            mine = {**picture(), **tables(self.server), "handed out": len(self.handed_out)}
            left = [size for name, size in (*mine.items(), *theirs.items()) if name.startswith("table ")]
            if not any(left) or time.monotonic() > deadline:
                return {"consumer": mine, "provider": theirs}
            await asyncio.sleep(0.05)

    def function(self) -> Callable[[int], int]:
        """A new function."""

        def double(value: int) -> int:
            return value * 2

        self.handed_out.add(double)
        return double

    def generator(self) -> Iterator[int]:
        """A new generator."""
        made = Functions().plain()
        self.handed_out.add(made)
        return made


async def callbacks(consumer: Consumer, count: int) -> None:
    """Calls with a callback each."""
    for start in range(0, count, _AT_ONCE):
        numbers = range(start, start + _AT_ONCE)
        results = await asyncio.gather(*(consumer.service.apply(consumer.function(), number) for number in numbers))
        assert results == [number * 2 for number in numbers]


async def generators(consumer: Consumer, count: int) -> None:
    """Generators that are dropped before the start, broken out of, sent and not used up, or closed as they should."""
    for number in range(count):
        make = consumer.service.plain if number % 2 else consumer.service.later
        match number // 2 % 5:
            case 0:
                await make()
            case 1 | 2:
                async for item in await make():
                    if item == 2:
                        break
            case 3:
                assert await consumer.service.first(consumer.generator()) == 0
            case _:
                async with aclosing(await make()) as items:
                    assert await anext(items) == 0


async def failures(consumer: Consumer, count: int) -> None:
    """Arguments and results that cannot be sent, beside functions and generators that could."""
    for _ in range(count // 2):
        function = consumer.function()
        try:
            await consumer.service.apply([function, consumer.generator(), keep(function), Unsendable()], 1)
        except SerializationError as error:
            assert "Unsendable" in str(error)
        try:
            await consumer.service.bad_result()
        except RemoteException as error:
            assert "Unsendable" in str(error)


async def interfaces(consumer: Consumer, count: int) -> None:
    """Kept callbacks and interfaces that their receiver calls and lets go of."""
    for _ in range(count // 10):
        for _ in range(5):
            await consumer.service.take(keep(consumer.function()))
            await consumer.service.take({"_rintf": True, "on": consumer.function()})
        assert await consumer.service.call_kept(3) == [6] * 10


async def connections(consumer: Consumer, count: int) -> None:
    """Clients that come, register, call and go."""
    for number in range(count):
        async with connect_to_server(server_url=consumer.url) as server:
            await server.register_service({"id": "svc", "double": consumer.function()})
            assert await (await server.get_service("svc")).double(number) == number * 2


WORKLOADS: dict[str, Callable[[Consumer, int], Awaitable[None]]] = {
    "callbacks": callbacks,
    "generators": generators,
    "failures": failures,
    "interfaces": interfaces,
    "connections": connections,
}


async def consume(url: str, service: str, token: str, workload: str, *counts: str) -> None:
    """Do the work, and print the pictures."""
    async with connect_to_server(server_url=url, token=token) as server:
        consumer = Consumer(url, server, await server.get_service(service))
        window = await server.get_service("public/window")
        pictures = []
        for count in counts:
            await WORKLOADS[workload](consumer, int(count))
            pictures.append({**await consumer.look(), "server": await window.look()})
        sys.stdout.write(json.dumps(pictures) + "\n")


async def provide(url: str) -> None:
    """Serve until the parent closes the pipe."""
    functions = Functions()
    async with connect_to_server(server_url=url) as server:
        functions.server = server
        names = ("apply", "plain", "later", "first", "bad_result", "take", "call_kept", "look")
        info = await server.register_service({"id": "leaks", **{name: getattr(functions, name) for name in names}})
        sys.stdout.write(f"{info['id']} {await server.generate_token()}\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run({"provider": provide, "consumer": consume}[sys.argv[1]](*sys.argv[2:]))
