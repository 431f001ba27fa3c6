"""A server made by hand, one scripted peer a connection, that can break every rule on purpose.

It speaks WebSocket here, and HTTP with `raw_http`, to the same scripts.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
INFO = {"type": "connection_info", "workspace": "ws-1", "manager_id": "manager-1", "x": 1}

#: ``websocket`` or ``http``.
OVER = "websocket"

Script = Callable[["Peer"], Awaitable[None]]


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """A server's frame, unmasked."""
    head = bytes([(0x80 if fin else 0) | rsv | opcode])
    size = len(payload)
    if size < 126:
        head += bytes([size])
    elif size < 65536:
        head += b"\x7e" + struct.pack("!H", size)
    else:
        head += b"\x7f" + struct.pack("!Q", size)
    return head + payload


def unmask(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(payload, "little") ^ key).to_bytes(size, "little")


class Peer:
    """The server's side of one connection, as seen by a script."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.headers: dict[str, str] = {}
        self.path = ""
        self.credentials: dict[str, Any] = {}

    async def request(self) -> None:
        """Read the upgrade request."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.path = head[0].split(" ")[1]
        self.headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in head[1:] if line)}

    def answer(self, *extra: str) -> bytes:
        """The bytes that accept the upgrade."""
        key = base64.b64encode(hashlib.sha1(self.headers["sec-websocket-key"].encode() + GUID).digest()).decode()
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        return "\r\n".join([*lines, f"Sec-WebSocket-Accept: {key}", *extra, "", ""]).encode()

    async def accept(self) -> None:
        """Upgrade and read the credentials."""
        await self.request()
        self.write(self.answer())
        opcode, payload = await self.receive()
        assert opcode == TEXT
        self.credentials = json.loads(payload)

    async def welcome(self) -> None:
        """Everything up to an open connection."""
        await self.accept()
        self.text(INFO)

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    def send(self, payload: bytes, opcode: int = BINARY) -> None:
        self.write(frame(opcode, payload))

    def text(self, message: object) -> None:
        self.write(frame(TEXT, json.dumps(message).encode()))

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.write(frame(CLOSE, struct.pack("!H", code) + reason.encode()))

    async def receive(self) -> tuple[int, bytes]:
        """One frame of the client, which must be masked."""
        head = await self.reader.readexactly(2)
        assert head[1] & 0x80, "clients mask"
        assert not head[0] & 0x70, "no extension was agreed on"
        size = head[1] & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
        mask = await self.reader.readexactly(4)
        return head[0] & 0x0F, unmask(await self.reader.readexactly(size), mask)

    async def until_closed(self) -> tuple[int, str] | None:
        """Read on; the code and reason of the client's close frame, None if it just hangs up."""
        while True:
            try:
                opcode, payload = await self.receive()
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
            if opcode == CLOSE:
                return struct.unpack("!H", payload[:2])[0], payload[2:].decode()

    async def finish(self) -> None:
        """Answer the client's close as a good server does."""
        said = await self.until_closed()
        if said is not None:
            self.close(said[0])

    async def welcome_and_finish(self) -> None:
        """The script of a server that does nothing wrong, and nothing else."""
        await self.welcome()
        await self.finish()

    def cut(self) -> None:
        self.writer.transport.abort()


class RawServer:
    """Runs a script for every connection; an error in a script fails the test."""

    def __init__(self, script: Script, scheme: str, over: str) -> None:
        self.script = script
        self.scheme = scheme
        self.over = over
        self.port = 0
        self.peers: list[Peer] = []
        self.errors: list[BaseException] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.over != "http":
            return await self.run(Peer(reader, writer))
        from .raw_http import serve_http

        try:
            return await serve_http(self, reader, writer)
        finally:
            writer.close()

    async def run(self, peer: Peer) -> None:
        """Run the script for *peer*."""
        self.peers.append(peer)
        try:
            await self.script(peer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client is free to go
        except Exception as error:  # noqa: BLE001 - whatever it is, the test fails with it
            self.errors.append(error)
        finally:
            peer.writer.close()

    async def stop(self) -> None:
        for peer in self.peers:
            peer.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def raw_server(script: Script, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    """Serve *script* on a free port, over what the fixture ``over`` chose."""
    server = RawServer(script, "https" if tls else "http", OVER)
    listening = await asyncio.start_server(server.connected, "127.0.0.1", 0, ssl=tls, limit=1 << 20)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        await server.stop()
        await listening.wait_closed()
    assert not server.errors, server.errors


@asynccontextmanager
async def connect_proxy(*, status: int = 200) -> AsyncIterator[tuple[str, list[str]]]:
    """An HTTP proxy that takes every tunnel to this machine, whatever host is asked for."""
    asked: list[str] = []
    tasks: set[asyncio.Task[None]] = set()

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            pass
        finally:
            sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.append(head)
        if status != 200:
            writer.write(f"HTTP/1.1 {status} No\r\n\r\n".encode())
            writer.close()
            return
        port = int(head.split(" ")[1].rsplit(":", 1)[1])
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listening = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    try:
        yield f"http://user:secret@127.0.0.1:{port}", asked
    finally:
        listening.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listening.wait_closed()
