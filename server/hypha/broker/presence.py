"""Who is connected: joining, leaving, and one living client an address (server §2.3, security S9).

A newcomer is compared with who holds its address before anything is changed, so
that refusing it never touches the living.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from hypha.broker.connections import Connection, Mailbox, Outlet
from hypha.broker.router import Router
from hypha.settings import Limits

__all__ = ["Arrival", "Newcomer", "Presence", "Taken", "TooMany"]

_log = logging.getLogger("hypha.broker")

_RANK: Final = {"r": 1, "rw": 2, "a": 3}
_MAX_HELD: Final = 100_000


class Taken(Exception):
    """The client id belongs to somebody else."""


class TooMany(Exception):
    """A bound on connections is reached.

    Attributes:
        scope: ``"user"`` or ``"workspace"``.
        count, limit: how many there are and may be.
    """

    def __init__(self, scope: str, count: int, limit: int) -> None:
        super().__init__(scope)
        self.scope = scope
        self.count = count
        self.limit = limit


@dataclass(frozen=True, slots=True)
class Newcomer:
    """An authenticated peer that wants to be connected.

    Attributes:
        right: its right letter on the workspace.
        family: id of the user at the root of its chain of tokens.
        resumes: it showed the reconnection token of this very client.
    """

    workspace: str
    client_id: str
    user: Any
    right: str
    family: str
    level: int
    life: str | None
    resumes: bool


@dataclass(frozen=True, slots=True)
class Arrival:
    """A connection that was made.

    Attributes:
        resumed: it goes on where a lost connection of the same client object ended.
        mailbox: what was kept for it.
    """

    connection: Connection
    resumed: bool
    mailbox: Mailbox | None


@dataclass(frozen=True, slots=True)
class _Held:
    family: str
    right: str
    since: float


class Presence:
    """The connections of this process, and what their coming and going causes.

    Args:
        router: where they are reachable.
        limits: bounds.
        clock: monotonic seconds.
        left: called with every connection that is gone for good, before others are told.
    """

    def __init__(
        self, router: Router, limits: Limits, clock: Callable[[], float], left: Callable[[Connection], None]
    ) -> None:
        self._router = router
        self._limits = limits
        self._clock = clock
        self._left = left
        self._users: dict[str, int] = {}
        self._held: dict[str, _Held] = {}
        self._rights: dict[str, tuple[str, str]] = {}
        self._joining: dict[str, asyncio.Lock] = {}
        self.resumed: set[str] = set()
        self.joined = 0

    async def join(self, newcomer: Newcomer, outlet: Outlet) -> Arrival:
        """Connect *newcomer*, if its address is free, its own, or held by the dead.

        Raises:
            Taken: somebody else lives there, or it is held for somebody else.
            TooMany: a bound is reached.
        """
        address = f"{newcomer.workspace}/{newcomer.client_id}"
        lock = self._joining.setdefault(address, asyncio.Lock())
        try:
            async with lock:
                return await self._join(address, newcomer, outlet)
        finally:
            if not lock.locked():
                self._joining.pop(address, None)

    async def _join(self, address: str, newcomer: Newcomer, outlet: Outlet) -> Arrival:
        existing = self._router.connections.get(address)
        if existing is None:
            self._check_held(address, newcomer)
        elif not newcomer.resumes:
            await self._outlived(existing, newcomer)
        self._check_bounds(newcomer, replaces=existing is not None)
        now = self._clock()
        connection = Connection(
            newcomer.workspace,
            newcomer.client_id,
            newcomer.user,
            outlet,
            level=newcomer.level,
            life=newcomer.life,
            now=now,
        )
        connection.writer = newcomer.right != "r"
        existing = self._router.connections.get(address)
        box = self._router.mailboxes.collect(address, user_id=newcomer.user.id, life=newcomer.life, now=now)
        resumed = newcomer.resumes and (box is not None or (existing is not None and _same(existing, newcomer)))
        if existing is not None:
            self._supersede(existing, connection)
        self._router.attach(connection)
        self._users[newcomer.user.id] = self._users.get(newcomer.user.id, 0) + 1
        self._rights[address] = (newcomer.family, newcomer.right)
        self.joined += 1
        if resumed:
            self.resumed.add(address)
        else:
            self.resumed.discard(address)
        return Arrival(connection, resumed, box if newcomer.resumes else None)

    def _supersede(self, old: Connection, new: Connection) -> None:
        """*new* takes the place of *old*, which is cut; registrations and acquaintances stay."""
        new.exists, new.abroad = old.exists, old.abroad
        self._forget_user(old)
        old.closing = True
        old.outlet.abort()

    async def _outlived(self, existing: Connection, newcomer: Newcomer) -> None:
        """Return if *existing* is dead and *newcomer* may replace it."""
        family, _ = self._rights.get(existing.address, ("", ""))
        if await self._answers(existing):
            raise Taken(existing.address)
        if newcomer.family != family and newcomer.right != "a":
            raise Taken(existing.address)

    async def _answers(self, connection: Connection) -> bool:
        """Whether *connection* gives a sign of life when pinged."""
        sign: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        connection.waiting_for_life.append(sign)
        connection.outlet.ping()
        try:
            async with asyncio.timeout(self._limits.replace_ping_timeout):
                await sign
        except TimeoutError:
            return False
        finally:
            if sign in connection.waiting_for_life:
                connection.waiting_for_life.remove(sign)
        return self._router.connections.get(connection.address) is connection

    def _check_held(self, address: str, newcomer: Newcomer) -> None:
        """A freed id waits for its user, and longer against lesser rights (security S9)."""
        held = self._held.get(address)
        if held is None or newcomer.resumes:
            return
        age = self._clock() - held.since
        stranger = newcomer.family != held.family and newcomer.family != "root"
        if age < self._limits.hold_client_id and stranger:
            raise Taken(address)
        if age < self._limits.hold_client_id_lesser and stranger and _RANK[newcomer.right] < _RANK[held.right]:
            raise Taken(address)

    def _check_bounds(self, newcomer: Newcomer, *, replaces: bool) -> None:
        if replaces:
            return
        limits = self._limits
        count = self._users.get(newcomer.user.id, 0)
        if count >= limits.max_connections_per_user:
            raise TooMany("user", count, limits.max_connections_per_user)
        members = len(self._router.workspaces.get(newcomer.workspace, ()))
        if members >= limits.max_clients_per_workspace:
            raise TooMany("workspace", members, limits.max_clients_per_workspace)

    def leave(self, connection: Connection, *, clean: bool) -> None:
        """*connection* is gone; one that was superseded leaves nothing to do.

        Args:
            connection: the one whose socket has ended.
            clean: it said good-bye (close code 1000); otherwise answers wait for it for a while.
        """
        connection.closing = True
        for sign in connection.waiting_for_life:
            if not sign.done():
                sign.cancel()
        if not self._router.detach(connection):
            return
        now = self._clock()
        address = connection.address
        self._forget_user(connection)
        family, right = self._rights.pop(address, (connection.user.id, "r"))
        if len(self._held) >= _MAX_HELD:
            self._held.pop(next(iter(self._held)))
        self._held[address] = _Held(family, right, now)
        self.resumed.discard(address)
        if not clean:
            self._router.mailboxes.open(connection, now)
        self._left(connection)
        data = {"id": connection.client_id, "workspace": connection.workspace}
        self._router.publish(connection.workspace, "client_disconnected", data, about=address)
        for peer in connection.abroad:
            self._router.tell(peer, "client_disconnected", data, about=address)

    def _forget_user(self, connection: Connection) -> None:
        count = self._users.get(connection.user.id, 0) - 1
        if count > 0:
            self._users[connection.user.id] = count
        else:
            self._users.pop(connection.user.id, None)

    def sweep(self) -> None:
        """Look after everybody: ping the quiet, cut the silent and the stuck, forget what is over."""
        now, limits = self._clock(), self._limits
        for connection in list(self._router.connections.values()):
            quiet = now - connection.heard
            if quiet > limits.ws_pong_timeout:
                connection.outlet.close(1001, "No answer to pings")
                connection.outlet.abort_later()
            elif quiet > limits.ws_ping_interval:
                connection.outlet.ping()
            self._watch_queue(connection, now)
        self._router.mailboxes.expire(now)
        longest = limits.hold_client_id_lesser
        for address in [address for address, held in self._held.items() if now - held.since > longest]:
            del self._held[address]

    def _watch_queue(self, connection: Connection, now: float) -> None:
        if connection.outlet.pending <= self._limits.send_queue_bytes:
            connection.stalled_since = None
        elif connection.stalled_since is None:
            connection.stalled_since = now
        elif now - connection.stalled_since > self._limits.send_stall:
            _log.info("%s is not reading: closed", connection.address)
            connection.outlet.close(1008, "Not reading")
            connection.outlet.abort_later()


def _same(existing: Connection, newcomer: Newcomer) -> bool:
    return bool(existing.user.id == newcomer.user.id and existing.life == newcomer.life)
