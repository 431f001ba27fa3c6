"""How failures to log in are slowed down (security S22)."""

from __future__ import annotations

from hypha.auth.attempts import Attempts

HERE, THERE = "203.0.113.7", "198.51.100.9"


def fail(attempts: Attempts, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        attempts.failed("ada", now)


def test_four_failures_cost_nothing() -> None:
    attempts = Attempts()
    fail(attempts, 4)
    assert attempts.rest_s("ada", HERE, 0.0) == 0.0


def test_from_the_fifth_on_the_rest_doubles_up_to_a_minute() -> None:
    rests = []
    for count in range(5, 14):
        attempts = Attempts()
        fail(attempts, count)
        rests.append(attempts.rest_s("ada", THERE, 0.0))
    assert rests == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0]


def test_the_rest_passes_and_others_never_had_one() -> None:
    attempts = Attempts()
    fail(attempts, 6)
    assert attempts.rest_s("bob", HERE, 0.0) == 0.0
    assert attempts.rest_s("ada", HERE, 3.9) > 0
    assert attempts.rest_s("ada", HERE, 4.0) == 0.0


def test_success_makes_good() -> None:
    attempts = Attempts()
    fail(attempts, 9)
    attempts.succeeded("ada")
    assert attempts.rest_s("ada", HERE, 0.0) == 0.0


def test_failures_of_an_hour_ago_are_forgotten() -> None:
    attempts = Attempts()
    fail(attempts, 9)
    attempts.failed("ada", 3601.0)
    assert attempts.rest_s("ada", HERE, 3601.0) == 0.0


def test_an_address_has_twenty_tries_a_minute_whatever_the_account() -> None:
    attempts = Attempts()
    taken = [attempts.rest_s(f"user{n}", HERE, 0.0) == 0.0 for n in range(21)]
    assert taken == [True] * 20 + [False]
    assert attempts.rest_s("user1", THERE, 0.0) == 0.0
    assert attempts.rest_s("user1", HERE, 3.0) == 0.0


def test_the_table_of_accounts_is_bounded() -> None:
    attempts = Attempts()
    for number in range(12_000):
        attempts.failed(str(number), 0.0)
    assert len(attempts._failures) == 10_000
