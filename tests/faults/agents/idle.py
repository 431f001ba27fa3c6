"""Many clients in one process that do nothing; reports how fast each part of them got in.

Run as ``python -m agents.idle SERVER_URL COUNT PARTS``.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from typing import Any

from programs.report import order, tell

from hypha_rpc import connect_to_server

LIFE_S = 900.0
AT_ONCE = 10


async def join_all(url: str, count: int, servers: list[Any]) -> None:
    """Connect *count* clients, a few at a time."""
    left = iter(range(count))

    async def some() -> None:
        for _ in left:
            servers.append(await connect_to_server({"server_url": url}))  # noqa: PERF401 - each is counted when it is there

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


async def main(url: str, count: str, parts: str) -> None:
    """Connect part after part, then wait until told to go."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    servers: list[Any] = []
    for part in range(int(parts)):
        begin = time.time()
        await join_all(url, int(count) // int(parts), servers)
        tell("part", part=part, begin=begin, end=time.time())
    tell("ready")
    await order(LIFE_S)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
