from __future__ import annotations

from typing import Any

import pytest

from .conftest import Client, World


def alive(world: World, *clients: Client) -> None:
    for client in clients:
        world.peer.answers[f"{client.address} services.built-in.ping"] = "pong"


async def test_clients_are_listed_with_their_users(world: World) -> None:
    alice = await world.join_as("alice", "a", email="alice@example.com")
    writer = await world.join_child("alice", "rw", "w")
    found = await alice.call("list_clients")
    assert [entry["id"] for entry in found] == ["ws-user-alice/a", "ws-user-alice/w"]
    assert found[0]["user"]["email"] == "alice@example.com"
    assert await writer.call("list_clients") == [
        {"id": "ws-user-alice/a", "user": {"id": "alice"}},
        {"id": "ws-user-alice/w", "user": {"id": "child-rw-of-alice"}},
    ]


async def test_clients_of_other_workspaces_are_not_listed_for_strangers(world: World) -> None:
    await world.join_as("alice")
    bob, root = await world.join_as("bob"), await world.join_root()
    with pytest.raises(PermissionError, match="^Permission denied for workspace ws-user-alice$"):
        await bob.call("list_clients", "ws-user-alice")
    assert len(await root.call("list_clients", "ws-user-alice")) == 1


# ------------------------------------------------------------------ ping


@pytest.mark.parametrize("client_id", ["b", "ws-user-alice/b"])
async def test_a_living_client_answers_the_ping(world: World, client_id: str) -> None:
    alice, other = await world.join_as("alice", "a"), await world.join_as("alice", "b")
    alive(world, other)
    assert await alice.call("ping", client_id) == "pong"
    assert world.peer.asked == [("ws-user-alice/b services.built-in.ping", ("ping",))]


async def test_ping_reports_and_never_raises(world: World) -> None:
    alice, bob = await world.join_as("alice", "a"), await world.join_as("bob", "b")
    world.peer.answers["ws-user-alice/x services.built-in.ping"] = ConnectionError("Target peer is not connected")
    texts = [
        await alice.call("ping", "silent", 0.1),
        await alice.call("ping", "x"),
        await alice.call("ping", bob.address),
        await alice.call("ping", "a", "soon"),
    ]
    assert texts == [
        "Failed to ping client ws-user-alice/silent: TimeoutError",
        "Failed to ping client ws-user-alice/x: Target peer is not connected",
        "Failed to ping client ws-user-bob/b: Permission denied for workspace ws-user-bob",
        "Failed to ping client ws-user-alice/a: timeout must be a number of seconds",
    ]


# ------------------------------------------------------------------ status


async def test_the_status_tells_the_right_of_the_caller(world: World) -> None:
    alice = await world.join_as("alice")
    reader = await world.join_child("alice", "r")
    assert await alice.call("check_status") == {"status": "ready", "errors": None, "user_permission": "a"}
    assert (await reader.call("check_status"))["user_permission"] == "r"
    world.workspaces.remove("ws-user-alice")
    assert (await alice.call("check_status"))["status"] == "not_found"


# ------------------------------------------------------------------ clean up


async def test_nothing_is_removed_while_all_answer(world: World) -> None:
    alice, other = await world.join_as("alice"), await world.join_as("alice")
    alive(world, alice, other)
    assert await alice.call("cleanup") == {}


async def test_silent_clients_are_removed(world: World) -> None:
    alice, silent = await world.join_as("alice"), await world.join_as("alice", "silent")
    alive(world, alice)
    await silent.register("svc")
    world.clock.now += 1.0
    assert await alice.call("cleanup", timeout=0.1) == {"removed_clients": ["ws-user-alice/silent"]}
    assert silent.outlet.aborted
    assert silent.address not in world.router.connections
    assert world.core.directory.of_client(silent.address) == []


async def test_who_is_busy_but_breathes_stays(world: World) -> None:
    alice, busy = await world.join_as("alice"), await world.join_as("alice", "busy")
    alive(world, alice)
    world.clock.now += 1.0
    busy.connection.heard = world.clock() + 1.0
    assert await alice.call("cleanup", timeout=0.1) == {}
    assert busy.address in world.router.connections


async def test_an_error_is_an_answer(world: World) -> None:
    alice, odd = await world.join_as("alice"), await world.join_as("alice")
    alive(world, alice)
    world.peer.answers[f"{odd.address} services.built-in.ping"] = PermissionError("no")
    assert await alice.call("cleanup") == {}


async def test_registrations_without_a_client_are_removed(world: World) -> None:
    alice, lost = await world.join_as("alice"), await world.join_as("alice", "lost")
    alive(world, alice)
    world.router.detach(lost.connection)
    assert await alice.call("cleanup") == {"removed_clients": ["ws-user-alice/lost"]}
    assert world.core.directory.of_client(lost.address) == []


async def test_only_the_named_workspace_is_cleaned(world: World) -> None:
    alice, root = await world.join_as("alice"), await world.join_root()
    world.clock.now += 1.0
    assert await root.call("cleanup", "ws-user-alice", 0.1) == {"removed_clients": [alice.address]}
    assert root.address in world.router.connections
    with pytest.raises(KeyError, match="not found"):
        await root.call("cleanup", "nosuch-ws")


@pytest.mark.parametrize("timeout", ["5", None, True, float("nan")])
async def test_a_timeout_is_a_number(world: World, timeout: Any) -> None:
    alice = await world.join_as("alice")
    with pytest.raises(ValueError, match="timeout must be a number of seconds"):
        await alice.call("cleanup", timeout=timeout)
