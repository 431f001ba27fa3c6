"""A server process of one side, and the moment it is ready."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path
from typing import Self

from processes import BenchFailed, Process

READY_S = 60.0
_POLL_S = 0.005
_REQUEST = b"GET /health/readiness HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


def free_port() -> int:
    """A port that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A running, ready server. Make it with :meth:`start`."""

    def __init__(self, process: Process, port: int, start_s: float) -> None:
        self.process, self.start_s = process, start_s
        self.url = f"http://127.0.0.1:{port}"

    @classmethod
    async def start(cls, side: str, folder: Path) -> Self:
        """Start one and wait until it says that it is ready.

        Raises:
            BenchFailed: It ended, or took too long.
        """
        port, begin = free_port(), time.perf_counter()
        process = await Process.start(side, ["-mhypha.server", "--host", "127.0.0.1", "--port", str(port)], folder)
        while process.running and time.perf_counter() < begin + READY_S:
            if await is_ready(port):
                return cls(process, port, time.perf_counter() - begin)
            await asyncio.sleep(_POLL_S)
        await process.close()
        raise BenchFailed(f"the {side} server did not become ready; its log is in {folder}")

    async def close(self) -> None:
        """Stop it."""
        await self.process.close()


async def is_ready(port: int) -> bool:
    """Ask for readiness once."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        writer.write(_REQUEST)
        status = await asyncio.wait_for(reader.readline(), READY_S)
        return b" 200 " in status
    except OSError:
        return False
    finally:
        writer.close()
