"""The network of the simulated world: connections whose frames are delivered, delayed, lost and cut on request.

One `Line` is what a TCP connection is: two ordered lanes, of which nothing is ever lost in
the middle. A silent lane keeps what it has; a line that lost bytes never delivers later ones.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypha.doors.handshake import PeerSocket
from hypha_rpc.transports.base import (
    HIGH_WATER,
    LOW_WATER,
    Buffer,
    Closed,
    Credentials,
    Limits,
    OpenOptions,
    OpenRefused,
    Transport,
    Unavailable,
)
from hypha_rpc.transports.handshake import authenticate
from hypha_rpc.transports.pipe import CUT, Pipe

if TYPE_CHECKING:
    from tests.sim.world import World

UP, DOWN = "up", "down"
_ROOM = 64 * 1024

Item = tuple[str, Any]
"""What goes over a lane: its kind (``frame``, ``text``, ``close``, ``ping``, ``pong``) and content."""


@dataclass
class Weather:
    """How the network treats one client, over all of its connections.

    Attributes:
        base, jitter: seconds that an item is under way.
        silent: lanes that deliver nothing for now.
        down: nobody can be reached: dialling fails at once.
        armed: lane -> (items still to pass, whether the last of them arrives, who learns of the cut).
    """

    base: float = 0.001
    jitter: float = 0.004
    silent: set[str] = field(default_factory=set)
    down: bool = False
    armed: dict[str, tuple[int, bool, str]] = field(default_factory=dict)

    def clear(self) -> None:
        """It is fine again."""
        self.base, self.jitter, self.down = Weather.base, Weather.jitter, False
        self.silent.clear()
        self.armed.clear()


class Lane:
    """One direction of a line."""

    def __init__(self, line: Line, name: str, deliver: Callable[[Item], None]) -> None:
        self._line = line
        self._deliver = deliver
        self._queue: deque[tuple[float, Item, int]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0.0
        self.name = name
        self.waiting = 0
        self.pauses = 0
        self.closed = False
        # Something was sent into a line that is dead, of which nobody told this end.
        self.vain = False
        self.drained: Callable[[], None] | None = None

    def put(self, item: Item, size: int) -> None:
        if self._line.dead:
            self.vain = True
        if self._line.dead or self.closed:
            return
        self.closed = item[0] == "close"
        line = self._line
        at = line.loop.time() + line.weather.base + line.weather.jitter * line.random.random()
        self._last = max(self._last, at)
        self._queue.append((self._last, item, size))
        self.waiting += size
        self.go_on()

    def go_on(self) -> None:
        """Deliver what is due, as far as somebody reads."""
        if self._timer is None and self._queue and self._open():
            self._timer = self._line.loop.call_at(self._queue[0][0], self._due)

    def _open(self) -> bool:
        return not self._line.dead and self.pauses == 0 and self.name not in self._line.weather.silent

    def _due(self) -> None:
        self._timer = None
        if not self._open() or not self._queue:
            return
        _, item, size = self._queue.popleft()
        self.waiting -= size
        cut = self._count()
        if cut is None or cut[0]:
            self._line.world.trace(self._line, self.name, item)
            self._deliver(item)
        if cut is not None:
            self._line.cut(cut[1])
            return
        if self.drained is not None and self.waiting < _ROOM:
            self.drained()
        self.go_on()

    def _count(self) -> tuple[bool, str] | None:
        """Whether the line is to be cut at this item: (does the item arrive?, who learns of it)."""
        armed = self._line.weather.armed.get(self.name)
        if armed is None:
            return None
        left, arrives, who = armed
        if left > 1:
            self._line.weather.armed[self.name] = (left - 1, arrives, who)
            return None
        del self._line.weather.armed[self.name]
        return arrives, who

    def clear(self) -> None:
        self._queue.clear()
        self.waiting = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Line:
    """One connection between a client and the server, with both of its ends."""

    def __init__(self, world: World, name: str, weather: Weather) -> None:
        world.lines_made += 1
        self.world = world
        self.loop = asyncio.get_running_loop()
        self.name = name
        self.number = world.lines_made
        self.weather = weather
        # Its own source: a step that is left out changes as little as possible of what others meet.
        self.random = random.Random(f"{world.seed}/{name}/{world.dials.setdefault(name, 0)}")
        world.dials[name] += 1
        self.dead = False
        self.up = Lane(self, UP, self._to_server)
        self.down = Lane(self, DOWN, self._to_client)
        self.client = SimPipe(self)
        self.outlet = SimOutlet(self)
        self.peer = PeerSocket(world.server.app.doors, self.outlet, "127.0.0.1")
        self.down.drained = self.peer.on_drained
        self.up.drained = self.client.relieved
        world.lines.add(self)

    def _to_server(self, item: Item) -> None:
        kind, content = item
        if kind == "frame":
            if not self.outlet.closing:
                self.peer.on_binary(content)
        elif kind == "text":
            if not self.outlet.closing:
                self.peer.on_text(content)
        elif kind == "pong":
            self.peer.on_pong()
        elif kind == "close":
            answered = self.down.closed
            self.down.put(item, 0)
            self.outlet.closing = True
            self.peer.on_closed(content[0])
            if answered:
                self._finish()

    def _to_client(self, item: Item) -> None:
        kind, content = item
        if kind == "frame":
            self.client._frame(content)
        elif kind == "text":
            self.client._text(content)
        elif kind == "ping":
            self.up.put(("pong", None), 2)
        elif kind == "close":
            answered = self.up.closed
            self.up.put(item, 0)
            self.client._peer_left()
            self.client._ended(Closed(*content))
            if answered:
                self._finish()

    def _finish(self) -> None:
        """Both ends have said good-bye."""
        self.dead = True
        self.world.lines.discard(self)
        self.outlet.finish()

    def cut(self, who: str = "both") -> None:
        """Break the line; *who* learns of it: ``both``, ``client``, ``server`` or ``none``."""
        if self.dead:
            return
        self.dead = True
        self.world.lines.discard(self)
        self.up.clear()
        self.down.clear()
        if who in ("both", "client"):
            self.end_client()
        if who in ("both", "server"):
            self.end_server()
        else:
            self.world.half_open.add(self)

    def end_client(self) -> None:
        """The client's end is gone."""
        self.loop.call_soon(self.client._ended, CUT)

    def end_server(self) -> None:
        """The server's end is gone."""
        self.world.half_open.discard(self)
        self.outlet.closing = True
        self.peer.on_closed(1006)


