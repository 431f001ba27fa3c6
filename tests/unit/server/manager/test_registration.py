from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Client, World


async def record(client: Client, service: str) -> dict[str, Any]:
    info: dict[str, Any] = await client.call("get_service_info", service)
    return info


async def test_a_registered_service_has_the_full_record(world: World) -> None:
    alice = await world.join_as("alice", "prov")
    schema = {"hello": {"type": "function", "function": {"name": "hello"}}}
    await alice.register(
        "hello-world", name="Hello World", visibility="public", require_context=True, extra=[1], service_schema=schema
    )
    assert await record(alice, "hello-world") == {
        "id": "ws-user-alice/prov:hello-world",
        "name": "Hello World",
        "type": "generic",
        "description": None,
        "docs": None,
        "app_id": "*",
        "service_schema": schema,
        "config": {
            "visibility": "public",
            "require_context": True,
            "workspace": "ws-user-alice",
            "flags": [],
            "singleton": False,
            "created_by": {"id": "alice"},
            "service_embedding": None,
            "authorized_workspaces": None,
            "extra": [1],
        },
    }


async def test_nothing_but_the_id_is_needed(world: World) -> None:
    alice = await world.join_as("alice", "prov")
    await alice.call("register_service", {"id": "prov:svc"})
    found = await record(alice, "svc")
    assert (found["name"], found["type"], found["config"]["visibility"]) == ("svc", "generic", "protected")


async def test_private_is_another_word_for_protected(world: World) -> None:
    alice = await world.join_as("alice")
    await alice.register("svc", visibility="private")
    assert (await record(alice, "svc"))["config"]["visibility"] == "protected"


async def test_what_the_caller_says_about_itself_is_overwritten(world: World) -> None:
    alice = await world.join_as("alice")
    await alice.register("svc", workspace="ws-user-bob", created_by={"id": "root"})
    config = (await record(alice, "svc"))["config"]
    assert (config["workspace"], config["created_by"]) == ("ws-user-alice", {"id": "alice"})


async def test_members_with_an_underscore_are_not_kept(world: World) -> None:
    alice = await world.join_as("alice", "prov")
    await alice.call("register_service", {"id": "prov:svc", "config": {}, "_rtype": "x", "kept": 1})
    found = await record(alice, "svc")
    assert "_rtype" not in found
    assert found["kept"] == 1


async def test_the_application_may_stand_in_the_id(world: World) -> None:
    alice = await world.join_as("alice", "prov")
    await alice.call("register_service", {"id": "ws-user-alice/prov:svc@app1", "config": {}})
    assert (await record(alice, "svc@app1"))["app_id"] == "app1"


# ------------------------------------------------------------------ refusals, in the order of server §2.8


async def test_a_reader_registers_nothing(world: World) -> None:
    await world.join_as("alice")
    reader = await world.join_child("alice", "r")
    with pytest.raises(PermissionError, match="^Permission denied for workspace ws-user-alice$"):
        await reader.register("svc")


@pytest.mark.parametrize("service_id", ["svc", "", None, 3, "ws-user-alice/svc"])
async def test_an_id_needs_a_client_part(world: World, service_id: Any) -> None:
    alice = await world.join_as("alice")
    with pytest.raises(ValueError, match="Service id info must contain ':'"):
        await alice.call("register_service", {"id": service_id, "config": {}})


async def test_a_service_stays_in_the_workspace_of_its_client(world: World) -> None:
    alice = await world.join_as("alice", "prov")
    await world.join_as("bob", "prov")
    text = (
        "^Service ID workspace prefix 'ws-user-bob' does not match the current workspace 'ws-user-alice'. "
        "Cannot register services in other workspaces.$"
    )
    with pytest.raises(PermissionError, match=text):
        await alice.call("register_service", {"id": "ws-user-bob/prov:svc", "config": {}})


@pytest.mark.parametrize("service", ["victim:svc", "victim:built-in"])
async def test_nobody_registers_under_the_id_of_another_client(world: World, service: str) -> None:
    alice = await world.join_as("alice", "mine")
    victim = await world.join_as("alice", "victim")
    await victim.register("svc")
    before = [found.info for found in world.core.directory]
    with pytest.raises(PermissionError, match="belongs to another client"):
        await alice.call("register_service", {"id": service, "config": {}})
    assert [found.info for found in world.core.directory] == before


@pytest.mark.parametrize("name", ["", "*", " x", "a.b", "a*", "x" * 129, "\tx"])
async def test_names_that_could_not_be_called_are_refused(world: World, name: str) -> None:
    alice = await world.join_as("alice", "prov")
    with pytest.raises(ValueError, match="Invalid service id: "):
        await alice.call("register_service", {"id": f"prov:{name}", "config": {}})


@pytest.mark.parametrize("name", ["a/b", "a:b", "a@b@c"])
async def test_separators_in_names_are_refused(world: World, name: str) -> None:
    alice = await world.join_as("alice", "prov")
    with pytest.raises((AssertionError, ValueError, PermissionError)):
        await alice.call("register_service", {"id": f"prov:{name}", "config": {}})
    assert [found.name for found in world.core.directory] == ["built-in"]


