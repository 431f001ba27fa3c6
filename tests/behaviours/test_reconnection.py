"""Links that break again and again (behaviours I); single drops and restarts are in `tests/integration`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from hypha_rpc import connect_to_server

Eventually = Callable[..., Awaitable[None]]
SOURCES = Path(__file__).parents[2] / "hypha_rpc"


async def drop(client: Any, code: int) -> None:
    """Close the socket of *client* as if the link had broken."""
    await client.rpc._connection._websocket.close(code)


async def dropped_and_back(client: Any, code: int, eventually: Eventually) -> None:
    before = client.rpc.stats()["reconnects"]
    await drop(client, code)
    await eventually(
        lambda: client.rpc.stats()["reconnects"] > before and client.rpc.outbox.open,
        timeout_s=15,
        what="the reconnection",
    )


async def test_b099_progress_is_reported_before_and_after_a_reconnection(pair: Any, eventually: Eventually) -> None:
    async def work(progress: Any) -> str:
        for step in range(3):
            await progress(step)
        return "done"

    service = await pair.offer(work=work)
    seen: list[int] = []
    assert await service.work(seen.append) == "done"
    await dropped_and_back(pair.consumer, 1001, eventually)
    assert await service.work(seen.append) == "done"
    await dropped_and_back(pair.provider, 1001, eventually)
    assert await service.work(seen.append) == "done"
    assert seen == [0, 1, 2] * 3


async def test_b170_rapid_drops_are_survived_and_each_call_runs_once(our_pair: Any, eventually: Eventually) -> None:
    runs: list[int] = []
    service = await our_pair.offer(note=runs.append)
    for number, code in enumerate((1000, 1001, 1000, 1002, 1011)):
        await dropped_and_back(our_pair.provider, code, eventually)
        await service.note(number)
    assert runs == list(range(5))


async def test_b171_three_clients_dropped_at_once_recover_with_their_services(
    pair: Any, eventually: Eventually
) -> None:
    options = {"server_url": pair.url, "token": pair.token, "workspace": pair.workspace}
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect_to_server(options)) for _ in range(3)]
        infos = [
            await client.register_service({"id": "who", "who": lambda number=number: number})
            for number, client in enumerate(clients)
        ]
        await asyncio.gather(*(dropped_and_back(client, 1001, eventually) for client in clients))
        found = [await (await pair.consumer.get_service(info["id"])).who() for info in infos]
        assert found == [0, 1, 2]


async def test_b173_an_invalid_reconnection_token_ends_in_an_error_or_a_connection(our_url: str) -> None:
    connecting = connect_to_server(server_url=our_url, reconnection_token="no-token")
    (outcome,) = await asyncio.wait_for(asyncio.gather(connecting._connect(), return_exceptions=True), 10)
    if isinstance(outcome, BaseException):
        assert isinstance(outcome, ConnectionError)
    else:
        await outcome.disconnect()
    async with connect_to_server(server_url=our_url) as client:
        assert await client.echo(1) == 1


def test_b176_the_client_never_ends_the_process() -> None:
    modules = list(SOURCES.rglob("*.py"))
    assert len(modules) > 50
    assert [str(module) for module in modules if "os._exit" in module.read_text("utf-8")] == []
