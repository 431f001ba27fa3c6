"""The everyday methods: echo, log, subscriptions, clients, tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from hypha.auth import minting, permissions
from hypha.auth.errors import AuthenticationError
from hypha.manager.core import ManagerCore
from hypha_rpc.addresses import absolute, workspace_of
from hypha_rpc.endpoint import Reference

__all__ = ["BasicMethods"]


class BasicMethods:
    """Methods that need no state of their own."""

    def __init__(self, core: ManagerCore) -> None:
        self._core = core

    def echo(self, data: Any, *, context: Mapping[str, Any]) -> Any:
        """Return what was sent.

        Args:
            data: anything.
        """
        self._core.check(self._core.caller(context), "echo")
        return data

    def subscribe(self, event_type: Any, *, context: Mapping[str, Any]) -> bool:
        """Receive broadcasts of these types.

        Args:
            event_type: a name, or a list of names.
        """
        core = self._core
        caller = core.caller(context)
        names = _names(event_type)
        for name in names:
            workspace = _workspace_named(name)
            if workspace is not None and workspace != caller.workspace:
                raise ValueError(f"Subscription to event '{name:.200}' is forbidden. It belongs to another workspace.")
        connection = caller.connection
        if connection is None:
            raise RuntimeError(f"Connection not found for client {caller.address}")
        limit = core.settings.limits.max_subscriptions
        if len(connection.subscriptions | set(names)) > limit:
            raise ValueError(f"a client can subscribe to at most {limit} event types")
        connection.subscriptions.update(names)
        return True

    def unsubscribe(self, event_type: Any, *, context: Mapping[str, Any]) -> bool:
        """Receive broadcasts of these types no more.

        Args:
            event_type: a name, or a list of names.
        """
        caller = self._core.caller(context)
        if caller.connection is not None:
            caller.connection.subscriptions.difference_update(_names(event_type))
        return True

    def list_clients(self, workspace: str | None = None, *, context: Mapping[str, Any]) -> list[dict[str, Any]]:
        """List the clients of a workspace.

        Args:
            workspace: own workspace if not given.
        """
        core = self._core
        caller = core.caller(context)
        where = workspace or caller.workspace
        core.check(caller, "list_clients", where)
        full = permissions.has_right(caller.user, where, "a", core.owners(where))
        found = []
        for record in core.directory.of_workspace(where):
            if record.name == "built-in":
                user = record.config["created_by"]
                found.append({"id": record.address, "user": user if full else {"id": user["id"]}})
        return found

    async def ping(self, client_id: str, timeout: float = 5, *, context: Mapping[str, Any]) -> str:
        """Ask a client whether it lives.

        Args:
            client_id: its id, with or without the workspace.
            timeout: seconds to wait.
        """
        core = self._core
        caller = core.caller(context)
        target = absolute(str(client_id), caller.workspace)
        reference = Reference(target, "services.built-in.ping", promise=True)
        try:
            core.check(caller, "ping", workspace_of(target))
            return str(await asyncio.wait_for(core.peers.ask(reference, "ping"), min(max(float(timeout), 0.1), 60)))
        except Exception as error:  # supervision boundary: this method reports, it never raises (server §3.1)
            why = str(error) or type(error).__name__
            return f"Failed to ping client {target}: {why}"

    def check_status(self, *, context: Mapping[str, Any]) -> dict[str, Any]:
        """Tell whether the caller's workspace is ready, and what the caller may do in it."""
        core = self._core
        caller = core.caller(context)
        letter = permissions.right(caller.user, caller.workspace, core.owners(caller.workspace))
        return {"status": "ready", "errors": None, "user_permission": letter}

    def generate_token(self, config: dict[str, Any] | None = None, *, context: Mapping[str, Any]) -> str:
        """Generate a token for the caller's, or another, workspace.

        Args:
            config: expires_in, workspace, permission, client_id, extra_scopes, email.
        """
        core = self._core
        caller = core.caller(context)
        wanted = (config or {}).get("workspace") if isinstance(config, dict) else None
        workspace = wanted if isinstance(wanted, str) and wanted else caller.workspace
        return minting.child_token(
            core.tokens,
            caller.user,
            config,
            owners=core.owners(workspace),
            exists=core.workspaces.exists(workspace),
        )

    def parse_token(self, token: str, *, context: Mapping[str, Any]) -> dict[str, Any]:
        """Tell who a token makes.

        Args:
            token: a token of this server.
        """
        core = self._core
        caller = core.caller(context)
        user = core.tokens.parse(token)
        if user.current_workspace is not None:
            core.check(caller, "parse_token", user.current_workspace)
        return user.to_wire()

    def revoke_token(self, token: str, *, context: Mapping[str, Any]) -> None:
        """Make a token, and every token made with it, useless.

        Args:
            token: a token of this server.
        """
        core = self._core
        caller = core.caller(context)
        try:
            minting.revoke_token(core.tokens, caller.user, token, core.owners)
        except AuthenticationError as error:
            raise ValueError(f"Invalid token: 401: {error}") from error


def _names(event_type: Any) -> list[str]:
    names = [event_type] if isinstance(event_type, str) else event_type
    if not isinstance(names, list) or not all(isinstance(name, str) and 0 < len(name) <= 512 for name in names):
        raise ValueError("event_type must be a name or a list of names")
    return names


def _workspace_named(name: str) -> str | None:
    """The workspace that an event name belongs to by its form (protocol §2.7), or None."""
    head = name.partition("/")[0]
    if "/" in name:
        return head
    return name.partition(":")[0] if name.startswith("ws-") else None
