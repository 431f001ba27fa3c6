"""The called side: a service with the functions that are measured.

Run as ``python callee.py SERVER_URL``. Uses nothing but the public API, so that it runs with either package.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import memory
from lines import order, tell

import hypha_rpc
from hypha_rpc import connect_to_server


def echo(value: Any) -> Any:
    """Return the argument."""
    return value


async def call_many(callback: Callable[[int], Any], count: int) -> int:
    """Call the caller's function, one call after the other."""
    for number in range(count):
        await callback(number)
    return count


async def generate(count: int) -> AsyncIterator[int]:
    """Yield numbers."""
    for number in range(count):
        yield number


async def generate_bytes(count: int, size: int) -> AsyncIterator[bytes]:
    """Yield binaries of one size: noise, the public packages compress what they send."""
    item = random.Random(1).randbytes(size)
    for _ in range(count):
        yield item


async def serve(url: str) -> None:
    """Connect, register, say so, stay until the parent closes the pipe."""
    server = await connect_to_server({"server_url": url})
    functions = {"echo": echo, "call_many": call_many, "generate": generate, "generate_bytes": generate_bytes}
    functions |= {"begin_peak": memory.begin_peak, "peak": memory.peak}
    info = await server.register_service({"id": "bench", **functions})
    token = await server.generate_token({"expires_in": 36_000})
    tell(
        "ready",
        service=info["id"],
        workspace=server.config["workspace"],
        token=token,
        client_version=str(hypha_rpc.__version__),
        server_version=str(server.config["hypha_version"]),
    )
    await order()
    await server.disconnect()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
