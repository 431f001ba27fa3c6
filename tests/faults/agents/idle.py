"""Many clients in one process that do nothing; reports how fast each part of them got in.

Run as ``python -m agents.idle SERVER_URL COUNT PARTS``.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

from programs.report import order, tell

from hypha_rpc import connect_to_server

LIFE_S = 900.0
AT_ONCE = 10


class Crowd:
    """Those who are connected."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._servers: list[Any] = []

    async def grow(self, count: int) -> None:
        """Connect *count* more, a few at a time."""
        left = iter(range(count))
        await asyncio.gather(*(self._some(left) for _ in range(AT_ONCE)))

    async def _some(self, left: Iterator[int]) -> None:
        for _ in left:
            try:
                self._servers.append(await connect_to_server({"server_url": self._url}))
            except Exception as error:  # noqa: BLE001 - supervision: the error is the report
                tell("refused", error=f"{type(error).__name__}: {error}"[:200])


async def main(url: str, count: str, parts: str) -> None:
    """Connect part after part, then wait until told to go."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # Looking through thousands of clients for garbage stops them all for seconds on a busy machine.
    gc.disable()
    crowd = Crowd(url)
    for part in range(int(parts)):
        begin = time.time()
        await crowd.grow(int(count) // int(parts))
        tell("part", part=part, begin=begin, end=time.time())
    tell("ready")
    await order(LIFE_S)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
