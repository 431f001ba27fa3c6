"""A provider in a process of its own: big values, endless generators, and what they cost it.

Run as ``python big_provider.py SERVER_URL``; prints its service id and workspace, and a token for it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from hypha_rpc import connect_to_server


def resident() -> int:
    """Resident memory of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


class Functions:
    """What is offered."""

    def __init__(self) -> None:
        self.server: Any = None
        self.events: list[str] = []

    def echo(self, value: Any) -> Any:
        """Return the argument."""
        return value

    def size(self, value: bytes) -> int:
        """The length of the argument."""
        return len(value)

    async def endless(self, size: int, every_s: float = 0.0) -> AsyncIterator[bytes]:
        """Binaries for ever."""
        try:
            while True:
                if every_s:
                    await asyncio.sleep(every_s)
                yield bytes(size)
        finally:
            self.events.append("closed")

    async def numbers(self, count: int) -> AsyncIterator[int]:
        """Numbers in order."""
        for number in range(count):
            yield number

    async def nap(self, value: bytes) -> None:
        """Wait until cancelled."""
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.events.append("cancelled")
            raise

    def take_events(self) -> list[str]:
        """What has happened since the last time."""
        events, self.events = self.events, []
        return events

    def cost(self) -> dict[str, int]:
        """Memory, and the sizes of all tables."""
        return {"resident": resident(), **self.server.rpc.stats()}


async def main(url: str) -> None:
    """Serve until the parent closes the pipe."""
    functions = Functions()
    async with connect_to_server(server_url=url) as server:
        functions.server = server
        members = {
            name: getattr(functions, name)
            for name in ("echo", "size", "endless", "numbers", "nap", "take_events", "cost")
        }
        info = await server.register_service({"id": "big", "config": {"visibility": "public"}, **members})
        sys.stdout.write(f"{info['id']} {server.config.workspace} {await server.generate_token()}\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
