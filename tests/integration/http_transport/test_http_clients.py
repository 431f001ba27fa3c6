"""Clients over HTTP do what clients over WebSocket do (behaviours L, python-client X22)."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from hypha.testing import RunningServer
from hypha_rpc import connect_to_server
from hypha_rpc.errors import AuthenticationFailed, RemoteException
from hypha_rpc.http_client import connect_to_server_http, get_remote_service_http

from .conftest import Pair

MIB = 1024 * 1024


async def test_the_connected_object_has_the_same_members_as_over_websocket(server: RunningServer) -> None:  # B225, B232
    async with connect_to_server(server_url=server.url, transport="http") as over_http:
        async with connect_to_server(server_url=server.url) as over_websocket:
            assert set(over_http) == set(over_websocket)
            assert set(over_http.config) == set(over_websocket.config)
            assert over_http.config.user.is_anonymous
            assert await over_http.echo("hello") == "hello"
            assert isinstance(await over_http.list_services(), list)


async def test_values_and_callbacks_cross(pair: Pair) -> None:  # B226
    async def twice(callback, value):
        return await callback(value) + await callback(value)

    await pair.provider.register_service({"id": "svc", "echo": lambda x: x, "twice": twice})
    service = await pair.consumer.get_service("svc")
    nested = {"a": [1, {"b": None}], "bytes": b"\0\xff", "text": "grüße", "f": 1.5}
    assert await service.echo(nested) == nested
    array = np.arange(12, dtype="float32").reshape(3, 4)
    np.testing.assert_array_equal(await service.echo(array), array)
    assert await service.twice(lambda x: x * 2, 21) == 84


async def test_errors_and_generators_cross(pair: Pair) -> None:
    def count(n):
        yield from range(n)

    def fail():
        raise ValueError("no such luck")

    await pair.provider.register_service({"id": "svc", "count": count, "fail": fail})
    service = await pair.consumer.get_service("svc")
    assert [item async for item in await service.count(200)] == list(range(200))
    with pytest.raises(RemoteException, match="no such luck"):
        await service.fail()


async def test_order_is_kept(pair: Pair) -> None:
    seen = []
    await pair.provider.register_service({"id": "svc", "note": seen.append})
    service = await pair.consumer.get_service("svc")
    await asyncio.gather(*(service.note(index) for index in range(1000)))
    assert seen == list(range(1000))


async def test_small_calls_pass_a_big_value(pair: Pair) -> None:
    await pair.provider.register_service({"id": "svc", "echo": lambda x: x})
    service = await pair.consumer.get_service("svc")
    data = bytes(range(256)) * (8 * MIB // 256)
    big = asyncio.ensure_future(service.echo(data))
    assert await asyncio.wait_for(service.echo("small"), 5) == "small"
    assert await asyncio.wait_for(big, 15) == data


async def test_several_services_are_listed_and_callable(pair: Pair) -> None:  # B227
    for name in ("one", "two", "three"):
        await pair.provider.register_service({"id": name, "name": name.title(), "who": lambda name=name: name})
    listed = {item["id"].rpartition(":")[2]: item for item in await pair.consumer.list_services()}
    assert {"one", "two", "three"} <= set(listed)
    assert listed["two"]["name"] == "Two"
    for name in ("one", "two", "three"):
        assert await (await pair.consumer.get_service(name)).who() == name
    await pair.provider.unregister_service("two")
    with pytest.raises(KeyError):
        await pair.consumer.get_service("two")


async def test_the_caller_is_known_to_the_provider(pair: Pair) -> None:
    async def who(context=None):
        return context["user"]["id"], context["from"]

    await pair.provider.register_service({"id": "svc", "config": {"require_context": True}, "who": who})
    service = await pair.consumer.get_service("svc")
    workspace = pair.consumer.config.workspace
    assert await service.who() == [pair.consumer.config.user.id, f"{workspace}/consumer"]


async def test_events_of_the_workspace_arrive(pair: Pair) -> None:
    arrived: asyncio.Queue[object] = asyncio.Queue()
    await pair.consumer.subscribe(["custom", "service_added"])
    pair.consumer.on("custom", arrived.put_nowait)
    await pair.provider.emit({"type": "custom", "to": "*", "data": 7})
    assert (await asyncio.wait_for(arrived.get(), 5))["data"] == 7  # type: ignore[index]


async def test_a_token_leads_to_its_workspace(server: RunningServer) -> None:  # B228
    token = server.token("alice", workspace="ws-user-alice")
    async with connect_to_server_http({"server_url": server.url, "token": token}) as client:
        assert client.config.workspace == "ws-user-alice"
        assert client.config.user.id == "alice"


async def test_anonymous_clients_do_not_share_a_workspace(server: RunningServer) -> None:
    async with connect_to_server_http(server_url=server.url) as one:
        async with connect_to_server_http(server_url=server.url) as two:
            assert one.config.workspace != two.config.workspace
            assert one.config.workspace.startswith("ws-user-anonymouz-")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"token": "no-token"}, "Authentication error"),
        ({"workspace": "nowhere"}, "does not exist or is not accessible"),
        ({"client_id": "a:b"}, "Invalid client id"),
    ],
)
async def test_a_refusal_is_told_at_once_with_its_reason(
    server: RunningServer, options: dict, text: str
) -> None:  # B231
    async with asyncio.timeout(5):
        with pytest.raises(ConnectionAbortedError, match=text) as caught:
            await connect_to_server({"server_url": server.url, "transport": "http", **options})
    assert isinstance(caught.value, AuthenticationFailed)


async def test_a_foreign_workspace_is_refused(server: RunningServer) -> None:
    async with connect_to_server(server_url=server.url) as owner:
        with pytest.raises(ConnectionAbortedError, match="Permission denied for workspace"):
            await connect_to_server_http(server_url=server.url, workspace=owner.config.workspace)


async def test_a_service_is_fetched_by_its_url(server: RunningServer) -> None:
    config = {"visibility": "public"}
    async with connect_to_server(server_url=server.url, transport="http") as provider:
        await provider.register_service({"id": "svc", "config": config, "hello": lambda name: f"Hello {name}"})
        url = f"{server.url}/{provider.config.workspace}/services/svc"
        async with get_remote_service_http(url) as service:
            assert await service.hello("John") == "Hello John"


async def test_leaving_removes_the_services_and_is_announced(pair: Pair) -> None:
    gone: asyncio.Queue[object] = asyncio.Queue()
    await pair.consumer.subscribe("client_disconnected")
    pair.consumer.on("client_disconnected", gone.put_nowait)
    await pair.provider.register_service({"id": "svc", "f": len})
    await pair.provider.disconnect()
    assert (await asyncio.wait_for(gone.get(), 5))["data"]["id"] == "provider"  # type: ignore[index]
    assert not [item for item in await pair.consumer.list_services() if "provider:" in item["id"]]


async def test_a_disconnected_client_is_closed_and_leaves_nothing(server: RunningServer) -> None:
    before = asyncio.all_tasks()
    client = await connect_to_server(server_url=server.url, transport="http")
    await client.disconnect()
    await client.disconnect()
    with pytest.raises(ConnectionError, match="Connection is closed"):
        await client.echo(1)
    async with asyncio.timeout(5):
        while len(asyncio.all_tasks()) > len(before):
            await asyncio.sleep(0.01)


async def test_an_unknown_transport_is_warned_about(server: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    async with connect_to_server(server_url=server.url, transport="pigeon") as client:
        assert await client.echo(1) == 1
    assert "'websocket', 'http', 'auto'" in caplog.text
