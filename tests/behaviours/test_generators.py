"""Generators and iterators across the wire (behaviours G)."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from hypha_rpc import sync

Eventually = Callable[..., Awaitable[None]]


class Closing:
    """Generators that remember how they ended."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def plain(self, count: int) -> Iterator[int]:
        try:
            yield from range(count)
        finally:
            self.ended.append("plain")

    async def later(self, count: int) -> AsyncIterator[int]:
        try:
            for number in range(count):
                await asyncio.sleep(0)
                yield number
        finally:
            self.ended.append("later")


class Countdown:
    """A plain iterator that is no generator."""

    def __init__(self, start: int) -> None:
        self.left = start

    def __iter__(self) -> Countdown:
        return self

    def __next__(self) -> int:
        if self.left == 0:
            raise StopIteration
        self.left -= 1
        return self.left


class AsyncCountdown(Countdown):
    """An asynchronous one."""

    __next__ = None  # type: ignore[assignment]

    def __aiter__(self) -> AsyncCountdown:
        return self

    async def __anext__(self) -> int:
        if self.left == 0:
            raise StopAsyncIteration
        self.left -= 1
        return self.left


def broken(count: int) -> Iterator[int]:
    yield from range(count)
    raise ValueError("no more")


async def broken_later(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number
    raise ValueError("no more")


async def taken(items: Any, count: int) -> list[Any]:
    """The first items."""
    return [await anext(items) for _ in range(count)]


async def collect(generator: Any, into: list[Any]) -> None:
    """Append the items one by one, so that an error loses none."""
    async for item in await generator:
        into += [item]


async def nothing_left(client: Any, eventually: Eventually) -> None:
    await eventually(lambda: client.rpc.stats()["sessions"] == 0, what="an empty table of exports")


async def test_b120_b121_generators_yield_all_items_in_order(pair: Any) -> None:
    source = Closing()
    service = await pair.offer(plain=source.plain, later=source.later)
    for make in (service.plain, service.later):
        assert [item async for item in await make(100)] == list(range(100))
    assert source.ended == ["plain", "later"]


def test_b122_blocking_clients_iterate_with_a_plain_for(server_url: str) -> None:
    source = Closing()
    with sync.connect_to_server(server_url=server_url) as provider:
        info = provider.register_service({"id": "svc", "plain": source.plain, "later": source.later})
        options = {"server_url": server_url, "workspace": provider.config["workspace"]}
        with sync.connect_to_server({**options, "token": provider.generate_token()}) as consumer:
            service = consumer.get_service(info["id"])
            for make in (service.plain, service.later):
                seen = []
                for item in make(10):
                    seen.append(item)  # noqa: PERF402 - a plain loop is what is shown
                assert seen == list(range(10))
    assert source.ended == ["plain", "later"]


@pytest.mark.parametrize("kind", [Countdown, AsyncCountdown])
async def test_b123_b124_iterators_that_are_no_generators_work_in_whole_and_in_part(pair: Any, kind: type) -> None:
    service = await pair.offer(count=lambda start: kind(start))
    assert [item async for item in await service.count(5)] == [4, 3, 2, 1, 0]
    items = await service.count(100)
    assert await taken(items, 3) == [99, 98, 97]
    await items.aclose()


async def test_b124_iterators_of_the_standard_library_work(pair: Any) -> None:
    service = await pair.offer(
        counted=lambda: iter([1, 2, 3]),
        mapped=lambda: map(str, [1, 2]),
        paired=lambda: zip("ab", [1, 2], strict=True),
        endless=itertools.count,
    )
    assert [item async for item in await service.counted()] == [1, 2, 3]
    assert [item async for item in await service.mapped()] == ["1", "2"]
    assert [item async for item in await service.paired()] == [["a", 1], ["b", 2]]
    items = await service.endless()
    assert await taken(items, 3) == [0, 1, 2]
    await items.aclose()


@pytest.mark.parametrize("make", [broken, broken_later])
@pytest.mark.parametrize("count", [0, 1, 7])
async def test_b125_an_error_after_n_items_comes_after_n_items(pair: Any, make: Any, count: int) -> None:
    service = await pair.offer(make=make)
    seen: list[int] = []
    with pytest.raises(ValueError, match="no more"):
        await collect(service.make(count), seen)
    assert seen == list(range(count))


async def test_b125_an_item_that_cannot_be_sent_is_an_error_of_the_consumer(pair: Any) -> None:
    service = await pair.offer(make=lambda: iter([1, object()]))
    items = await service.make()
    assert await anext(items) == 1
    with pytest.raises(Exception, match="Unsupported data type"):
        await anext(items)


@pytest.mark.parametrize("name", ["plain", "later"])
async def test_b126_closing_early_runs_the_finally_at_the_provider(pair: Any, name: str) -> None:
    source = Closing()
    service = await pair.offer(make=getattr(source, name))
    items = await service.make(100)
    assert await taken(items, 3) == [0, 1, 2]
    await items.aclose()
    assert source.ended == [name]
    with pytest.raises(StopAsyncIteration):
        await anext(items)


async def test_b127_b128_nothing_is_left_after_the_end_or_an_early_close(pair: Any, eventually: Eventually) -> None:
    source = Closing()
    service = await pair.offer(plain=source.plain, later=source.later)
    for make in (service.plain, service.later):
        assert len([item async for item in await make(10)]) == 10
    await nothing_left(pair.provider, eventually)
    for _ in range(5):
        items = await service.later(10**9)
        assert await taken(items, 3) == [0, 1, 2]
        await items.aclose()
    await nothing_left(pair.provider, eventually)
    assert source.ended.count("later") == 6


@pytest.mark.parametrize("started", [True, False], ids=["broken out of", "never started"])
@pytest.mark.parametrize("name", ["plain", "later"])
async def test_b130_a_generator_that_is_dropped_is_closed(
    our_pair: Any, eventually: Eventually, name: str, started: bool
) -> None:
    source = Closing()
    service = await our_pair.offer(make=getattr(source, name))
    items = await service.make(100)
    if started:
        async for item in items:
            if item == 2:
                break
    del items
    gc.collect()
    await nothing_left(our_pair.provider, eventually)
    # A generator that never ran has nothing to finish.
    await eventually(lambda: source.ended == ([name] if started else []), what="the finally of the generator")


async def test_generators_travel_in_arguments_too_and_end_with_their_call(pair: Any) -> None:
    source = Closing()

    async def first(items: Any) -> Any:
        return await anext(items)

    async def every(items: Any) -> list[Any]:
        return [item async for item in items]

    service = await pair.offer(first=first, every=every)
    assert await service.every(source.plain(20)) == list(range(20))
    assert await service.every(source.later(20)) == list(range(20))
    assert await service.first(iter([5, 6])) == 5
