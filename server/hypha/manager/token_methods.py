"""``generate_token``, ``parse_token``, ``revoke_token`` (server §4.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from hypha.audit import audit
from hypha.auth import minting
from hypha.auth.errors import AuthenticationError
from hypha.auth.rates import PerMinute
from hypha.manager.core import ManagerCore
from hypha.store import StoreError, kept

__all__ = ["TokenMethods"]


class TokenMethods:
    """Methods about tokens.

    Args:
        core: what all methods share.
    """

    def __init__(self, core: ManagerCore) -> None:
        self._core = core
        self._mints = PerMinute(core.settings.limits.max_mints_per_minute)

    async def generate_token(self, config: dict[str, Any] | None = None, *, context: Mapping[str, Any]) -> str:
        """Generate a token for the caller's, or another, workspace.

        Args:
            config: expires_in (seconds, 3600), workspace, permission (read, read_write or admin), client_id,
                extra_scopes, email.
        """
        core = self._core
        caller = core.caller(context)
        wanted = config.get("workspace") if isinstance(config, dict) else None
        workspace = wanted if isinstance(wanted, str) and wanted else caller.workspace
        if not self._mints.take(caller.family, core.clock()):
            limit = core.settings.limits.max_mints_per_minute
            raise RuntimeError(f"Too many tokens: user {caller.family} may generate {limit} a minute. Try again later.")
        exists = core.workspaces.exists(workspace)
        grant = minting.child_grant(caller.user, config, owners=core.owners(workspace), exists=exists)
        return await core.tokens.issue(grant)

    async def parse_token(self, token: str, *, context: Mapping[str, Any]) -> dict[str, Any]:
        """Tell who a token makes.

        Args:
            token: a token of this server.
        """
        core = self._core
        caller = core.caller(context)
        await core.tokens.learn(_text(token))
        user = core.tokens.authenticate(token, root=False) if core.tokens.hooks.parses else core.tokens.parse(token)
        if user.current_workspace is not None:
            core.check(caller, "parse_token", user.current_workspace)
        return user.to_wire()

    async def revoke_token(self, token: str, *, context: Mapping[str, Any]) -> None:
        """Make a token, and every token made with it, useless; who is connected with one is disconnected.

        Args:
            token: a token of this server.
        """
        core = self._core
        caller = core.caller(context)
        write = minting.revoke_token(core.tokens, caller.user, _text(token), core.owners)
        try:
            if write is not None:
                await kept(write)
        except StoreError as error:
            raise StoreError(f"The token is revoked, but only until the server ends: {error}") from error
        finally:
            # Later, so that a caller who revokes its own token gets its answer first.
            asyncio.get_running_loop().call_soon(self._disconnect_revoked)

    def _disconnect_revoked(self) -> None:
        """Close the connections that rest on revoked tokens (security S18)."""
        for connection in list(self._core.router.connections.values()):
            user: Any = connection.user
            *ancestors, own = user.token_ids or ("",)
            if own and self._core.tokens.revocations.is_revoked(own, ancestors):
                audit("kick", client=connection.address, reason="Token has been revoked")
                connection.outlet.send_control({"type": "error", "message": "Token has been revoked"})
                connection.outlet.close(1008, "Token has been revoked")
                connection.outlet.abort_later()


def _text(token: Any) -> str:
    if not isinstance(token, str):
        raise AuthenticationError("Error decoding token headers.")
    return token
