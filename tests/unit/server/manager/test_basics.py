from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .conftest import World


async def test_echo_returns_what_was_sent(world: World) -> None:
    alice = await world.join_as("alice")
    assert await alice.call("echo", {"a": [1]}) == {"a": [1]}


async def test_subscriptions_are_added_and_taken_back(world: World) -> None:
    alice = await world.join_as("alice")
    assert await alice.call("subscribe", "a") is True
    assert await alice.call("subscribe", ["b", "c"]) is True
    assert alice.connection.subscriptions == {"a", "b", "c"}
    assert await alice.call("unsubscribe", ["a", "never"]) is True
    assert alice.connection.subscriptions == {"b", "c"}


@pytest.mark.parametrize("name", ["ws-user-alice/x", "ws-user-alice:x", "ws-user-alice", "plain:x", "wsx"])
async def test_own_and_plain_names_can_be_subscribed_to(world: World, name: str) -> None:
    alice = await world.join_as("alice")
    assert await alice.call("subscribe", name) is True


@pytest.mark.parametrize("name", ["ws-user-bob/x", "ws-user-bob:x", "ws-user-bob", "other/x", "*/x", "/x"])
async def test_names_of_other_workspaces_are_refused_and_nothing_is_added(world: World, name: str) -> None:
    await world.join_as("bob")
    alice = await world.join_as("alice")
    with pytest.raises(ValueError, match=f"^Subscription to event '{name.replace('*', '.')}' is forbidden"):
        await alice.call("subscribe", ["fine", name])
    assert alice.connection.subscriptions == set()


@pytest.mark.parametrize("event_type", [None, 3, [3], "", ["x" * 513], {"a": 1}])
async def test_event_types_are_names(world: World, event_type: Any) -> None:
    alice = await world.join_as("alice")
    for method in ("subscribe", "unsubscribe"):
        with pytest.raises(ValueError, match="event_type must be a name or a list of names"):
            await alice.call(method, event_type)


async def test_a_client_has_so_many_subscriptions(make_world: Callable[..., World]) -> None:
    world = make_world(max_subscriptions=2)
    alice = await world.join_as("alice")
    await alice.call("subscribe", ["a", "b"])
    await alice.call("subscribe", ["a"])
    with pytest.raises(ValueError, match="a client can subscribe to at most 2 event types"):
        await alice.call("subscribe", ["c"])
    assert alice.connection.subscriptions == {"a", "b"}