class SimPipe(Pipe):
    """The client's end: the real `Pipe` over a line."""

    def __init__(self, line: Line) -> None:
        super().__init__(Limits(chunk=line.world.chunk))
        self.line = line

    @property
    def writable(self) -> bool:
        return self._writable

    def relieved(self) -> None:
        """The lane has room again."""
        if not self._writable and self.line.up.waiting < LOW_WATER:
            self._drained()

    def _write_frame(self, parts: Sequence[Buffer]) -> None:
        data = b"".join(parts)
        self.line.up.put(("frame", data), len(data))
        if self.line.up.waiting > HIGH_WATER:
            self._writable = False

    def _write_text(self, text: str) -> None:
        self.line.up.put(("text", text), len(text))

    def _write_close(self, code: int, reason: str) -> None:
        self.line.up.put(("close", (code, reason)), 0)

    def _hang_up(self) -> None:
        self._cut()

    def _cut(self) -> None:
        # A socket that is closed tells the other end, unless nothing gets through.
        self.line.cut("client" if UP in self.line.weather.silent else "both")
        self._loop.call_soon(self._ended, CUT)


class SimOutlet:
    """The server's end (`hypha.broker.connections.Outlet`)."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._late: asyncio.TimerHandle | None = None
        self.closing = False

    @property
    def pending(self) -> int:
        return self._line.down.waiting

    @property
    def unacknowledged(self) -> bool:
        down = self._line.down
        return down.vain or (down.waiting > 0 and DOWN in self._line.weather.silent)

    def send(self, parts: Sequence[Buffer]) -> None:
        if not self.closing:
            data = b"".join(parts)
            self._line.down.put(("frame", data), len(data))

    def send_control(self, message: dict[str, Any]) -> None:
        if not self.closing:
            text = json.dumps(message)
            self._line.down.put(("text", text), len(text))

    def close(self, code: int, reason: str) -> None:
        if not self.closing:
            self._line.down.put(("close", (code, reason)), 0)
            self.closing = True
            self.abort_later()

    def abort(self) -> None:
        self.finish()
        line = self._line
        if not line.dead:
            line.cut("none" if DOWN in line.weather.silent else "client")
        line.loop.call_soon(line.end_server)

    def finish(self) -> None:
        """Nothing is to be aborted any more."""
        self.closing = True
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def abort_later(self) -> None:
        if self._late is None:
            self._late = self._line.loop.call_later(3.0, self.abort)

    def ping(self) -> None:
        if not self.closing:
            self._line.down.put(("ping", None), 2)

    def pause_reading(self) -> None:
        self._line.up.pauses += 1

    def resume_reading(self) -> None:
        self._line.up.pauses -= 1
        self._line.up.go_on()


class SimConnector:
    """Opens lines (`transports.base.Connector`).

    Args:
        world: where.
        name: whose weather it is.
    """

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name

    async def open(self, options: OpenOptions, credentials: Credentials) -> tuple[Transport, dict[str, Any]]:
        """See `base.Connector`."""
        world, weather = self._world, self._world.weather[self._name]
        async with asyncio.timeout(options.timeout_s):
            while True:
                await asyncio.sleep(weather.base)
                if not weather.silent:
                    break
                # What is lost on the way is sent again by the kernel.
                await world.changed.wait()
        if weather.down or not world.server.listening:
            raise OpenRefused("Nothing listens there")
        if world.server.app.doors.busy("127.0.0.1"):
            raise Unavailable("HTTP 503", status=503)
        line = Line(world, self._name, weather)
        try:
            async with asyncio.timeout(options.timeout_s):
                info = await authenticate(line.client, credentials)
        except TimeoutError as error:
            await line.client.discard()
            raise Unavailable("no answer") from error
        except BaseException:
            await line.client.discard()
            raise
        return line.client, info
