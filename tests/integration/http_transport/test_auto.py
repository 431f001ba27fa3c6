"""``transport: "auto"``: WebSocket where it gets through, else HTTP (python-client §3.2)."""

from __future__ import annotations

import asyncio
import time

import pytest

from hypha.testing import RunningServer, free_port
from hypha_rpc import connect_to_server
from hypha_rpc.errors import ConnectionFailed
from hypha_rpc.transports import auto

from .conftest import block_upgrades, run_proxy

SAID = [
    b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno",
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
    b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
]


def kind(client) -> str:
    return type(client.rpc._link.transport).__name__


async def test_websocket_is_used_where_it_gets_through(server: RunningServer) -> None:
    async with connect_to_server(server_url=server.url, transport="auto") as client:
        assert kind(client) == "PicowsTransport"


@pytest.mark.parametrize("said", SAID, ids=["403", "404", "502", "200", "garbage"])
async def test_a_blocked_upgrade_falls_back_to_http(server: RunningServer, said: bytes) -> None:
    async with run_proxy(server.port, block_upgrades(said)) as proxy:
        async with connect_to_server(server_url=proxy.url, transport="auto") as client:
            assert kind(client) == "HttpPipe"
            assert await client.echo(1) == 1


async def test_a_swallowed_upgrade_falls_back_in_time(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "BLOCKED_S", 0.3)
    async with run_proxy(server.port, block_upgrades(b"")) as proxy:
        begun = time.monotonic()
        async with connect_to_server(server_url=proxy.url, transport="auto") as client:
            assert kind(client) == "HttpPipe"
            assert time.monotonic() - begun < 3


async def test_after_a_fallback_a_reconnection_tries_http_first(server: RunningServer) -> None:
    async with run_proxy(server.port, block_upgrades(SAID[0])) as proxy:
        async with connect_to_server(server_url=proxy.url, transport="auto") as client:
            proxy.cut()
            async with asyncio.timeout(10):
                while not client.rpc.stats()["reconnects"] or not client.rpc.outbox.open:
                    await asyncio.sleep(0.01)
            assert await client.echo(1) == 1
            assert kind(client) == "HttpPipe"
            assert sum("upgrade: websocket" in head.lower() for head in proxy.heads) == 1


async def test_wrong_credentials_fail_at_once_and_are_not_tried_again(server: RunningServer) -> None:
    async with run_proxy(server.port) as proxy:
        with pytest.raises(ConnectionAbortedError, match="Authentication error"):
            await connect_to_server(server_url=proxy.url, transport="auto", token="no-token")
        assert len(proxy.heads) == 1


async def test_wrong_credentials_are_told_over_the_fallback_as_well(server: RunningServer) -> None:
    async with run_proxy(server.port, block_upgrades(SAID[0])) as proxy:
        with pytest.raises(ConnectionAbortedError, match="Authentication error"):
            await connect_to_server(server_url=proxy.url, transport="auto", token="no-token")


async def test_where_nothing_listens_that_is_said() -> None:
    with pytest.raises(ConnectionRefusedError):
        await connect_to_server(server_url=f"http://127.0.0.1:{free_port()}", transport="auto")


async def test_where_neither_works_the_first_failure_is_told(server: RunningServer) -> None:
    def nothing(head: str) -> bytes:
        return b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    async with run_proxy(server.port, nothing) as proxy:
        with pytest.raises(ConnectionFailed, match="rejected WebSocket connection: HTTP 503") as caught:
            await connect_to_server(server_url=proxy.url, transport="auto")
    assert "HTTP 503" in caught.value.__notes__[0]
