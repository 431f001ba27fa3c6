from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Client, World


async def ids(client: Client, *args: Any, **kwargs: Any) -> list[str]:
    return [entry["id"] for entry in await client.call("list_workspaces", *args, **kwargs)]


# ------------------------------------------------------------------ describing


async def test_the_own_workspace_is_described_by_default(world: World) -> None:
    alice = await world.join_as("alice")
    info = await alice.call("get_workspace_info")
    assert (info["id"], info["persistent"], info["owners"]) == ("ws-user-alice", True, ["alice"])
    assert await alice.call("get_workspace_info", "ws-user-alice") == info


async def test_an_unknown_workspace_is_not_found(world: World) -> None:
    alice = await world.join_as("alice")
    for method in ("get_workspace_info", "delete_workspace"):
        with pytest.raises(KeyError, match=r"Workspace \(nosuch-ws\) not found or is not accessible"):
            await alice.call(method, "nosuch-ws")


async def test_readers_see_no_variables_and_only_administrators_addresses(world: World) -> None:
    alice = await world.join_as("alice")
    await alice.call("set_env", "k", "v")
    await alice.call("create_workspace", {"id": "ws-user-alice", "owners": ["alice", "carol@example.com"]}, True)
    shown = {}
    for right in ("r", "rw", "a"):
        info = await (await world.join_child("alice", right)).call("get_workspace_info")
        shown[right] = ("environs" in info["config"], len(info["owners"]))
    assert shown == {"r": (False, 1), "rw": (True, 1), "a": (True, 2)}


async def test_strangers_are_told_nothing(world: World) -> None:
    await world.join_as("alice")
    bob = await world.join_as("bob")
    with pytest.raises(PermissionError, match="^Permission denied for workspace ws-user-alice$"):
        await bob.call("get_workspace_info", "ws-user-alice")


async def test_the_summary_counts_clients_and_services(world: World) -> None:
    alice = await world.join_as("alice", "a")
    await alice.register("svc", description="What it does")
    await alice.register("hid", visibility="unlisted")
    summary = await alice.call("get_summary")
    assert list(summary) == ["name", "description", "client_count", "clients", "service_count", "services"]
    assert (summary["name"], summary["clients"], summary["client_count"]) == (
        "ws-user-alice",
        ["ws-user-alice/a"],
        1,
    )
    assert [service["id"] for service in summary["services"]] == [
        "ws-user-alice/a:built-in",
        "ws-user-alice/a:svc",
    ]
    assert summary["service_count"] == 2
    assert summary["services"][1]["description"] == "What it does"
    assert set(summary["services"][1]) == {"id", "name", "type", "description", "config"}


# ------------------------------------------------------------------ listing


async def test_what_one_may_read_or_owns_is_listed(world: World) -> None:
    alice, bob = await world.join_as("alice"), await world.join_as("bob")
    await bob.call("create_workspace", {"id": "b-shared", "owners": ["alice"]})
    await bob.call("create_workspace", {"id": "b-own"})
    reader = await world.join_child("alice", "r")
    root = await world.join_root()
    assert await ids(alice) == ["ws-user-alice", "b-shared"]
    assert await ids(reader) == ["ws-user-alice"]
    assert set(await ids(root)) >= {"public", "ws-anonymous", "ws-user-alice", "ws-user-bob", "b-own"}


async def test_an_entry_is_short(world: World) -> None:
    alice = await world.join_as("alice")
    assert await alice.call("list_workspaces") == [
        {
            "id": "ws-user-alice",
            "name": "ws-user-alice",
            "description": None,
            "read_only": False,
            "persistent": True,
            "owners": ["alice"],
        }
    ]


async def test_a_list_is_filtered_and_paged(world: World) -> None:
    alice = await world.join_as("alice")
    for number in range(5):
        await alice.call("create_workspace", {"id": f"a-{number}", "persistent": number % 2 == 0})
    assert await ids(alice, {"persistent": False}) == ["a-1", "a-3"]
    assert await ids(alice, match={"name": "a-2"}) == ["a-2"]
    assert await ids(alice, {"nosuch": 1}) == []
    assert await ids(alice, None, 2, 2) == ["a-1", "a-2"]
    assert await ids(alice, offset=5, limit=256) == ["a-4"]
    assert await ids(alice, offset=50) == []


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ({"offset": -1}, ValueError, "^Offset number must be greater than or equal to 0$"),
        ({"limit": 0}, ValueError, "^Limit must be greater than 0 and less than 256$"),
        ({"limit": 257}, ValueError, "^Limit must be greater than 0 and less than 256$"),
        ({"limit": "9"}, TypeError, "offset and limit must be numbers"),
        ({"match": "a"}, TypeError, "match must be a map"),
    ],
)
async def test_bad_pages_are_refused(world: World, arguments: Any, kind: type[Exception], text: str) -> None:
    alice = await world.join_as("alice")
    with pytest.raises(kind, match=text):
        await alice.call("list_workspaces", **arguments)


