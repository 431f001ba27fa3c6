"""The door inside the process: start-up functions get a real client without a socket (server §1.8).

Whoever comes in here is trusted: user root, in the workspace it asks for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from hypha.auth.identity import root_user
from hypha.broker.connections import Connection
from hypha.broker.presence import Newcomer
from hypha.doors.handshake import DoorContext
from hypha_rpc.transports.base import HIGH_WATER, Buffer, Closed, Transport
from hypha_rpc.transports.memory import MemoryTransport

__all__ = ["InprocDoor"]


class InprocDoor:
    """Accepts memory transports.

    Args:
        context: the server.
        workspace: where the clients land.
    """

    def __init__(self, context: DoorContext, workspace: str = "public") -> None:
        self._context = context
        self._workspace = workspace

    async def accept(self, transport: Transport, message: Mapping[str, Any]) -> dict[str, Any]:
        """Admit the other end of *transport* (`memory.Acceptor`); runs on the server's loop."""
        context = self._context
        client_id = str(message["client_id"])
        outlet = _Outlet(context, transport)
        user = root_user().admitted(client_id, self._workspace, "a")
        newcomer = Newcomer(self._workspace, client_id, user, "a", "root", 1, message.get("life"), resumes=True)
        arrival = await context.presence.join(newcomer, outlet)
        outlet.connection = arrival.connection
        transport.start(_Receiver(context, arrival.connection))
        return {
            "type": "connection_info",
            **context.info,
            "workspace": self._workspace,
            "client_id": client_id,
            "user": user.to_wire(),
            "x": 1,
        }


class _Receiver:
    """What the client sends, to the switch (`Receiver`)."""

    def __init__(self, context: DoorContext, connection: Any) -> None:
        self._context = context
        self._connection = connection

    def on_frame(self, data: Buffer) -> None:
        """One frame."""
        self._connection.heard = self._context.clock()
        self._connection.frames += 1
        self._context.router.route(self._connection, data)

    def on_control(self, message: Mapping[str, Any]) -> None:
        """Keep-alive of the client."""
        self._connection.alive(self._context.clock())
        if message.get("type") == "ping":
            self._connection.outlet.send_control({"type": "pong"})

    def on_writable(self) -> None:
        """The client has caught up."""
        self._context.router.drained(self._connection)

    def on_closed(self, closed: Closed) -> None:
        """The client is gone."""
        self._context.presence.leave(self._connection, clean=True)


class _Outlet:
    """`Outlet` over a memory transport."""

    connection: Connection | None = None

    def __init__(self, context: DoorContext, transport: Transport) -> None:
        self._context = context
        self._transport = transport

    @property
    def pending(self) -> int:
        if isinstance(self._transport, MemoryTransport):
            return self._transport.waiting
        return 0 if self._transport.writable else HIGH_WATER

    @property
    def unacknowledged(self) -> bool:
        """There is no network in between."""
        return False

    def send(self, parts: Sequence[Buffer]) -> None:
        self._transport.send(parts)

    def send_control(self, message: dict[str, Any]) -> None:
        self._transport.send_control(message)

    def close(self, code: int, reason: str) -> None:
        self._transport.close(code, reason)

    def abort(self) -> None:
        self._transport.close(1006, "")

    def abort_later(self) -> None:
        asyncio.get_running_loop().call_soon(self.abort)

    def ping(self) -> None:
        """Answered here: these clients send no keep-alive, and a thread of this process does not die silently."""
        if self.connection is not None:
            self.connection.alive(self._context.clock())

    def pause_reading(self) -> None:
        """The client sees `writable`."""

    def resume_reading(self) -> None:
        """The client sees `writable`."""
