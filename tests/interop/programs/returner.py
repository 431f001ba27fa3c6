"""A consumer that lives through a restart of the server with the proxies it has.

Run as ``python -m programs.returner SERVER_URL READY_JSON``.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from .consumer import open_world
from .report import order, tell
from .world import World

RETURN_S = 60.0
ATTEMPT_S = 5.0
PAUSE_S = 0.2


async def until_it_works(world: World, what: str) -> None:
    """Repeat one use of an old proxy until it works, and report how long that took."""
    begin = time.monotonic()
    errors: list[str] = []
    while time.monotonic() - begin < RETURN_S:
        try:
            await asyncio.wait_for(use(world, what), ATTEMPT_S)
        except Exception as error:  # noqa: BLE001 - supervision: any failure is a reason to try again, until the deadline
            errors.append(repr(error))
            await asyncio.sleep(PAUSE_S)
        else:
            tell("works", what=what, seconds=round(time.monotonic() - begin, 3), attempts=len(errors) + 1)
            return
    tell("broken", what=what, errors=errors[-3:])


async def use(world: World, what: str) -> None:
    """Use the service's old proxy, the manager's old proxy, or fetch the service anew."""
    if what == "service":
        got = await world.service.add(1, 2)
    elif what == "manager":
        got = await world.server.echo(3)
    else:
        service = await world.server.get_service(f"{world.workspace}/{world.provider}:interop")
        got = await service.add(1, 2)
    if got != 3:
        raise ValueError(f"a wrong answer: {got!r}")


async def run(url: str, ready: Mapping[str, Any]) -> None:
    """Call before and after; the parent says when the server is back."""
    world = await open_world(url, ready, 30)
    await use(world, "service")
    await use(world, "manager")
    tell("before")
    await order(300)
    for what in ("service", "manager", "fetched"):
        await until_it_works(world, what)
    await world.close()
    tell("done")


def main() -> None:
    """Entry point."""
    asyncio.run(run(sys.argv[1], json.loads(sys.argv[2])))


if __name__ == "__main__":
    main()
