from __future__ import annotations

import pytest

from hypha.broker.connections import Mailboxes
from hypha.broker.pacing import Pacer
from tests.unit.server.broker.conftest import World


@pytest.fixture
def boxes() -> Mailboxes:
    return Mailboxes(seconds=15.0, frames=3, size=100, total=150)


def test_a_mailbox_keeps_a_number_of_frames_and_bytes(world: World, boxes: Mailboxes):
    connection, _ = world.connect("c1")
    boxes.open(connection, 0.0)
    assert [boxes.put("ws/c1", bytes(20)) for _ in range(4)] == [True, True, True, False]
    boxes.open(connection, 0.0)
    assert not boxes.put("ws/c1", bytes(101))
    assert boxes.put("ws/c1", bytes(100))
    assert not boxes.put("ws/c1", b"x")
    assert not boxes.put("ws/nobody", b"x")


def test_all_mailboxes_together_are_bounded_and_give_room_back(world: World, boxes: Mailboxes):
    one, _ = world.connect("c1")
    two, _ = world.connect("c2")
    boxes.open(one, 0.0)
    boxes.open(two, 0.0)
    assert boxes.put("ws/c1", bytes(90))
    assert not boxes.put("ws/c2", bytes(61))
    boxes.discard("ws/c1")
    assert boxes.put("ws/c2", bytes(61))


def test_a_mailbox_is_given_to_the_same_client_object_in_time_only(world: World, boxes: Mailboxes):
    connection, _ = world.connect("c1")
    connection.life = "one"
    for user_id, life, now, found in [
        ("alice", "one", 15.0, True),
        ("alice", "one", 15.1, False),
        ("alice", "two", 1.0, False),
        ("alice", None, 1.0, False),
        ("bob", "one", 1.0, False),
    ]:
        boxes.open(connection, 0.0)
        box = boxes.collect("ws/c1", user_id=user_id, life=life, now=now)
        assert (box is not None) is found
        assert "ws/c1" not in boxes, "it is closed in any case"


def test_mailboxes_expire(world: World, boxes: Mailboxes):
    connection, _ = world.connect("c1")
    boxes.open(connection, 0.0)
    boxes.put("ws/c1", bytes(100))
    assert boxes.expire(15.0) == []
    assert boxes.expire(15.1) == ["ws/c1"]
    assert len(boxes) == 0
    boxes.open(connection, 16.0)
    assert boxes.put("ws/c1", bytes(100))


def test_news_in_a_mailbox_is_bounded_and_the_latest_counts(world: World, boxes: Mailboxes):
    connection, _ = world.connect("c1")
    boxes.open(connection, 0.0)
    for number in range(5):
        boxes.note("ws/c1", f"ws/p{number}", b"first")
    boxes.note("ws/c1", "ws/p0", b"second")
    box = boxes.collect("ws/c1", user_id="alice", life=None, now=1.0)
    assert box is not None
    assert box.news == {"ws/p0": b"second", "ws/p1": b"first", "ws/p2": b"first"}


def test_acquaintances_abroad_are_the_latest_thousand(world: World):
    connection, _ = world.connect("c1")
    for number in range(1001):
        connection.met(f"far/p{number}")
        connection.met("far/p0")
    assert len(connection.abroad) == 1000
    assert "far/p0" in connection.abroad
    assert "far/p1" not in connection.abroad


# -- pacing ----------------------------------------------------------------------------------------


class Timers:
    """``call_later`` of a loop whose time the test moves."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._due: list[tuple[float, object, tuple[object, ...]]] = []

    def __call__(self, delay: float, callback: object, *args: object) -> None:
        self._due.append((self._world.clock.now + delay, callback, args))

    def run(self, seconds: float) -> None:
        until = self._world.clock.now + seconds
        while (due := min(self._due, key=lambda item: item[0], default=None)) is not None and due[0] <= until:
            self._due.remove(due)
            self._world.clock.now = due[0]
            due[1](*due[2])  # type: ignore[operator]
        self._world.clock.now = until


def test_a_sender_goes_on_as_soon_as_the_receiver_has_caught_up(world: World):
    timers = Timers(world)
    pacer = Pacer(0.5, world.clock, timers)
    source, own = world.connect("c1")
    target, outlet = world.connect("c2")
    outlet.pending = 9_000_000
    pacer.pause(source, target)
    pacer.pause(source, target)
    assert own.paused == 1
    timers.run(0.1)
    assert own.paused == 1
    outlet.pending = 1000
    timers.run(0.05)
    assert own.paused == 0
    assert target.stalled_since is None


def test_a_slow_receiver_pauses_its_sender_half_a_second_at_most(world: World):
    timers = Timers(world)
    source, own = world.connect("c1")
    target, outlet = world.connect("c2")
    outlet.pending = 9_000_000
    Pacer(0.5, world.clock, timers).pause(source, target)
    timers.run(0.25)
    outlet.pending -= 1000
    timers.run(0.1)
    outlet.pending += 50_000  # others send, too
    timers.run(0.25)
    assert own.paused == 0
    assert target.stalled_since is None, "it moves"


def test_a_receiver_that_did_not_move_is_known_to_stand_still(world: World):
    timers = Timers(world)
    source, own = world.connect("c1")
    target, outlet = world.connect("c2")
    outlet.pending = 9_000_000
    start = world.clock.now
    Pacer(0.5, world.clock, timers).pause(source, target)
    timers.run(1.0)
    assert own.paused == 0
    assert (target.stalled_since, target.stalled_at) == (start, 9_000_000)
    assert target.stuck(9_000_000)
    assert not target.stuck(8_999_999)
    assert target.stalled_since is None
