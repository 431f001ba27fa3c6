"""A server in the loop of the test, clients over HTTP, and proxies in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from hypha.testing import RunningServer, run_server
from hypha_rpc import connect_to_server


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with run_server() as running:
        yield running


@dataclass
class Pair:
    """Two clients of one workspace."""

    provider: Any
    consumer: Any
    token: str


@pytest.fixture(params=["http-http", "http-websocket", "websocket-http"])
async def pair(server: RunningServer, request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    """A provider and a consumer, at least one of them over HTTP."""
    first, second = str(request.param).split("-")
    async with connect_to_server(server_url=server.url, client_id="provider", transport=first) as provider:
        token = await provider.generate_token()
        options = {"server_url": server.url, "token": token, "client_id": "consumer", "transport": second}
        async with connect_to_server(options) as consumer:
            yield Pair(provider, consumer, token)


Allow = Callable[[str], bytes | None]


def nothing_special(head: str) -> bytes | None:
    """Let every request through."""
    return None


@dataclass
class Proxy:
    """A reverse proxy that looks at the head of every request before it lets it through.

    Attributes:
        port: of the server behind it.
        lose_answers: how many POSTs reach the server without their answers reaching the client.
        answer: what it says itself to a request, by its head; None lets it through, empty bytes swallow it.
        heads: of all requests.
    """

    port: int
    answer: Allow = nothing_special
    url: str = ""
    lose_answers: int = 0
    heads: list[str] = field(default_factory=list)
    links: set[asyncio.StreamWriter] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.links.add(writer)
        far: asyncio.StreamWriter | None = None
        back: asyncio.Task[None] | None = None
        try:
            while head := await read_head(reader):
                self.heads.append(head)
                said = self.answer(head)
                if said is not None:
                    writer.write(said)
                    if not said:
                        await reader.read()
                    return
                if self.lose_answers and head.startswith("POST"):
                    self.lose_answers -= 1
                    await self._lose(head, reader)
                    writer.transport.abort()
                    return
                if far is None:
                    far_reader, far = await asyncio.open_connection("127.0.0.1", self.port)
                    back = asyncio.get_running_loop().create_task(pump(far_reader, writer))
                far.write(head.encode("latin-1"))
                await self._body(head, reader, far)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            self.links.discard(writer)
            for end in (writer, far):
                if end is not None:
                    end.close()
            if back is not None:
                back.cancel()

    async def _lose(self, head: str, reader: asyncio.StreamReader) -> None:
        """Have the server answer a POST, and keep the answer."""
        far_reader, far = await asyncio.open_connection("127.0.0.1", self.port)
        far.write(head.encode("latin-1"))
        await self._body(head, reader, far)
        assert (await read_head(far_reader)).startswith("HTTP/1.1 200")
        far.close()

    @staticmethod
    async def _body(head: str, reader: asyncio.StreamReader, far: asyncio.StreamWriter) -> None:
        if "upgrade: websocket" in head.lower():
            await pump(reader, far)
            return
        size = next((int(line[15:]) for line in head.lower().split("\r\n") if line.startswith("content-length:")), 0)
        if size:
            far.write(await reader.readexactly(size))
            await far.drain()

    def cut(self) -> None:
        """Break every connection."""
        for writer in list(self.links):
            writer.transport.abort()


async def read_head(reader: asyncio.StreamReader) -> str:
    try:
        return (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, ConnectionError):
        return ""


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    except ConnectionError:
        return
    finally:
        sink.close()


@asynccontextmanager
async def run_proxy(port: int, answer: Allow = nothing_special) -> AsyncIterator[Proxy]:
    """Run a proxy in front of the server at *port*."""
    proxy = Proxy(port, answer)
    listening = await asyncio.start_server(proxy.connected, "127.0.0.1", 0, limit=1 << 20)
    proxy.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        listening.close()
        proxy.cut()
        for task in list(proxy.tasks):
            task.cancel()
        await asyncio.gather(*proxy.tasks, return_exceptions=True)
        await listening.wait_closed()


def block_upgrades(said: bytes) -> Allow:
    """Answer every WebSocket upgrade with *said*."""

    def answer(head: str) -> bytes | None:
        return said if "upgrade: websocket" in head.lower() else None

    return answer
