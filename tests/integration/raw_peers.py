"""Peers that speak the wire by hand: what a client library would never send, or never notice.

`RawPeer` speaks proper WebSocket and any frames; `RawSocket` speaks bytes.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgpack
import websockets
from websockets.asyncio.client import ClientConnection

WAIT_S = 5.0
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def pack(header: Mapping[str, Any], extra: Mapping[str, Any] | None = None) -> bytes:
    """A frame of one or two segments."""
    return msgpack.packb(dict(header)) + (b"" if extra is None else msgpack.packb(dict(extra)))


def unpack(frame: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The segments of a frame."""
    unpacker = msgpack.Unpacker()
    unpacker.feed(frame)
    segments = list(unpacker)
    return segments[0], segments[1] if len(segments) > 1 else {}


class Rejected(Exception):
    """A call was answered by a reject."""


class RawPeer:
    """A WebSocket client under the test's control.

    It answers the server's question whether it is alive, as every peer does, unless `deaf`.
    """

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.info: dict[str, Any] = {}
        self.deaf = False
        self.garbage = 0
        self.texts: asyncio.Queue[Any] = asyncio.Queue()
        self.frames: asyncio.Queue[tuple[dict[str, Any], dict[str, Any]]] = asyncio.Queue()
        self._calls: dict[str, asyncio.Future[Any]] = {}
        self._reader = asyncio.create_task(self._read())

    @property
    def address(self) -> str:
        return f"{self.info['workspace']}/{self.info['client_id']}"

    @property
    def manager(self) -> str:
        return f"*/{self.info['manager_id']}"

    async def _read(self) -> None:
        try:
            async for message in self.ws:
                if isinstance(message, str):
                    self.texts.put_nowait(json.loads(message))
                    continue
                try:
                    header, extra = unpack(message)
                except ValueError:
                    # A level-1 receiver checks payloads itself.
                    self.garbage += 1
                else:
                    await self._take(header, extra)
        except websockets.ConnectionClosed:
            return

    async def _take(self, header: dict[str, Any], extra: dict[str, Any]) -> None:
        method = str(header.get("method", ""))
        session, _, verb = method.rpartition(".")
        waiting = self._calls.pop(session, None)
        if waiting is not None and not waiting.done():
            value = (extra.get("args") or [None])[0]
            if verb == "resolve":
                waiting.set_result(value)
            else:
                waiting.set_exception(Rejected(value["_rvalue"]))
        elif method == "services.built-in.ping" and not self.deaf:
            await self.send(
                {"type": "method", "to": header["from"], "method": f"{header['session']}.resolve"}, {"args": ["pong"]}
            )
        else:
            self.frames.put_nowait((header, extra))

    async def hello(self, client_id: str, **members: Any) -> dict[str, Any]:
        """Authenticate and be let in."""
        await self.ws.send(json.dumps({"client_id": client_id, **members}))
        self.info = await self.text()
        assert self.info["type"] == "connection_info", self.info
        return self.info

    async def text(self) -> Any:
        """The next text frame."""
        return await asyncio.wait_for(self.texts.get(), WAIT_S)

    async def frame(self, timeout_s: float = WAIT_S) -> tuple[dict[str, Any], dict[str, Any]]:
        """The next binary frame."""
        return await asyncio.wait_for(self.frames.get(), timeout_s)

    async def closed(self, timeout_s: float = WAIT_S) -> tuple[int | None, str]:
        """Code and reason of the close frame that came; (1006, "") when there was none."""
        await asyncio.wait_for(self.ws.wait_closed(), timeout_s)
        await asyncio.wait([self._reader], timeout=1)
        return self.ws.close_code, self.ws.close_reason or ""

    async def refused(self) -> tuple[str, int | None, str]:
        """Text of the error frame, code and reason of the close."""
        error = await self.text()
        assert error["type"] == "error", error
        code, reason = await self.closed()
        return error["message"], code, reason

    async def send(self, header: Mapping[str, Any], extra: Mapping[str, Any] | None = None) -> None:
        """Send a frame."""
        await self.ws.send(pack(header, extra))

    async def call(
        self, to: str, method: str, *args: Any, extra: Mapping[str, Any] | None = None, timeout_s: float = WAIT_S
    ) -> Any:
        """Call, and wait for the answer; *extra* goes into segment 2 as it is."""
        return await asyncio.wait_for(await self.start_call(to, method, *args, extra=extra), timeout_s)

    async def start_call(
        self, to: str, method: str, *args: Any, extra: Mapping[str, Any] | None = None
    ) -> asyncio.Future[Any]:
        """Call; the answer comes in the future."""
        session = os.urandom(12).hex()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls[session] = future
        header = {"type": "method", "from": self.address, "to": to, "method": method, "session": session}
        await self.send(header, {"args": list(args), "promise": "*", "t": 30, **(extra or {})})
        return future

    async def register(self, *services: str, visibility: str = "public") -> None:
        """Exist, and register services without members."""
        for name in ("built-in", *services):
            record = {
                "id": f"{self.info['client_id']}:{name}",
                "type": "built-in" if name == "built-in" else "generic",
                "config": {"visibility": visibility},
                "service_schema": {},
            }
            await self.call(self.manager, "services.default.register_service", record)

    async def subscribe(self, *events: str) -> None:
        """Want events."""
        await self.call(self.manager, "services.default.subscribe", list(events))

    async def alive(self) -> bool:
        """Whether the server still answers this peer."""
        await self.ws.send('{"type": "ping"}')
        while (await self.text()) != {"type": "pong"}:
            pass
        return True

    def cut(self) -> None:
        """Drop the socket without a close frame."""
        self.ws.transport.abort()

    async def end(self) -> None:
        """Close properly."""
        await self.ws.close()
        await asyncio.wait([self._reader], timeout=WAIT_S)