# ------------------------------------------------------------------ creating


async def test_a_created_workspace_belongs_to_its_creator(world: World) -> None:
    alice = await world.join_as("alice")
    await alice.call("subscribe", "workspace_loaded")
    info = await alice.call(
        "create_workspace", {"id": "a-b", "name": "A", "description": "D", "owners": ["bob@example.com"]}
    )
    assert (info["id"], info["name"], info["description"], info["persistent"]) == ("a-b", "A", "D", False)
    assert info["owners"] == ["alice", "bob@example.com"]
    (event,) = alice.outlet.events()
    assert (event[0], event[1]["id"], event[1]["owners"]) == ("workspace_loaded", "a-b", ["alice"])


async def test_a_creator_can_make_a_token_and_connect(world: World) -> None:
    alice = await world.join_as("alice")
    await alice.call("create_workspace", {"id": "a-b"})
    user = world.tokens.parse(await alice.call("generate_token", {"workspace": "a-b"}))
    child = await world.join(user, "a-b", right="rw")
    assert (await child.call("get_workspace_info"))["id"] == "a-b"


async def test_an_owner_by_verified_address_counts(world: World) -> None:
    alice = await world.join_as("alice")
    await alice.call("create_workspace", {"id": "a-b", "owners": ["bob@example.com"]})
    verified = await world.join_as("bob", email="bob@example.com")
    assert (await verified.call("get_workspace_info", "a-b"))["id"] == "a-b"
    unverified = await world.join_as("eve", email="bob@example.com", verified=False)
    with pytest.raises(PermissionError, match="^Permission denied for workspace a-b$"):
        await unverified.call("get_workspace_info", "a-b")


async def test_a_child_creates_for_its_parent(world: World) -> None:
    alice = await world.join_as("alice")
    child = await world.join_child("alice", "a")
    assert (await child.call("create_workspace", {"id": "a-b"}))["owners"] == ["alice"]
    assert await ids(alice) == ["ws-user-alice", "a-b"]


async def test_a_name_alone_names_the_workspace(world: World) -> None:
    alice = await world.join_as("alice")
    assert (await alice.call("create_workspace", {"name": "a-b"}))["id"] == "a-b"


async def test_only_registered_users_create(world: World) -> None:
    visitor = await world.join_anonymous()
    with pytest.raises(PermissionError, match="^Only registered user can create workspace.$"):
        await visitor.call("create_workspace", {"id": "a-b"})


async def test_an_existing_workspace_is_not_created_again(world: World) -> None:
    alice, bob = await world.join_as("alice"), await world.join_as("bob")
    await alice.call("create_workspace", {"id": "a-b"})
    for client in (alice, bob):
        with pytest.raises(RuntimeError, match="^Workspace already exists: a-b$"):
            await client.call("create_workspace", {"id": "a-b"})


async def test_the_names_of_mounts_are_reserved(world: World) -> None:
    world.reconfigure(static_mounts=("/my-files:./files", "/x:./x"))
    alice = await world.join_as("alice")
    with pytest.raises(ValueError, match="^Invalid workspace name: my-files, it is reserved.$"):
        await alice.call("create_workspace", {"id": "my-files"})


async def test_the_quota_counts_owned_workspaces(make_world: Callable[..., World]) -> None:
    world = make_world(max_workspaces_per_user=2)
    alice, bob = await world.join_as("alice"), await world.join_as("bob")
    for name in ("a-1", "a-2"):
        await alice.call("create_workspace", {"id": name})
    text = (
        r"^Workspace quota exceeded: user alice already owns 2 workspaces \(max 2\). "
        "Delete unused workspaces before creating new ones.$"
    )
    with pytest.raises(RuntimeError, match=text):
        await alice.call("create_workspace", {"id": "a-3"})
    await bob.call("create_workspace", {"id": "a-3"})
    await alice.call("delete_workspace", "a-1")
    await alice.call("create_workspace", {"id": "a-4"})


# ------------------------------------------------------------------ overwriting


