"""Passwords are hashed slowly, off the loop, and unknown users cost as much as known ones (security S22)."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Iterator

import pytest

from hypha.auth import passwords as module
from hypha.auth.passwords import Passwords, TooBusy, password_problem


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    made = Passwords()
    yield made
    made.close()


async def test_a_password_matches_its_hash_and_no_other(passwords: Passwords) -> None:
    kept = await passwords.hash("correct horse")
    assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await passwords.matches("correct horse", kept)
    assert not await passwords.matches("correct horsf", kept)


async def test_nobody_matches_nothing(passwords: Passwords) -> None:
    assert not await passwords.matches("", None)
    assert not await passwords.matches("correct horse", None)
    assert not await passwords.matches("correct horse", "no hash at all")


async def test_what_is_too_long_never_matches(passwords: Passwords) -> None:
    kept = await passwords.hash("")
    assert not await passwords.matches("x" * 100_000, kept)


def test_the_hash_of_nobody_has_the_same_cost() -> None:
    assert module._NOBODY.startswith(f"$argon2id$v=19$m={module._MEMORY_KIB},t={module._PASSES},p={module._LANES}$")


@pytest.mark.timeout(60)
async def test_an_unknown_user_takes_as_long_as_a_known_one(passwords: Passwords) -> None:
    kept = await passwords.hash("correct horse")
    seconds: dict[str | None, list[float]] = {kept: [], None: []}
    for _ in range(15):
        for who, times in seconds.items():
            before = time.perf_counter()
            await passwords.matches("wrong password", who)
            times.append(time.perf_counter() - before)
    known, unknown = (statistics.median(times) for times in seconds.values())
    assert 0.5 < known / unknown < 2.0


async def test_the_loop_turns_while_four_at_a_time_are_checked(passwords: Passwords) -> None:
    work = asyncio.gather(*(passwords.hash(str(number)) for number in range(12)))
    turns = 0
    while not work.done():
        turns += 1
        await asyncio.sleep(0)
    await work
    assert turns > 50
    assert sum(thread.name.startswith("hypha-password") for thread in threading.enumerate()) <= 4


async def test_too_many_waiting_are_refused(passwords: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_WAITING", 2)
    first = [asyncio.ensure_future(passwords.hash(str(number))) for number in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(TooBusy, match="logging in"):
        await passwords.hash("another")
    await asyncio.gather(*first)
    assert await passwords.hash("another")


async def test_closing_ends_the_threads() -> None:
    passwords = Passwords()
    await passwords.hash("x")
    passwords.close()
    passwords.close()
    assert not any(thread.name.startswith("hypha-password") for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("password", "problem"),
    [
        ("1234567", "Password must be at least 8 characters"),
        ("12345678", None),
        ("x" * 256, None),
        ("x" * 257, "Password must be at most 256 characters"),
    ],
)
def test_the_length_of_a_password(password: str, problem: str | None) -> None:
    assert password_problem(password) == problem
