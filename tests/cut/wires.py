"""Byte streams in memory between the real WebSocket client and the real server, cut after a chosen byte.

The client's end is the transport over `websockets`, the server's end uvicorn's HTTP
protocol with the plain door behind it: both believe that they have a socket.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

import uvicorn
from uvicorn.server import ServerState
from websockets.client import ClientProtocol
from websockets.uri import parse_uri

from hypha.app import HyphaServer
from hypha.doors.choice import open_door
from hypha_rpc.transports.base import Credentials, Limits, OpenOptions, OpenRefused, OpenTimeout, Transport, Unavailable
from hypha_rpc.transports.handshake import authenticate
from hypha_rpc.transports.websocket import UpgradeFailed, UpgradeRefused
from hypha_rpc.transports.websockets_transport import WebSocketsTransport

LATENCY_S: Final = 0.001
_HIGH, _LOW = 64 * 1024, 16 * 1024
_log = logging.getLogger("tests.cut")
_log.setLevel(logging.CRITICAL)


@dataclass
class Cut:
    """Where the one cut of a session is.

    Attributes:
        lane: ``up`` (to the server), ``down``, or empty for nowhere.
        after: bytes of that lane that still arrive, over all connections of the session.
        silent: nobody is told: what is sent vanishes.
        passed: bytes that have arrived so far, by lane.
        done: it has happened.
    """

    lane: str = ""
    after: int = 0
    silent: bool = False
    passed: dict[str, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    done: bool = False

    def allow(self, lane: str, size: int) -> int:
        """How many of *size* bytes arrive."""
        room = self.after - self.passed[lane] if lane == self.lane and not self.done else size
        arrive = min(size, max(room, 0))
        self.passed[lane] += arrive
        return arrive


class Wire:
    """One connection."""

    def __init__(self, client: asyncio.Protocol, server: asyncio.Protocol, cut: Cut | None) -> None:
        self.cut = cut
        self.dead = False
        self.client = End(self, client, "up")
        self.server = End(self, server, "down")
        self.client.peer, self.server.peer = self.server, self.client
        server.connection_made(self.server)
        client.connection_made(self.client)

    def broken(self) -> None:
        """The cut is here."""
        assert self.cut is not None
        self.dead, self.cut.done = True, True
        if not self.cut.silent:
            for end in (self.client, self.server):
                end.lost(ConnectionResetError("cut"))


class End(asyncio.Transport):
    """One end, as its protocol sees it."""

    def __init__(self, wire: Wire, protocol: asyncio.Protocol, lane: str) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._wire = wire
        self._protocol = protocol
        self._lane = lane
        self._out: deque[bytes] = deque()
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._lost = False
        self._reading = True
        self._paused = False
        self.peer: End

    # -- asyncio.Transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)}.get(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:  # type: ignore[override]
        if not self._closing and data:
            self._out.append(bytes(data))
            self._size += len(data)
            self._pace()
            self._go_on()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._go_on()

    def abort(self) -> None:
        self._closing = True
        self._out.clear()
        self._size = 0
        self.lost(None)
        if not self._wire.dead:
            self.peer.lost(ConnectionResetError("aborted"))

    def is_closing(self) -> bool:
        return self._closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol  # type: ignore[assignment]

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self.peer._go_on()

    def is_reading(self) -> bool:
        return self._reading

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The usual ones will do."""

    def get_write_buffer_size(self) -> int:
        return self._size

    # -- moving bytes

    def _pace(self) -> None:
        if not self._paused and self._size > _HIGH:
            self._paused = True
            self._protocol.pause_writing()
        elif self._paused and self._size < _LOW:
            self._paused = False
            self._protocol.resume_writing()

    def _go_on(self) -> None:
        if self._timer is None and not self._lost and self.peer._reading:
            self._timer = self._loop.call_later(LATENCY_S, self._move)

    def _move(self) -> None:
        """What waits arrives, or the part of it that does."""
        self._timer = None
        wire, data = self._wire, b"".join(self._out)
        self._out.clear()
        self._size = 0
        if self._lost or wire.dead:
            return
        self._pace()
        arrive = len(data) if wire.cut is None else wire.cut.allow(self._lane, len(data))
        if arrive:
            self.peer._protocol.data_received(data[:arrive])
        if wire.cut is not None and not wire.cut.done and arrive < len(data):
            wire.broken()
        elif self._closing and not self._out:
            self.lost(None)
            self.peer.ended()
        elif self._out:
            self._go_on()

    def ended(self) -> None:
        """The other end has closed."""
        if not self._lost:
            self._protocol.eof_received()
            self.close()

    def lost(self, error: Exception | None) -> None:
        """The connection is gone for this end."""
        if not self._lost:
            self._lost = self._closing = True
            self._loop.call_soon(self._protocol.connection_lost, error)


class Door:
    """The server's side: makes a protocol of uvicorn for every connection.

    Args:
        server: behind it.
    """

    def __init__(self, server: HyphaServer) -> None:
        door = open_door("asgi", server.doors, "/ws", server.asgi())
        self._config = uvicorn.Config(
            door.application, ws=door.ws, http="h11", lifespan="off", log_config=None, server_header=False
        )
        self._config.load()
        self._state = ServerState()
        self.open = True

    def protocol(self) -> asyncio.Protocol:
        """The protocol of a new connection."""
        made: asyncio.Protocol = self._config.http_protocol_class(  # type: ignore[call-arg, assignment]
            config=self._config, server_state=self._state, app_state={}, _loop=asyncio.get_running_loop()
        )
        return made


class WireConnector:
    """Opens WebSocket connections over wires (`transports.base.Connector`).

    Args:
        door: where they lead.
        cut: breaks one of them, or None.
    """

    def __init__(self, door: Door, cut: Cut | None) -> None:
        self._door = door
        self._cut = cut

    async def open(self, options: OpenOptions, credentials: Credentials) -> tuple[Transport, dict[str, Any]]:
        """See `base.Connector`."""
        if not self._door.open:
            raise OpenRefused("Nothing listens there")
        limits = Limits()
        core = ClientProtocol(parse_uri("ws://sim/ws"), max_size=limits.max_frame, logger=_log)
        pipe = WebSocketsTransport(limits, core)
        Wire(pipe, self._door.protocol(), self._cut)
        try:
            async with asyncio.timeout(options.timeout_s):
                await pipe.upgrade([])
                return pipe, await authenticate(pipe, credentials)
        except BaseException as error:
            await pipe.discard()
            if isinstance(error, TimeoutError) and not isinstance(error, Unavailable):
                raise OpenTimeout("sent no connection_info") from error
            if isinstance(error, (UpgradeFailed, UpgradeRefused)):
                raise Unavailable(str(error)) from error
            raise
