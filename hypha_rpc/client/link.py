"""A connection that heals: the only place that redials.

A `Link` opens a transport, keeps it alive, notices when it is dead, and opens the
next one, without limit of attempts, until it is closed or the server refuses for
good. It knows nothing of services: what up and down mean is its listener's
business, which may refuse an ``up`` by raising (then the attempt counts as failed).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

from hypha_rpc.client.logs import pick
from hypha_rpc.client.options import ConnectOptions
from hypha_rpc.errors import AuthenticationFailed, ConnectionFailed, ConnectionLost
from hypha_rpc.transports.base import (
    Buffer,
    Closed,
    Connector,
    Credentials,
    OpenOptions,
    Refused,
    Transport,
)

__all__ = ["Link", "LinkListener", "redial_delays"]

_log = logging.getLogger("hypha_rpc.link")

MIN_DIAL_SPACING_S: Final = 0.5
EAGER_S: Final = 60.0
MAX_DELAY_S: Final = 20.0
#: Where nothing gets through, the kernel tries again after 1, 3, 7, 15 s: a new attempt is sooner.
#: Every third has twice as long: a crowded server may need it.
REDIAL_S: Final = 10.0

_SET_UP_FAILED: Final = 1011
_STILL_OPEN: Final = Closed(1000, "")


class LinkListener(Protocol):
    """Who is told what becomes of a link."""

    @property
    def receive(self) -> Callable[[Buffer, float], None]:
        """Takes frames with the time of their arrival; the buffer is valid during the call only."""

    async def link_up(self, info: dict[str, Any]) -> None:
        """A transport is open; raising `ConnectionFailed` or `ConnectionLost` makes the link try again."""

    def link_writable(self) -> None:
        """The transport has room again after it had none."""

    def link_down(self, closed: Closed) -> None:
        """The transport is gone; the link is redialling."""

    def link_gave_up(self, error: BaseException) -> None:
        """The server refused for good; the link has stopped."""


def redial_delays(jitter: Callable[[], float] | None = None) -> Iterator[float]:
    """Seconds before each attempt: at once, then about every second for a minute, then slowly less often."""
    yield 0.0
    import random  # not before a link breaks

    chance = jitter or random.random
    waited, delay = 0.0, 1.0
    while True:
        pause = delay * (0.8 + 0.4 * chance())
        yield pause
        waited += pause
        if waited > EAGER_S:
            delay = min(delay * 1.5, MAX_DELAY_S)


class Link:
    """One healing connection.

    Args:
        connector: opens transports.
        options: the user's wishes.
        life: random text that names this client object (extensions §1).
        listener: told of frames, ups and downs.
    """

    def __init__(self, connector: Connector, options: ConnectOptions, life: str, listener: LinkListener) -> None:
        self._connector = connector
        self._options = options
        self._life = life
        self._log = pick(options.logger, _log)
        self._listener = listener
        self._transport: Transport | None = None
        self._line: _Line | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._last_dial = float("-inf")
        self._closing = False
        self.info: dict[str, Any] = {}
        self.reconnection_token = options.reconnection_token
        self.reconnects = 0

    @property
    def transport(self) -> Transport | None:
        """The open transport, if any."""
        return self._transport

    @property
    def closed(self) -> bool:
        """Whether the link was closed or has given up."""
        return self._closing

    # -- life --------------------------------------------------------------------

    async def open(self) -> dict[str, Any]:
        """Connect for the first time; failing leaves nothing behind.

        Returns:
            The server's ``connection_info``.

        Raises:
            Refused, Unavailable: see `transports.base`.
        """
        try:
            await self._dial()
        except BaseException:
            self._closing = True
            await self._hang_up(1000, "")
            raise
        self._keeper = asyncio.get_running_loop().create_task(self._keep(), name="hypha-link")
        return self.info

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close for good; idempotent, bounded in time."""
        self._closing = True
        keeper, self._keeper = self._keeper, None
        if keeper is not None and keeper is not asyncio.current_task():
            keeper.cancel()
            await asyncio.wait([keeper])
        await self._hang_up(code, reason)

    def abort(self) -> None:
        """Close for good without waiting."""
        self._closing = True
        if self._keeper is not None:
            self._keeper.cancel()
            self._keeper = None
        transport = self._detach()
        if transport is not None:
            transport.close()

    def drop(self, code: int = 1000, reason: str = "") -> None:
        """Close the current transport only; the link redials (used to provoke a reconnection)."""
        if self._transport is not None:
            self._transport.close(code, reason)

    async def _hang_up(self, code: int, reason: str) -> None:
        transport = self._detach()
        if transport is not None:
            transport.close(code, reason)
            await transport.wait_closed()

    def _detach(self) -> Transport | None:
        """Hear nothing more of the current transport; returns it."""
        if self._line is not None:
            self._line.detach()
            self._line = None
        transport, self._transport = self._transport, None
        return transport

    async def _dial(self, patience_s: float = float("inf")) -> None:
        """One attempt: open within *patience_s*, check, start delivering, let the listener set up."""
        loop = asyncio.get_running_loop()
        self._last_dial = loop.time()
        options = self._options
        credentials = Credentials(
            client_id=options.client_id,
            workspace=options.workspace,
            token=options.token,
            reconnection_token=self.reconnection_token,
            life=self._life,
        )
        where = OpenOptions(
            url=options.server_url,
            timeout_s=min(options.method_timeout, patience_s),
            ssl=options.ssl,
            headers=options.additional_headers,
        )
        transport, info = await self._connector.open(where, credentials)
        self._transport, self._line = transport, _Line(self, self._listener)
        try:
            self._accept(info)
            transport.start(self._line)
            await self._set_up(info)
        except BaseException:
            # Not a good-bye: what runs for this client, and answers to it, wait for its next attempt.
            await self._hang_up(_SET_UP_FAILED, "")
            raise

    async def _set_up(self, info: dict[str, Any]) -> None:
        """Let the listener set up; a transport that is lost or silent meanwhile fails the attempt at once."""
        setting_up = asyncio.get_running_loop().create_task(self._listener.link_up(info), name="hypha-link-up")
        try:
            async with asyncio.timeout(self._options.method_timeout):
                closed = await self._until_lost(setting_up)
            if not setting_up.done():
                raise ConnectionLost(f"the connection broke while it was set up ({closed.code} {closed.reason})")
            setting_up.result()
        except BaseException as error:
            setting_up.cancel()
            await asyncio.wait([setting_up])
            if self._keeper is not None and not self._closing and not isinstance(error, AuthenticationFailed):
                self._listener.link_down(Closed(_SET_UP_FAILED, "the connection could not be set up"))
            raise

    def _accept(self, info: dict[str, Any]) -> None:
        wanted, got = self._options.workspace, info.get("workspace")
        if not isinstance(got, str) or not isinstance(info.get("manager_id"), str):
            raise Refused("Unexpected message received from the server")
        if wanted and wanted != got:
            raise Refused(f"Connected to the wrong workspace: {got}, expected: {wanted}")
        self.info = info
        token = info.get("reconnection_token")
        if isinstance(token, str) and token:
            self.reconnection_token = token

    async def _keep(self) -> None:
        """Keep the transport alive; when it is lost, open the next one."""
        while not self._closing:
            closed = await self._until_lost()
            self._detach()
            self._listener.link_down(closed)
            if not await self._redial():
                return
            self.reconnects += 1

    async def _redial(self) -> bool:
        loop = asyncio.get_running_loop()
        for number, delay in enumerate(redial_delays(), 1):
            spacing = self._last_dial + MIN_DIAL_SPACING_S - loop.time()
            await asyncio.sleep(max(delay, spacing))
            try:
                await self._dial(REDIAL_S if number % 3 else 2 * REDIAL_S)
            except AuthenticationFailed as error:
                self._give_up(error)
                return False
            except (ConnectionFailed, ConnectionLost, TimeoutError, OSError) as error:
                self._log.debug("reconnecting failed: %s", error)
                continue
            return True
        return False

    def _give_up(self, error: AuthenticationFailed) -> None:
        self._closing = True
        self._listener.link_gave_up(error)

    # -- keep-alive --------------------------------------------------------------

    async def _until_lost(self, work: asyncio.Future[None] | None = None) -> Closed:
        """Ping and refresh when due; return when the transport is gone or silent for too long, or *work* is done."""
        line, transport = self._line, self._transport
        if line is None or transport is None:
            return Closed(1006, "closed")
        lost = line.lost
        waited: list[asyncio.Future[Any]] = [lost] if work is None else [lost, work]
        loop = asyncio.get_running_loop()
        interval = self._options.ping_interval or 0.0
        next_ping = loop.time() + interval if interval > 0 else float("inf")
        next_refresh = loop.time() + self._refresh_interval()
        while not lost.done():
            pause = min(next_ping, next_refresh, line.heard + self._longest_silence(interval)) - loop.time()
            timeout = max(pause, 0.0) if pause < float("inf") else None
            await asyncio.wait(waited, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            now = loop.time()
            if lost.done():
                break
            if work is not None and work.done():
                return _STILL_OPEN
            if now - line.heard >= self._longest_silence(interval):
                transport.close(1011, "keep-alive timed out")
                return Closed(1006, "keep-alive timed out")
            if now >= next_ping:
                transport.send_control({"type": "ping"})
                next_ping = now + interval
            if now >= next_refresh:
                transport.send_control({"type": "refresh_token"})
                next_refresh = now + self._refresh_interval()
        return lost.result()

    def _longest_silence(self, interval: float) -> float:
        """When a pong is overdue, in seconds since anything arrived: all that arrives is a sign of life."""
        patience = self._options.ping_timeout
        return float("inf") if patience is None or interval <= 0 else interval + max(patience, 0.0)

    def _refresh_interval(self) -> float:
        wanted = self._options.token_refresh_interval
        if wanted <= 0:
            return float("inf")
        life = self.info.get("reconnection_token_life_time")
        if isinstance(life, (int, float)) and life > 0:
            wanted = min(wanted, life / 1.5)
        return wanted

    # -- frames ------------------------------------------------------------------

    def arrived(self, message: Mapping[str, Any]) -> None:
        """A control message arrived on the current transport."""
        kind = message.get("type")
        if kind == "reconnection_token" and isinstance(message.get("reconnection_token"), str):
            self.reconnection_token = message["reconnection_token"]
        elif kind == "error":
            self._log.warning("the server reports: %.200s", message.get("message"))


class _Line:
    """The receiver of one transport: what a former transport still says is not heard (`Receiver`).

    Attributes:
        heard: when anything arrived last.
    """

    __slots__ = ("_receive", "_time", "_writable", "heard", "link", "lost")

    def __init__(self, link: Link, listener: LinkListener) -> None:
        loop = asyncio.get_running_loop()
        self.link: Link | None = link
        self.lost: asyncio.Future[Closed] = loop.create_future()
        self._receive = listener.receive
        self._writable = listener.link_writable
        self._time = loop.time
        self.heard = loop.time()

    def on_frame(self, data: Buffer) -> None:
        """A frame arrived."""
        if self.link is not None:
            self.heard = now = self._time()
            self._receive(data, now)

    def on_control(self, message: Mapping[str, Any]) -> None:
        """A control message arrived."""
        if self.link is not None:
            self.heard = self._time()
            self.link.arrived(message)

    def on_writable(self) -> None:
        """The send queue has drained."""
        if self.link is not None:
            self._writable()

    def on_closed(self, closed: Closed) -> None:
        """The transport is gone."""
        if not self.lost.done():
            self.lost.set_result(closed)

    def detach(self) -> None:
        """Hear nothing more of this transport."""
        self.link = None