async def test_overwriting_changes_what_is_named_and_keeps_the_rest(world: World) -> None:
    alice = await world.join_as("alice")
    await alice.call("create_workspace", {"id": "a-b", "name": "A", "persistent": True})
    info = await alice.call("create_workspace", {"id": "a-b", "description": "D"}, overwrite=True)
    assert (info["name"], info["description"], info["persistent"], info["owners"]) == ("A", "D", True, ["alice"])


async def test_a_change_is_told_inside(world: World) -> None:
    alice = await world.join_as("alice")
    await alice.call("subscribe", "workspace_changed")
    await alice.call("create_workspace", {"id": "ws-user-alice", "description": "D"}, overwrite=True)
    assert [(kind, data["description"]) for kind, data in alice.outlet.events()] == [("workspace_changed", "D")]


async def test_overwriting_what_does_not_exist_creates_it(world: World) -> None:
    alice = await world.join_as("alice")
    assert (await alice.call("create_workspace", {"id": "a-b"}, overwrite=True))["id"] == "a-b"


async def test_only_owners_and_root_overwrite(world: World) -> None:
    alice, bob, root = await world.join_as("alice"), await world.join_as("bob"), await world.join_root()
    await alice.call("create_workspace", {"id": "a-b"})
    with pytest.raises(PermissionError, match="^Permission denied: user bob cannot overwrite workspace a-b$"):
        await bob.call("create_workspace", {"id": "a-b", "owners": ["bob"]}, overwrite=True)
    assert list(world.workspaces.owners("a-b")) == ["alice"]
    assert (await root.call("create_workspace", {"id": "a-b", "owners": ["bob"]}, overwrite=True))["owners"] == ["bob"]


async def test_the_last_owner_is_not_dropped(world: World) -> None:
    alice = await world.join_as("alice")
    await alice.call("create_workspace", {"id": "a-b"})
    with pytest.raises(ValueError, match="A workspace must keep at least one owner."):
        await alice.call("create_workspace", {"id": "a-b", "owners": []}, overwrite=True)
    assert list(world.workspaces.owners("a-b")) == ["alice"]


async def test_the_servers_own_workspaces_stay_what_they_are(world: World) -> None:
    root = await world.join_root()
    with pytest.raises(ValueError, match="only its texts can be changed"):
        await root.call("create_workspace", {"id": "public", "persistent": False}, overwrite=True)
    info = await root.call("create_workspace", {"id": "public", "description": "For all"}, overwrite=True)
    assert (info["persistent"], info["description"]) == (True, "For all")


# ------------------------------------------------------------------ deleting


async def test_a_deleted_workspace_is_gone_with_everything_in_it(world: World) -> None:
    alice = await world.join_as("alice")
    await alice.call("subscribe", "workspace_deleted")
    await alice.call("create_workspace", {"id": "a-b"})
    user = world.tokens.parse(await alice.call("generate_token", {"workspace": "a-b"}))
    inside = await world.join(user, "a-b", right="rw")
    await inside.call("subscribe", "workspace_deleted")
    await inside.register("svc")
    await inside.call("log", "x")
    assert await alice.call("delete_workspace", "a-b") is None
    assert not world.workspaces.exists("a-b")
    assert world.core.directory.of_workspace("a-b") == []
    assert world.core.events.used == 0
    for client in (alice, inside):
        assert [(kind, data["id"]) for kind, data in client.outlet.events()] == [("workspace_deleted", "a-b")]
    await asyncio.sleep(0)
    assert inside.outlet.closed == (1008, "Workspace was deleted")
    assert alice.outlet.closed is None


async def test_who_deletes_its_own_workspace_gets_the_answer_first(world: World) -> None:
    alice = await world.join_as("alice")
    await alice.call("delete_workspace", "ws-user-alice")
    assert alice.outlet.closed is None
    await asyncio.sleep(0)
    assert alice.outlet.closed == (1008, "Workspace was deleted")
    alice.leave()
    assert not world.workspaces.exists("ws-user-alice")


@pytest.mark.parametrize("workspace", ["public", "ws-user-root", "ws-anonymous"])
async def test_nobody_deletes_the_workspaces_of_the_server(world: World, workspace: str) -> None:
    root = await world.join_root()
    with pytest.raises(PermissionError, match=f"^Permission denied for workspace {workspace}$"):
        await root.call("delete_workspace", workspace)
    assert world.workspaces.exists(workspace)


@pytest.mark.parametrize("workspace", ["", None, "*", "a b", 3])
async def test_what_is_no_workspace_is_not_deleted(world: World, workspace: Any) -> None:
    root = await world.join_root()
    with pytest.raises(ValueError, match="Invalid workspace name"):
        await root.call("delete_workspace", workspace)
