"""Methods about clients: list, ping, clean up (server §3.1, §3.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from hypha.audit import audit
from hypha.auth.permissions import right
from hypha.broker.connections import Connection
from hypha.manager.core import ManagerCore
from hypha.manager.visibility import BUILT_IN
from hypha_rpc.addresses import absolute, workspace_of
from hypha_rpc.endpoint import Reference

__all__ = ["ClientMethods"]

_SHORTEST_S: Final = 0.1
_LONGEST_S: Final = 60.0
_AT_ONCE: Final = 50


class ClientMethods:
    """Methods about the clients of a workspace.

    Args:
        core: what all methods share.
    """

    def __init__(self, core: ManagerCore) -> None:
        self._core = core

    def list_clients(self, workspace: str | None = None, *, context: Mapping[str, Any]) -> list[dict[str, Any]]:
        """List the clients of a workspace.

        Args:
            workspace: its id; the caller's own if not given.
        """
        core = self._core
        caller = core.caller(context)
        where = workspace or caller.workspace
        core.check(caller, "list_clients", where)
        full = core.has_right(caller, where, "a")
        found: list[dict[str, Any]] = []
        for record in core.directory.of_workspace(where):
            if record.name == BUILT_IN:
                user = record.config["created_by"]
                found.append({"id": record.address, "user": user if full else {"id": user["id"]}})
        return found

    async def ping(self, client_id: str, timeout: float = 5, *, context: Mapping[str, Any]) -> str:
        """Ask a client whether it lives; returns 'pong' or what is the matter.

        Args:
            client_id: its id, with or without the workspace.
            timeout: seconds to wait.
        """
        core = self._core
        caller = core.caller(context)
        target = absolute(str(client_id), caller.workspace)
        try:
            core.check(caller, "ping", workspace_of(target))
            return await self._ping(target, _seconds(timeout))
        except Exception as error:  # noqa: BLE001 - supervision boundary: this method reports, it never raises (server §3.1)
            return f"Failed to ping client {target:.256}: {str(error) or type(error).__name__}"

    async def _ping(self, address: str, timeout_s: float) -> str:
        reference = Reference(address, "services.built-in.ping", promise=True)
        async with asyncio.timeout(timeout_s):
            return str(await self._core.peers.ask(reference, "ping"))

    def check_status(self, *, context: Mapping[str, Any]) -> dict[str, Any]:
        """Tell whether the caller's workspace is ready, and what the caller may do in it."""
        core = self._core
        caller = core.caller(context)
        core.check(caller, "check_status")
        letter = right(caller.user, caller.workspace, core.owners(caller.workspace))
        status = "ready" if core.workspaces.exists(caller.workspace) else "not_found"
        return {"status": status, "errors": None, "user_permission": letter}

    async def cleanup(
        self, workspace: str | None = None, timeout: float = 5, *, context: Mapping[str, Any]
    ) -> dict[str, list[str]]:
        """Ping every client of a workspace and disconnect those that do not answer.

        Args:
            workspace: its id; the caller's own if not given.
            timeout: seconds to wait for each.
        """
        core = self._core
        caller = core.caller(context)
        where = workspace or caller.workspace
        core.check(caller, "cleanup", where)
        core.workspace(where)
        patience = _seconds(timeout)
        members = [member for member in core.router.workspaces.get(where, {}).values() if member.exists]
        free = asyncio.Semaphore(_AT_ONCE)
        dead = await asyncio.gather(*(self._is_dead(member, patience, free) for member in members))
        removed = [member.address for member, gone in zip(members, dead, strict=True) if gone]
        for member, gone in zip(members, dead, strict=True):
            if gone:
                audit("kick", client=member.address, by=caller.user.id, reason="No answer")
                core.presence.leave(member, clean=False)
                member.outlet.abort()
        removed += self._remove_orphans(where)
        return {"removed_clients": removed} if removed else {}

    async def _is_dead(self, member: Connection, timeout_s: float, free: asyncio.Semaphore) -> bool:
        """Whether *member* neither answers nor gives any other sign of life."""
        async with free:
            asked = self._core.clock()
            try:
                await self._ping(member.address, timeout_s)
            except TimeoutError:
                return member.heard < asked
            except Exception:  # noqa: BLE001 - supervision boundary: an error is an answer, and whose link is gone has left
                return False
            return False

    def _remove_orphans(self, workspace: str) -> list[str]:
        """Drop what is registered for clients that are not connected."""
        directory, connected = self._core.directory, self._core.router.connections
        records = directory.of_workspace(workspace)
        orphans = dict.fromkeys(record.address for record in records if record.address not in connected)
        for address in orphans:
            directory.remove_client(address)
        return list(orphans)


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise ValueError("timeout must be a number of seconds")
    return min(max(float(value), _SHORTEST_S), _LONGEST_S)
