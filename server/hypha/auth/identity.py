"""Users: who somebody is, and the object that says so on the wire.

Knows the shape of the user info (server §4.1, protocol §1.3) and how anonymous
and root users are made. What a user may do is decided in
`hypha.auth.permissions`, where identities come from in `hypha.auth.tokens`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from hypha.auth.words import readable_name

__all__ = [
    "ANONYMOUS_PREFIX",
    "ROOT_ID",
    "Right",
    "Scope",
    "User",
    "anonymous_http_user",
    "anonymous_user",
    "home_of",
    "is_valid_user_id",
    "is_valid_workspace_id",
    "root_user",
]

Right = Literal["r", "rw", "a"]

ROOT_ID = "root"
#: With z: existing programs recognise anonymous users by it (server §2.2).
ANONYMOUS_PREFIX = "anonymouz-"
_ANONYMOUS_LIFE_S = 600.0

_USER_ID = re.compile(r"[A-Za-z0-9_.|@+-]{1,120}")
_WORKSPACE_ID = re.compile(r"[^\s\x00-\x1f\x7f-\x9f/:@*#]{1,128}")
_HOME_PREFIX = "ws-user-"


@dataclass(frozen=True, slots=True)
class Scope:
    """What a credential is good for.

    Attributes:
        workspaces: right letter of each workspace; ``*`` means all of them.
        current_workspace: where the user is connected.
        client_id: the client the user is connected as.
        extra_scopes: words of the token this server gives no meaning; None for
            users without a token.
    """

    workspaces: Mapping[str, Right] = field(default_factory=dict[str, Right])
    current_workspace: str | None = None
    client_id: str | None = None
    extra_scopes: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated identity.

    Attributes:
        parent: id of the user at the start of a chain of minted tokens; set for
            child tokens only.
        current_workspace: the workspace named by the token.
        email_verified: the address proves ownership (security S16). Not on the wire.
        token_ids: ids of the tokens this identity rests on, oldest first;
            revoking any of them ends it (security S18). Not on the wire.
        by_ownership: workspaces in the scope because the user owns them, to be
            decided anew at each connection, never put into a token. Not on the wire.
    """

    id: str
    roles: tuple[str, ...] = ()
    scope: Scope = field(default_factory=Scope)
    email: str | None = None
    parent: str | None = None
    expires_at: float | None = None
    current_workspace: str | None = None
    email_verified: bool = False
    token_ids: tuple[str, ...] = field(default=(), repr=False)
    by_ownership: frozenset[str] = frozenset()

    @property
    def is_anonymous(self) -> bool:
        """Whether nobody has vouched for this user."""
        return "anonymous" in self.roles

    @property
    def is_child(self) -> bool:
        """Whether this identity is a minted child, which holds exactly what its token says."""
        return self.parent is not None

    def to_wire(self) -> dict[str, Any]:
        """The user info object, in the key order of protocol §1.3."""
        scope = self.scope
        return {
            "id": self.id,
            "roles": list(self.roles),
            "is_anonymous": self.is_anonymous,
            "scope": {
                "current_workspace": scope.current_workspace,
                "workspaces": dict(scope.workspaces),
                "client_id": scope.client_id,
                "extra_scopes": None if scope.extra_scopes is None else list(scope.extra_scopes),
            },
            "email": self.email,
            "parent": self.parent,
            "expires_at": self.expires_at,
            "current_workspace": self.current_workspace,
        }

    def admitted(self, client_id: str, workspace: str, right: Right) -> User:
        """This user as client *client_id* of *workspace*, where *right* is what it may do."""
        workspaces = dict(self.scope.workspaces)
        owned = self.by_ownership
        if workspaces.get(workspace) != right and workspaces.get("*") != right:
            workspaces[workspace] = right
            owned |= {workspace}
        scope = replace(self.scope, workspaces=workspaces, current_workspace=workspace, client_id=client_id)
        return replace(self, scope=scope, by_ownership=owned)

    def narrowed(self, *workspaces: str) -> User:
        """This user as told abroad: rights on *workspaces* only (security S1).

        Name the caller's and the receiver's workspace; which others a user
        belongs to is nobody's business. ``*`` is left out, too.
        """
        kept: dict[str, Right] = {name: right for name, right in self.scope.workspaces.items() if name in workspaces}
        return replace(self, scope=replace(self.scope, workspaces=kept))


def home_of(user_id: str) -> str:
    """The workspace that belongs to *user_id* by its name (server §2.2)."""
    return _HOME_PREFIX + user_id


def is_valid_user_id(text: object) -> bool:
    """Whether *text* can be a user id (security S10)."""
    return isinstance(text, str) and _USER_ID.fullmatch(text) is not None


def is_valid_workspace_id(text: object) -> bool:
    """Whether *text* can be a workspace id (security S10).

    Homes take over the ``@`` a user id may hold; no other workspace has one.
    """
    if not isinstance(text, str) or len(text) > 128:
        return False
    rest = text.removeprefix(_HOME_PREFIX)
    return _WORKSPACE_ID.fullmatch(text) is not None or (rest != text and _USER_ID.fullmatch(rest) is not None)


def anonymous_user(now: float) -> User:
    """A new anonymous user, administrator of its own home (server §4.3).

    Args:
        now: seconds since the epoch; the user expires 600 s later, on paper.
    """
    user_id = ANONYMOUS_PREFIX + readable_name()
    home = home_of(user_id)
    scope = Scope(workspaces={home: "a"}, current_workspace=home)
    return User(user_id, roles=("anonymous",), scope=scope, expires_at=now + _ANONYMOUS_LIFE_S)


def anonymous_http_user() -> User:
    """The caller of an HTTP request without a token (server §4.4)."""
    scope = Scope(workspaces={"ws-anonymous": "r"}, current_workspace="ws-anonymous")
    return User("anonymouz-http", roles=("anonymous",), scope=scope)


def root_user(*, token_id: str | None = None) -> User:
    """The user root, who may do everything (server §4.8).

    Args:
        token_id: fingerprint of the root token presented; None in-process.
    """
    home = home_of(ROOT_ID)
    return User(
        ROOT_ID,
        roles=("admin",),
        scope=Scope(workspaces={"*": "a"}, current_workspace=home),
        current_workspace=home,
        token_ids=() if token_id is None else (token_id,),
    )
