"""``generate_token``: what a caller may have minted (server §4.5).

Checks the request against the caller's own rights and asks the token service
to sign. Knows nothing of transports or of where workspaces are kept.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from hypha.auth.errors import AuthenticationError, ValidationError
from hypha.auth.identity import Right, User, home_of, is_valid_workspace_id
from hypha.auth.permissions import check, has_right, is_owner, right
from hypha.auth.revocation import may_revoke
from hypha.auth.scopes import RANK, ParsedScope, check_extra_scopes
from hypha.auth.tokens import MAX_ANCESTORS, Grant, TokenService
from hypha.auth.words import readable_name
from hypha_rpc.addresses import is_valid_client_id

__all__ = ["PERMISSIONS", "TokenRequest", "child_grant", "child_token", "revoke_token"]

#: Names of the rights in the API (server §4.2).
PERMISSIONS: Mapping[str, Right] = {"read": "r", "read_write": "rw", "admin": "a"}

_DEFAULT_LIFE_S = 3600.0


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A checked configuration of ``generate_token``."""

    workspace: str
    right: Right
    expires_in: float
    client_id: str | None
    extra_scopes: tuple[str, ...]
    email: str | None

    @classmethod
    def parse(cls, config: Mapping[str, Any] | None, current_workspace: str) -> TokenRequest:
        """Check the form of *config*; what is absent or None has its default.

        Raises:
            ValidationError: a member has the wrong form.
            AssertionError: ``expires_in`` is not positive.
        """
        if config is not None and not isinstance(config, Mapping):
            raise ValidationError("config must be a map")
        given = {key: value for key, value in (config or {}).items() if value is not None}
        workspace = given.get("workspace", current_workspace)
        if workspace != "*" and not is_valid_workspace_id(workspace):
            raise ValidationError(f"workspace: {workspace!r} is not a workspace id")
        client_id = given.get("client_id")
        if client_id is not None and not is_valid_client_id(client_id):
            raise ValidationError(f"client_id: {client_id!r} is not a client id")
        email = given.get("email")
        if email is not None and (not isinstance(email, str) or not 0 < len(email) <= 320):
            raise ValidationError("email must be a text")
        return cls(
            workspace,
            _letter(given.get("permission", "read_write")),
            _life(given.get("expires_in", _DEFAULT_LIFE_S)),
            client_id,
            check_extra_scopes(given.get("extra_scopes")),
            email,
        )


def child_token(
    tokens: TokenService,
    user: User,
    config: Mapping[str, Any] | None = None,
    *,
    owners: Collection[str] = (),
    exists: bool = True,
) -> str:
    """Mint a child token of *user*: what `child_grant` allows, signed."""
    return tokens.mint(child_grant(user, config, owners=owners, exists=exists))


def child_grant(
    user: User,
    config: Mapping[str, Any] | None = None,
    *,
    owners: Collection[str] = (),
    exists: bool = True,
) -> Grant:
    """What a child token of *user* may say (server §4.5, security S15-S17).

    The child is a new user whose ``parent`` is the original one. It holds the
    right asked for and nothing else, at most what *user* has.

    Args:
        user: the caller, as connected.
        config: ``expires_in``, ``workspace``, ``permission``, ``client_id``,
            ``extra_scopes``, ``email``.
        owners: owners of the workspace asked for.
        exists: whether that workspace exists.

    Raises:
        PermissionError: more is asked for than the caller has.
        KeyError: the workspace does not exist.
        ValidationError, AssertionError: malformed configuration.
        RuntimeError: the chain of tokens is too long.
    """
    request = TokenRequest.parse(config, user.scope.current_workspace or "")
    if request.email is not None and ("admin" not in user.roles or user.is_child):
        raise PermissionError("Only callers with the 'admin' role may set TokenConfig.email")
    _check_right(user, request, owners)
    if not exists and request.workspace != "*":
        raise KeyError(f"Workspace ({request.workspace}) not found or is not accessible")
    if len(user.token_ids) >= MAX_ANCESTORS:
        raise RuntimeError(f"Token has {MAX_ANCESTORS} ancestors already: generate it from one nearer to the login")
    everywhere = request.workspace == "*"
    scope = ParsedScope(
        {request.workspace: request.right},
        request.client_id,
        None if everywhere else request.workspace,
        request.extra_scopes,
    )
    return Grant(
        user_id=f"{readable_name()}-{secrets.token_hex(4)}",
        scope=scope,
        expires_in=request.expires_in,
        roles=[role for role in user.roles if role != "admin"],
        email=request.email or user.email,
        email_verified=user.email_verified,
        parent=user.parent or user.id,
        ancestors=user.token_ids,
    )


def revoke_token(
    tokens: TokenService, user: User, token: str, owners_of: Callable[[str], Collection[str]]
) -> asyncio.Future[None] | None:
    """Revoke *token* for *user* (server §4.5, security S18).

    Args:
        tokens: knows the token and withdraws it.
        user: the caller, as connected.
        token: the text of the token.
        owners_of: ids and e-mails of the owners of a workspace; empty for an unknown one.

    Returns:
        Done when the revocation would survive a restart; None when nothing does. It holds from now on.

    Raises:
        ValueError: it is no token of this server, or has expired.
        PermissionError: it is neither the caller's nor one of its workspace.
    """
    try:
        target = tokens.inspect(token)
    except AuthenticationError as error:
        if "expired" in str(error):
            raise ValueError("Token has already expired") from error
        raise ValueError(f"Invalid token: 401: {error}") from error
    if not may_revoke(user, target):
        # An administrator revokes what leads into its workspace.
        workspace = target.current_workspace or home_of(target.id)
        check(user, "revoke_token", workspace, owners_of(workspace))
    return tokens.revoke(target, by=user.id)


def _check_right(user: User, request: TokenRequest, owners: Collection[str]) -> None:
    if request.workspace == "*":
        check(user, "generate_token.any", "*")
        return
    held = right(user, request.workspace, owners)
    if held is None:
        check(user, "generate_token", request.workspace, owners)
    elif not has_right(user, request.workspace, "a", owners) and not _owners_writer(user, request, owners, held):
        raise PermissionError("Only admin can generate token.")


def _owners_writer(user: User, request: TokenRequest, owners: Collection[str], held: Right) -> bool:
    """Whether *user* is a writing child of an owner, who may pass on what it has."""
    if user.parent is None or held != "rw" or RANK[request.right] > RANK[held]:
        return False
    return is_owner(User(user.parent), request.workspace, owners)


def _letter(value: object) -> Right:
    if not isinstance(value, str) or value not in PERMISSIONS:
        raise ValidationError(f"permission: must match the pattern '^({'|'.join(PERMISSIONS)})$', got {value!r}")
    return PERMISSIONS[value]


def _life(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        raise ValidationError(f"expires_in: must be a number of seconds, got {value!r}")
    if value <= 0:
        raise AssertionError("expires_in should be greater than 0")
    return float(value)
