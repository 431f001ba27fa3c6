"""Users as modules of operators spell them: `UserInfo`, `UserPermission`, `create_scope` (server §4.6).

Plain values at the names that such modules import from ``hypha.core``; the server
itself works with `hypha.auth.identity.User`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any, Final

from hypha.auth.errors import AuthenticationError
from hypha.auth.identity import Right, Scope, User, is_valid_user_id, is_valid_workspace_id

__all__ = ["ScopeInfo", "UserInfo", "UserPermission", "create_scope", "from_user", "to_user"]

_LETTERS: Final[Mapping[str, Right]] = {"r": "r", "rw": "rw", "a": "a"}


class UserPermission(StrEnum):
    """What a user may do in a workspace."""

    read = "r"
    read_write = "rw"
    admin = "a"


@dataclass
class ScopeInfo:
    """What a credential is good for."""

    current_workspace: str | None = None
    workspaces: dict[str, Any] = field(default_factory=dict[str, Any])
    client_id: str | None = None
    extra_scopes: list[str] | None = None


@dataclass
class UserInfo:
    """Who somebody is."""

    id: str
    is_anonymous: bool = False
    email: str | None = None
    parent: str | None = None
    roles: list[str] = field(default_factory=list[str])
    scope: ScopeInfo | None = None
    expires_at: Any = None
    current_workspace: str | None = None

    def model_dump(self, **_: Any) -> dict[str, Any]:
        """The members as a map."""
        return asdict(self)


def create_scope(
    workspaces: Mapping[str, Any] | Sequence[str] | str | None = None,
    client_id: str | None = None,
    current_workspace: str | None = None,
    extra_scopes: list[str] | None = None,
) -> ScopeInfo:
    """Make a scope.

    Args:
        workspaces: a map of workspaces to permissions, or ``workspace#letter``, one or several.
        client_id: the only client it is good for.
        current_workspace: the workspace it leads to.
        extra_scopes: words of other meaning.
    """
    if isinstance(workspaces, str):
        workspaces = workspaces.replace(",", " ").split()
    if workspaces is not None and not isinstance(workspaces, Mapping):
        parts = [word.rpartition("#") for word in workspaces]
        workspaces = {name or letter: letter if name else "r" for name, _, letter in parts}
    return ScopeInfo(current_workspace, dict(workspaces or {}), client_id, extra_scopes)


def to_user(info: object, token_id: str) -> User:
    """The user that an operator's function describes.

    Args:
        info: a `UserInfo`, something with its attributes, or a map.
        token_id: what it can be revoked by.

    Raises:
        AuthenticationError: it describes none.
    """
    user_id = _member(info, "id")
    if not is_valid_user_id(user_id):
        raise AuthenticationError("Invalid subject")
    scope = _member(info, "scope")
    roles = [str(role) for role in _member(info, "roles") or ()]
    if _member(info, "is_anonymous") and "anonymous" not in roles:
        roles.append("anonymous")
    current = _member(scope, "current_workspace") or _member(info, "current_workspace")
    rights: dict[str, Right] = {
        str(name): _letter(value)
        for name, value in dict(_member(scope, "workspaces") or {}).items()
        if name == "*" or is_valid_workspace_id(name)
    }
    extra = _member(scope, "extra_scopes")
    return User(
        id=str(user_id),
        roles=tuple(roles),
        scope=Scope(rights, current, _member(scope, "client_id"), tuple(extra or ())),
        email=_member(info, "email"),
        parent=_member(info, "parent"),
        expires_at=_seconds(_member(info, "expires_at")),
        current_workspace=current,
        # The operator's code vouches for it.
        email_verified=True,
        token_ids=(token_id,),
    )


def from_user(user: User) -> UserInfo:
    """*user* for an operator's function."""
    scope = user.scope
    extra = None if scope.extra_scopes is None else list(scope.extra_scopes)
    rights = {name: UserPermission(letter) for name, letter in scope.workspaces.items()}
    return UserInfo(
        id=user.id,
        is_anonymous=user.is_anonymous,
        email=user.email,
        parent=user.parent,
        roles=list(user.roles),
        scope=ScopeInfo(scope.current_workspace, dict(rights), scope.client_id, extra),
        expires_at=user.expires_at,
        current_workspace=user.current_workspace,
    )


def _member(thing: object, name: str) -> Any:
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def _letter(value: object) -> Right:
    text = value.value if isinstance(value, Enum) else value
    letter = _LETTERS.get(text) if isinstance(text, str) else None
    if letter is None:
        raise AuthenticationError("Invalid scope: a right is one of r, rw, a")
    return letter


def _seconds(value: object) -> float | None:
    if isinstance(value, datetime):
        return value.timestamp()
    return float(value) if isinstance(value, (int, float)) else None
