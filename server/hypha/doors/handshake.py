"""What happens on a WebSocket, whatever carries it: handshake, text frames, frames to the switch.

A door gives every socket a `PeerSocket` and an `Outlet` and reports what arrives.
Specs: protocol §1.2-1.6, server §4.3, extensions §1 and §5.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from hypha.auth import admission
from hypha.auth.admission import Admission, Refusal
from hypha.auth.permissions import right
from hypha.auth.tokens import TokenService
from hypha.broker.connections import Connection, Outlet
from hypha.broker.presence import Arrival, Newcomer, Presence, Taken, TooMany
from hypha.broker.router import Router
from hypha.settings import Limits

__all__ = ["DoorContext", "PeerSocket"]

_log = logging.getLogger("hypha.doors")

Buffer = bytes | bytearray | memoryview

_MAX_EARLY_TEXTS: Final = 16


@dataclass
class DoorContext:
    """What doors need of the server.

    Attributes:
        info: the constant part of ``connection_info``.
        workspaces: existence and owners, for the decision.
        enter: called with an admission before its connection is made (creates workspaces).
        clock: monotonic seconds.
        now: seconds since the epoch.
        draining: the server is stopping; newcomers get HTTP 503.
    """

    limits: Limits
    tokens: TokenService
    router: Router
    presence: Presence
    workspaces: admission.Workspaces
    enter: Callable[[Admission], None]
    info: dict[str, Any]
    clock: Callable[[], float]
    now: Callable[[], float]
    draining: bool = False
    sockets: set[PeerSocket] = field(default_factory=set)
    handshakes: set[asyncio.Task[None]] = field(default_factory=set)

    def busy(self) -> bool:
        """Whether a newcomer must be turned away at the upgrade (HTTP 503: it comes back)."""
        return self.draining or len(self.handshakes) >= self.limits.max_concurrent_connections

    async def close_all(self, code: int, reason: str, patience_s: float) -> None:
        """Say good-bye to everybody; who has not gone after *patience_s* is cut."""
        self.draining = True
        for task in list(self.handshakes):
            task.cancel()
        for peer in list(self.sockets):
            peer.outlet.close(code, reason)
        deadline = self.clock() + patience_s
        while self.sockets and self.clock() < deadline:
            waiting = [asyncio.ensure_future(peer.gone.wait()) for peer in self.sockets]
            _, pending = await asyncio.wait(waiting, timeout=max(deadline - self.clock(), 0.0))
            for waiter in pending:
                waiter.cancel()
        for peer in list(self.sockets):
            peer.outlet.abort()


class PeerSocket:
    """One socket, from its upgrade to its end.

    Args:
        context: the server.
        outlet: the way back.
    """

    def __init__(self, context: DoorContext, outlet: Outlet) -> None:
        self._context = context
        self.outlet = outlet
        self.connection: Connection | None = None
        self.gone = asyncio.Event()
        self._texts: list[str] = []
        self._started = False
        self._ended = False
        self._task: asyncio.Task[None] | None = None
        context.sockets.add(self)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(context.limits.first_frame_timeout, self._too_late)

    # -- what a door reports -------------------------------------------------------

    def on_binary(self, data: Buffer) -> None:
        """A binary message arrived; *data* is valid during the call only."""
        connection = self.connection
        if connection is not None:
            connection.heard = self._context.clock()
            self._context.router.route(connection, data)
        elif not self._started:
            self._refuse(admission.undecodable())

    def on_text(self, text: str) -> None:
        """A text message arrived."""
        if self.connection is not None:
            self.connection.alive(self._context.clock())
            self._control(text)
        elif self._started:
            if len(self._texts) < _MAX_EARLY_TEXTS:
                self._texts.append(text)
        elif not self._ended:
            self._started = True
            self._timer.cancel()
            self._task = asyncio.get_running_loop().create_task(self._handshake(text))
            self._context.handshakes.add(self._task)
            self._task.add_done_callback(self._context.handshakes.discard)

    def on_pong(self) -> None:
        """A PONG or PING arrived."""
        if self.connection is not None:
            self.connection.alive(self._context.clock())

    def on_closed(self, code: int) -> None:
        """The socket is gone."""
        self._ended = True
        self._timer.cancel()
        if self._task is not None and not self._task.done():
            self._task.cancel()
        connection, self.connection = self.connection, None
        self._context.sockets.discard(self)
        self.gone.set()
        if connection is not None:
            self._context.presence.leave(connection, clean=code == 1000)

    # -- handshake -------------------------------------------------------------------

    def _too_late(self) -> None:
        self._started = True
        self._refuse(admission.payload_timeout())

    def _refuse(self, refusal: Refusal) -> None:
        self._started = True
        self._timer.cancel()
        self.outlet.send_control({"type": "error", "message": refusal.message})
        self.outlet.close(refusal.close_code, refusal.reason)

    async def _handshake(self, text: str) -> None:
        try:
            arrival = await self._admit(text)
        except Refusal as refusal:
            self._refuse(refusal)
        except Exception:  # supervision boundary: one handshake must not end the door
            _log.exception("a handshake failed")
            # No error frame: it would end the client for good (protocol §1.5).
            self.outlet.close(1011, "internal error")
        else:
            self._open(arrival)

    async def _admit(self, text: str) -> Arrival:
        context = self._context
        if len(text) > context.limits.first_frame_bytes:
            raise Refusal("Authentication payload is too large", 1009)
        frame = admission.parse_first_frame(text)
        decided = admission.admit(frame, context.tokens, context.workspaces, now=context.now())
        context.enter(decided)
        newcomer = _newcomer(decided, context.workspaces)
        try:
            return await context.presence.join(newcomer, self.outlet)
        except Taken as taken:
            raise admission.client_exists(decided.workspace, decided.client_id) from taken
        except TooMany as bound:
            if bound.scope == "user":
                raise admission.too_many_connections(decided.user.id, bound.count, bound.limit) from bound
            raise admission.too_many_clients(decided.workspace, bound.count, bound.limit) from bound

    def _open(self, arrival: Arrival) -> None:
        """Send ``connection_info``, then what was kept, then answer what was asked meanwhile."""
        connection = arrival.connection
        if self._ended:
            self._context.presence.leave(connection, clean=False)
            return
        self.connection = connection
        self.outlet.send_control(self._info(arrival))
        if arrival.mailbox is not None:
            for frame in arrival.mailbox.frames:
                self.outlet.send((frame,))
            for frame in arrival.mailbox.news.values():
                self.outlet.send((frame,))
        texts, self._texts = self._texts, []
        for text in texts:
            self._control(text)

    def _info(self, arrival: Arrival) -> dict[str, Any]:
        connection, tokens = arrival.connection, self._context.tokens
        info = {
            "type": "connection_info",
            **self._context.info,
            "workspace": connection.workspace,
            "client_id": connection.client_id,
            "user": connection.user.to_wire(),
            "reconnection_token": self._token(connection),
            "reconnection_token_life_time": tokens.reconnection_life_s,
            "x": 1,
        }
        if arrival.resumed:
            info["resumed"] = True
        return info

    def _token(self, connection: Connection) -> str:
        user: Any = connection.user
        return self._context.tokens.reconnection_token(user, connection.workspace, connection.client_id)

    # -- text frames -----------------------------------------------------------------

    def _control(self, text: str) -> None:
        """``ping`` and ``refresh_token``; anything else is ignored (protocol §1.6)."""
        if len(text) > 1000:
            return
        try:
            message = json.loads(text)
        except ValueError:
            return
        kind = message.get("type") if isinstance(message, dict) else None
        if kind == "ping":
            self.outlet.send_control({"type": "pong"})
        elif kind == "refresh_token" and self.connection is not None:
            token = self._token(self.connection)
            self.outlet.send_control({"type": "reconnection_token", "reconnection_token": token})


def _newcomer(decided: Admission, workspaces: admission.Workspaces) -> Newcomer:
    user = decided.user
    owners = workspaces.owners(decided.workspace)
    return Newcomer(
        workspace=decided.workspace,
        client_id=decided.client_id,
        user=user,
        right=right(user, decided.workspace, owners) or "r",
        family=user.parent or user.id,
        level=decided.level,
        life=decided.life,
        resumes=decided.resumes,
    )
