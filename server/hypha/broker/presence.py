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

from hypha.audit import audit
from hypha.broker.connections import Connection, Mailbox, Outlet
from hypha.broker.router import Router
from hypha.settings import Limits

__all__ = ["Arrival", "Newcomer", "Presence", "Taken", "TooMany"]

_log = logging.getLogger("hypha.broker")

_RANK: Final = {"r": 1, "rw": 2, "a": 3}
_MAX_HELD: Final = 100_000
_MAX_RIVALS: Final = 4
# Our own clients ping every 5 s: few of a living crowd have to be looked at.
_QUIET_S: Final = 4.5


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
        self.resumed: set[str] = set()
        self.joined = 0

    async def join(self, newcomer: Newcomer, outlet: Outlet) -> Arrival:
        """Connect *newcomer*, if its address is free, its own, or held by the dead.

        Nothing is changed before that is certain, and nothing waits after it.

        Raises:
            Taken: somebody else lives there, or it is held for somebody else.
            TooMany: a bound is reached.
        """
        address = f"{newcomer.workspace}/{newcomer.client_id}"
        existing = await self._replaceable(address, newcomer)
        if existing is None:
            self._check_held(address, newcomer)
            self._check_bounds(newcomer)
        return self._connect(address, newcomer, outlet, existing)

    async def _replaceable(self, address: str, newcomer: Newcomer) -> Connection | None:
        """The connection that *newcomer* takes the place of, or None; raises `Taken`."""
        for _ in range(_MAX_RIVALS):
            existing = self._router.connections.get(address)
            if existing is None or self._is_own(existing, newcomer):
                return existing
            family, right = self._rights[address]
            # Who could not have it anyhow is refused at once: asking costs the living something, too.
            if not _may_have(newcomer, family, right) or await self._answers(existing):
                break
            if self._router.connections.get(address) is existing:
                return existing
            # Gone or replaced meanwhile: whoever is there now is asked anew.
        raise Taken(address)

    def _is_own(self, existing: Connection, newcomer: Newcomer) -> bool:
        """Whether *newcomer* shows the reconnection token of *existing*: one of a former holder is none."""
        return bool(newcomer.resumes and existing.user.id == newcomer.user.id)

    def _connect(self, address: str, newcomer: Newcomer, outlet: Outlet, existing: Connection | None) -> Arrival:
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
        box = self._router.mailboxes.collect(address, user_id=newcomer.user.id, life=newcomer.life, now=now)
        resumed = newcomer.resumes and (box is not None or (existing is not None and _same(existing, newcomer)))
        self._router.attach(connection)
        self._users[newcomer.user.id] = self._users.get(newcomer.user.id, 0) + 1
        self._rights[address] = (newcomer.family, newcomer.right)
        self._held.pop(address, None)
        self.joined += 1
        if resumed:
            self.resumed.add(address)
        else:
            self.resumed.discard(address)
        if existing is not None:
            self._replace(existing, connection, resumed=resumed)
        return Arrival(connection, resumed, box if resumed else None)

    def _replace(self, old: Connection, new: Connection, *, resumed: bool) -> None:
        """*old*, whose place *new* has taken, is cut.

        The same client object goes on: registrations and acquaintances stay, and peers of
        level 1 learn that frames may have been lost (extensions §5; public ones learn nothing,
        protocol §1.7). Another one: *old* is gone like anybody who leaves.
        """
        old.closing = True
        self._forget_user(old)
        self._wake(old)
        if not resumed:
            audit("takeover", client=new.address, user=new.user.id, former=old.user.id)
        if resumed:
            new.exists, new.abroad = old.exists, old.abroad
            self._report(old, least_level=1, may_resume=True)
        else:
            self._left(old)
            self._report(old)
        old.outlet.abort()

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

    @staticmethod
    def _wake(connection: Connection) -> None:
        """Those who wait for a sign of life of *connection* look again: it is gone."""
        for sign in connection.waiting_for_life:
            if not sign.done():
                sign.set_result(None)

    def _check_held(self, address: str, newcomer: Newcomer) -> None:
        """A freed id waits for its user, and longer against lesser rights (security S9)."""
        held = self._held.get(address)
        if held is None:
            return
        age = self._clock() - held.since
        if age < self._limits.hold_client_id and not _may_have(newcomer, held.family, held.right):
            raise Taken(address)
        if age < self._limits.hold_client_id_lesser and _RANK[newcomer.right] < _RANK[held.right]:
            raise Taken(address)

    def _check_bounds(self, newcomer: Newcomer) -> None:
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
        self._wake(connection)
        if not self._router.detach(connection):
            return
        now = self._clock()
        address = connection.address
        self._forget_user(connection)
        family, right = self._rights.pop(address)
        if len(self._held) >= _MAX_HELD:
            self._held.pop(next(iter(self._held)))
        self._held[address] = _Held(family, right, now)
        self.resumed.discard(address)
        if not clean:
            self._router.mailboxes.open(connection, now)
        self._left(connection)
        self._report(connection, may_resume=not clean)

    def _report(self, connection: Connection, *, least_level: int = 0, may_resume: bool = False) -> None:
        """Tell its workspace, and whom it exchanged calls with, that *connection* is lost (security S11)."""
        address = connection.address
        data: dict[str, Any] = {"id": connection.client_id, "workspace": connection.workspace}
        if may_resume:
            data["may_resume"] = True
        self._router.publish(connection.workspace, "client_disconnected", data, about=address, least_level=least_level)
        for peer in connection.abroad:
            self._router.tell(peer, "client_disconnected", data, about=address, least_level=least_level)

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
            if connection.closing:
                continue
            quiet = now - connection.heard
            if quiet > limits.ws_pong_timeout or self._repeats_in_vain(connection, now, quiet):
                self._cut(connection, 1001, "No answer to pings")
                # Nobody is there to answer a closing handshake.
                connection.outlet.abort()
            elif quiet > limits.ws_ping_interval:
                connection.outlet.ping()
            self._watch_queue(connection, now)
        self._router.mailboxes.expire(now)
        longest = limits.hold_client_id_lesser
        for address in [address for address, held in self._held.items() if now - held.since > longest]:
            del self._held[address]

    def _repeats_in_vain(self, connection: Connection, now: float, quiet: float) -> bool:
        """Whether nothing has been acknowledged for long, not even that the peer does not read."""
        if quiet < _QUIET_S or not connection.outlet.unacknowledged:
            connection.repeated_since = None
            return False
        if connection.repeated_since is None:
            connection.repeated_since = now
        return now - connection.repeated_since >= self._limits.ws_unacknowledged

    def _watch_queue(self, connection: Connection, now: float) -> None:
        """A send queue that stands still for long ends the connection (security §8)."""
        pending = connection.outlet.pending
        if not connection.stuck(pending):
            if pending > self._limits.send_queue_bytes:
                connection.stalled_since, connection.stalled_at = now, pending
        elif now - (connection.stalled_since or now) > self._limits.send_stall and not connection.closing:
            _log.info("%s is not reading: closed", connection.address)
            audit("limit", limit="not reading", client=connection.address)
            self._cut(connection, 1008, "Not reading")

    def _cut(self, connection: Connection, code: int, reason: str) -> None:
        connection.closing = True
        connection.outlet.close(code, reason)
        connection.outlet.abort_later()


def _may_have(newcomer: Newcomer, family: str, right: str) -> bool:
    """Whether *newcomer* may have the id of a silent or gone client of *family* with *right*.

    `hypha.auth.permissions.may_take_over`, from what the switch keeps of those who are gone (security S9).
    """
    if newcomer.right == "a":
        return True
    return newcomer.family == family and _RANK[newcomer.right] >= _RANK[right]


def _same(existing: Connection, newcomer: Newcomer) -> bool:
    return bool(existing.user.id == newcomer.user.id and existing.life == newcomer.life)
