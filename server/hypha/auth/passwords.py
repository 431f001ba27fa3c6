"""Passwords: what may be one, and its slow hash (security S22).

Hashing takes tens of milliseconds by design, so it runs on a small pool of
threads and never on the event loop. It knows nothing of accounts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

__all__ = ["MAX_LENGTH", "MIN_LENGTH", "Passwords", "TooBusy", "password_problem"]

T = TypeVar("T")

MIN_LENGTH: Final = 8
MAX_LENGTH: Final = 256

_MEMORY_KIB, _PASSES, _LANES = 19 * 1024, 2, 1
_THREADS: Final = 4
_MAX_WAITING: Final = 200
# Of a text nobody knows, with the figures above: whoever has no account costs as much as who has one.
_NOBODY: Final = "$argon2id$v=19$m=19456,t=2,p=1$XYuI8+TtDkzZtncCwoAXcw$N5xYdBQGD8oOGTaUr6CAPJPBB04UprVd+q9GgaghNuE"


class TooBusy(RuntimeError):
    """More passwords wait to be checked than the server takes on."""


def password_problem(password: str) -> str | None:
    """Why *password* cannot be one, or None."""
    if len(password) < MIN_LENGTH:
        return f"Password must be at least {MIN_LENGTH} characters"
    if len(password) > MAX_LENGTH:
        return f"Password must be at most {MAX_LENGTH} characters"
    return None


class Passwords:
    """Hashes and checks passwords, four at a time."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """The text to keep in place of *password*.

        Raises:
            TooBusy: too many wait.
        """
        return await self._off_loop(_hash, password)

    async def matches(self, password: str, kept: str | None) -> bool:
        """Whether *password* belongs to the hash *kept*; None, for an unknown user, takes as long and is False.

        Raises:
            TooBusy: too many wait.
        """
        # What is too long is not hashed, but costs the same.
        fits = len(password) <= MAX_LENGTH
        found = await self._off_loop(_matches, password if fits else "", kept or _NOBODY)
        return found and fits and kept is not None

    async def _off_loop(self, function: Callable[..., T], *args: Any) -> T:
        if self._waiting >= _MAX_WAITING:
            raise TooBusy("Too many people are logging in at the moment. Try again in a few seconds.")
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, "hypha-password")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the threads; what waits is dropped. Idempotent."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


def _hasher() -> Any:
    # Not at the start of the server: many never check a password.
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=_PASSES, memory_cost=_MEMORY_KIB, parallelism=_LANES)


def _hash(password: str) -> str:
    hashed: str = _hasher().hash(password)
    return hashed


def _matches(password: str, kept: str) -> bool:
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        _hasher().verify(kept, password)
    except (VerificationError, InvalidHashError):
        return False
    return True
