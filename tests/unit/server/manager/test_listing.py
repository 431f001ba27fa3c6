from __future__ import annotations

import time
from typing import Any

import pytest

from .conftest import Client, World


async def names(client: Client, query: Any = None, **options: Any) -> list[str]:
    """What a list shows, without the ids of workspaces that are the caller's and without built-in services."""
    found = await client.call("list_services", query, **options)
    ids = [str(info["id"]).removeprefix(f"{client.workspace}/") for info in found]
    return [service for service in ids if not service.endswith(":built-in")]


@pytest.fixture
async def alice(world: World) -> Client:
    """A client with a service of each visibility."""
    alice = await world.join_as("alice", "a")
    await alice.register("pub", visibility="public", type="echo")
    await alice.register("prot", authorized_workspaces=["ws-user-bob"])
    await alice.register("hid", visibility="unlisted")
    return alice


@pytest.fixture
async def bob(world: World, alice: Client) -> Client:
    bob = await world.join_as("bob", "b")
    await bob.register("pub", visibility="public")
    await bob.register("own")
    await bob.register("hid", visibility="unlisted")
    return bob


# ------------------------------------------------------------------ what a query means


async def test_without_a_query_the_own_workspace_is_listed(bob: Client) -> None:
    assert await names(bob) == ["b:pub", "b:own"]
    assert await names(bob, "") == ["b:pub", "b:own"]
    found = await bob.call("list_services")
    assert found[0]["id"] == "ws-user-bob/b:built-in"


async def test_a_word_is_a_workspace(bob: Client) -> None:
    assert await names(bob, "ws-user-alice") == ["ws-user-alice/a:pub", "ws-user-alice/a:prot"]
    assert await names(bob, "pub") == []
    assert await names(bob, "nosuch-ws") == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("ws-user-bob/pub", ["b:pub"]),
        ("ws-user-bob/b:pub", ["b:pub"]),
        ("b:pub", ["b:pub"]),
        ("x:pub", []),
        ("b:*", ["b:pub", "b:own"]),
        ("*:p*", ["b:pub"]),
        ("ws-user-alice/*", ["ws-user-alice/a:pub", "ws-user-alice/a:prot"]),
        ("*/pub", ["ws-user-alice/a:pub", "b:pub"]),
        ("*/own", ["b:own"]),
        ("*", ["ws-user-alice/a:pub", "ws-user-alice/a:prot", "b:pub", "b:own"]),
        ("ws-user-a*/*", ["ws-user-alice/a:pub", "ws-user-alice/a:prot"]),
        ("ws-user-bob/pub@app", []),
    ],
)
async def test_a_text_is_read_as_written(bob: Client, query: str, expected: list[str]) -> None:
    assert await names(bob, query) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["b:pub", "b:own"]),
        ({"visibility": "public"}, ["b:pub"]),
        ({"visibility": "protected"}, ["b:own"]),
        ({"visibility": "private"}, ["b:own"]),
        ({"workspace": "ws-user-alice"}, ["ws-user-alice/a:pub", "ws-user-alice/a:prot"]),
        ({"workspace": "*", "type": "echo"}, ["ws-user-alice/a:pub"]),
        ({"workspace": "*", "visibility": "public"}, ["ws-user-alice/a:pub", "b:pub"]),
        ({"client_id": "b", "service_id": "*w*"}, ["b:own"]),
        ({"client_id": "zz"}, []),
        ({"service_id": "own"}, ["b:own"]),
        ({"id": "own"}, ["b:own"]),
        ({"type": "gen*"}, ["b:pub", "b:own"]),
        ({"app_id": "app1"}, []),
        ({"app_id": "*", "workspace": None}, ["b:pub", "b:own"]),
    ],
)
async def test_a_map_holds_patterns(bob: Client, query: dict[str, Any], expected: list[str]) -> None:
    assert await names(bob, query) == expected


async def test_other_letters_and_addresses_can_be_asked_for(world: World) -> None:
    dora = await world.join_as("dora+x@example.com", "d")
    await dora.register("größe 1")
    assert await names(dora, {"workspace": "ws-user-dora+x@example.com", "service_id": "größe*"}) == ["d:größe 1"]


