"""How a benchmark program and its parent talk: JSON lines, those of the program with a prefix."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

PREFIX = "@@bench "
ORDER_S = 3600.0


def tell(event: str, **fields: Any) -> None:
    """Write one line for the parent; everything else on standard output is log text."""
    sys.stdout.write(f"\n{PREFIX}{json.dumps({'event': event, **fields})}\n")
    sys.stdout.flush()


async def order() -> dict[str, Any]:
    """The parent's next line; empty when the parent is gone."""
    loop = asyncio.get_running_loop()
    line = await asyncio.wait_for(loop.run_in_executor(None, sys.stdin.readline), ORDER_S)
    found: dict[str, Any] = json.loads(line) if line.strip() else {}
    return found
