"""Offer functions to other programs: ``python examples/worker.py``, then ``python examples/client.py ID``.

The server is ``HYPHA_SERVER_URL``, by default the one that ``make serve`` starts.
"""

import asyncio
import contextlib
import os

from hypha_rpc import connect_to_server

SERVER_URL = os.environ.get("HYPHA_SERVER_URL", "http://127.0.0.1:9527")


def add(a: float, b: float = 1) -> float:
    """Add two numbers.

    Args:
        a: the first.
        b: the second.
    """
    return a + b


async def count(to: int, pause: float = 0.0):
    """Count, one number after the other; a generator may take its time."""
    for number in range(to):
        await asyncio.sleep(pause)
        yield number


async def main():
    async with connect_to_server(server_url=SERVER_URL) as server:
        service = await server.register_service(
            {
                "id": "calculator",
                "name": "Calculator",
                "description": "Adds and counts",
                "config": {"visibility": "public"},  # for clients of other workspaces, too
                "add": add,
                "count": count,
            }
        )
        print(service["id"], flush=True)
        await server.serve()  # until Ctrl-C


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
