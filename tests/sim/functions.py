"""What the clients of the simulated world offer, and how they call each other: one kind of call, one function."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from hypha_rpc.endpoint.leases import keep
from hypha_rpc.errors import CallbackExpired
from tests.sim.journal import Record

if TYPE_CHECKING:
    from tests.sim.world import SimClient, World


class Provider:
    """The functions of one client in one life.

    Args:
        world: where.
        client: whose.
    """

    def __init__(self, world: World, client: SimClient) -> None:
        self._world = world
        self._client = client

    def add(self, token: str) -> Any:
        self._world.journal.ran(token)
        return ["done", token]

    async def work(self, token: str, seconds: float) -> Any:
        self._world.journal.ran(token)
        await asyncio.sleep(seconds)
        return ["done", token]

    def boom(self, token: str) -> Any:
        self._world.journal.ran(token)
        raise ValueError(token)

    def echo(self, token: str, data: Any) -> Any:
        self._world.journal.ran(token)
        return ["done", token, data]

    async def ask(self, token: str, count: int, pause: float, callback: Callable[[str], Awaitable[Any]]) -> Any:
        self._world.journal.ran(token)
        answers = []
        for index in range(count):
            await asyncio.sleep(pause)
            try:
                answers.append(await callback(f"{token}.{index}"))
            except CallbackExpired:
                self._check_expired(token)
                raise
        return ["done", token, answers]

    def _check_expired(self, token: str) -> None:
        """A callback in an argument lives as long as its call."""
        record = self._world.journal.records[token]
        caller = self._world.clients[record.caller]
        if not record.done and not record.cancelled and caller.rpc is record.life:
            self._world.journal.wrong(f"a callback was gone before its call had ended: {token}")

    async def stream(self, token: str, count: int, pause: float) -> AsyncGenerator[str, None]:
        self._world.journal.ran(token)
        for index in range(count):
            if pause:
                await asyncio.sleep(pause)
            yield f"{token}.{index}"

    async def pour(self, token: str, count: int, size: int) -> AsyncGenerator[list[Any], None]:
        self._world.journal.ran(token)
        for index in range(count):
            yield [index, bytes(size)]

    async def take(self, token: str, source: AsyncIterator[int]) -> Any:
        self._world.journal.ran(token)
        return ["done", token, [item async for item in source]]

    def make(self, token: str) -> Any:
        self._world.journal.ran(token)

        def inner(inner_token: str) -> Any:
            self._world.journal.ran(inner_token)
            return ["done", inner_token]

        return inner

    def hold(self, token: str, later: float, callback: Callable[[str], Awaitable[Any]]) -> Any:
        self._world.journal.ran(token)
        self._world.spawn(self._call_later(token, later, callback))
        return ["done", token]

    async def _call_later(self, token: str, later: float, callback: Callable[[str], Awaitable[Any]]) -> None:
        record, rpc = self._world.journal.records[token], self._client.rpc
        await asyncio.sleep(later)
        if self._client.rpc is not rpc or rpc is None or rpc.endpoint.closed is not None:
            return
        try:
            await callback(f"{token}.k")
        except Exception as error:  # noqa: BLE001 - a callback may fail in every way when the network does
            self._world.journal.outcomes[f"kept callback: {type(error).__name__}"] += 1
            calm = self._world.outages.isdisjoint((record.caller, record.callee, "server"))
            if isinstance(error, CallbackExpired) and calm and not record.cancelled:
                self._world.journal.wrong(f"a kept callback was gone: {token}")


def service(world: World, client: SimClient) -> dict[str, Any]:
    """The service of *client*."""
    provider = Provider(world, client)
    names = ("add", "work", "boom", "echo", "ask", "stream", "pour", "take", "make", "hold")
    functions = {name: getattr(provider, name) for name in names}
    return {"id": "work", "config": {"visibility": "public"}, **functions}


class Calls:
    """The ways to call *proxy*; each checks its own result.

    Args:
        world: where.
        record: the call.
        proxy: the service called.
    """

    def __init__(self, world: World, record: Record, proxy: Any) -> None:
        self._world = world
        self._record = record
        self._token = record.token
        self._proxy = proxy

    async def add(self) -> None:
        self._check(await self._proxy.add(self._token))

    async def work(self, seconds: float) -> None:
        self._check(await self._proxy.work(self._token, seconds))

    async def limited(self, seconds: float, limit: float) -> None:
        self._check(await self._proxy.work.options(timeout=limit)(self._token, seconds))

    async def boom(self) -> None:
        try:
            await self._proxy.boom(self._token)
        except ValueError as error:
            if self._token in str(error):
                return
            raise
        self._world.journal.wrong(f"an error was lost: {self._token}")

    async def echo(self, size: int) -> None:
        data = self._token.encode() * (size // len(self._token) + 1)
        value = await self._proxy.echo(self._token, data)
        self._world.journal.succeeded(self._record, [*value[:2], bytes(value[2])], ["done", self._token, data])

    async def ask(self, count: int, pause: float) -> None:
        value = await self._proxy.ask(self._token, count, pause, self._answer)
        answers = [["asked", f"{self._token}.{index}"] for index in range(count)]
        self._world.journal.succeeded(self._record, value, ["done", self._token, answers])

    def _answer(self, token: str) -> Any:
        self._world.journal.ran(token)
        return ["asked", token]

    async def stream(self, count: int, pause: float, wanted: int) -> None:
        items: list[str] = []
        source = await self._proxy.stream(self._token, count, pause)
        async for item in source:
            items.append(item)
            if len(items) == wanted:
                await source.aclose()
                break
        expected = [f"{self._token}.{index}" for index in range(count)]
        if items != expected[: min(wanted, count)]:
            self._world.journal.wrong(f"a stream of {count} ended well with {len(items)}: {self._token} {items!r:.200}")

    async def pour(self, count: int, size: int) -> None:
        """Items that are big themselves."""
        got = [item async for item in await self._proxy.pour(self._token, count, size)]
        if [[index, len(data)] for index, data in got] != [[index, size] for index in range(count)]:
            self._world.journal.wrong(f"a stream of {count} big items ended well with {len(got)}: {self._token}")

    async def take(self, count: int, pause: float) -> None:
        """A generator in an argument."""
        value = await self._proxy.take(self._token, _numbers(count, pause))
        self._world.journal.succeeded(self._record, value, ["done", self._token, list(range(count))])

    async def make(self, pause: float) -> None:
        function = await self._proxy.make(self._token)
        await asyncio.sleep(pause)
        self._world.journal.succeeded(self._record, await function(f"{self._token}.f"), ["done", f"{self._token}.f"])

    async def hold(self, later: float) -> None:
        self._check(await self._proxy.hold(self._token, later, keep(self._answer)))

    def _check(self, value: Any) -> None:
        self._world.journal.succeeded(self._record, value, ["done", self._token])


async def _numbers(count: int, pause: float) -> AsyncGenerator[int, None]:
    for index in range(count):
        if pause:
            await asyncio.sleep(pause)
        yield index
