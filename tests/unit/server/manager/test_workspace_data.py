from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Client, World


@pytest.fixture
async def alice(world: World) -> Client:
    return await world.join_as("alice", "a")


# ------------------------------------------------------------------ variables


async def test_variables_are_set_read_and_deleted(alice: Client) -> None:
    assert await alice.call("set_env", "k", "v") is None
    await alice.call("set_env", "n", 5)
    assert await alice.call("get_env", "k") == "v"
    assert await alice.call("get_env") == {"k": "v", "n": 5}
    await alice.call("set_env", "k", None)
    await alice.call("set_env", "never", None)
    assert await alice.call("get_env") == {"n": 5}


async def test_an_unknown_variable_is_not_found(alice: Client) -> None:
    with pytest.raises(KeyError, match="Environment variable 'zz' not found in workspace ws-user-alice"):
        await alice.call("get_env", "zz")


async def test_what_was_returned_is_not_the_store(alice: Client) -> None:
    (await alice.call("get_env"))["k"] = "v"
    assert await alice.call("get_env") == {}


@pytest.mark.parametrize("key", ["", None, 3, "x" * 257])
async def test_a_variable_has_a_name(alice: Client, key: Any) -> None:
    with pytest.raises(ValueError, match="the name of a variable must be text"):
        await alice.call("set_env", key, "v")


@pytest.mark.parametrize("value", ["x" * 5000, object()])
async def test_a_value_is_plain_and_short(alice: Client, value: Any) -> None:
    with pytest.raises(ValueError, match="the value of a variable"):
        await alice.call("set_env", "k", value)


async def test_a_full_workspace_takes_changes_only(make_world: Callable[..., World]) -> None:
    world = make_world(max_env_variables=2)
    alice, bob = await world.join_as("alice"), await world.join_as("bob")
    for key in ("a", "b", "a"):
        await alice.call("set_env", key, "v")
    with pytest.raises(ValueError, match="a workspace may have at most 2 variables"):
        await alice.call("set_env", "c", "v")
    await bob.call("set_env", "c", "v")


# ------------------------------------------------------------------ types of services

TYPE = {"id": "st1", "name": "ST", "definition": {"a": 1}}
FULL = {**TYPE, "description": None, "config": {}, "docs": None}


async def test_a_type_is_registered_and_found(alice: Client) -> None:
    assert await alice.call("register_service_type", {**TYPE, "odd": 1}) == FULL
    found = {**FULL, "id": "ws-user-alice/st1"}
    assert await alice.call("get_service_type", "st1") == found
    assert await alice.call("get_service_type", "ws-user-alice/st1") == found
    assert await alice.call("list_service_types") == [FULL]
    assert (await alice.call("get_workspace_info"))["service_types"] == {"st1": FULL}


async def test_a_type_is_registered_once(alice: Client) -> None:
    await alice.call("register_service_type", TYPE)
    with pytest.raises(KeyError, match="Service type already exists: st1"):
        await alice.call("register_service_type", TYPE)


async def test_an_unknown_type_is_not_found(alice: Client) -> None:
    with pytest.raises(KeyError, match="Service type not found: zz"):
        await alice.call("get_service_type", "zz")
    with pytest.raises(TypeError, match="type_id must be text"):
        await alice.call("get_service_type", 3)


async def test_strangers_see_public_types_only(alice: Client, world: World) -> None:
    bob = await world.join_as("bob")
    await alice.call("register_service_type", TYPE)
    for method, argument in (("list_service_types", "ws-user-alice"), ("get_service_type", "ws-user-alice/st1")):
        with pytest.raises(PermissionError, match="^Permission denied for workspace ws-user-alice$"):
            await bob.call(method, argument)
    public = await alice.call("register_service_type", {**TYPE, "id": "st2", "config": {"visibility": "public"}})
    assert await bob.call("list_service_types", "ws-user-alice") == [public]
    assert (await bob.call("get_service_type", "ws-user-alice/st2"))["id"] == "ws-user-alice/st2"
    with pytest.raises(PermissionError, match="^Permission denied for workspace ws-user-alice$"):
        await bob.call("get_service_type", "ws-user-alice/nosuch")


async def test_an_unknown_workspace_has_no_types_for_strangers(alice: Client) -> None:
    with pytest.raises(PermissionError, match="^Permission denied for workspace nosuch-ws$"):
        await alice.call("list_service_types", "nosuch-ws")


