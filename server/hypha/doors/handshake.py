"""What happens on a WebSocket, whatever carries it: handshake, text frames, frames to the switch.

A door gives every socket a `PeerSocket` and an `Outlet` and reports what arrives.
Specs: protocol §1.2-1.6, server §4.3, extensions §1 and §5.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from hypha.audit import audit
from hypha.auth import admission
from hypha.auth.admission import Admission, Refusal
from hypha.auth.identity import ROOT_ID
from hypha.auth.permissions import right
from hypha.broker.connections import Connection, Outlet
from hypha.broker.presence import Arrival, Newcomer, Taken, TooMany
from hypha.doors.context import DoorContext

__all__ = ["LEGACY_MEMBERS", "DoorContext", "PeerSocket", "to_json"]

_log = logging.getLogger("hypha.doors")

Buffer = bytes | bytearray | memoryview

LEGACY_MEMBERS: Final = frozenset({"workspace", "client_id", "token", "reconnection_token"})
"""Credentials that clients of long ago put into the URL (protocol §1.1)."""

_MAX_EARLY_TEXTS: Final = 16
_MAX_CONTROL: Final = 1000
to_json: Final = json.JSONEncoder(separators=(",", ":")).encode
"""The text of a control message; one encoder for all, making one takes longer than using it."""

_PINGS: Final = frozenset({'{"type": "ping"}', '{"type":"ping"}'})
# A timer that is later than this tells of a loop that did not turn.
_LATE_S: Final = 0.05
_SECOND_LOOK_S: Final = 0.5
_ORDERLY: Final = 1000


class PeerSocket:
    """One socket, from its upgrade to its end.

    Args:
        context: the server.
        outlet: the way back.
        address: the network address it comes from.
        admitted: called once when the peer is let in.
    """

    def __init__(
        self, context: DoorContext, outlet: Outlet, address: str, *, admitted: Callable[[], None] | None = None
    ) -> None:
        self._context = context
        self.outlet = outlet
        self.connection: Connection | None = None
        self._address = address
        self._admitted = admitted
        self._texts: list[str] = []
        self._started = False
        self._waiting = True
        self._ended = False
        self._task: asyncio.Task[None] | None = None
        self._budget = float(context.limits.ws_msg_burst_limit)
        self._budget_at = context.clock()
        self._unit = max(context.limits.ws_byte_rate_limit // max(context.limits.ws_msg_rate_limit, 1), 1)
        context.sockets.add(self)
        context.newcomers.enter(address)
        self._loop = asyncio.get_running_loop()
        patience = context.limits.first_frame_timeout
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(
            patience, self._too_late, self._loop.time() + patience
        )

    # -- what a door reports -------------------------------------------------------

    def on_binary(self, data: Buffer) -> None:
        """A binary message arrived; *data* is valid during the call only."""
        connection = self.connection
        if connection is None:
            if not self._started:
                self._refuse(admission.undecodable())
            return
        connection.heard = self._context.clock()
        connection.frames += 1
        if connection.waiting_for_life:
            connection.alive(connection.heard)
        self._budget -= 1 + len(data) // self._unit
        if self._budget < 0:
            self._too_fast(connection.heard)
        self._context.router.route(connection, data)

    def on_text(self, text: str) -> None:
        """A text message arrived."""
        if self.connection is not None:
            self.connection.alive(self._context.clock())
            self._control(text)
        elif self._started:
            if len(self._texts) < _MAX_EARLY_TEXTS and len(text) <= _MAX_CONTROL:
                self._texts.append(text)
        else:
            self.introduce(text)

    def introduce(self, first: str | Mapping[str, Any]) -> None:
        """What the first frame says is known: as text, or read from elsewhere already."""
        if not self._ended and not self._started:
            self._started = True
            self._cancel_timer()
            self._task = self._loop.create_task(self._handshake(first), name="hypha-handshake")

    def on_drained(self) -> None:
        """The send queue has room again."""
        if self.connection is not None:
            self._context.router.drained(self.connection)

    def on_pong(self) -> None:
        """A PONG or PING arrived."""
        if self.connection is not None:
            self.connection.alive(self._context.clock())

    def on_closed(self, code: int) -> None:
        """The socket is gone."""
        if self._ended:
            return
        self._ended = True
        self._stop_waiting()
        connection, self.connection = self.connection, None
        self._context.forget(self)
        if connection is not None:
            self._context.presence.leave(connection, clean=code == _ORDERLY)

    def dismiss(self, code: int, reason: str) -> None:
        """Close the socket; the server wants it to end."""
        self._started = True
        self._stop_waiting()
        self.outlet.close(code, reason)

    # -- handshake -------------------------------------------------------------------

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_waiting(self) -> None:
        """The handshake is over, in whatever way."""
        self._cancel_timer()
        task, self._task = self._task, None
        if task is not None and not task.done() and task is not asyncio.current_task():
            task.cancel()
        if self._waiting:
            self._waiting = False
            self._context.newcomers.leave(self._address)

    def _too_late(self, due: float) -> None:
        now = self._loop.time()
        if now - due > _LATE_S:
            # This process stood still: the frame may lie in the socket, and a refusal ends real clients for ever.
            self._timer = self._loop.call_later(_SECOND_LOOK_S, self._too_late, now + _SECOND_LOOK_S)
        else:
            self._refuse(admission.payload_timeout())

    def _refuse(self, refusal: Refusal) -> None:
        self._started = True
        self.outlet.send_control({"type": "error", "message": refusal.message})
        self.dismiss(refusal.close_code, refusal.message)

    async def _handshake(self, first: str | Mapping[str, Any]) -> None:
        try:
            decided = await self._decide(first)
            arrival = await self._join(decided)
            # From the moment the connection was made nothing waits: the socket is still there.
            self.connection = arrival.connection
            self.connection.remote = self._address
            self._context.enter(decided)
            self._open(arrival)
        except Refusal as refusal:
            self._refuse(refusal)
        except Exception:  # noqa: BLE001 - supervision boundary: one handshake must not end the door
            _log.exception("a handshake failed")
            # No error frame: it would end the client for good (protocol §1.5).
            self.dismiss(1011, "internal error")

    async def _decide(self, first: str | Mapping[str, Any]) -> Admission:
        context = self._context
        try:
            frame = admission.parse_first_frame(first) if isinstance(first, str) else first
            await context.tokens.learn(frame.get("token"))
            decided = admission.admit(frame, context.tokens, context.workspaces, now=context.now())
        except Refusal as refusal:
            audit("failure", kind="connection", address=self._address, reason=refusal.message)
            # Who guesses tokens waits for each answer (security §8).
            await asyncio.sleep(context.newcomers.failed(self._address))
            raise
        if decided.user.id == ROOT_ID and self._address:
            # The server's own clients come from no address.
            audit("root", client=f"{decided.workspace}/{decided.client_id}", address=self._address)
        return decided

    async def _join(self, decided: Admission) -> Arrival:
        context = self._context
        try:
            return await context.presence.join(_newcomer(decided, context.workspaces), self.outlet)
        except Taken as taken:
            raise admission.client_exists(decided.workspace, decided.client_id) from taken
        except TooMany as bound:
            audit("limit", limit=f"connections of a {bound.scope}", user=decided.user.id, workspace=decided.workspace)
            if bound.scope == "user":
                raise admission.too_many_connections(decided.user.id, bound.count, bound.limit) from bound
            raise admission.too_many_clients(decided.workspace, bound.count, bound.limit) from bound

    def _open(self, arrival: Arrival) -> None:
        """Send ``connection_info``, then what was kept, then answer what was asked meanwhile."""
        self._stop_waiting()
        if self._admitted is not None:
            self._admitted()
        self.outlet.send_control(self._info(arrival))
        if arrival.mailbox is not None:
            for frame in (*arrival.mailbox.frames, *arrival.mailbox.news.values()):
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
        if len(text) > _MAX_CONTROL or self.outlet.pending > self._context.limits.send_queue_bytes:
            return
        if text in _PINGS:
            # By far the most frequent; thousands of idle clients send little else.
            self._answer("ping")
            return
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            return
        if isinstance(message, dict):
            self._answer(message.get("type"))

    def _answer(self, kind: Any) -> None:
        """Answer a control message; anything but ``ping`` and ``refresh_token`` is ignored."""
        if kind == "ping":
            self.outlet.send_control({"type": "pong"})
        elif kind == "refresh_token" and self.connection is not None:
            token = self._token(self.connection)
            self.outlet.send_control({"type": "reconnection_token", "reconnection_token": token})

    # -- pace --------------------------------------------------------------------------

    def _too_fast(self, now: float) -> None:
        """More frames or bytes than a socket may send: read on when the time for them has passed (security §8)."""
        limits = self._context.limits
        rate = max(limits.ws_msg_rate_limit, 1)
        self._budget = min(self._budget + (now - self._budget_at) * rate, limits.ws_msg_burst_limit)
        self._budget_at = now
        if self._budget < 0:
            self.outlet.pause_reading()
            self._loop.call_later(-self._budget / rate, self.outlet.resume_reading)


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
