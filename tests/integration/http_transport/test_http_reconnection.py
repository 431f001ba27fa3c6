"""Streams that break: the client comes back, and so does what it had (behaviours B230, extensions §5)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hypha.testing import RunningServer, run_server
from hypha_rpc import connect_to_server

from .conftest import Proxy, run_proxy

Eventually = Any


@pytest.fixture
async def proxy(server: RunningServer) -> AsyncIterator[Proxy]:
    async with run_proxy(server.port) as running:
        yield running


async def ready_again(client: Any, before: int) -> None:
    """Wait until *client* has reconnected more often than *before*."""
    deadline = time.monotonic() + 10
    while client.rpc.stats()["reconnects"] <= before or not client.rpc.outbox.open:
        assert time.monotonic() < deadline, "no reconnection"
        await asyncio.sleep(0.01)


async def noticed(client: Any) -> None:
    """Wait until *client* knows that its connection is lost."""
    async with asyncio.timeout(10):
        while client.rpc.outbox.open:
            await asyncio.sleep(0.001)


async def test_a_broken_stream_heals_and_its_services_are_back(server: RunningServer, proxy: Proxy) -> None:  # B230
    async with connect_to_server(server_url=proxy.url, transport="http", client_id="provider") as provider:
        token = await provider.generate_token()
        await provider.register_service({"id": "svc", "echo": lambda x: x})
        workspace = provider.config.workspace
        async with connect_to_server(server_url=server.url, token=token) as consumer:
            service = await consumer.get_service("svc")
            assert await service.echo(1) == 1
            proxy.cut()
            await ready_again(provider, 0)
            assert provider.config.workspace == workspace
            assert provider.rpc.connection_info["resumed"] is True
            assert await service.echo(2) == 2
            assert await (await consumer.get_service("svc")).echo(3) == 3
            assert await provider.echo(4) == 4


async def test_calls_made_while_the_stream_is_broken_wait_and_succeed(proxy: Proxy) -> None:
    async with connect_to_server(server_url=proxy.url, transport="http") as client:
        proxy.cut()
        await noticed(client)
        assert await asyncio.wait_for(client.echo(2), 10) == 2
        assert client.rpc.stats()["reconnects"] == 1


async def test_an_answer_that_falls_due_in_the_outage_is_kept(server: RunningServer, proxy: Proxy) -> None:
    release, runs = asyncio.Event(), []

    async def work() -> str:
        runs.append(1)
        await release.wait()
        return "kept"

    async with connect_to_server(server_url=server.url, transport="http") as provider:
        await provider.register_service({"id": "svc", "work": work})
        options = {"token": await provider.generate_token(), "client_id": "consumer", "transport": "http"}
        async with connect_to_server({"server_url": proxy.url, **options}) as consumer:
            service = await consumer.get_service("svc")
            pending = service.work()
            async with asyncio.timeout(5):
                while not runs:
                    await asyncio.sleep(0.01)
            proxy.answer = lambda head: b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            proxy.cut()
            async with asyncio.timeout(5):
                while any(entry["id"].endswith("/consumer") for entry in await provider.list_clients()):
                    await asyncio.sleep(0.01)
            release.set()
            await provider.echo(0)
            proxy.answer = lambda head: None
            assert await asyncio.wait_for(pending, 10) == "kept"
            assert runs == [1]


async def test_a_restarted_server_is_found_again() -> None:
    async with run_server() as first:
        port, settings = first.port, first.settings
        client = await connect_to_server(server_url=first.url, transport="http")
        await client.register_service({"id": "svc", "f": lambda: 1})
    try:
        async with run_server(port, jwt_secret=settings.jwt_secret, server_id=settings.server_id) as second:
            await ready_again(client, 0)
            workspace = client.config.workspace
            token = second.token("reader", workspace=workspace, workspaces={workspace: "r"})
            async with connect_to_server(server_url=second.url, token=token) as other:
                assert await (await other.get_service("svc")).f() == 1
            await client.disconnect()
    finally:
        await client.disconnect()


async def test_a_stopping_server_ends_the_stream_with_a_word(
    server: RunningServer, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    client = await connect_to_server(server_url=server.url, transport="http")
    ends: list[Any] = []
    down = client.rpc.link_down

    def link_down(closed: Any) -> None:
        ends.append(closed)
        down(closed)

    client.rpc.link_down = link_down
    begun = time.monotonic()
    await server.stop()
    assert time.monotonic() - begun < 3
    await eventually(lambda: ends, what="the end of the stream")
    assert tuple(ends[0]) == (1001, "Server is shutting down")
    await client.disconnect()


async def test_a_silent_way_is_noticed_by_pings(server: RunningServer, proxy: Proxy) -> None:
    options = {"transport": "http", "ping_interval": 0.2, "ping_timeout": 0.3}
    async with connect_to_server({"server_url": proxy.url, **options}) as client:
        # POSTs get no answer any more, and nothing comes down.
        proxy.answer = lambda head: b"" if head.startswith("POST") else None
        for writer in list(proxy.links):
            writer.transport.pause_reading()  # type: ignore[attr-defined]
        await noticed(client)
        proxy.answer = lambda head: None
        proxy.cut()
        await ready_again(client, 0)
        assert await client.echo(1) == 1


async def test_a_post_whose_answer_was_lost_is_repeated_and_taken_once(proxy: Proxy) -> None:
    calls: list[int] = []
    async with connect_to_server(server_url=proxy.url, transport="http") as client:
        await client.register_service({"id": "svc", "note": lambda n: calls.append(n) or len(calls)})
        service = await client.get_service("svc")
        proxy.lose_answers = 2
        assert await service.note(0) == 1
        await client.echo("all answers are there")
        assert proxy.lose_answers == 0
        assert client.rpc.stats()["reconnects"] == 0
    assert calls == [0]
    lines = [line for head in proxy.heads for line in head.lower().split("\r\n")]
    numbers = [line for line in lines if line.startswith("x-hypha-post:")]
    assert len(numbers) - len(set(numbers)) == 2
