"""Handles that existing programs and tests reach into (python-client §22), as views of the real tables.

Nothing of the package uses these names. `LegacyConnection` drives an `RPC` over a
connection object that a program brings itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypha_rpc.client.rpc import RPC
    from hypha_rpc.client.server_events import ClientEvents
    from hypha_rpc.endpoint import Endpoint

__all__ = ["LegacyConnection", "LegacyViews"]


class LegacyViews:
    """Read-only views of an `RPC` under their old names."""

    endpoint: Endpoint
    events: ClientEvents
    _legacy: LegacyConnection | None
    _link: Any

    @property
    def _services(self) -> dict[str, Any]:
        return dict(self.endpoint.exports.services)

    @property
    def _object_store(self) -> dict[str, Any]:
        store: dict[str, Any] = {"services": self._services, "message_cache": {}}
        store.update((call.id, {"target_id": call.target}) for call in self.endpoint.caller.calls)
        store.update((session.id, dict(session.objects)) for session in self.endpoint.exports.sessions.values())
        return store

    @property
    def _event_handlers(self) -> dict[str, list[Any]]:
        return self.events._event_handlers

    def _fire(self, event: str, data: Any = None) -> bool:
        return self.events._fire(event, data)

    @property
    def _method_timeout(self) -> float:
        return self.endpoint.core.options.method_timeout_s

    @property
    def _session_ttl(self) -> float:
        return self.endpoint.core.options.session_life_s

    @property
    def _connection(self) -> Any:
        if self._link is not None:
            return _ConnectionView(self)
        return self._legacy.connection if self._legacy is not None else None

    def get_session_stats(self) -> dict[str, Any]:
        """Counts of calls and function sessions under way."""
        calls = list(self.endpoint.caller.calls)
        sessions = list(self.endpoint.exports.sessions)
        return {
            "total_sessions": len(calls) + len(sessions),
            "promise_sessions": len(calls),
            "regular_sessions": len(sessions),
            "sessions_with_timers": len(calls),
            "sessions_with_heartbeat": len(self.endpoint.callee.running),
            "system_stores": {"services": {"size": len(self._services)}, "message_cache": {"size": 0}},
            "session_ids": [call.id for call in calls] + sessions,
        }

    def get_public_key(self) -> str | None:
        """Own public key as hex; None while encryption is off."""
        sealer = self.endpoint.core.sealer
        return sealer.public_key.hex() if sealer is not None else None


class _ConnectionView:
    """``rpc._connection``: the link."""

    def __init__(self, rpc: Any) -> None:
        self._rpc = rpc

    @property
    def _websocket(self) -> _ConnectionView:
        return self

    @property
    def manager_id(self) -> str:
        return str(self._rpc.connection_info.get("manager_id"))

    @property
    def connection_info(self) -> dict[str, Any]:
        return dict(self._rpc.connection_info)

    @property
    def _closed(self) -> bool:
        return bool(self._rpc._link.closed)

    @property
    def _enable_reconnect(self) -> bool:
        return not self._rpc._link.closed

    @property
    def _reconnection_token(self) -> str | None:
        token: str | None = self._rpc._link.reconnection_token
        return token

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Drop the current socket; the client reconnects."""
        self._rpc._link.drop(code, reason)
        # The caller expects the socket to be gone, as far as that takes no longer than a moment.
        await asyncio.sleep(0)


class LegacyConnection:
    """An `RPC` over a connection object with ``emit_message``, ``on_message``, ``on_connected``."""

    def __init__(self, rpc: RPC, connection: Any) -> None:
        self._rpc = rpc
        self.connection = connection
        self._sends: set[asyncio.Task[Any]] = set()
        manager_id = getattr(connection, "manager_id", None)
        if isinstance(manager_id, str):
            rpc.manager_address = f"*/{manager_id}"
        rpc.port.connect(self)
        rpc.outbox.open = True
        connection.on_message(self._received)
        if hasattr(connection, "on_connected"):
            connection.on_connected(self._connected)

    def _received(self, data: Any) -> None:
        if isinstance(data, dict):
            return
        self._rpc.endpoint.receive(data, self._rpc.loop.time())

    async def _connected(self, info: Any) -> None:
        self._rpc.events.emit_local("connected", info)

    def send(self, parts: Sequence[Any]) -> None:
        """Hand a frame to the connection's coroutine, in order (`driver.Pipe`)."""
        task = self._rpc.loop.create_task(self.connection.emit_message(b"".join(parts)))
        self._sends.add(task)
        task.add_done_callback(self._sends.discard)

    async def close(self) -> None:
        """Disconnect the connection object."""
        for task in list(self._sends):
            task.cancel()
        disconnect = getattr(self.connection, "disconnect", None)
        if disconnect is not None:
            await disconnect("RPC disconnected")
