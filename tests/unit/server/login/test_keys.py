"""Login keys: bounds, one report, one check, from whoever started (security S23)."""

from __future__ import annotations

import asyncio

import pytest

from hypha.login.callers import Caller, network_of
from hypha.login.keys import LoginKeys, TooManyRequests

STARTER = Caller("ws-1/a", "203.0.113.7", is_http=False)
NEIGHBOUR = Caller("ws-2/b", "203.0.113.200", is_http=False)
STRANGER = Caller("ws-3/c", "198.51.100.1", is_http=False)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(clock: Clock) -> LoginKeys:
    return LoginKeys(clock=clock, now=clock, life_s=180, limit=40, per_minute=30)


async def test_what_is_reported_is_fetched_once(keys: LoginKeys) -> None:
    made = keys.start(STARTER)
    keys.report(made.key, {"token": "t"}, STRANGER)
    assert await keys.check(made.key, 0, STARTER) == {"token": "t"}
    with pytest.raises(AssertionError, match="^Invalid key, key does not exist$"):
        await keys.check(made.key, 0, STARTER)


async def test_a_key_takes_one_report(keys: LoginKeys) -> None:
    made = keys.start(STARTER)
    keys.report(made.key, {"token": "first"}, STRANGER)
    with pytest.raises(AssertionError, match="^Invalid key, key does not exist or expired$"):
        keys.report(made.key, {"token": "second"}, STRANGER)
    assert await keys.check(made.key, 0, STARTER) == {"token": "first"}
    with pytest.raises(AssertionError):
        keys.report(made.key, {"token": "third"}, STRANGER)


async def test_a_waiting_check_wakes_at_once(keys: LoginKeys) -> None:
    made = keys.start(STARTER)
    waiting = asyncio.ensure_future(keys.check(made.key, 60, STARTER))
    await asyncio.sleep(0)
    keys.report(made.key, {"token": "t"}, STRANGER)
    assert await asyncio.wait_for(waiting, 1) == {"token": "t"}
    assert made.waiting == set()


async def test_of_two_that_wait_one_gets_it(keys: LoginKeys) -> None:
    made = keys.start(STARTER)
    waiting = [asyncio.ensure_future(keys.check(made.key, 60, STARTER)) for _ in range(2)]
    await asyncio.sleep(0)
    keys.report(made.key, {"token": "t"}, STRANGER)
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert {"token": "t"} in outcomes
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["AssertionError", "dict"]


@pytest.mark.parametrize("timeout", [0, -1])
async def test_without_a_timeout_a_pending_key_gives_nothing_at_once(keys: LoginKeys, timeout: float) -> None:
    assert await keys.check(keys.start(STARTER).key, timeout, STARTER) is None


async def test_nobody_logs_in(keys: LoginKeys) -> None:
    made = keys.start(STARTER)
    with pytest.raises(TimeoutError, match=r"^Login timeout, waited for 0.01 seconds$"):
        await keys.check(made.key, 0.01, STARTER)
    assert made.waiting == set()


async def test_a_check_that_is_cancelled_leaves_nothing(keys: LoginKeys) -> None:
    made = keys.start(STARTER)
    waiting = asyncio.ensure_future(keys.check(made.key, 60, STARTER))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert made.waiting == set()


async def test_a_key_expires(keys: LoginKeys, clock: Clock) -> None:
    made = keys.start(STARTER)
    clock.now = 180
    for act in (lambda: keys.report(made.key, {}, STARTER), lambda: keys.start(STARTER)):
        try:
            act()
        except AssertionError as error:
            assert "expired" in str(error)
    assert len(keys) == 1


async def test_a_check_outlives_no_key(keys: LoginKeys, clock: Clock) -> None:
    made = keys.start(STARTER)
    clock.now = 179.99
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(keys.check(made.key, 60, STARTER), 1)


async def test_who_did_not_start_it_may_not_fetch_it(keys: LoginKeys) -> None:
    made = keys.start(STARTER)
    keys.report(made.key, {"token": "t"}, STRANGER)
    with pytest.raises(AssertionError, match="^Invalid key, key does not exist$"):
        await keys.check(made.key, 0, STRANGER)
    assert await keys.check(made.key, 0, NEIGHBOUR) == {"token": "t"}


async def test_a_connection_that_moved_to_another_network_is_still_the_starter(keys: LoginKeys) -> None:
    made = keys.start(STARTER)
    moved = Caller(STARTER.sender, "198.51.100.1", is_http=False)
    keys.report(made.key, {"token": "t"}, STRANGER)
    assert await keys.check(made.key, 0, moved) == {"token": "t"}


async def test_http_callers_that_share_a_sender_are_told_by_their_network(keys: LoginKeys) -> None:
    starter = Caller("ws-anonymous/client-1", "203.0.113.7", is_http=True)
    made = keys.start(starter)
    keys.report(made.key, {"token": "t"}, STRANGER)
    with pytest.raises(AssertionError):
        await keys.check(made.key, 0, Caller(starter.sender, "198.51.100.1", is_http=True))


async def test_three_hundred_guesses_meet_the_limit_and_harm_nobody(keys: LoginKeys) -> None:
    made = keys.start(STARTER)
    texts: list[str] = []
    for number in range(300):
        try:
            await keys.check(f"guess{number}", 0, STRANGER)
        except (AssertionError, TooManyRequests) as error:
            texts.append(str(error).partition(":")[0])
    assert texts == ["Invalid key, key does not exist"] * 30 + ["429"] * 270
    keys.report(made.key, {"token": "t"}, NEIGHBOUR)
    assert await keys.check(made.key, 0, STARTER) == {"token": "t"}


async def test_the_right_key_in_wrong_hands_counts_as_a_guess(keys: LoginKeys) -> None:
    made = keys.start(STARTER)
    for _ in range(30):
        with pytest.raises(AssertionError):
            await keys.check(made.key, 0, STRANGER)
    with pytest.raises(TooManyRequests):
        await keys.check(made.key, 0, STRANGER)


def test_an_address_starts_thirty_logins_a_minute(keys: LoginKeys, clock: Clock) -> None:
    for _ in range(30):
        keys.start(STARTER)
    with pytest.raises(TooManyRequests, match="^429"):
        keys.start(STARTER)
    keys.start(STRANGER)
    clock.now = 2.0
    keys.start(STARTER)


def test_when_the_table_is_full_newcomers_are_refused_and_the_living_stay(keys: LoginKeys, clock: Clock) -> None:
    first = keys.start(STARTER)
    for number in range(39):
        keys.start(Caller("s", f"10.0.{number}.1", is_http=True))
    with pytest.raises(TooManyRequests):
        keys.start(STRANGER)
    assert keys.find(first.key, STARTER) is first
    clock.now = 180
    keys.start(STRANGER)
    assert len(keys) == 1


def test_keys_are_long_random_and_no_number_in_a_query(keys: LoginKeys) -> None:
    made = {keys.start(Caller("s", f"10.0.{number}.1", is_http=True)).key for number in range(40)}
    assert len(made) == 40
    assert all(len(key) >= 22 and key[0].isalpha() for key in made)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", "203.0.113.0/24"),
        ("", ""),
        ("nonsense", "nonsense"),
    ],
)
def test_networks(address: str, network: str) -> None:
    assert network_of(address) == network
