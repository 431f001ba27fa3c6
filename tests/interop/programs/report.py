"""How a program tells its parent something: JSON lines with a prefix.

Anything else on standard output is log text: the public client writes its log there.
Knows nothing of ``hypha_rpc``.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

PREFIX = "@@interop "


def tell(event: str, **fields: Any) -> None:
    """Write one line for the parent.

    Args:
        event: What happened.
        **fields: Plain JSON values.
    """
    sys.stdout.write(f"\n{PREFIX}{json.dumps({'event': event, **fields})}\n")
    sys.stdout.flush()


async def order(timeout_s: float) -> str:
    """Wait for the next line the parent writes.

    Args:
        timeout_s: How long to wait.

    Returns:
        The line without its end, empty when the parent is gone.
    """
    loop = asyncio.get_running_loop()
    line: str = await asyncio.wait_for(loop.run_in_executor(None, sys.stdin.readline), timeout_s)
    return line.strip()
