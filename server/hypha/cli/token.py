"""``python -m hypha generate-token``: print a token signed with the server's secret.

Whoever can run it holds the secret, so it checks the form of what is asked for
and nothing else. Spec: server §4.9.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import Parameter

from hypha.auth.errors import AuthenticationError, ValidationError
from hypha.auth.identity import Right, home_of, is_valid_user_id
from hypha.auth.minting import PERMISSIONS
from hypha.auth.scopes import ParsedScope, format_scope, parse_scope
from hypha.auth.secret import load_secrets
from hypha.auth.tokens import Grant, TokenService
from hypha.auth.words import readable_name
from hypha.cli.options import load_environment
from hypha.cli.refusal import refuse
from hypha.cli.syntax import run_app
from hypha.settings import Settings, SettingsError
from hypha.store.state import StateDirectory, StateError

__all__ = ["generate_token"]

Permission = Literal["read", "read_write", "admin"]


def generate_token(argv: Sequence[str], environ: Mapping[str, str] | None = None) -> int:
    """Print a token; its last line is the token itself.

    Args:
        argv: the options, see ``--help``.
        environ: variables; by default the process's own, after ``.env`` was loaded.

    Returns:
        The exit code.

    Raises:
        SystemExit: code 2 after a message for a bad option or value.
    """
    app = cyclopts.App(
        name="hypha generate-token", usage="Usage: python -m hypha generate-token [OPTIONS]", version_flags=[]
    )
    app.default(_command)
    given = run_app(app, argv)
    if environ is None:
        environ = load_environment()
    try:
        tokens = _tokens(environ, given.pop("state_dir", None))
        sys.stdout.write(_print(tokens, **given))
    except (SettingsError, StateError, ValidationError, AuthenticationError) as error:
        refuse(str(error))
    return 0


def _command(
    *,
    workspace: str | None = None,
    expires_in: float = 3600.0,
    client_id: str | None = None,
    user_id: str | None = None,
    role: Annotated[list[str] | None, Parameter(negative="")] = None,
    email: str | None = None,
    scope: Annotated[list[str] | None, Parameter(negative="")] = None,
    permission: Permission = "read_write",
    state_dir: str | None = None,
) -> None:
    """Print a token signed with the secret of this machine's server.

    Args:
        workspace: Workspace the token leads to; the user's own by default.
        expires_in: Life of the token in seconds.
        client_id: Only this client may use the token.
        user_id: Who the token is for; a new anonymous user by default.
        role: Role of the user, may be repeated; anonymous by default.
        email: E-mail address of the user.
        scope: Further right, WORKSPACE#PERMISSION (r, rw, a), may be repeated.
        permission: Right on the workspace.
        state_dir: State directory of the server whose secret is used.
    """


def _tokens(environ: Mapping[str, str], state_dir: str | None) -> TokenService:
    chosen = {} if state_dir is None else {"state_dir": state_dir}
    settings = Settings.from_env(environ, options=False, **chosen)
    path = settings.resolved_state_dir()
    # The variable, where set, is the secret; then nothing needs to be made on disk.
    state = StateDirectory(path) if path is not None and settings.jwt_secret is None else None
    return TokenService(
        load_secrets(settings, state),
        issuer=settings.auth0_issuer,
        audience=settings.auth0_audience,
        namespace=settings.auth0_namespace,
    )


def _print(
    tokens: TokenService,
    *,
    workspace: str | None = None,
    expires_in: float = 3600.0,
    client_id: str | None = None,
    user_id: str | None = None,
    role: Sequence[str] | None = None,
    email: str | None = None,
    scope: Sequence[str] | None = None,
    permission: Permission = "read_write",
) -> str:
    user_id = user_id or f"anonymous-{readable_name()}-{secrets.token_hex(4)}"
    if not is_valid_user_id(user_id):
        raise ValidationError(f"--user-id: {user_id!r} is not a user id")
    if not expires_in > 0:
        raise ValidationError("--expires-in should be greater than 0")
    workspace = workspace or home_of(user_id)
    words = " ".join(f"ws:{_grant(word)}" for word in scope or ())
    further = parse_scope(words)
    if further.extra_scopes:
        raise ValidationError(f"--scope: malformed word {further.extra_scopes[0]!r}")
    rights: dict[str, Right] = {workspace: PERMISSIONS[permission], **further.workspaces}
    parsed = ParsedScope(rights, client_id, workspace)
    # What would be refused when the token is used is refused here.
    parse_scope(format_scope(parsed))
    roles = list(role or ["anonymous"])
    # The operator vouches for the address.
    grant = Grant(user_id=user_id, scope=parsed, expires_in=expires_in, roles=roles, email=email, email_verified=True)
    token = tokens.mint(grant)
    lines = [
        f"Generated token for user '{user_id}':",
        f"  Workspace: {workspace}",
        f"  Permission: {permission}",
        f"  Expires in: {expires_in:g} seconds",
        f"  Roles: {', '.join(roles)}",
        "",
        "Token:",
        token,
    ]
    return "\n".join(lines) + "\n"


def _grant(word: str) -> str:
    workspace, _, letter = word.rpartition("#")
    names: dict[str, Any] = dict(PERMISSIONS)
    return f"{workspace}#{names.get(letter, letter)}"
