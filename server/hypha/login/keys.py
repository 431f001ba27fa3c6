"""Login keys: made by ``start``, filled by one ``report``, spent by one ``check`` (security S23).

State with bounds, and the waiting of ``check``. It knows nothing of tokens: what
is reported is handed on as it is.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypha.auth.rates import PerMinute
from hypha.login.callers import Caller

__all__ = ["LoginKey", "LoginKeys", "TooManyRequests"]

_KEY_BYTES = 17


class TooManyRequests(RuntimeError):
    """Too many starts or guesses, or no room for another key."""


@dataclass(slots=True, eq=False)
class LoginKey:
    """One login under way.

    Attributes:
        key: 128 random bits and more.
        starter: who called ``start``.
        started_at: seconds since the epoch.
        expires_at: monotonic seconds.
        workspace: where the token is to lead, or None.
        expires_in: wanted life of the token in seconds, or None.
        result: what was reported.
        spent: it was fetched.
    """

    key: str
    starter: Caller
    started_at: float
    expires_at: float
    workspace: str | None = None
    expires_in: float | None = None
    result: dict[str, Any] | None = None
    spent: bool = False
    waiting: set[asyncio.Future[None]] = field(default_factory=set)


class LoginKeys:
    """The keys of this server.

    Args:
        clock: monotonic seconds.
        now: seconds since the epoch.
        life_s: how long a key lives.
        limit: most keys at a time; when full, newcomers are refused.
        per_minute: starts, and guesses, of one address.
    """

    def __init__(
        self, *, clock: Callable[[], float], now: Callable[[], float], life_s: float, limit: int, per_minute: int
    ) -> None:
        self._clock = clock
        self._now = now
        self._life_s = life_s
        self._limit = limit
        self._starts = PerMinute(per_minute)
        self._guesses = PerMinute(per_minute)
        # All live equally long, so the order of the table is the order of expiry.
        self._keys: dict[str, LoginKey] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def start(self, starter: Caller, *, workspace: str | None = None, expires_in: float | None = None) -> LoginKey:
        """Make a key.

        Raises:
            TooManyRequests: *starter* has made too many, or there are too many.
        """
        now = self._clock()
        self._drop_expired(now)
        if not self._starts.take(starter.budget, now) or len(self._keys) >= self._limit:
            raise TooManyRequests("429: Too many logins were started. Try again in a minute.")
        key = _new_key()
        made = LoginKey(key, starter, self._now(), now + self._life_s, workspace, expires_in)
        self._keys[key] = made
        return made

    def find(self, key: object, caller: Caller) -> LoginKey | None:
        """The key of this text if it lives; a wrong text counts as a guess of *caller*.

        Raises:
            TooManyRequests: *caller* has guessed too often.
        """
        now = self._clock()
        self._drop_expired(now)
        found = self._keys.get(key) if isinstance(key, str) else None
        if found is None:
            self._count_guess(caller, now)
        return found

    def report(self, key: object, result: dict[str, Any], caller: Caller) -> None:
        """Say what came of the login.

        Raises:
            AssertionError: there is no such key, or it was reported before.
            TooManyRequests: *caller* has guessed too often.
        """
        found = self.find(key, caller)
        if found is None or found.result is not None:
            raise AssertionError("Invalid key, key does not exist or expired")
        found.result = result
        for waiter in found.waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def check(self, key: object, timeout_s: float, caller: Caller) -> dict[str, Any] | None:
        """What was reported, once; None at once if *timeout_s* is 0 and nothing was.

        Raises:
            AssertionError: there is no such key, it was fetched before, or somebody else started it.
            TimeoutError: nothing was reported in time.
            TooManyRequests: *caller* has guessed too often.
        """
        found = self.find(key, caller)
        if found is not None and (found.spent or not caller.is_like(found.starter)):
            self._count_guess(caller, self._clock())
            found = None
        if found is None:
            raise AssertionError("Invalid key, key does not exist")
        if found.result is None and timeout_s > 0:
            await self._wait(found, min(timeout_s, found.expires_at - self._clock()))
        if found.result is None:
            if timeout_s <= 0:
                return None
            raise TimeoutError(f"Login timeout, waited for {timeout_s:g} seconds")
        if found.spent:
            # Another check of the same starter was faster.
            raise AssertionError("Invalid key, key does not exist")
        found.spent = True
        result, found.result = found.result, {}
        return result

    async def _wait(self, found: LoginKey, timeout_s: float) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        found.waiting.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=timeout_s)
        finally:
            found.waiting.discard(waiter)

    def _count_guess(self, caller: Caller, now: float) -> None:
        if not self._guesses.take(caller.budget, now):
            raise TooManyRequests("429: Too many wrong login keys. Try again in a minute.")

    def _drop_expired(self, now: float) -> None:
        for key in list(self._keys):
            if self._keys[key].expires_at > now:
                return
            del self._keys[key]


def _new_key() -> str:
    while True:
        key = secrets.token_urlsafe(_KEY_BYTES)
        # A letter at the front keeps the text from being read as a number in a query (server §5.3).
        if key[0].isalpha():
            return key