@asynccontextmanager
async def peer_at(ws_url: str, client_id: str | None = None, **members: Any) -> AsyncIterator[RawPeer]:
    """A raw peer; let in already if it has a client id."""
    async with websockets.connect(
        ws_url, compression=None, max_size=None, open_timeout=WAIT_S, close_timeout=2, proxy=None, ping_interval=None
    ) as ws:
        peer = RawPeer(ws)
        try:
            if client_id is not None:
                await peer.hello(client_id, **members)
            yield peer
        finally:
            await peer.end()


class RawSocket:
    """A WebSocket client made of bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def upgrade(self, path: str = "/ws") -> int:
        """Ask for the upgrade; the HTTP status."""
        key = base64.b64encode(os.urandom(16)).decode()
        self.writer.write(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), WAIT_S)
        return int(head.split(b" ")[1])

    def send(self, opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> None:
        """Send one WebSocket frame."""
        self.writer.write(self.frame(opcode, payload, fin=fin, rsv=rsv, masked=masked))

    @staticmethod
    def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
        """One WebSocket frame; the mask is zero."""
        head = bytes([(0x80 if fin else 0) | rsv | opcode])
        bit, size = (0x80 if masked else 0), len(payload)
        if size < 126:
            head += bytes([bit | size])
        elif size < 65536:
            head += bytes([bit | 126]) + struct.pack("!H", size)
        else:
            head += bytes([bit | 127]) + struct.pack("!Q", size)
        return head + (bytes(4) if masked else b"") + payload

    async def receive(self) -> tuple[int, bytes]:
        """The next WebSocket frame; (-1, b"") at the end of the stream."""
        try:
            async with asyncio.timeout(WAIT_S):
                first, second = await self.reader.readexactly(2)
                size = second & 0x7F
                if size == 126:
                    (size,) = struct.unpack("!H", await self.reader.readexactly(2))
                elif size == 127:
                    (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
                return first & 0x0F, await self.reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return -1, b""

    async def hello(self, client_id: str, **members: Any) -> dict[str, Any]:
        """Authenticate and be let in."""
        self.send(TEXT, json.dumps({"client_id": client_id, **members}).encode())
        _, payload = await self.receive()
        info: dict[str, Any] = json.loads(payload)
        assert info["type"] == "connection_info", info
        return info

    async def close_code(self) -> int:
        """Read on to the close frame; its code, or 1006 when the stream ends without one."""
        while True:
            opcode, payload = await self.receive()
            if opcode == CLOSE:
                return struct.unpack("!H", payload[:2])[0] if payload else 1005
            if opcode == -1:
                return 1006


@asynccontextmanager
async def socket_at(url: str) -> AsyncIterator[RawSocket]:
    """A TCP connection to a server's door."""
    host, _, port = url.rpartition("//")[2].partition("/")[0].rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    try:
        yield RawSocket(reader, writer)
    finally:
        writer.transport.abort()
