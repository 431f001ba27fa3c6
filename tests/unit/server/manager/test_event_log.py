from __future__ import annotations

from hypha.manager.event_log import EventFilter, EventLog

ALL = EventFilter("alice")


def log(**bounds: int) -> EventLog:
    return EventLog(**{"count": 100, "size": 1000, "total": 10_000, **bounds})


def add(events: EventLog, *kinds: str, workspace: str = "w", user: str = "alice", size: int = 1) -> None:
    for index, kind in enumerate(kinds):
        events.add(workspace, user, kind, None, at=float(index), size=size)


def kinds(events: EventLog, wanted: EventFilter = ALL, workspace: str = "w") -> list[str]:
    return [event.kind for event in events.find(workspace, wanted)]


def test_events_are_kept_in_order_with_growing_ids() -> None:
    events = log()
    add(events, "a", "b", "a")
    assert kinds(events) == ["a", "b", "a"]
    assert [event.id for event in events.find("w", ALL)] == [1, 2, 3]
    assert events.count("w", ALL) == {"a": 2, "b": 1}


def test_a_filter_admits_by_user_type_and_time() -> None:
    events = log()
    add(events, "a", "b", "c")
    add(events, "d", user="bob")
    assert kinds(events, EventFilter("bob")) == ["d"]
    assert kinds(events, EventFilter("alice", "b")) == ["b"]
    assert kinds(events, EventFilter("alice", since=1.0)) == ["b", "c"]
    assert kinds(events, EventFilter("alice", until=1.0)) == ["a", "b"]
    assert kinds(events, workspace="other") == []


def test_the_oldest_goes_when_there_are_too_many() -> None:
    events = log(count=2)
    add(events, "a", "b", "c")
    assert kinds(events) == ["b", "c"]
    assert events.used == 2


def test_the_oldest_goes_when_a_workspace_holds_too_much() -> None:
    events = log(size=10)
    add(events, "a", "b", "c", size=4)
    assert kinds(events) == ["b", "c"]
    assert events.used == 8


def test_the_quietest_workspace_gives_way_when_all_hold_too_much() -> None:
    events = log(total=10)
    add(events, "a", "b", workspace="quiet", size=3)
    add(events, "c", workspace="busy", size=3)
    add(events, "d", workspace="busy", size=3)
    assert kinds(events, workspace="quiet") == ["b"]
    add(events, "e", "f", workspace="busy", size=3)
    assert kinds(events, workspace="quiet") == []
    assert kinds(events, workspace="busy") == ["d", "e", "f"]
    assert events.used == 9


def test_a_forgotten_workspace_takes_no_room() -> None:
    events = log()
    add(events, "a", "b", size=5)
    events.forget("w")
    events.forget("w")
    assert events.used == 0
    assert kinds(events) == []
