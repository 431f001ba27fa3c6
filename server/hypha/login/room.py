"""Puts the login room together: one service of functions for programs and for the browser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from hypha.auth.accounts import Accounts
from hypha.auth.admission import Workspaces
from hypha.auth.passwords import Passwords
from hypha.auth.tokens import TokenService
from hypha.login.callers import Callers
from hypha.login.keys import LoginKeys
from hypha.login.service import LOGIN_ID, LoginContext, LoginService
from hypha.login.site import LoginSite
from hypha.login.tokens import LoginTokens
from hypha.settings import Settings
from hypha.store import Store

__all__ = ["LoginRoom", "Surroundings"]

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the room needs of the server.

    Attributes:
        public_url: where people reach it, without a trailing slash.
        tokens: signs and reads tokens.
        workspaces: which exist, and whose they are.
        store: keeps the accounts.
        callers: tells who calls.
        clock: monotonic seconds.
        now: seconds since the epoch.
    """

    public_url: str
    tokens: TokenService
    workspaces: Workspaces
    store: Store
    callers: Callers
    clock: Callable[[], float]
    now: Callable[[], float]


class LoginRoom:
    """The login service and what is behind it.

    Args:
        settings: the operator's decisions.
        around: the server.
    """

    def __init__(self, settings: Settings, around: Surroundings) -> None:
        limits = settings.limits
        self._passwords = Passwords()
        # No mail is sent from here. On one person's own machine the code is shown instead; elsewhere an
        # address stays unverified and is kept out of tokens.
        alone = settings.host in _LOOPBACK and urlsplit(around.public_url).hostname in _LOOPBACK
        self.accounts = Accounts(around.store, self._passwords, clock=around.clock, now=around.now, verify=alone)
        self.keys = LoginKeys(
            clock=around.clock,
            now=around.now,
            life_s=limits.maximum_login_time,
            limit=limits.max_login_keys,
            per_minute=limits.login_starts_per_minute,
        )
        tokens = LoginTokens(around.tokens, around.workspaces)
        context = LoginContext(around.public_url, self.keys, tokens, self.accounts, around.callers, show_codes=alone)
        self._service = LoginService(context, limits.maximum_login_time)
        self._site = LoginSite(
            context,
            self._service,
            base_path=settings.base_path,
            origins=settings.allow_origins,
            ancestors=settings.login_frame_ancestors,
        )

    def service(self) -> dict[str, Any]:
        """The service to be registered in workspace ``public``."""
        return {
            "id": LOGIN_ID,
            "name": "Hypha Login",
            "type": "functions",
            "description": "Login service of this server",
            "config": {"visibility": "public", "require_context": True},
            **self._service.functions(),
            **self._site.functions(),
        }

    def close(self) -> None:
        """End the threads that check passwords; idempotent."""
        self._passwords.close()
