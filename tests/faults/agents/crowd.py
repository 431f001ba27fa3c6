"""Many clients in one process, each with a service; reports when all of them are back.

Run as ``python -m agents.crowd SERVER_URL COUNT``.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from programs.report import order, tell

from hypha_rpc import connect_to_server

LIFE_S = 900.0
AT_ONCE = 20


class Crowd:
    """Counts who is back."""

    def __init__(self, url: str, count: int) -> None:
        self._url = url
        self._count = count
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._back: set[int] = set()
        self.servers: list[Any] = []

    async def join(self, number: int) -> None:
        """Connect one client and register its service."""
        async with self._gate:
            server = await connect_to_server({"server_url": self._url})
            await server.register_service({"id": "member", "number": lambda: number})
        server.rpc.on("connected", lambda _: self._returned(number))
        self.servers.append(server)

    def _returned(self, number: int) -> None:
        self._back.add(number)
        if len(self._back) == self._count:
            tell("all_back", at=time.time())


async def main(url: str, count: str) -> None:
    """Connect all, wait, leave."""
    crowd = Crowd(url, int(count))
    await asyncio.gather(*map(crowd.join, range(int(count))))
    tell("ready")
    await order(LIFE_S)
    await asyncio.gather(*(server.disconnect() for server in crowd.servers))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
