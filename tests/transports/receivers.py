"""A receiver that writes down what it gets, and other things that the transport tests share."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Mapping
from typing import Any

from hypha_rpc.transports import Closed, Credentials, OpenOptions

CREDENTIALS = Credentials(client_id="client-1", workspace="ws-1", token="secret-token", life="life-1")


class Recorder:
    """Keeps copies of everything, and lets a test wait for it."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.controls: list[dict[str, Any]] = []
        self.events: list[Any] = []
        self.closed: list[Closed] = []
        self.drained = 0
        self._changed = asyncio.Event()

    def on_frame(self, data: Any) -> None:
        self.frames.append(bytes(data))
        self.events.append(self.frames[-1])
        self._changed.set()

    def on_control(self, message: Mapping[str, Any]) -> None:
        self.controls.append(dict(message))
        self.events.append(self.controls[-1])
        self._changed.set()

    def on_writable(self) -> None:
        self.drained += 1
        self._changed.set()

    def on_closed(self, closed: Closed) -> None:
        self.closed.append(closed)
        self.events.append(closed)
        self._changed.set()

    async def until(self, condition: Callable[[], object], timeout_s: float = 10.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_frames(self, count: int, timeout_s: float = 10.0) -> None:
        await self.until(lambda: len(self.frames) >= count, timeout_s)

    async def until_closed(self, timeout_s: float = 10.0) -> Closed:
        await self.until(lambda: self.closed, timeout_s)
        return self.closed[0]


class Failing(Recorder):
    """Raises in every method, after writing down."""

    def on_frame(self, data: Any) -> None:
        super().on_frame(data)
        raise LookupError("on_frame failed")

    def on_control(self, message: Mapping[str, Any]) -> None:
        super().on_control(message)
        raise LookupError("on_control failed")

    def on_closed(self, closed: Closed) -> None:
        super().on_closed(closed)
        raise LookupError("on_closed failed")


def options(url: str, **changes: Any) -> OpenOptions:
    return OpenOptions(url, **{"timeout_s": 10.0, **changes})


def count_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


async def settle() -> None:
    """Let callbacks that are due run, and collect what nobody holds."""
    for _ in range(10):
        await asyncio.sleep(0)
    gc.collect()
