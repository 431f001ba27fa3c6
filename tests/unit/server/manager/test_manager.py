from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hypha.auth.identity import root_user
from hypha.manager.core import Caller
from hypha.manager.manager import METHODS

from .conftest import World, login

DOCUMENTED = """echo log log_event get_event_stats get_events register_service unregister_service list_workspaces
    list_services search_services list_clients register_service_type get_service_type list_service_types
    get_service_info get_service generate_token revoke_token parse_token create_workspace delete_workspace bookmark
    unbookmark get_workspace_info get_summary ping cleanup check_status set_env get_env subscribe unsubscribe""".split()


# ------------------------------------------------------------------ the methods


def test_the_documented_methods_are_offered(world: World) -> None:
    assert sorted(world.peer.offered) == sorted(METHODS) == sorted(DOCUMENTED)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_method_has_a_schema_that_describes_its_arguments(world: World, name: str) -> None:
    method = world.manager.methods[name]
    schema = method.__schema__
    assert method.__name__ == schema["name"] == name
    assert len(schema["description"]) > 10
    properties = schema["parameters"]["properties"]
    assert "context" not in properties
    for argument, entry in properties.items():
        assert entry["description"], f"{name}({argument}) is not described"
        assert argument in schema["parameters"]["required"] or "default" in entry


def test_schemas_tell_the_types(world: World) -> None:
    def properties(name: str) -> dict[str, Any]:
        parameters: dict[str, Any] = world.manager.methods[name].__schema__["parameters"]
        return {
            key: {k: v for k, v in entry.items() if k != "description"}
            for key, entry in parameters["properties"].items()
        }

    assert properties("echo") == {"data": {}}
    assert properties("subscribe") == {
        "event_type": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    }
    assert properties("list_workspaces") == {
        "match": {"anyOf": [{"type": "object"}, {"type": "null"}], "default": None},
        "offset": {"type": "integer", "default": 0},
        "limit": {"type": "integer", "default": 256},
    }
    assert properties("create_workspace")["overwrite"] == {"type": "boolean", "default": False}
    assert properties("ping")["timeout"] == {"type": "number", "default": 5}


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((1,), {"foo": 2}, "^echo.. got an unexpected keyword argument 'foo'$"),
        ((), {}, "^echo.. missing 1 required positional argument: 'data'$"),
        ((1, 2), {}, "^echo.. takes 2 positional arguments but 3 "),
    ],
)
async def test_wrong_arguments_are_told_shortly(world: World, args: Any, kwargs: Any, text: str) -> None:
    alice = await world.join_as("alice")
    with pytest.raises(TypeError, match=text):
        await alice.call("echo", *args, **kwargs)


async def test_arguments_are_given_by_name_or_position(world: World) -> None:
    alice = await world.join_as("alice")
    assert await alice.call("echo", data=1) == 1
    assert await alice.call("list_services", query=None, include_unlisted=True) == await alice.call(
        "list_services", None, True
    )


# ------------------------------------------------------------------ calls without a connection


async def test_a_method_is_called_from_inside_with_the_rights_of_its_caller(world: World) -> None:
    alice = await world.join_as("alice", "a")
    await alice.register("svc")
    manager = world.manager
    own = Caller("ws-user-alice/http", "ws-user-alice", login("alice").admitted("http", "ws-user-alice", "a"), None)
    other = Caller("ws-user-bob/http", "ws-user-bob", login("bob").admitted("http", "ws-user-bob", "a"), None)
    assert (await manager.call(own, "get_service_info", ["svc"]))["id"] == "ws-user-alice/a:svc"
    assert [info["id"] for info in await manager.call(own, "list_services")][1:] == ["ws-user-alice/a:svc"]
    with pytest.raises(PermissionError, match="Permission denied for non-public service"):
        await manager.call(other, "get_service_info", kwargs={"service_id": "ws-user-alice/svc"})


async def test_a_context_among_the_arguments_changes_nothing(world: World) -> None:
    bob = Caller("ws-user-bob/http", "ws-user-bob", login("bob").admitted("http", "ws-user-bob", "a"), None)
    await world.join_as("bob")
    forged = {"context": {"from": "ws-user-root/x", "user": root_user().to_wire()}}
    assert (await world.manager.call(bob, "get_workspace_info", kwargs=forged))["id"] == "ws-user-bob"


async def test_an_unknown_method_is_not_found(world: World) -> None:
    bob = Caller("ws-user-bob/http", "ws-user-bob", login("bob"), None)
    for name in ("nosuch", "call", "__init__"):
        with pytest.raises(KeyError, match=f"{name} not found."):
            await world.manager.call(bob, name)


