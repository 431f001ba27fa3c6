"""Links that break again and again (behaviours I); single drops and restarts are in `tests/integration`."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from hypha_rpc import connect_to_server
from hypha_rpc.errors import RemoteException
from tests.interop.servers import Server
from tests.interop.sides import KINDS, OURS

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


async def test_b163_five_services_are_back_with_their_state(pair: Any, eventually: Eventually) -> None:
    seen: dict[int, list[int]] = {number: [] for number in range(5)}
    infos = [
        await pair.provider.register_service(
            {"id": f"svc-{number}", "note": seen[number].append, "count": seen[number].__len__}
        )
        for number in range(5)
    ]
    told: list[Any] = []
    pair.provider.on("services_registered", told.append)
    services = [await pair.consumer.get_service(info["id"]) for info in infos]
    await asyncio.gather(*(service.note(1) for service in services))
    await dropped_and_back(pair.provider, 1011, eventually)
    for service, info in zip(services, infos, strict=True):
        await service.note(2)
        assert await (await pair.consumer.get_service(info["id"])).count() == 2
    assert told[0]["registered"] >= 5


async def test_b170_rapid_drops_are_survived_and_each_call_runs_once(pair: Any, eventually: Eventually) -> None:
    runs: list[int] = []
    service = await pair.offer(note=runs.append)
    for number, code in enumerate((1000, 1001, 1000, 1002, 1011)):
        await dropped_and_back(pair.provider, code, eventually)
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


async def test_b173_an_invalid_reconnection_token_ends_in_an_error_or_a_connection(server_url: str) -> None:
    connecting = connect_to_server(server_url=server_url, reconnection_token="no-token")
    (outcome,) = await asyncio.wait_for(asyncio.gather(connecting._connect(), return_exceptions=True), 10)
    if isinstance(outcome, BaseException):
        assert isinstance(outcome, ConnectionError)
    else:
        await outcome.disconnect()
    async with connect_to_server(server_url=server_url) as client:
        assert await client.echo(1) == 1


async def test_b175_open_after_connecting_and_reconnecting_closed_after_disconnecting(
    pair: Any, eventually: Eventually
) -> None:
    client, connection = pair.consumer, pair.consumer.rpc._connection
    assert (client.state, connection._closed, connection._enable_reconnect) == ("ready", False, True)
    await dropped_and_back(client, 1001, eventually)
    assert (client.state, connection._closed, connection._enable_reconnect) == ("ready", False, True)
    await client.disconnect()
    assert (client.state, connection._closed, connection._enable_reconnect) == ("closed", True, False)


@pytest.fixture(params=[pytest.param(kind, marks=() if kind == OURS else pytest.mark.interop) for kind in KINDS])
def mortal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server of this test alone."""
    server = Server(request.param, tmp_path)
    server.start()
    yield server
    server.stop()


async def restart(server: Server, **variables: str) -> None:
    """Another process on the same port, whose manager has another id."""
    await asyncio.to_thread(server.stop)
    server.variables = {"HYPHA_SERVER_ID": secrets.token_hex(4), **variables}
    await asyncio.to_thread(server.start)


async def until_it_works(make_call: Callable[[], Any]) -> Any:
    """The result of a call that may fail while others are coming back."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await asyncio.wait_for(make_call(), 5)
            except (ConnectionError, TimeoutError, RemoteException):
                await asyncio.sleep(0.1)


@pytest.mark.timeout(180)
async def test_b166_to_b169_three_restarts_with_new_managers_are_survived(mortal: Server) -> None:
    async with connect_to_server(server_url=mortal.url) as provider:
        counted: list[int] = []
        info = await provider.register_service({"id": "svc", "f": lambda: counted.append(1) or len(counted)})
        options = {"server_url": mortal.url, "workspace": provider.config["workspace"]}
        async with connect_to_server({**options, "token": await provider.generate_token()}) as consumer:
            service, managers = await consumer.get_service(info["id"]), {consumer.config["manager_id"]}
            echo, list_services, get_service = consumer.echo, consumer.list_services, consumer.get_service
            own = await consumer.register_service({"id": "own", "f": lambda: "local"})
            for number in range(3):
                before = len(counted)
                assert await until_it_works(service.f) == before + 1
                await restart(mortal)
                assert await until_it_works(lambda number=number: echo(number)) == number
                await until_it_works(service.f)
                managers.add(consumer.rpc.connection_info["manager_id"])
                assert len(counted) >= before + 2, "the state goes on"
                assert await (await until_it_works(lambda: get_service(own["id"]))).f() == "local"
                await until_it_works(lambda: get_service(info["id"]))
                assert info["id"] in [entry["id"] for entry in await list_services()]
            assert len(managers) == 4


@pytest.mark.timeout(120)
async def test_b174_a_refused_reconnection_ends_the_client(mortal: Server) -> None:
    client = await connect_to_server(server_url=mortal.url)
    await client.register_service({"id": "svc", "never": asyncio.Event().wait})
    pending = (await client.get_service("svc")).never()
    told = asyncio.get_running_loop().create_future()
    client.rpc.on("disconnected", lambda data: told.done() or told.set_result(data))
    # With another secret its reconnection token is worth nothing.
    await restart(mortal, JWT_SECRET=secrets.token_hex(20))
    await asyncio.wait_for(told, 30)
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(pending, 5)
    with pytest.raises(ConnectionError):
        await client.echo(1)
    assert client.state == "closed"


def test_b176_the_client_never_ends_the_process() -> None:
    modules = list(SOURCES.rglob("*.py"))
    assert len(modules) > 50
    assert [str(module) for module in modules if "os._exit" in module.read_text("utf-8")] == []
