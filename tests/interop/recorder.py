"""A TCP proxy that passes WebSocket connections on unchanged and keeps what they carried.

It changes one thing: the offer of compression is taken out of the upgrade request, so that frames can be read.
Knows WebSocket framing and the two msgpack segments of a frame (protocol 2.1), nothing else.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import msgpack

UP, DOWN = "up", "down"
TEXT, BINARY = 1, 2
_CONTINUATION = 0
_FIRST_CONTROL = 8
_READ = 65536
_START_S = 10.0


@dataclass
class Message:
    """One message: ``direction`` is ``up`` from client to server."""

    direction: str
    opcode: int
    payload: bytes

    def text(self) -> dict[str, Any]:
        """A text message's JSON object."""
        value: dict[str, Any] = json.loads(self.payload)
        return value

    def segments(self) -> list[dict[str, Any]]:
        """A binary message's one or two maps."""
        unpacker = msgpack.Unpacker(strict_map_key=False, max_buffer_size=0)
        unpacker.feed(self.payload)
        return list(unpacker)


@dataclass
class Connection:
    """What one connection has carried so far, in the order of arrival."""

    messages: list[Message] = field(default_factory=list)

    def texts(self, direction: str) -> list[dict[str, Any]]:
        """The text messages of one direction."""
        return [item.text() for item in self._of(direction, TEXT)]

    def frames(self, direction: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Header and payload of the binary messages of one direction."""
        segments = [item.segments() for item in self._of(direction, BINARY)]
        return [(item[0], item[1] if len(item) > 1 else {}) for item in segments]

    def _of(self, direction: str, opcode: int) -> Iterator[Message]:
        return (item for item in list(self.messages) if (item.direction, item.opcode) == (direction, opcode))


class FrameReader:
    """Takes WebSocket frames out of one direction of a byte stream (RFC 6455 section 5.2)."""

    def __init__(self, direction: str, connection: Connection) -> None:
        self._direction = direction
        self._connection = connection
        self._buffer = bytearray()
        self._opcode = 0
        self._parts = bytearray()

    def feed(self, data: bytes) -> None:
        """Add bytes; complete messages go to the connection."""
        self._buffer += data
        while self._take_frame():
            pass

    def _take_frame(self) -> bool:
        buffer = self._buffer
        if len(buffer) < 2:
            return False
        short, masked, position = buffer[1] & 0x7F, buffer[1] & 0x80, 2
        extra = {126: 2, 127: 8}.get(short, 0)
        if len(buffer) < position + extra + (4 if masked else 0):
            return False
        length = int.from_bytes(buffer[position : position + extra]) if extra else short
        position += extra
        mask = bytes(buffer[position : position + 4]) if masked else b""
        position += len(mask)
        if len(buffer) < position + length:
            return False
        payload = unmask(bytes(buffer[position : position + length]), mask)
        first = buffer[0]
        del buffer[: position + length]
        self._accept(first & 0x0F, payload, final=bool(first & 0x80))
        return True

    def _accept(self, opcode: int, payload: bytes, *, final: bool) -> None:
        if opcode >= _FIRST_CONTROL:
            return
        if opcode != _CONTINUATION:
            self._opcode = opcode
        self._parts += payload
        if final:
            self._connection.messages.append(Message(self._direction, self._opcode, bytes(self._parts)))
            self._parts.clear()


def unmask(payload: bytes, mask: bytes) -> bytes:
    """Undo a client's masking; one big XOR, because a loop over megabytes takes seconds."""
    if not mask:
        return payload
    key = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(len(payload))


def without_extensions(head: bytes) -> bytes:
    """The upgrade request without the offer of compression."""
    lines = head.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.lower().startswith(b"sec-websocket-extensions:"))


class Recorder:
    """The proxy, on a thread of its own. Use it in a ``with`` block.

    Args:
        port: Where the server listens on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self.connections: list[Connection] = []
        self.url = ""
        self._target = port
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._main, name="recorder", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._started.wait(_START_S):
            raise TimeoutError("the recorder did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_START_S)

    def of_client(self, client_id: str) -> Connection:
        """The newest connection that authenticated with this client id.

        Raises:
            LookupError: There is none.
        """
        for connection in reversed(self.connections):
            first = connection.texts(UP)[:1]
            if first and first[0].get("client_id") == client_id:
                return connection
        raise LookupError(f"{client_id} has not connected through the recorder")

    def _main(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            await self._join(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            # a peer that goes away ends its connection; the test sees it in the other process
            return
        except asyncio.CancelledError:
            # the recorder is closing: a cancelled connection callback would be reported by asyncio
            return
        finally:
            writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        connection = Connection()
        try:
            far_writer.write(without_extensions(await reader.readuntil(b"\r\n\r\n")))
            writer.write(await far_reader.readuntil(b"\r\n\r\n"))
            self.connections.append(connection)
            async with asyncio.TaskGroup() as group:
                group.create_task(pump(reader, far_writer, FrameReader(UP, connection)))
                group.create_task(pump(far_reader, writer, FrameReader(DOWN, connection)))
        except ExceptionGroup as errors:
            raise OSError(f"the connection broke: {errors.exceptions[0]!r}") from errors
        finally:
            far_writer.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, frames: FrameReader) -> None:
    """Copy one direction until its end."""
    while data := await reader.read(_READ):
        writer.write(data)
        await writer.drain()
        frames.feed(data)
    if writer.can_write_eof():
        writer.write_eof()
