"""The self-test of the fast door: one handshake and one message over a loopback socket.

Walks the whole way that depends on a private name of picows and on how uvicorn
hands a socket over: request, upgrade, letting in, a message each way.
"""

from __future__ import annotations

import asyncio
import base64
import socket
from types import SimpleNamespace
from typing import Any, Final

from hypha.settings import Limits

__all__ = ["problem_of_picows"]

_PATIENCE_S: Final = 1.0
_REQUEST: Final = (
    b"GET /self-test HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: " + base64.b64encode(bytes(16)) + b"\r\n\r\n"
)
_FRAME: Final = b"\x82\x84\x00\x00\x00\x00ping"
_ECHO: Final = b"\x82\x04ping"


async def problem_of_picows() -> str | None:
    """Why the fast door cannot serve here, or None."""
    try:
        from hypha.doors import picows as fast

        async with asyncio.timeout(_PATIENCE_S):
            answer = await _converse(fast)
    except Exception as error:  # noqa: BLE001 - supervision boundary: whatever fails here, the plain door serves
        return f"{type(error).__name__}: {error}"
    if not answer.startswith(b"HTTP/1.1 101") or not answer.endswith(_ECHO):
        return "unexpected answer"
    return None


async def _converse(fast: Any) -> bytes:
    loop = asyncio.get_running_loop()
    door = SimpleNamespace(context=SimpleNamespace(limits=Limits()), listener=fast.echo_listener)
    handover = _Handover(fast.Bridge(door))
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, listener.getsockname())
        accepted, _ = listener.accept()
        transport, _ = await loop.connect_accepted_socket(lambda: handover, accepted)
        try:
            await loop.sock_sendall(client, _REQUEST)
            answer = await _read_until(client, b"\r\n\r\n")
            await loop.sock_sendall(client, _FRAME)
            return answer + await _read_until(client, _ECHO)
        finally:
            transport.abort()


async def _read_until(client: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        more = await asyncio.get_running_loop().sock_recv(client, 4096)
        if not more:
            raise ConnectionError("the socket was closed")
        data += more
    return data


class _Handover(asyncio.Protocol):
    """Does what uvicorn does with an upgrade request."""

    def __init__(self, bridge: Any) -> None:
        self._bridge = bridge
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._bridge.connection_made(self._transport)
        self._bridge.data_received(data)
        self._transport.set_protocol(self._bridge)
