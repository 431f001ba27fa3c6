"""Services of the server itself in workspace ``public``, by one client in the server's own loop.

The client comes in by the door inside the process, so its services are found,
listed and called like anybody's.
"""

from __future__ import annotations

import secrets
from typing import Any

from hypha.doors.inproc import InprocDoor
from hypha_rpc.client.link import Link
from hypha_rpc.client.options import ConnectOptions
from hypha_rpc.client.rpc import RPC
from hypha_rpc.client.workspace import build_server
from hypha_rpc.transports.memory import MemoryConnector

__all__ = ["Residents"]


class Residents:
    """The client and what it offers.

    Args:
        door: where it comes in.
        client_id: its id.
        url: shown as its server URL.
    """

    def __init__(self, door: InprocDoor, *, client_id: str, url: str) -> None:
        self._door = door
        self._client_id = client_id
        self._url = url
        self._rpc: RPC | None = None
        self._server: Any = None

    async def offer(self, service: dict[str, Any]) -> None:
        """Register *service*.

        Raises:
            ConnectionError: the server is stopping.
        """
        if self._server is None:
            options = ConnectOptions.parse(
                {"server_url": self._url, "client_id": self._client_id, "ping_interval": 0}, {}
            )
            self._rpc = RPC(None, self._client_id, name="services of the server")
            await self._rpc.open(Link(MemoryConnector(self._door.accept), options, secrets.token_hex(12), self._rpc))
            self._server = build_server(self._rpc)
        await self._server.register_service(service)

    async def close(self) -> None:
        """Withdraw everything and leave; idempotent."""
        rpc, self._rpc, self._server = self._rpc, None, None
        if rpc is not None:
            await rpc.disconnect()
