"""The calling side: runs checks against a provider and reports one line for each.

Run as ``python -m programs.consumer SERVER_URL READY_JSON [CHECK ...]``; the environment
variable ``INTEROP_TRANSPORT`` names the transport of all its connections.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hypha_rpc
from hypha_rpc import connect_to_server

from .checks import CHECKS
from .report import tell
from .world import CHECK_TIMEOUT_S, World

TRANSPORT = os.environ.get("INTEROP_TRANSPORT", "websocket")
HERE = str(Path(__file__).resolve().parent)


def describe(error: Exception) -> str:
    """The error and the lines of these programs that led to it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(HERE)]
    return "".join([*traceback.format_list(frames), *traceback.format_exception_only(error)])


async def run_check(world: World, name: str) -> None:
    """Run one check and report how it went."""
    begin = time.monotonic()
    error = ""
    try:
        await asyncio.wait_for(CHECKS[name](world), CHECK_TIMEOUT_S)
    except Exception as problem:  # noqa: BLE001 - supervision: whatever a check raises is its result
        error = describe(problem)
    tell("check", name=name, error=error, seconds=round(time.monotonic() - begin, 3))


async def connect(config: Mapping[str, Any]) -> Any:
    """Connect over the chosen transport."""
    return await connect_to_server({**config, "transport": TRANSPORT})


async def open_world(url: str, ready: Mapping[str, Any], method_timeout: float) -> World:
    """Connect by token and fetch the provider's main service."""
    server = await connect(
        {
            "server_url": url,
            "workspace": ready["workspace"],
            "token": ready["token"],
            "method_timeout": method_timeout,
        }
    )
    world = World(connect=connect, url=url, ready=ready, server=server)
    world.service = await server.get_service(f"{world.workspace}/{world.provider}:interop")
    return world


async def run(url: str, ready: Mapping[str, Any], names: Sequence[str]) -> None:
    """Run these checks, one after the other."""
    tell("client", version=str(hypha_rpc.__version__), path=str(hypha_rpc.__file__))
    # the silent call has to outlast several of the caller's time limits
    world = await open_world(url, ready, 10 if "a_silent_long_call_is_kept_alive" in names else 30)
    tell("connected")
    for name in names:
        await run_check(world, name)
    await world.close()
    tell("done")


def main() -> None:
    """Entry point."""
    asyncio.run(run(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3:]))


if __name__ == "__main__":
    main()
