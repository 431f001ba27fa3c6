from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .conftest import NOW, Client, World


async def kinds(client: Client, *args: Any, **kwargs: Any) -> list[str]:
    return [event["event_type"] for event in await client.call("get_events", *args, **kwargs)]


async def test_an_event_is_returned_as_it_was_noted(world: World) -> None:
    alice = await world.join_as("alice")
    assert await alice.call("log_event", "opened", {"n": 1}) is None
    assert await alice.call("get_events") == [
        {
            "id": 1,
            "event_type": "opened",
            "workspace": "ws-user-alice",
            "user_id": "alice",
            "timestamp": "2027-01-15T08:00:00.000000",
            "data": {"n": 1},
        }
    ]


async def test_a_message_is_an_event_of_type_log(world: World) -> None:
    alice = await world.join_as("alice")
    assert await alice.call("log", "hello") is None
    (event,) = await alice.call("get_events")
    assert (event["event_type"], event["data"]) == ("log", "hello")


async def test_events_are_chosen_by_type_and_time(world: World) -> None:
    alice = await world.join_as("alice")
    for kind in ("a", "b", "c"):
        await alice.call("log_event", kind)
        world.clock.now += 60.0
    assert await kinds(alice, "b") == ["b"]
    assert await kinds(alice, start_time=NOW + 60.0) == ["b", "c"]
    assert await kinds(alice, end_time=NOW + 60.0) == ["a", "b"]
    assert await kinds(alice, start_time="2027-01-15T08:01:00", end_time="2027-01-15T08:01:30") == ["b"]
    assert await kinds(alice, start_time="2027-01-15T10:02:00+02:00") == ["c"]


async def test_stats_count_by_type(world: World) -> None:
    alice = await world.join_as("alice")
    for kind in ("a", "b", "a"):
        await alice.call("log_event", kind)
    assert await alice.call("get_event_stats") == [
        {"event_type": "a", "count": 2},
        {"event_type": "b", "count": 1},
    ]
    assert await alice.call("get_event_stats", "b") == [{"event_type": "b", "count": 1}]


async def test_everybody_sees_its_own_events_in_its_own_workspace(world: World) -> None:
    alice, bob = await world.join_as("alice"), await world.join_as("bob")
    writer = await world.join_child("alice", "rw")
    for client, kind in ((alice, "a"), (bob, "b"), (writer, "w")):
        await client.call("log_event", kind)
    assert [await kinds(client) for client in (alice, bob, writer)] == [["a"], ["b"], ["w"]]


async def test_readers_may_look_but_not_note_anything(world: World) -> None:
    await world.join_as("alice")
    reader = await world.join_child("alice", "r")
    for method, arguments in (("log", ("x",)), ("log_event", ("x",))):
        with pytest.raises(PermissionError, match="^Permission denied for workspace ws-user-alice$"):
            await reader.call(method, *arguments)
    assert await kinds(reader) == []


async def test_a_type_has_no_spaces(world: World) -> None:
    alice = await world.join_as("alice")
    with pytest.raises(AssertionError, match="^Event type must not contain spaces$"):
        await alice.call("log_event", "a b")


@pytest.mark.parametrize("kind", ["", None, 3, "x" * 513])
async def test_a_type_is_a_word(world: World, kind: Any) -> None:
    alice = await world.join_as("alice")
    with pytest.raises(ValueError, match="Event type must be text"):
        await alice.call("log_event", kind)


@pytest.mark.parametrize("data", ["x" * 70_000, object(), {"f": print}])
async def test_data_is_plain_and_not_too_long(world: World, data: Any) -> None:
    alice = await world.join_as("alice")
    with pytest.raises(ValueError, match="the data of an event"):
        await alice.call("log_event", "x", data)
    assert world.core.events.used == 0


@pytest.mark.parametrize("moment", ["yesterday", float("nan"), True, [1], "99999-01-01"])
async def test_a_time_that_is_none_is_refused(world: World, moment: Any) -> None:
    alice = await world.join_as("alice")
    with pytest.raises(ValueError, match="start_time must be a time"):
        await alice.call("get_events", start_time=moment)


async def test_the_type_to_filter_by_is_text(world: World) -> None:
    alice = await world.join_as("alice")
    with pytest.raises(TypeError, match="event_type must be text"):
        await alice.call("get_events", 3)


async def test_the_oldest_events_go(make_world: Callable[..., World]) -> None:
    world = make_world(max_events=2)
    alice = await world.join_as("alice")
    for kind in ("a", "b", "c"):
        await alice.call("log_event", kind)
    assert await kinds(alice) == ["b", "c"]


async def test_events_go_with_their_workspace(world: World) -> None:
    visitor = await world.join_anonymous()
    await visitor.call("log", "x")
    visitor.leave()
    assert world.core.events.used == 0