@pytest.mark.parametrize("name", ["with space", "größe", "0", "日本"])
async def test_other_names_are_fine(world: World, name: str) -> None:
    alice = await world.join_as("alice", "prov")
    await alice.register(name)
    assert (await record(alice, name))["id"] == f"ws-user-alice/prov:{name}"


async def test_local_and_interface_services_are_ignored(world: World) -> None:
    alice = await world.join_as("alice")
    await alice.register("svc", _local_only=True)
    await alice.register("_rintf_1")
    assert [found.name for found in world.core.directory] == ["built-in"]


async def test_a_client_that_was_not_introduced_registers_nothing(world: World) -> None:
    alice = await world.join_as("alice")
    await alice.call("unregister_service", "built-in")
    await alice.register("svc")
    assert len(world.core.directory) == 0


async def test_the_quota_counts_services_of_a_client(make_world: Callable[..., World]) -> None:
    world = make_world(max_services_per_client=3)
    alice = await world.join_as("alice", "prov")
    other = await world.join_as("alice", "other")
    for name in ("a", "b", "b"):
        await alice.register(name)
    text = (
        r"^Service quota exceeded: client prov already has 3 services \(max 3\). "
        "Remove unused services before registering new ones.$"
    )
    with pytest.raises(RuntimeError, match=text):
        await alice.register("c")
    await alice.register("a", visibility="public")
    await other.register("c")


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (True, True)])
async def test_a_singleton_has_no_namesake_in_its_workspace(world: World, first: bool, second: bool) -> None:
    one, two = await world.join_as("alice"), await world.join_as("alice")
    await one.register("svc", singleton=first)
    text = (
        r"^A singleton service with the same name \(svc\) already exists in the workspace \(ws-user-alice\), "
        "please remove it first or use a different name.$"
    )
    with pytest.raises(ValueError, match=text):
        await two.register("svc", singleton=second)
    await one.register("svc", singleton=first)
    await (await world.join_as("bob")).register("svc", singleton=True)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"visibility": "secret"}, "visibility must be one of"),
        (
            {"visibility": "public", "authorized_workspaces": []},
            "authorized_workspaces can only be set when visibility is 'protected', got visibility='public'",
        ),
        ({"authorized_workspaces": "ws-user-bob"}, "authorized_workspaces must be a list"),
        ({"authorized_workspaces": [3]}, "Each workspace id in authorized_workspaces must be a string, got int"),
    ],
)
async def test_config_is_checked(world: World, config: dict[str, Any], text: str) -> None:
    alice = await world.join_as("alice", "prov")
    with pytest.raises(ValueError, match=text):
        await alice.call("register_service", {"id": "prov:svc", "config": config})


@pytest.mark.parametrize(
    ("member", "text"),
    [
        ({"description": "x" * 1025}, "description must be text of at most 1024 characters"),
        ({"description": 3}, "description must be text"),
        ({"name": 3}, "name must be text"),
        ({"type": ["x"]}, "type must be text"),
        ({"app_id": "a/b"}, "app_id must be text without '/'"),
        ({"service_schema": [1]}, "service_schema must be a map"),
        ({"docs": "x" * 300_000}, "may have at most 262144 bytes"),
        ({"docs": object()}, "must be made of plain values"),
    ],
)
async def test_the_description_is_checked(world: World, member: dict[str, Any], text: str) -> None:
    alice = await world.join_as("alice", "prov")
    with pytest.raises(ValueError, match=text):
        await alice.call("register_service", {"id": "prov:svc", "config": {}, **member})
    assert [found.name for found in world.core.directory] == ["built-in"]


@pytest.mark.parametrize("service", ["svc", None, [1]])
async def test_a_description_is_a_map(world: World, service: Any) -> None:
    alice = await world.join_as("alice")
    with pytest.raises(TypeError, match="a service description must be a map"):
        await alice.call("register_service", service)


# ------------------------------------------------------------------ events


async def watch(world: World, *kinds: str) -> Client:
    watcher = await world.join_as("alice", "watcher")
    await watcher.call("subscribe", list(kinds))
    return watcher


async def test_a_new_service_is_told_to_its_workspace_only(world: World) -> None:
    watcher = await watch(world, "service_added", "service_removed")
    prov = await world.join_as("alice", "prov")
    await prov.register("svc")
    await (await world.join_as("bob")).register("svc")
    assert [(kind, data["id"]) for kind, data in watcher.outlet.events()] == [
        ("service_added", "ws-user-alice/prov:svc")
    ]


async def test_a_replaced_service_is_told_as_removed_and_added(world: World) -> None:
    watcher = await watch(world, "service_added", "service_removed")
    prov = await world.join_as("alice", "prov")
    await prov.register("svc", n=1)
    await prov.register("svc", n=2)
    events = [(kind, data["config"]["n"]) for kind, data in watcher.outlet.events()]
    assert events == [("service_added", 1), ("service_removed", 2), ("service_added", 2)]


