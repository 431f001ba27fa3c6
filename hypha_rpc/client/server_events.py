"""Events: the server's news acted upon, the application's handlers called (python-client §4.4).

Names that only the server may use are accepted from nobody else, and no received
frame can pose as an event of this client's own life (security S4).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from hypha_rpc.addresses import absolute, workspace_of
from hypha_rpc.client.events import MessageEmitter, message_type
from hypha_rpc.errors import HyphaError

if TYPE_CHECKING:
    from hypha_rpc.client.rpc import RPC

__all__ = ["ClientEvents"]

_LIFE: Final = frozenset(
    {
        "connected",
        "disconnected",
        "reconnected",
        "services_registered",
        "services_registration_failed",
        "manager_refreshed",
        "remote_client_disconnected",
        "error",
        "ping",
        "pong",
        "connection_info",
        "reconnection_token",
    }
)
_SERVER_ONLY: Final = frozenset(
    {
        "client_connected",
        "client_updated",
        "client_disconnected",
        "service_added",
        "service_updated",
        "service_removed",
        "workspace_loaded",
        "workspace_unloaded",
        "workspace_deleted",
        "workspace_changed",
        "workspace_ready",
        "workspace_status_changed",
        "force-exit",
        "peer_not_found",
    }
)


class ClientEvents(MessageEmitter):
    """The events of one client."""

    def __init__(self, rpc: RPC) -> None:
        super().__init__(rpc.log)
        self._rpc = rpc

    def emit_local(self, event: str, data: Any = None) -> None:
        """Tell the handlers of *event* something about this client's own life."""
        self._fire(event, data)

    def emit(self, message: Mapping[str, Any]) -> asyncio.Future[None]:
        """Deliver *message* to the local handlers, or, with ``to``, send it.

        Args:
            message: ``type``, and optionally ``to`` (``"*"``: subscribers of the workspace; a client) and ``data``.

        Returns:
            A finished future, so that ``await`` works in both cases (X07).

        Raises:
            ValueError: there is no ``type``.
            SerializationError: ``data`` has no wire form.
        """
        kind = message_type(message)
        to = message.get("to")
        if to is None:
            self._fire(kind, message)
        else:
            self._send(kind, to, {key: value for key, value in message.items() if key not in ("type", "to")})
        done: asyncio.Future[None] = self._rpc.loop.create_future()
        done.set_result(None)
        return done

    def _send(self, kind: str, to: Any, rest: dict[str, Any]) -> None:
        if not isinstance(to, str) or not to:
            raise ValueError("'to' must be '*' or the address of a client")
        core = self._rpc.endpoint.core
        names = list(rest)
        values = core.encode(list(rest.values()), None, "message")
        to = to if to == "*" else absolute(to, workspace_of(core.address))
        core.send({"type": kind, "to": to}, dict(zip(names, values, strict=True)))

    def received(self, header: dict[str, Any], extra: dict[str, Any]) -> None:
        """An event frame arrived."""
        kind: str = header["type"]
        sender = header.get("from")
        from_server = sender is None or (isinstance(sender, str) and sender.startswith("*/"))
        if kind in _LIFE or (kind in _SERVER_ONLY and not from_server):
            return
        try:
            message = self._rpc.decode(
                {key: value for key, value in extra.items() if key not in header or extra is header}
            )
        except (HyphaError, PermissionError) as error:
            self._rpc.port.dropped(f"an event with data that cannot be decoded: {error}")
            return
        message = dict(message)
        message.update(type=kind, to=header.get("to"), ctx=self._rpc.as_mapping(header))
        if isinstance(sender, str):
            message["from"] = sender
        self._act(kind, message)
        self._fire(kind, self._rpc.as_mapping(message))

    def _act(self, kind: str, message: dict[str, Any]) -> None:
        """What the client itself does about the server's news."""
        if kind == "force-exit":
            self._rpc.leave(str(message.get("reason") or "the server asked this client to leave"))
            return
        data = message.get("data")
        if kind not in ("client_disconnected", "client_connected") or not isinstance(data, Mapping):
            return
        client, workspace = data.get("id"), data.get("workspace")
        if not isinstance(client, str):
            return
        home = workspace if isinstance(workspace, str) else workspace_of(self._rpc.endpoint.address)
        address = absolute(client, home)
        if kind == "client_connected":
            if data.get("resumed") is True:
                self._rpc.endpoint.peer_resumed(address)
            return
        lost = data.get("may_resume") is True
        closed = self._rpc.endpoint.peer_gone(address, self._rpc.loop.time(), may_resume=lost)
        self._fire("remote_client_disconnected", {"client_id": address, "sessions_cleaned": closed, "rintf_cleaned": 0})
