"""The manager's methods as our client calls them, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hypha.testing import RunningServer, run_server
from hypha_rpc import connect_to_server

METHODS = """log log_event get_event_stats get_events list_workspaces list_services search_services list_clients
    register_service_type get_service_type list_service_types get_service_info generate_token revoke_token parse_token
    create_workspace delete_workspace bookmark unbookmark get_workspace_info get_summary ping cleanup check_status
    set_env get_env echo subscribe unsubscribe""".split()


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with run_server() as server:
        yield server


def connect(server: RunningServer, user: str | None = None, **options: Any) -> Any:
    """Connect as *user*, or as nobody."""
    if user is not None:
        options["token"] = server.token(user)
    return connect_to_server({"server_url": server.url, **options})


async def test_every_method_is_there_with_its_schema(server: RunningServer) -> None:
    async with connect(server, "alice") as alice:
        for name in METHODS:
            assert alice[name].__schema__["name"] == name
            assert alice[name].__schema__["description"]


async def test_the_workspace_keeps_variables_events_types_and_bookmarks(server: RunningServer) -> None:
    async with connect(server, "alice") as alice:
        await alice.set_env("k", "v")
        await alice.log_event("opened", {"n": 1})
        await alice.log("hello")
        await alice.register_service_type({"id": "st1", "name": "ST", "definition": {"a": 1}})
        await alice.bookmark({"bookmark_type": "workspace", "id": "ws-user-alice"})
    async with connect(server, "alice") as again:
        assert await again.get_env("k") == "v"
        assert [event["data"] for event in await again.get_events()] == [{"n": 1}, "hello"]
        assert await again.get_event_stats("log") == [{"event_type": "log", "count": 1}]
        assert (await again.get_service_type("st1"))["id"] == "ws-user-alice/st1"
        info = await again.get_workspace_info()
        assert info["config"]["environs"] == {"k": "v"}
        assert [item["id"] for item in info["config"]["bookmarks"]] == ["ws-user-alice"]


async def test_errors_arrive_as_what_they_are(server: RunningServer) -> None:
    async with connect(server, "alice") as alice:
        with pytest.raises(KeyError, match="Environment variable 'zz' not found in workspace ws-user-alice"):
            await alice.get_env("zz")
        with pytest.raises(RuntimeError, match="Service search is not enabled."):
            await alice.search_services("x")
        with pytest.raises(PermissionError, match="Permission denied for workspace ws-user-bob"):
            await connect_and_deny(server, alice)
        with pytest.raises(TypeError, match=r"echo\(\) got an unexpected keyword argument 'foo'"):
            await alice.echo(1, foo=2)


async def connect_and_deny(server: RunningServer, alice: Any) -> None:
    async with connect(server, "bob"):
        await alice.get_workspace_info("ws-user-bob")


async def test_a_created_workspace_is_entered_with_a_token_and_goes_when_it_is_deleted(server: RunningServer) -> None:
    async with connect(server, "alice") as alice:
        created = await alice.create_workspace({"id": "a-b", "name": "A"})
        assert created["owners"] == ["alice"]
        token = await alice.generate_token({"workspace": "a-b"})
        inside = await connect_to_server({"server_url": server.url, "token": token})
        assert inside.config.workspace == "a-b"
        gone = asyncio.Event()
        inside.rpc.on("disconnected", lambda _info: gone.set())
        await alice.delete_workspace("a-b")
        async with asyncio.timeout(10):
            await gone.wait()
        await inside.disconnect()
        assert [entry["id"] for entry in await alice.list_workspaces()] == ["ws-user-alice"]


async def test_who_connected_with_a_withdrawn_token_is_out(server: RunningServer) -> None:
    async with connect(server, "alice") as alice:
        token = await alice.generate_token()
        child = await connect_to_server({"server_url": server.url, "token": token})
        gone = asyncio.Event()
        child.rpc.on("disconnected", lambda _info: gone.set())
        await alice.revoke_token(token)
        async with asyncio.timeout(10):
            await gone.wait()
        await child.disconnect()
        with pytest.raises(ConnectionAbortedError, match="Token has been revoked"):
            await connect_to_server({"server_url": server.url, "token": token})


async def test_services_are_found_by_name_in_other_workspaces(server: RunningServer) -> None:
    async with connect(server) as one, connect(server) as two:
        await one.register_service({"id": "hello", "config": {"visibility": "public"}, "hi": lambda name: f"Hi {name}"})
        service = await two.get_service("hello")
        assert await service.hi("Bo") == "Hi Bo"
        assert service.config.workspace == one.config.workspace
        ids = [info["id"] for info in await two.list_services(one.config.workspace)]
        assert ids == [f"{one.config.workspace}/{one.config.client_id}:hello"]
        with pytest.raises(KeyError, match="Service not found"):
            await two.get_service("nosuch")


async def test_the_least_loaded_is_chosen_by_what_it_says(server: RunningServer) -> None:
    async with connect(server, "alice") as one, connect(server, "alice") as two, connect(server, "alice") as user:
        for provider, load in ((one, 5), (two, 1)):
            await provider.register_service({"id": "worker", "load": lambda load=load: load, "who": lambda n=load: n})
        service = await user.get_service("worker", mode="select:min:load")
        assert await service.who() == 1
        service = await user.get_service("worker", mode="select:max:load")
        assert await service.who() == 5
        with pytest.raises(AssertionError, match="Multiple services found for"):
            await user.get_service("worker")


async def test_a_default_service_is_set_up_before_it_counts_as_registered(server: RunningServer) -> None:
    async with connect(server, "alice") as alice:
        called: list[str] = []

        async def setup() -> None:
            called.append("setup")

        await alice.export({"setup": setup})
        assert called == ["setup"]


async def test_events_of_the_workspace_reach_subscribers(server: RunningServer) -> None:
    async with connect(server, "alice") as alice:
        events: list[tuple[str, str]] = []
        left = asyncio.Event()
        await alice.subscribe(["client_connected", "service_added", "client_disconnected"])
        alice.on("client_connected", lambda event: events.append(("connected", event["data"]["id"])))
        alice.on("service_added", lambda event: events.append(("added", event["data"]["id"])))
        alice.on("client_disconnected", lambda _event: left.set())
        async with connect(server, "alice", client_id="other") as other:
            await other.register_service({"id": "svc"})
        async with asyncio.timeout(10):
            await left.wait()
        assert events == [("connected", "ws-user-alice/other"), ("added", "ws-user-alice/other:svc")]


async def test_an_anonymous_workspace_leaves_nothing_behind(server: RunningServer, eventually: Any) -> None:
    async with connect(server) as visitor:
        workspace = visitor.config.workspace
        await visitor.log("x")
        assert (await visitor.check_status())["status"] == "ready"
        assert server.app.workspaces.exists(workspace)
    await eventually(lambda: not server.app.workspaces.exists(workspace), what="the end of the workspace")
    core = server.app.manager.core
    assert core.events.used == 0
    assert core.directory.of_workspace(workspace) == []


async def test_ping_and_cleanup_over_the_wire(server: RunningServer) -> None:
    async with connect(server, "alice") as alice, connect(server, "alice", client_id="other"):
        assert await alice.ping("other") == "pong"
        assert (await alice.ping("nosuch")).startswith("Failed to ping client ws-user-alice/nosuch: ")
        assert await alice.cleanup() == {}
