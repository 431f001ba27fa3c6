"""A TCP proxy that breaks on demand: refuse, reset, silence in one or both directions, throttle.

It runs on a thread of its own. Whoever lost bytes is reset when the network is
restored: TCP never delivers what comes after a gap.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

Direction = Literal["up", "down", "both"]

_PIECE = 64 * 1024
_RESET = struct.pack("ii", 1, 0)


class _Pair:
    """One connection through the proxy."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self.writers = (near, far)
        self.lost = False

    def reset(self) -> None:
        """End both sides by RST."""
        for writer in self.writers:
            sock = writer.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


class Proxy:
    """Forwards to a port of this machine.

    Args:
        server_port: where to.

    Attributes:
        port: where it listens; the same all its life.
        dials: when connections were opened (monotonic seconds).
    """

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self.dials: list[float] = []
        self._server_port = server_port
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent: dict[str, bool] = {"up": False, "down": False}
        self._rate: float | None = None
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._do(self._listen)

    @property
    def url(self) -> str:
        """The URL of the server through this proxy."""
        return f"http://127.0.0.1:{self.port}"

    # -- faults ------------------------------------------------------------------

    def refuse(self) -> None:
        """Reset everybody and listen no more."""
        self._do(self._stop_listening)
        self.reset()

    def reset(self) -> None:
        """End every connection by RST."""
        self._do(self._reset)

    def silence(self, direction: Direction) -> None:
        """Swallow what is sent ``up`` to the server, ``down`` from it, or both, also on new connections."""
        for name in ("up", "down"):
            self._silent[name] = direction in (name, "both")

    def throttle(self, bytes_per_second: float | None) -> None:
        """Forward no faster than this, in each direction of each connection."""
        self._rate = bytes_per_second

    def restore(self) -> None:
        """Be a good network again."""
        self._silent = {"up": False, "down": False}
        self._do(self._reset_the_lossy)
        if self._listener is None:
            self._do(self._listen)

    def close(self) -> None:
        """End everything."""
        self._do(self._stop_listening)
        self._do(self._reset)
        self._do(self._join)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # -- inside ------------------------------------------------------------------

    def _do(self, action: Callable[[], Any]) -> None:
        asyncio.run_coroutine_threadsafe(action(), self._loop).result(10)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    async def _reset(self) -> None:
        for pair in list(self._pairs):
            pair.reset()

    async def _reset_the_lossy(self) -> None:
        for pair in list(self._pairs):
            if pair.lost:
                pair.reset()

    async def _join(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.dials.append(time.monotonic())
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.transport.abort()
            return
        pair = _Pair(writer, far_writer)
        self._pairs.add(pair)
        pumps = [
            self._loop.create_task(self._pump(pair, reader, far_writer, "up")),
            self._loop.create_task(self._pump(pair, far_reader, writer, "down")),
        ]
        self._tasks.update(pumps)
        try:
            await asyncio.wait(pumps)
        finally:
            self._tasks.difference_update(pumps)
            self._pairs.discard(pair)
            for side in pair.writers:
                side.close()

    async def _pump(
        self, pair: _Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: str
    ) -> None:
        try:
            while data := await reader.read(_PIECE):
                if self._silent[direction]:
                    pair.lost = True
                    continue
                writer.write(data)
                await writer.drain()
                if self._rate is not None:
                    await asyncio.sleep(len(data) / self._rate)
            if not pair.lost and writer.can_write_eof():
                writer.write_eof()
        except OSError:
            pair.reset()
