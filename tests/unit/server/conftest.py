"""A clock that tests move, and tokens signed under it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from hypha.auth.identity import User
from hypha.auth.secret import Secrets
from hypha.auth.tokens import TokenService

SECRET = b"0123456789abcdef0123456789abcdef"
NOW = 1_800_000_000.0

ForeignToken = Callable[..., str]


class Clock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> TokenService:
    return TokenService(Secrets(SECRET), clock=clock)


@pytest.fixture
def foreign() -> ForeignToken:
    """Sign claims as a server without our additions does; ``...`` leaves a claim out."""

    def sign(
        sub: str = "alice", scope: str = "", *, key: bytes = SECRET, header: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        all_claims: dict[str, Any] = {
            "iss": "https://amun.ai/",
            "sub": sub,
            "aud": "https://amun-ai.eu.auth0.com/api/v2/",
            "iat": int(NOW),
            "exp": int(NOW) + 3600,
            "scope": scope,
            "gty": "client-credentials",
            "https://amun.ai/roles": claims.pop("roles", []),
            "https://amun.ai/email": claims.pop("email", None),
        }
        if "parent" in claims:
            all_claims["https://amun.ai/parent"] = claims.pop("parent")
        all_claims.update(claims)
        kept = {name: value for name, value in all_claims.items() if value is not ...}
        return jwt.encode({"alg": "HS256"} | (header or {}), kept, OctKey.import_key(key), algorithms=["HS256"])

    return sign


@pytest.fixture
def alice(tokens: TokenService, foreign: ForeignToken) -> User:
    """A logged-in user, connected to its home."""
    return tokens.parse(foreign("alice", roles=["user"], email="alice@example.com")).admitted(
        "prov", "ws-user-alice", "a"
    )
