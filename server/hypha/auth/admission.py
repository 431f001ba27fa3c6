"""The decision of the handshake: who is let in, where, or why not.

A pure function of the first frame and of what the server knows about
workspaces. It neither waits nor sends, and it does not know which clients are
connected: that an id is taken is the broker's to find. Specs: protocol
§1.2-1.5, server §4.3, security S9-S10, extensions §1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from hypha.auth.errors import AuthenticationError, TokenRevoked
from hypha.auth.identity import User, anonymous_user, home_of
from hypha.auth.permissions import right
from hypha.auth.tokens import TokenService, refuse_specialised
from hypha_rpc.addresses import is_valid_client_id

__all__ = [
    "LEGACY_QUERY_REASON",
    "Admission",
    "Refusal",
    "Workspaces",
    "admit",
    "client_exists",
    "parse_first_frame",
    "payload_timeout",
    "too_many_clients",
    "too_many_connections",
    "undecodable",
]

#: Close reason (no frame) when credentials stand in the query string.
LEGACY_QUERY_REASON = (
    "Connection rejected, please  upgrade to `hypha-rpc` which pass the authentication information in the first message"
)

# Every refusal is final: 1001 would ask the client to come back (server §4.3, OURS).
_POLICY, _UNSUPPORTED = 1008, 1003
_SETUP, _USER = "Failed to establish connection: ", "Failed to establish connection: Failed to authenticate user: "
_MAX_REASON_BYTES = 123
_MAX_LIFE_LENGTH = 128
_MAX_LEVEL = 2**31


class Refusal(Exception):
    """A newcomer is not let in.

    Attributes:
        message: text of the ``error`` frame.
        close_code: code of the close that follows.
    """

    def __init__(self, message: str, close_code: int = _POLICY) -> None:
        super().__init__(message)
        self.message = message
        self.close_code = close_code

    @property
    def reason(self) -> str:
        """The close reason: *message* cut to the 123 bytes a close frame can hold (protocol §1.5)."""
        return self.message.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")


@dataclass(frozen=True, slots=True)
class Admission:
    """A newcomer is let in.

    Attributes:
        user: the identity, as it is stamped on frames of this connection.
        workspace: where it is connected.
        client_id: its id there.
        level: extension level announced; 0 is a public peer.
        life: what the client object calls itself over all its connections.
        resumes: it showed the reconnection token of this very client, which
            may take the place of a connection that seems alive (security S9).
        creates_for: the workspace does not exist yet and is to be made, owned
            by this user id; None when it exists.
    """

    user: User
    workspace: str
    client_id: str
    level: int = 0
    life: str | None = None
    resumes: bool = False
    creates_for: str | None = None


@dataclass(frozen=True, slots=True)
class Workspaces:
    """What the decision asks about workspaces.

    Attributes:
        exists: whether there is a workspace of that id.
        owners: ids and e-mails of the owners of an existing workspace.
    """

    exists: Callable[[str], bool]
    owners: Callable[[str], Collection[str]]


@dataclass(frozen=True, slots=True)
class _Claim:
    """The members of the first frame, checked for form."""

    client_id: str | None
    workspace: str | None
    token: str | None
    reconnection_token: str | None


def parse_first_frame(data: str | bytes) -> dict[str, Any]:
    """Decode the first text frame.

    Raises:
        Refusal: it is not a JSON object.
    """
    try:
        frame = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise undecodable() from error
    if not isinstance(frame, dict):
        raise undecodable()
    return frame


def admit(frame: Mapping[str, Any], tokens: TokenService, workspaces: Workspaces, *, now: float) -> Admission:
    """Decide about a newcomer.

    Args:
        frame: the first frame, or the same members from an HTTP request.
        tokens: parses its credentials.
        workspaces: what is known about workspaces.
        now: seconds since the epoch, for new anonymous users.

    Raises:
        Refusal: it is not let in; for good, so nothing transient may end here.
    """
    claim = _read(frame)
    try:
        user = _authenticate(claim, tokens, now)
    except TokenRevoked as error:
        raise Refusal(f"{_USER}{error}") from error
    except AuthenticationError as error:
        raise Refusal(f"Authentication error: {error}") from error
    except PermissionError as error:
        raise Refusal(f"{_USER}{error}") from error
    workspace = _destination(claim, user)
    if claim.client_id is None:
        raise Refusal(f"{_SETUP}Failed to authenticate user to workspace: {workspace}")
    return _enter(user, workspace, claim, frame, workspaces)


# ------------------------------------------------------------ refusals of others


def undecodable() -> Refusal:
    """The first frame is no JSON object."""
    return Refusal("Failed to decode authentication information", _UNSUPPORTED)


def payload_timeout() -> Refusal:
    """No first frame came in time."""
    return Refusal("Authentication payload timeout")


def client_exists(workspace: str, client_id: str) -> Refusal:
    """The client id is in use (server §2.3)."""
    return Refusal(f"{_SETUP}Client already exists and is active: {workspace}/{client_id}")


def too_many_connections(user_id: str, count: int, limit: int) -> Refusal:
    """A user has too many connections (server §7.1)."""
    return Refusal(f"Connection limit exceeded: user {user_id} has {count}/{limit} connections")


def too_many_clients(workspace: str, count: int, limit: int) -> Refusal:
    """A workspace has too many clients (server §7.1)."""
    return Refusal(f"Connection limit exceeded: workspace {workspace} has {count}/{limit} clients")


# ----------------------------------------------------------------------- private


def _read(frame: Mapping[str, Any]) -> _Claim:
    members: dict[str, str | None] = {}
    for name in ("client_id", "workspace", "token", "reconnection_token"):
        value = frame.get(name)
        if value is not None and not isinstance(value, str):
            raise Refusal(f"{_SETUP}Invalid {name}: it must be a string or null")
        # Absent, null and empty are the same (protocol §1.2).
        members[name] = value or None
    client_id = members["client_id"]
    if client_id is not None and not is_valid_client_id(client_id):
        raise Refusal(f"{_SETUP}Invalid client id: {client_id[:128]}")
    return _Claim(**members)


def _authenticate(claim: _Claim, tokens: TokenService, now: float) -> User:
    if claim.reconnection_token is not None:
        return tokens.parse_reconnection(claim.reconnection_token, claim.client_id or "", claim.workspace)
    if claim.token is None:
        return anonymous_user(now)
    user = tokens.authenticate(claim.token)
    refuse_specialised(user)
    current = user.current_workspace
    if current is not None and claim.workspace is not None and claim.workspace != current:
        raise PermissionError(
            f"Current workspace encoded in the token ({current}) does not match "
            f"the specified workspace ({claim.workspace})"
        )
    bound = user.scope.client_id
    if bound is not None and bound != claim.client_id:
        raise PermissionError(f"Client id mismatch: this token is restricted to client with client_id='{bound}'")
    return user


def _destination(claim: _Claim, user: User) -> str:
    return user.current_workspace or claim.workspace or home_of(user.id)


def _enter(user: User, workspace: str, claim: _Claim, frame: Mapping[str, Any], workspaces: Workspaces) -> Admission:
    exists = workspaces.exists(workspace)
    letter = right(user, workspace, workspaces.owners(workspace) if exists else ())
    # Homes come into being with their user, and again after a restart, whoever of the family is back first.
    owner = user.parent or user.id
    creates = not exists and letter is not None and workspace == home_of(owner)
    if not exists and not creates:
        # The quotes are part of the text that peers know.
        raise Refusal(f"{_SETUP}'Workspace {workspace} does not exist or is not accessible'")
    if letter is None:
        raise Refusal(f"{_SETUP}Permission denied for workspace: {workspace}")
    client_id = claim.client_id or ""
    return Admission(
        user=user.admitted(client_id, workspace, letter),
        workspace=workspace,
        client_id=client_id,
        level=_level(frame.get("x")),
        life=_life(frame.get("life")),
        resumes=claim.reconnection_token is not None,
        creates_for=owner if creates else None,
    )


def _level(value: object) -> int:
    """The extension level (extensions §1): nonsense is a public peer."""
    return min(value, _MAX_LEVEL) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _life(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _MAX_LIFE_LENGTH else None
