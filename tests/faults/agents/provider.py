"""The serving side: writes what it runs into a journal that outlives it.

Run as ``python -m agents.provider SERVER_URL JOURNAL [TOKEN WORKSPACE CLIENT_ID]``.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

from programs.report import order, tell

from hypha_rpc import connect_to_server

LIFE_S = 900.0
METHODS = ("echo", "slow", "executor", "block", "count", "take", "give")


class Journal:
    """Lines that survive the process: what began, ended or was cancelled."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, event: str, token: str) -> None:
        """Add a line."""
        os.write(self._file, f"{event} {token}\n".encode())


class Work:
    """What is called."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def echo(self, token: str) -> str:
        """Run at once."""
        self._journal.write("run", token)
        return token

    async def slow(self, token: str, seconds: float) -> str:
        """Run for a while."""
        self._journal.write("run", token)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self._journal.write("cancelled", token)
            raise
        self._journal.write("done", token)
        return token

    async def executor(self, token: str, seconds: float) -> str:
        """Keep a thread busy for a while."""
        await asyncio.get_running_loop().run_in_executor(None, time.sleep, seconds)
        return token

    async def block(self, token: str, seconds: float) -> str:
        """Keep the event loop busy for a while."""
        time.sleep(seconds)  # noqa: ASYNC251 - what this is about
        return token

    async def count(self, count: int) -> AsyncIterator[int]:
        """Make items as fast as it can."""
        for number in range(count):
            yield number

    def take(self, data: bytes) -> int:
        """Take something big."""
        return len(data)

    def give(self, size: int) -> bytes:
        """Give something big."""
        return bytes(size)


async def main(url: str, journal: str, *identity: str) -> None:
    """Connect, register, stay."""
    options: dict[str, Any] = {"server_url": url}
    if identity:
        options.update(zip(("token", "workspace", "client_id"), identity, strict=True))
    server = await connect_to_server(options)
    work = Work(Journal(journal))
    service = {
        "id": "fault",
        "config": {"visibility": "public"},
        **{name: getattr(work, name) for name in METHODS},
    }
    info = await server.register_service(service)
    token = await server.generate_token({"expires_in": 3600})
    tell("ready", id=str(info["id"]), token=token, workspace=server.config.workspace)
    await order(LIFE_S)
    await server.disconnect()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
