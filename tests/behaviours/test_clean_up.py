"""Nothing is left behind, whatever happened (behaviours J), and two lines of C and H that nobody else shows."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hypha_rpc import connect_to_server
from hypha_rpc.errors import CallError, RemoteException
from hypha_rpc.rpc import RPC

Eventually = Callable[..., Awaitable[None]]
UNDER_WAY = ("calls", "running", "sessions", "held", "partial_messages", "transfers", "waiting", "tasks")


async def nothing_under_way(eventually: Eventually, *clients: Any) -> None:
    for client in clients:
        await eventually(
            lambda stats=client.rpc.stats: not any(stats()[name] for name in UNDER_WAY), what="empty tables"
        )


def resident() -> int:
    """Resident memory of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


async def later(value: Any) -> Any:
    await asyncio.sleep(0.01)
    return value


def fail() -> None:
    raise ValueError("so it is")


async def test_b041_unlisted_services_are_called_like_public_ones(pair: Any, server_url: str) -> None:
    config = {"visibility": "unlisted"}
    info = await pair.provider.register_service({"id": "hidden", "config": config, "later": later})
    async with connect_to_server(server_url=server_url) as stranger:
        assert await (await stranger.get_service(info["id"])).later(3) == 3


class Secretive:
    """An object whose attributes must stay out of reach."""

    secret = "never"

    def greet(self) -> str:
        return "hello"

    def hidden(self) -> str:
        return self.secret


@pytest.mark.parametrize(
    "path",
    ["greet.__self__.hidden", "greet.__func__", "greet.__globals__", "greet.__call__", "greet.__self__", "__class__"],
)
async def test_b158_no_path_reaches_an_attribute(our_pair: Any, path: str) -> None:
    service = await our_pair.offer(greet=Secretive().greet)
    reference = {**service.greet.__rpc_object__, "_rmethod": f"services.svc.{path}"}
    function = our_pair.consumer.rpc.decode(reference)
    with pytest.raises(CallError, match="not found"):
        await function()
    assert await service.greet() == "hello"


@pytest.mark.parametrize(("calls", "size"), [(1, 0), (60, 0), (50, 10_000), (110, 0)])
async def test_b190_b191_calls_leave_nothing(pair: Any, eventually: Eventually, calls: int, size: int) -> None:
    service = await pair.offer(later=later, plain=lambda value: value, fail=fail)
    value = "x" * size
    before = resident()
    made = [service.later(value) if number % 2 else service.plain(value) for number in range(calls)]
    assert await asyncio.gather(*made) == [value] * calls
    failed = await asyncio.gather(*(service.fail() for _ in range(5)), return_exceptions=True)
    assert all(isinstance(error, ValueError) for error in failed)
    await nothing_under_way(eventually, pair.provider, pair.consumer)
    assert resident() - before < 10_000_000


async def test_b192_services_come_and_go(pair: Any, eventually: Eventually) -> None:
    for number in range(3):
        info = await pair.provider.register_service({"id": f"svc-{number}", "later": later})
        assert await (await pair.consumer.get_service(info["id"])).later(number) == number
    for number in range(3):
        await pair.provider.unregister_service(f"svc-{number}")
    assert not [name for name in pair.provider.rpc.get_all_local_services() if name.startswith("svc-")]
    await nothing_under_way(eventually, pair.provider, pair.consumer)


async def never() -> None:
    await asyncio.Event().wait()


async def test_b193_closing_fails_what_is_pending(pair: Any) -> None:
    service = await pair.offer(never=never)
    pending = [service.never() for _ in range(3)]
    pair.consumer.rpc.close()
    for call in pending:
        with pytest.raises(ConnectionError, match="closed|disconnected"):
            await call
    assert pair.consumer.rpc.stats()["calls"] == 0


def links_up() -> int:
    """How many clients of this loop have a task that keeps their connection."""
    return sum(task.get_name() == "hypha-link" and not task.done() for task in asyncio.all_tasks())