async def test_the_built_in_service_brings_the_news_of_a_client(world: World) -> None:
    watcher = await watch(world, "client_connected", "client_updated", "service_added")
    prov = await world.join_as("alice", "prov")
    await prov.introduce()
    data = {"id": "ws-user-alice/prov", "workspace": "ws-user-alice"}
    assert watcher.outlet.events() == [("client_connected", data), ("client_updated", data)]


async def test_a_resumed_client_is_told_once_as_connected_also_abroad(world: World) -> None:
    watcher = await watch(world, "client_connected", "client_updated")
    friend = await world.join_as("bob", "friend")
    prov = await world.join_as("alice", "prov")
    prov.connection.met(friend.address)
    watcher.outlet.frames.clear()
    world.presence.resumed.add(prov.address)
    await prov.introduce()
    await prov.introduce()
    data = {"id": "ws-user-alice/prov", "workspace": "ws-user-alice"}
    assert watcher.outlet.events() == [("client_connected", {**data, "resumed": True}), ("client_updated", data)]
    assert friend.outlet.events() == [("client_connected", {**data, "resumed": True})]


async def test_a_new_default_service_is_set_up_and_a_replaced_one_is_not(world: World) -> None:
    prov = await world.join_as("alice", "prov")
    key = "ws-user-alice/prov services.default.setup"
    world.peer.answers[key] = None
    schema = {"setup": {"type": "function"}}
    await prov.register("default", service_schema=schema)
    await prov.register("default", service_schema=schema)
    await prov.register("other", service_schema=schema)
    assert world.peer.asked == [(key, ())]


async def test_a_default_service_whose_setup_fails_fails_its_registration(world: World) -> None:
    prov = await world.join_as("alice", "prov")
    world.peer.answers["ws-user-alice/prov services.default.setup"] = ValueError("no")
    with pytest.raises(ValueError, match="no"):
        await prov.register("default", service_schema={"setup": {"type": "function"}})


# ------------------------------------------------------------------ withdrawing


async def test_a_service_is_withdrawn_by_any_form_of_its_id(world: World) -> None:
    prov = await world.join_as("alice", "prov")
    for service in ("svc", "prov:svc", "ws-user-alice/prov:svc", "ws-user-alice/svc"):
        await prov.register("svc")
        await prov.call("unregister_service", service)
        assert [found.name for found in world.core.directory] == ["built-in"]


async def test_withdrawing_is_told(world: World) -> None:
    watcher = await watch(world, "service_removed")
    prov = await world.join_as("alice", "prov")
    await prov.register("svc")
    await prov.call("unregister_service", "svc")
    assert [(kind, data["id"]) for kind, data in watcher.outlet.events()] == [
        ("service_removed", "ws-user-alice/prov:svc")
    ]


async def test_an_unknown_service_cannot_be_withdrawn(world: World) -> None:
    prov = await world.join_as("alice", "prov")
    with pytest.raises(KeyError, match=r"Service not found: ws-user-alice/\*:svc@\*"):
        await prov.call("unregister_service", "svc")


async def test_a_bare_name_means_the_own_service(world: World) -> None:
    one, two = await world.join_as("alice", "one"), await world.join_as("alice", "two")
    await one.register("svc")
    await two.register("svc")
    await two.call("unregister_service", "svc")
    assert [found.id for found in world.core.directory.named("svc")] == ["ws-user-alice/one:svc"]


async def test_a_name_that_several_others_have_is_refused(world: World) -> None:
    one, two = await world.join_as("alice", "one"), await world.join_as("alice", "two")
    three = await world.join_as("alice", "three")
    await one.register("svc")
    await two.register("svc")
    with pytest.raises(AssertionError, match="Multiple services found for "):
        await three.call("unregister_service", "svc")
    await three.call("unregister_service", "one:svc")
    assert [found.id for found in world.core.directory.named("svc")] == ["ws-user-alice/two:svc"]


async def test_a_writer_withdraws_its_own_services_only(world: World) -> None:
    alice = await world.join_as("alice", "prov")
    writer = await world.join_child("alice", "rw", "writer")
    await alice.register("svc")
    await writer.register("mine")
    await writer.call("unregister_service", "mine")
    with pytest.raises(PermissionError, match="^Permission denied for workspace ws-user-alice$"):
        await writer.call("unregister_service", "svc")
    assert world.core.directory.get("ws-user-alice/prov:svc") is not None


async def test_services_of_other_workspaces_are_not_withdrawn(world: World) -> None:
    alice, bob = await world.join_as("alice", "prov"), await world.join_as("bob")
    await alice.register("svc", visibility="public")
    with pytest.raises(PermissionError, match="^Permission denied for workspace ws-user-alice$"):
        await bob.call("unregister_service", "ws-user-alice/prov:svc")
    with pytest.raises(PermissionError, match="^Permission denied for workspace ws-user-alice$"):
        await bob.call("unregister_service", "ws-user-alice/prov:nosuch")
    root = await world.join_root()
    await root.call("unregister_service", "ws-user-alice/prov:svc")
    assert world.core.directory.get("ws-user-alice/prov:svc") is None
