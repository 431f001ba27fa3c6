from __future__ import annotations

from hypha.doors.newcomers import Newcomers
from hypha.settings import Limits


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def newcomers(clock: Clock | None = None, **limits: float) -> Newcomers:
    return Newcomers(Limits(**limits), clock or Clock())  # type: ignore[arg-type]


def test_all_together_are_bounded_loopback_included():
    door = newcomers(max_concurrent_connections=2)
    door.enter("127.0.0.1")
    assert not door.full("127.0.0.1")
    door.enter("192.0.2.1")
    assert door.full("127.0.0.1")
    assert door.full("192.0.2.2")
    door.leave("192.0.2.1")
    assert not door.full("192.0.2.2")


def test_each_address_is_bounded_but_loopback():
    door = newcomers(max_concurrent_connections_per_address=1)
    for address in ("192.0.2.1", "2001:db8::1", "127.0.0.1", "::1", ""):
        door.enter(address)
    assert door.full("192.0.2.1")
    assert door.full("2001:db8::1")
    assert not door.full("192.0.2.2")
    assert not door.full("127.0.0.1")
    assert not door.full("::1")
    assert not door.full(""), "a socket without a network address is of this machine"
    door.leave("192.0.2.1")
    assert not door.full("192.0.2.1")


def test_leaving_forgets_the_address():
    door = newcomers()
    door.enter("192.0.2.1")
    door.enter("192.0.2.1")
    door.leave("192.0.2.1")
    door.leave("192.0.2.1")
    assert door.total == 0
    assert not door._open


def test_the_failing_wait_longer_after_many_failures_in_a_minute():
    clock = Clock()
    door = newcomers(clock, failed_logins_per_minute=2)
    assert [door.failed("192.0.2.1") for _ in range(4)] == [0.3, 0.3, 2.0, 2.0]
    assert door.failed("192.0.2.2") == 0.3
    clock.now += 60
    assert door.failed("192.0.2.1") == 0.3


def test_addresses_of_the_failing_are_bounded():
    door = newcomers()
    for number in range(10_100):
        door.failed(f"192.0.2.{number}")
    assert len(door._failed) == 10_000