@pytest.mark.parametrize(
    "type_info",
    [
        None,
        {},
        {**TYPE, "id": ""},
        {**TYPE, "id": "a/b"},
        {**TYPE, "name": None},
        {**TYPE, "definition": "x"},
        {**TYPE, "config": [1]},
        {**TYPE, "docs": "x" * 300_000},
        {**TYPE, "docs": object()},
    ],
)
async def test_malformed_types_are_refused(alice: Client, type_info: Any) -> None:
    with pytest.raises(ValueError, match="service type"):
        await alice.call("register_service_type", type_info)
    assert await alice.call("list_service_types") == []


# ------------------------------------------------------------------ bookmarks


async def bookmarks(client: Client) -> list[tuple[str, str]]:
    info = await client.call("get_workspace_info", f"ws-user-{client.connection.user.id}")
    return [(item["bookmark_type"], item["id"]) for item in info["config"].get("bookmarks", [])]


async def test_services_and_workspaces_are_bookmarked_once(alice: Client, world: World) -> None:
    bob = await world.join_as("bob", "b")
    await bob.register("svc", visibility="public", name="S", description="D")
    assert await alice.call("bookmark", {"bookmark_type": "service", "id": "ws-user-bob/svc"}) is None
    await alice.call("bookmark", {"bookmark_type": "service", "id": "ws-user-bob/b:svc"})
    await alice.call("bookmark", {"bookmark_type": "workspace", "id": "ws-user-alice"})
    assert await bookmarks(alice) == [("service", "ws-user-bob/b:svc"), ("workspace", "ws-user-alice")]
    config = (await alice.call("get_workspace_info"))["config"]
    assert config["bookmarks"][0] == {
        "bookmark_type": "service",
        "id": "ws-user-bob/b:svc",
        "name": "S",
        "description": "D",
    }


@pytest.mark.parametrize("query", ["ws-user-bob/b:svc", "ws-user-bob/svc", "svc"])
async def test_a_bookmark_is_removed_even_when_the_service_is_gone(alice: Client, world: World, query: str) -> None:
    bob = await world.join_as("bob", "b")
    await bob.register("svc", visibility="public")
    await alice.call("bookmark", {"bookmark_type": "service", "id": "ws-user-bob/svc"})
    await alice.call("bookmark", {"bookmark_type": "workspace", "id": "ws-user-alice"})
    bob.leave()
    assert await alice.call("unbookmark", {"bookmark_type": "service", "id": query}) is None
    assert await bookmarks(alice) == [("workspace", "ws-user-alice")]
    await alice.call("unbookmark", {"bookmark_type": "workspace", "id": "ws-user-alice"})
    assert await bookmarks(alice) == []


@pytest.mark.parametrize(
    ("item", "kind", "text"),
    [
        ({"id": "x"}, AssertionError, "^Bookmark type must be provided.$"),
        ({"bookmark_type": "x", "id": "x"}, ValueError, "^Invalid bookmark type: x$"),
        ({"bookmark_type": "service"}, ValueError, "needs the id"),
        ("x", ValueError, "a bookmark must be a map"),
    ],
)
async def test_malformed_bookmarks_are_refused(alice: Client, item: Any, kind: type[Exception], text: str) -> None:
    for method in ("bookmark", "unbookmark"):
        with pytest.raises(kind, match=text):
            await alice.call(method, item)


async def test_only_what_one_may_have_is_bookmarked(alice: Client, world: World) -> None:
    bob = await world.join_as("bob")
    await bob.register("svc")
    for kind, marked in (("service", "ws-user-bob/svc"), ("workspace", "ws-user-bob")):
        with pytest.raises(PermissionError, match="^Permission denied for "):
            await alice.call("bookmark", {"bookmark_type": kind, "id": marked})
    with pytest.raises(KeyError, match="not found"):
        await alice.call("bookmark", {"bookmark_type": "workspace", "id": "nosuch-ws"})
    assert await bookmarks(alice) == []


async def test_bookmarks_are_kept_at_home_from_wherever_one_is(world: World) -> None:
    bob = await world.join_as("bob")
    await bob.call("create_workspace", {"id": "b-shared", "owners": ["carol"]})
    carol = await world.join((await world.join_as("carol")).connection.user, "b-shared")
    await carol.call("bookmark", {"bookmark_type": "workspace", "id": "b-shared"})
    assert await bookmarks(carol) == [("workspace", "b-shared")]


async def test_a_home_is_made_for_a_bookmark(world: World) -> None:
    bob = await world.join_as("bob")
    carol = await world.join_as("carol")
    await bob.call("create_workspace", {"id": "b-shared", "owners": ["carol"]})
    guest = await world.join(carol.connection.user, "b-shared")
    world.workspaces.remove("ws-user-carol")
    await guest.call("bookmark", {"bookmark_type": "workspace", "id": "b-shared"})
    assert list(world.workspaces.owners("ws-user-carol")) == ["carol"]
