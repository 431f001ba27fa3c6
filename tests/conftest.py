"""What all tests share: waiting for a condition instead of sleeping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

Eventually = Callable[..., Awaitable[None]]


async def _eventually(condition: Callable[[], object], *, timeout_s: float = 5.0, what: str = "the condition") -> None:
    """Return as soon as *condition* is true; fail after *timeout_s*.

    For states that announce themselves by nothing one could await. Where there is
    an event or a future, await that.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come true within {timeout_s} s")
        await asyncio.sleep(0.005)


@pytest.fixture
def eventually() -> Eventually:
    """``await eventually(lambda: table.empty, what="an empty table")``."""
    return _eventually
