"""The SDK inside Pyodide under Node (browser.md §3.1, the rows for Node)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from hypha_rpc import connect_to_server
from hypha_rpc.errors import RemoteException
from tests.interop.servers import Server
from tests.transports.raw_server import CLOSE, INFO, Peer, frame, raw_server

from .conftest import Run

pytestmark = [pytest.mark.pyodide, pytest.mark.timeout(400)]


async def _echo(peer: Peer) -> None:
    await peer.welcome()
    while True:
        opcode, payload = await peer.receive()
        if opcode == CLOSE:
            return peer.write(frame(CLOSE, payload))
        peer.send(payload, opcode)
        await peer.writer.drain()


async def _early(peer: Peer) -> None:
    await peer.accept()
    peer.send(b"before")
    peer.text(INFO)
    peer.send(b"after")
    peer.close(1001, "done")
    await peer.until_closed()


async def _refusing(peer: Peer) -> None:
    await peer.accept()
    peer.text({"type": "error", "message": "Authentication error: The token has expired"})
    peer.close(1008)
    await peer.until_closed()


async def _silent(peer: Peer) -> None:
    await peer.accept()
    await peer.until_closed()


async def test_the_transport_keeps_its_contract_in_pyodide(run_in_pyodide: Run) -> None:
    scripts = {"echo": _echo, "early": _early, "refusing": _refusing, "silent": _silent}
    async with AsyncExitStack() as stack:
        reserved = stack.enter_context(socket.socket())
        reserved.bind(("127.0.0.1", 0))
        urls = {"nobody": f"http://127.0.0.1:{reserved.getsockname()[1]}"}
        for name, script in scripts.items():
            urls[name] = (await stack.enter_async_context(raw_server(script))).url
        result = await run_in_pyodide("transport", urls)
    assert result.pop("mb_per_s") > 1
    assert result.pop("nothing listens")[0] == "Unavailable"
    assert result.pop("silent")[0] == "OpenTimeout"
    assert result == {
        "frames": True,
        "order": True,
        "early": True,
        "refused": ["Refused", "Authentication error: The token has expired"],
        "left": 0,
    }


class CPythonPeer:
    """A service of CPython with the same functions as the one in Pyodide, and one that calls those."""

    def __init__(self, server: Any) -> None:
        self.server = server

    async def register(self) -> str:
        service = {
            "id": "cpython",
            "config": {"visibility": "public"},
            "echo": lambda value: value,
            "count_to": self.count_to,
            "call_back": self.call_back,
            "fail": self.fail,
            "keywords": lambda first, second="default": [first, second],
            "use": self.use,
        }
        info = await self.server.register_service(service)
        return str(info["id"])

    async def count_to(self, limit: int) -> AsyncIterator[int]:
        for number in range(limit):
            yield number

    async def call_back(self, callback: Any) -> list[int]:
        return [await callback(number) for number in range(3)]

    def fail(self, text: str) -> None:
        raise ValueError(text)

    async def use(self, service_id: str) -> dict[str, Any]:
        """Call everything of the service in Pyodide."""
        page = await self.server.get_service(service_id)
        heard: list[int] = []
        result = {
            "echo": await page.echo({"none": None, "list": [1, "zwei"]}) == {"none": None, "list": [1, "zwei"]},
            "bytes": bytes(await page.echo(b"\x00\xff")) == b"\x00\xff",
            "large": len(await page.echo(bytes(2_000_000))),
            "keywords": await page.keywords(1, second=2),
            "generator": [item async for item in await page.count_to(5)],
            "callback": await page.call_back(lambda number: heard.append(number) or number * 10),
            "heard": heard,
        }
        try:
            await page.fail("from Pyodide")
        except RemoteException as error:
            result["error"] = "ValueError: from Pyodide" in str(error)
        return result


EXPECTED = {
    "echo": True,
    "bytes": True,
    "large": 2_000_000,
    "keywords": [1, 2],
    "generator": [0, 1, 2, 3, 4],
    "callback": [0, 10, 20],
    "heard": [0, 1, 2],
    "error": True,
}


async def test_services_are_called_both_ways(run_in_pyodide: Run, tmp_path: Path) -> None:
    server = Server("ours", tmp_path)
    await asyncio.to_thread(server.start)
    try:
        async with connect_to_server({"server_url": server.url, "client_id": "in-cpython"}) as connection:
            peer = await CPythonPeer(connection).register()
            result = await run_in_pyodide("client", {"url": server.url, "peer": peer})
    finally:
        await asyncio.to_thread(server.stop)
    assert result["served"] == EXPECTED
    assert result["calls"] == EXPECTED | {"together": True}