async def test_b194_b195_disconnecting_fails_what_is_pending_and_empties_every_table(pair: Any) -> None:
    service = await pair.offer(never=never)
    pair.consumer.on("something", print)
    pending, links = service.never(), links_up()
    await pair.consumer.disconnect()
    with pytest.raises(ConnectionError):
        await pending
    assert links_up() == links - 1, "the provider's is left"
    assert not any(pair.consumer.rpc._event_handlers.values())
    stats = pair.consumer.rpc.stats()
    assert not any(stats[name] for name in (*UNDER_WAY, "services"))
    with pytest.raises(ConnectionError, match="closed"):
        await service.never()


async def test_b196_closing_works_on_a_fresh_object_and_twice() -> None:
    for rpc in [RPC(None, f"c{number}", workspace="w") for number in range(3)]:
        rpc.close()
        rpc.close()
        await rpc.disconnect()
        assert rpc.state == "closed"
        assert not any(rpc.stats().values())


async def test_b197_a_closed_client_is_let_go(server_url: str) -> None:
    client = await connect_to_server(server_url=server_url)
    remembered = weakref.ref(client.rpc)
    await client.disconnect()
    del client
    await asyncio.sleep(0)
    gc.collect()
    assert remembered() is None


async def test_b201_a_peer_that_leaves_takes_its_sessions_not_the_services(pair: Any, eventually: Eventually) -> None:
    options = {"server_url": pair.url, "token": pair.token, "workspace": pair.workspace}
    await pair.offer(make=lambda: lambda: 1)
    async with connect_to_server(options) as visitor:
        function = await (await visitor.get_service(f"{pair.provider.config.client_id}:svc")).make()
        assert await function() == 1
        assert pair.provider.rpc.stats()["sessions"] == 1
    await eventually(lambda: pair.provider.rpc.stats()["sessions"] == 0, what="the visitor's session to go")
    assert "svc" in pair.provider.rpc.get_all_local_services()


async def test_b202_a_call_after_the_end_is_a_connection_error_and_leaves_nothing(pair: Any) -> None:
    service = await pair.offer(later=later)
    await pair.consumer.disconnect()
    for _ in range(3):
        with pytest.raises(ConnectionError):
            await service.later(1)
    assert pair.consumer.rpc.stats()["calls"] == 0


def test_b205_a_client_object_needs_no_loop_and_may_be_asked_from_any_thread() -> None:
    rpc = RPC(None, "c", workspace="w")
    rpc.add_service({"id": "svc", "f": len}, announce=True)
    barrier = threading.Barrier(4)

    def ask() -> Any:
        barrier.wait(5)
        return [rpc.get_client_info() for _ in range(50)]

    with ThreadPoolExecutor(4) as pool:
        answers = [answer for future in [pool.submit(ask) for _ in range(4)] for answer in future.result(10)]
    assert {answer["id"] for answer in answers} == {"c"}
    assert all(any(service["id"].endswith("svc") for service in answer["services"]) for answer in answers)


async def test_b207_a_fresh_connection_follows_a_closed_one(server_url: str) -> None:
    for number in range(2):
        async with connect_to_server(server_url=server_url) as client:
            assert await client.echo(number) == number


async def test_b208_encoding_failures_and_cancellations_leave_nothing(our_pair: Any, eventually: Eventually) -> None:
    service = await our_pair.offer(never=never, echo=lambda value: value)
    for _ in range(16):
        with pytest.raises(TypeError):
            await service.echo([print, object()])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(service.never(), 0.01)
    await nothing_under_way(eventually, our_pair.provider, our_pair.consumer)


async def test_b210_an_error_that_nobody_looks_at_is_no_news(pair: Any, caplog: pytest.LogCaptureFixture) -> None:
    service = await pair.offer(never=never, fail=fail)
    with pytest.raises(RemoteException):
        await service.fail()
    _ = service.never()
    await pair.consumer.disconnect()
    gc.collect()
    assert [record for record in caplog.records if record.levelname not in ("DEBUG", "INFO")] == []
