"""Many clients in one process: how fast they connect, and how fast they call.

Run as ``python crowd.py SERVER_URL READY_JSON CLIENTS SECONDS``. Uses nothing but the public API.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from caller import METHOD_TIMEOUT_S, repeat
from lines import order, tell

from hypha_rpc import connect_to_server

# more at once would measure how the public server rations handshakes
AT_ONCE = 10


async def join(gate: asyncio.Semaphore, url: str, ready: dict[str, Any]) -> tuple[Any, Any]:
    """Connect one client and fetch the service."""
    async with gate:
        options = {"workspace": ready["workspace"], "token": ready["token"], "method_timeout": METHOD_TIMEOUT_S}
        server = await connect_to_server({"server_url": url, **options})
        return server, await server.get_service(ready["service"])


async def run(url: str, ready: dict[str, Any], clients: int, seconds: float) -> None:
    """Connect, report; call when told to, report."""
    gate = asyncio.Semaphore(AT_ONCE)
    begin = time.perf_counter()
    joined = await asyncio.gather(*(join(gate, url, ready) for _ in range(clients)))
    tell("connected", value=clients / (time.perf_counter() - begin), calls=clients)
    await order()
    begin = time.perf_counter()
    counts = await asyncio.gather(*(repeat(service, begin + seconds) for _, service in joined))
    tell("result", value=sum(counts) / (time.perf_counter() - begin), calls=sum(counts))
    await order()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