async def test_a_pattern_of_many_wildcards_is_quick(bob: Client) -> None:
    await bob.register("a" * 120)
    began = time.perf_counter()
    assert await names(bob, {"service_id": "*a" * 100 + "*b"}) == []
    assert await names(bob, {"service_id": "*a" * 100 + "*"}) == [f"b:{'a' * 120}"]
    assert time.perf_counter() - began < 1.0


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("query", "kind", "text"),
    [
        ({"foo": "x"}, ValueError, "^Invalid query keys: {'foo'}$"),
        ({"id": "x", "service_id": "y"}, ValueError, "^Cannot specify both 'id' and 'service_id' in the query.$"),
        ({"service_id": "hel$"}, ValueError, r"^Invalid characters in query part: hel\$$"),
        ("hel$", ValueError, r"^Invalid characters in query part: hel\$$"),
        ({"service_id": "x" * 600}, ValueError, "^Invalid characters in query part: "),
        ({"service_id": 3}, TypeError, "the values of a query must be text"),
        (3, TypeError, "a query must be text or a map, not int"),
        ("a/b/c", AssertionError, "Service id must contain at most one '/'"),
        (
            {"workspace": "*", "visibility": "protected"},
            PermissionError,
            "^Cannot list protected or unlisted services in all workspaces.$",
        ),
        (
            {"workspace": "*", "visibility": "unlisted"},
            PermissionError,
            "^Cannot list protected or unlisted services in all workspaces.$",
        ),
    ],
)
async def test_bad_queries_are_refused(bob: Client, query: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        await names(bob, query)


# ------------------------------------------------------------------ unlisted


async def test_unlisted_services_are_listed_at_home_on_request(bob: Client, world: World) -> None:
    assert await names(bob, include_unlisted=True) == ["b:pub", "b:own", "b:hid"]
    assert await names(bob, {"visibility": "unlisted"}) == []
    assert await names(bob, {"visibility": "unlisted"}, include_unlisted=True) == ["b:hid"]
    reader = await world.join_child("bob", "r")
    assert "b:hid" in await names(reader, include_unlisted=True)


async def test_unlisted_services_of_others_are_not_listed(bob: Client) -> None:
    text = (
        "^Cannot include unlisted services from workspace ws-user-alice. "
        r"Only services from your current workspace \(ws-user-bob\) can include unlisted services.$"
    )
    with pytest.raises(PermissionError, match=text):
        await names(bob, "ws-user-alice", include_unlisted=True)
    with pytest.raises(ValueError, match="^Cannot include unlisted services when searching all workspaces.$"):
        await names(bob, "*", include_unlisted=True)


# ------------------------------------------------------------------ what strangers see


async def test_strangers_see_public_services_without_who_made_them(alice: Client, world: World) -> None:
    await alice.register("peer-rtc", visibility="public")
    stranger = await world.join_anonymous()
    found = await stranger.call("list_services", "ws-user-alice")
    assert [info["id"] for info in found] == ["ws-user-alice/a:pub"]
    assert found[0]["config"].keys().isdisjoint({"created_by", "authorized_workspaces"})


async def test_who_is_authorized_sees_the_service_but_not_the_list(bob: Client) -> None:
    found = {info["id"]: info for info in await bob.call("list_services", "ws-user-alice")}
    assert "authorized_workspaces" not in found["ws-user-alice/a:prot"]["config"]


async def test_readers_see_everything_but_who_exactly_others_are(alice: Client, world: World) -> None:
    reader = await world.join_child("alice", "r")
    found = {info["name"]: info for info in await reader.call("list_services")}
    assert {"pub", "prot", "built-in"} <= {str(info["id"]).partition(":")[2] for info in found.values()}
    built_in = next(info for info in found.values() if info["type"] == "built-in")
    assert built_in["config"]["created_by"] == {"id": "alice"}


async def test_root_sees_everything_in_a_workspace(bob: Client, world: World) -> None:
    root = await world.join_root()
    assert await names(root, "ws-user-alice") == ["ws-user-alice/a:pub", "ws-user-alice/a:prot"]


async def test_searching_by_meaning_is_not_there(bob: Client) -> None:
    with pytest.raises(RuntimeError, match="^Service search is not enabled.$"):
        await bob.call("search_services", "echo", limit=3)
