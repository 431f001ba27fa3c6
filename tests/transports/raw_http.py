"""The scripted peer of `raw_server`, spoken to over HTTP: a stream down, POSTs up (protocol §7)."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgpack

from hypha_rpc.wire.lengths import LengthReader, read_control, with_length

from .raw_server import BINARY, CLOSE, TEXT, Peer

CONTROLS = frozenset({"ping", "refresh_token", "close"})
MAX_FRAME = 64 * 1024 * 1024


class HttpPeer(Peer):
    """The server's side of one stream and of the POSTs that belong to it.

    A POST is read and answered only when the script asks for a message, as a socket is read.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str) -> None:
        super().__init__(reader, writer)
        self._head = head
        self._messages: deque[tuple[int, bytes]] = deque()
        self._posts: asyncio.Queue[Post | None] = asyncio.Queue()
        self.answers: deque[int | None] = deque()
        self.post_heads: list[dict[str, str]] = []
        self.post_sizes: list[int] = []

    async def request(self) -> None:
        self.path, self.headers = parse_head(self._head)
        query = dict(parse_qsl(urlsplit(self.path).query))
        kind, _, token = self.headers.get("authorization", "").partition(" ")
        self.credentials = {
            "client_id": query.get("client_id"),
            "workspace": query.get("workspace"),
            "token": token if kind == "Bearer" else None,
            "reconnection_token": query.get("reconnection_token"),
            "x": int(self.headers.get("x-hypha-level", "0")),
            "life": self.headers.get("x-hypha-life"),
        }
        self._messages.append((TEXT, json.dumps(self.credentials).encode()))

    def answer(self, *extra: str) -> bytes:
        lines = ["HTTP/1.1 200 OK", "Content-Type: application/x-msgpack-stream", "Connection: close", *extra]
        return "\r\n".join([*lines, "", ""]).encode()

    def send(self, payload: bytes, opcode: int = BINARY) -> None:
        if opcode == TEXT:
            self.text(json.loads(payload))
        elif opcode == CLOSE:
            self.close(int.from_bytes(payload[:2], "big"), payload[2:].decode())
        else:
            self.write(with_length((payload,)))

    def text(self, message: object) -> None:
        self.write(with_length((msgpack.packb(message),)))

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.text({"type": "close", "code": code, "reason": reason})

    async def receive(self) -> tuple[int, bytes]:
        while not self._messages:
            post = await self._posts.get()
            if post is None:
                raise ConnectionResetError
            await self._take(post)
        return self._messages.popleft()

    async def _take(self, post: Post) -> None:
        """Read one POST and answer it, with the status that the script has set for it."""
        body = await post.reader.readexactly(int(post.headers["content-length"]))
        status = self.answers.popleft() if self.answers else 200
        self.post_heads.append(post.headers)
        self.post_sizes.append(len(body))
        if status == 200:
            framed = post.headers["content-type"] == "application/x-msgpack-stream"
            for payload in LengthReader(MAX_FRAME).feed(body) if framed else (body,):
                self._messages.append(as_message(bytes(payload)))
        if status is None:
            post.writer.transport.abort()
        else:
            post.writer.write(f"HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\n\r\n".encode())
            post.answered.set()

    def posted(self, post: Post | None) -> None:
        """A POST begins, or, with None, the client has ended the stream."""
        self._posts.put_nowait(post)


class Post:
    """One POST that was not read yet."""

    def __init__(self, headers: dict[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.headers = headers
        self.reader = reader
        self.writer = writer
        self.answered = asyncio.Event()


def as_message(payload: bytes) -> tuple[int, bytes]:
    """A payload as the script of a socket would see it."""
    control: dict[str, Any] | None = read_control(payload, CONTROLS)
    if control is None:
        return BINARY, payload
    if control["type"] == "close":
        return CLOSE, control["code"].to_bytes(2, "big") + control["reason"].encode()
    return TEXT, json.dumps(control).encode()


def parse_head(head: str) -> tuple[str, dict[str, str]]:
    """Path and headers of a request."""
    lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines[1:] if line)}
    return lines[0].split(" ")[1], headers


async def serve_http(server: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one TCP connection: the stream of a new peer, or POSTs to the peer they name."""
    while head := await read_head(reader):
        if head.startswith("GET "):
            peer = HttpPeer(reader, writer, head)
            watcher = asyncio.get_running_loop().create_task(tell_the_end(peer))
            try:
                await server.run(peer)
            finally:
                watcher.cancel()
            return
        _, headers = parse_head(head)
        post = Post(headers, reader, writer)
        peer = next(p for p in server.peers if p.headers.get("x-hypha-stream") == headers["x-hypha-stream"])
        peer.posted(post)
        await post.answered.wait()


async def tell_the_end(peer: HttpPeer) -> None:
    """A client ends its stream by hanging up."""
    with suppress(ConnectionError):
        await peer.reader.read()
    peer.posted(None)


async def read_head(reader: asyncio.StreamReader) -> str:
    try:
        return (await reader.readuntil(b"\r\n\r\n")).decode()
    except (asyncio.IncompleteReadError, ConnectionError):
        return ""