async def test_what_needs_a_connection_says_so_or_does_nothing(world: World) -> None:
    await world.join_as("bob")
    bob = Caller("ws-user-bob/http", "ws-user-bob", login("bob").admitted("http", "ws-user-bob", "a"), None)
    with pytest.raises(RuntimeError, match="Connection not found for client ws-user-bob/http"):
        await world.manager.call(bob, "subscribe", ["x"])
    assert await world.manager.call(bob, "register_service", [{"id": "http:svc", "config": {}}]) is None
    assert world.core.directory.named("svc") == []


# ------------------------------------------------------------------ leaving


async def test_what_a_client_registered_goes_with_it_without_a_word(world: World) -> None:
    watcher, prov = await world.join_as("alice"), await world.join_as("alice", "prov__rlb")
    await watcher.call("subscribe", ["service_removed", "client_disconnected"])
    await prov.register("svc")
    prov.leave()
    assert world.core.directory.of_client(prov.address) == []
    assert world.peer.gone == [prov.address]
    assert len(world.core.load) == 0
    assert watcher.outlet.events() == [
        ("client_disconnected", {"id": "prov__rlb", "workspace": "ws-user-alice"}),
    ]


async def test_a_temporary_workspace_ends_with_its_last_client(world: World) -> None:
    root = await world.join_root("public")
    await root.call("subscribe", "workspace_unloaded")
    visitor = await world.join_anonymous()
    friend = await world.join(visitor.connection.user)  # type: ignore[arg-type]
    visitor.leave()
    assert world.workspaces.exists(visitor.workspace)
    friend.leave()
    assert not world.workspaces.exists(visitor.workspace)
    assert [(kind, data["id"]) for kind, data in root.outlet.events()] == [("workspace_unloaded", visitor.workspace)]


async def test_a_persistent_workspace_keeps_its_record(world: World) -> None:
    alice = await world.join_as("alice")
    await alice.call("set_env", "k", "v")
    alice.leave()
    again = await world.join_as("alice")
    assert await again.call("get_env", "k") == "v"


class Timers:
    """The loop's timers, fired by hand."""

    def __init__(self, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pending: list[tuple[float, Callable[[], Any], Any]] = []
        self._real = loop.call_later
        monkeypatch.setattr(loop, "call_later", self._call_later)

    def _call_later(self, delay: float, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        handle = self._real(3600.0, function, *args)
        self.pending.append((delay, lambda: function(*args), handle))
        return handle

    def fire(self) -> None:
        """Run those that were not cancelled."""
        due, self.pending = self.pending, []
        for _, function, handle in due:
            if not handle.cancelled():
                function()
                handle.cancel()


@pytest.fixture
async def timers(monkeypatch: pytest.MonkeyPatch) -> Timers:
    return Timers(asyncio.get_running_loop(), monkeypatch)


async def test_an_empty_workspace_waits_for_the_grace_period(make_world: Callable[..., World], timers: Timers) -> None:
    world = make_world(workspace_unload_grace_period=30.0)
    visitor = await world.join_anonymous()
    visitor.leave()
    assert [delay for delay, *_ in timers.pending] == [30.0]
    assert world.workspaces.exists(visitor.workspace)
    timers.fire()
    assert not world.workspaces.exists(visitor.workspace)


async def test_a_workspace_stays_when_somebody_came_in_time(make_world: Callable[..., World], timers: Timers) -> None:
    world = make_world(workspace_unload_grace_period=30.0)
    visitor = await world.join_anonymous("v")
    visitor.leave()
    again = await world.join(visitor.connection.user, client_id="v")  # type: ignore[arg-type]
    timers.fire()
    assert world.workspaces.exists(again.workspace)
    again.leave()
    timers.fire()
    assert not world.workspaces.exists(again.workspace)


async def test_a_lost_client_finds_its_workspace_again(world: World, timers: Timers) -> None:
    alice = await world.join_as("alice")
    await alice.call("create_workspace", {"id": "a-b"})
    user = world.tokens.parse(await alice.call("generate_token", {"workspace": "a-b"}))
    child = await world.join(user, "a-b", right="rw")
    child.leave(clean=False)
    assert world.workspaces.exists("a-b")
    assert [delay for delay, *_ in timers.pending] == [120.0]
    timers.fire()
    assert not world.workspaces.exists("a-b")


async def test_closing_leaves_no_timer(make_world: Callable[..., World], timers: Timers) -> None:
    world = make_world(workspace_unload_grace_period=30.0)
    visitor = await world.join_anonymous()
    visitor.leave()
    await world.manager.close(ConnectionError("over"))
    await world.manager.close(ConnectionError("over"))
    assert all(handle.cancelled() for *_, handle in timers.pending)
    assert world.workspaces.exists(visitor.workspace)
