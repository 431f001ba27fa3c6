"""How long connecting takes, the client being imported already.

Run as ``python connecting.py SERVER_URL TIMES``.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time

from lines import tell

from hypha_rpc import connect_to_server


async def run(url: str, times: int) -> None:
    """Connect and disconnect several times; the first time only warms up."""
    durations = []
    for _ in range(times + 1):
        begin = time.perf_counter()
        server = await connect_to_server({"server_url": url})
        durations.append(time.perf_counter() - begin)
        await server.disconnect()
    tell("result", value=statistics.median(durations[1:]) * 1e3, calls=times)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2])))
