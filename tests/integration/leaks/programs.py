"""A provider and a consumer in processes of their own.

Run as ``python -m tests.integration.leaks.programs provider URL``; prints its service id, workspace and a token, and
ends when its input does. The consumer gets these and the name of a workload, and prints pictures before and after.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, suppress
from typing import Any

from hypha_rpc import connect_to_server, keep
from tests.integration.leaks.picture import picture

AT_ONCE = 50
# What is no trace of calls: services are registered on purpose, reconnections are counted.
NOT_EMPTY = ("services", "reconnects")

Work = Callable[["Consumer", int], Awaitable[None]]


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
        async for item in items:
            return item

    def bad_result(self) -> Any:
        """Something that cannot be sent after something that can."""
        return [self.plain, self.plain(), Unsendable()]

    def take(self, thing: Any) -> None:
        """Keep *thing*."""
        self.kept.append(thing)

    def drop(self) -> None:
        """Let go of everything that was kept."""
        self.kept.clear()

    def look(self) -> dict[str, int]:
        """The picture of this process, and the tables of its connection."""
        return {**picture(), **tables(self.server), "ended": self.ended}


def tables(server: Any) -> dict[str, int]:
    """The sizes of all tables that are empty when nothing is under way."""
    return {f"table {name}": size for name, size in server.rpc.stats().items() if name not in NOT_EMPTY}


class Consumer:
    """The side that calls, and weak references to everything it has handed out."""

    def __init__(self, url: str, server: Any, service: Any) -> None:
        self.url, self.server, self.service = url, server, service
        self.handed_out: weakref.WeakSet[Any] = weakref.WeakSet()

    async def quiet(self) -> bool:
        """Whether nothing is under way here and there; the look itself is one call that runs there."""
        mine, theirs = tables(self.server), await self.service.look()
        busy = {name: size for name, size in theirs.items() if name.startswith("table ") and size}
        return not any(mine.values()) and busy in ({}, {"table running": 1})

    async def look(self) -> dict[str, Any]:
        """Pictures of both ends, when all is quiet."""
        deadline = time.monotonic() + 10
        while not await self.quiet() and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        theirs = await self.service.look()
        mine = {**picture(), **tables(self.server), "handed out": len(self.handed_out)}
        return {"consumer": mine, "provider": theirs}

    def callback(self) -> Any:
        """A new function of its own."""

        def double(value: int) -> int:
            return value * 2

        self.handed_out.add(double)
        return double


async def callbacks(consumer: Consumer, count: int) -> None:
    """Calls with a callback each."""
    for start in range(0, count, AT_ONCE):
        numbers = range(start, start + AT_ONCE)
        results = await asyncio.gather(*(consumer.service.apply(consumer.callback(), number) for number in numbers))
        assert results == [number * 2 for number in numbers]


async def generators(consumer: Consumer, count: int) -> None:
    """Generators that are dropped: before the start, broken out of, and as arguments; a few are closed properly."""
    for number in range(count):
        make = consumer.service.plain if number % 2 else consumer.service.later
        match number % 5:
            case 0:
                await make()
            case 1 | 2:
                async for item in await make():
                    if item == 2:
                        break
            case 3:
                own = Functions().plain()
                consumer.handed_out.add(own)
                assert await consumer.service.first(own) == 0
            case _:
                async with aclosing(await make()) as items:
                    assert await anext(items) == 0


async def failures(consumer: Consumer, count: int) -> None:
    """Arguments and results that cannot be sent, next to functions and generators that could."""
    for number in range(count):
        function = consumer.callback()
        with suppress(TypeError):
            if number % 2:
                await consumer.service.bad_result()
            else:
                await consumer.service.apply([function, Functions().plain(), keep(function), Unsendable()], 1)
            raise RuntimeError("that was sent")


async def interfaces(consumer: Consumer, count: int) -> None:
    """Kept callbacks and interfaces that their receiver lets go of."""
    for _ in range(0, count, 2):
        await consumer.service.take(keep(consumer.callback()))
        await consumer.service.take({"_rintf": True, "on": consumer.callback()})
        if len(consumer.handed_out) > AT_ONCE:
            await consumer.service.drop()
    await consumer.service.drop()


async def connections(consumer: Consumer, count: int) -> None:
    """Clients that come, register, call and go."""
    for number in range(count):
        async with connect_to_server(server_url=consumer.url) as server:
            await server.register_service({"id": "svc", "echo": consumer.callback()})
            assert await (await server.get_service("svc")).echo(number) == number * 2


WORKLOADS: dict[str, Work] = {
    work.__name__: work for work in (callbacks, generators, failures, interfaces, connections)
}


async def consume(url: str, *, service: str, token: str, workload: str, counts: list[int]) -> None:
    """Print pictures before the work, after each share of it, and of what this process is without a connection."""
    async with connect_to_server(server_url=url, token=token) as server, asyncio.timeout(50):
        consumer = Consumer(url, server, await server.get_service(service))
        window = await server.get_service("public/window")
        pictures = []
        for count in counts:
            await WORKLOADS[workload](consumer, count)
            pictures.append({**await consumer.look(), "server": await window.look()})
        sys.stdout.write(json.dumps(pictures) + "\n")


async def provide(url: str) -> None:
    """Serve until the parent closes the pipe."""
    functions = Functions()
    async with connect_to_server(server_url=url) as server:
        functions.server = server
        names = ("apply", "plain", "later", "first", "bad_result", "take", "drop", "look")
        info = await server.register_service({"id": "leaks", **{name: getattr(functions, name) for name in names}})
        sys.stdout.write(f"{info['id']} {await server.generate_token()}\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


if __name__ == "__main__":
    role, url, *rest = sys.argv[1:]
    if role == "provider":
        asyncio.run(provide(url))
    else:
        service, token, workload, *counts = rest
        asyncio.run(
            consume(url, service=service, token=token, workload=workload, counts=[int(count) for count in counts])
        )
