"""Which token a login gives (security S16, S17, S24): the user's own, or a child for one workspace."""

from __future__ import annotations

import math
import secrets
from typing import Any, Final

from hypha.auth.accounts import Account
from hypha.auth.admission import Workspaces
from hypha.auth.identity import User, home_of, is_valid_workspace_id
from hypha.auth.permissions import right
from hypha.auth.scopes import ParsedScope
from hypha.auth.tokens import MAX_ANCESTORS, MAX_LIFE_S, Grant, TokenService, refuse_specialised
from hypha.auth.words import readable_name

__all__ = ["LOGIN_LIFE_S", "LoginTokens", "checked_life", "checked_workspace"]

LOGIN_LIFE_S: Final = 86_400.0


class LoginTokens:
    """Mints the tokens of logins.

    Args:
        tokens: signs.
        workspaces: which exist, and whose they are.
    """

    def __init__(self, tokens: TokenService, workspaces: Workspaces) -> None:
        self._tokens = tokens
        self._workspaces = workspaces

    def of_account(self, account: Account, life_s: float = LOGIN_LIFE_S) -> str:
        """The token of somebody who logged in."""
        # An address that is not verified could be anybody's, and services decide by addresses: it stays out.
        email = account.email if account.verified else None
        grant = Grant(
            user_id=account.id,
            scope=ParsedScope({}),
            expires_in=life_s,
            roles=["user"],
            email=email,
            email_verified=account.verified,
        )
        return self._tokens.mint(grant)

    async def known_user(self, token: object) -> User:
        """As `user`, for tokens that others have signed, too (server §4.6)."""
        await self._tokens.learn(token)
        return self.user(token)

    def user(self, token: object) -> User:
        """Who a token presented to the login service makes (security S24).

        Raises:
            AuthenticationError: it cannot be believed.
            PermissionError: it was minted for one purpose.
        """
        # The root token is for headers and first frames only (security S21).
        user = self._tokens.authenticate(token if isinstance(token, str) else "", root=False)
        refuse_specialised(user)
        return user

    def withdraw(self, token: str) -> Any:
        """Revoke *token*; done when that would survive a restart (`TokenService.revoke`)."""
        return self._tokens.revoke(self._tokens.inspect(token))

    def child(self, user: User, workspace: str, life_s: float | None) -> str:
        """A token of *user* for one workspace, with the right it has there.

        Raises:
            KeyError: there is no such workspace.
            PermissionError: the user may not read it.
        """
        exists = self._workspaces.exists(workspace)
        letter = right(user, workspace, self._workspaces.owners(workspace) if exists else ())
        if not exists and workspace != home_of(user.parent or user.id):
            raise KeyError(f"Workspace ({workspace}) not found or is not accessible")
        if letter is None:
            raise PermissionError(f"Permission denied for workspace {workspace}")
        if len(user.token_ids) >= MAX_ANCESTORS:
            raise RuntimeError(f"Token has {MAX_ANCESTORS} ancestors already: use one nearer to the login")
        return self._tokens.mint(
            Grant(
                user_id=f"{readable_name()}-{secrets.token_hex(4)}",
                scope=ParsedScope({workspace: letter}, None, workspace),
                expires_in=life_s or LOGIN_LIFE_S,
                roles=[role for role in user.roles if role != "admin"],
                email=user.email,
                email_verified=user.email_verified,
                parent=user.parent or user.id,
                ancestors=user.token_ids,
            )
        )


def checked_workspace(workspace: object) -> str | None:
    """The workspace wanted, or None.

    Raises:
        ValueError: it cannot be one.
    """
    if workspace is None or workspace == "":
        return None
    if not is_valid_workspace_id(workspace):
        raise ValueError(f"Invalid workspace name: {workspace!r:.128}")
    return str(workspace)


def checked_life(expires_in: object) -> float | None:
    """The life wanted in seconds, at most 365 days, or None.

    Raises:
        ValueError: it is no positive number.
    """
    if expires_in is None or expires_in == "":
        return None
    try:
        seconds = float(expires_in) if isinstance(expires_in, (int, float, str)) else math.nan
    except ValueError:
        seconds = math.nan
    if isinstance(expires_in, bool) or not seconds > 0:
        raise ValueError("expires_in should be greater than 0")
    return min(seconds, MAX_LIFE_S)
