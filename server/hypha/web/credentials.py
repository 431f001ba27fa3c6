"""Tokens that were believed a moment ago: the signature of each is checked once, its end and revocation every time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, TypeVar

from hypha.auth.errors import TokenRevoked
from hypha.auth.identity import Right, User
from hypha.auth.tokens import TokenService, refuse_specialised

__all__ = ["Credentials"]

_MAX: Final = 1024
# Tokens of others are asked about again (server §4.6).
_LIFE_S: Final = 60.0

Key = TypeVar("Key")
Value = TypeVar("Value")


class Credentials:
    """The users of tokens.

    Args:
        tokens: decides about a token it has not seen.
        clock: seconds since the epoch.
    """

    def __init__(self, tokens: TokenService, clock: Callable[[], float] = time.time) -> None:
        self._tokens = tokens
        self._clock = clock
        self._known: OrderedDict[str, tuple[User, float]] = OrderedDict()
        self._admitted: OrderedDict[tuple[str, str, Right], User] = OrderedDict()

    def user(self, token: str) -> User:
        """The user of *token*.

        Raises:
            AuthenticationError: it cannot be believed.
            PermissionError: it is for another use.
        """
        now = self._clock()
        user, until = self._known.get(token, (None, 0.0))
        if user is not None and until > now:
            if self._tokens.revocations.is_revoked(user.token_ids[-1], user.token_ids[:-1]):
                raise TokenRevoked
            return user
        user = self._tokens.authenticate(token)
        refuse_specialised(user)
        if user.token_ids and user.expires_at is not None:
            _keep(self._known, token, (user, min(user.expires_at, now + _LIFE_S)))
        return user

    def admitted(self, user: User, workspace: str, letter: Right) -> User:
        """*user* as it calls from *workspace* with the right *letter*."""
        if not user.token_ids or user.expires_at is None:
            return user.admitted("http", workspace, letter)
        key = (user.token_ids[-1], workspace, letter)
        known = self._admitted.get(key)
        if known is None or known.expires_at != user.expires_at:
            known = user.admitted("http", workspace, letter)
            _keep(self._admitted, key, known)
        return known


def _keep(table: OrderedDict[Key, Value], key: Key, value: Value) -> None:
    table[key] = value
    if len(table) > _MAX:
        table.popitem(last=False)
