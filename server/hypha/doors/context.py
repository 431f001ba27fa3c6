"""What doors need of the server, and the sockets they hold."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypha.auth.admission import Admission, Workspaces
from hypha.auth.tokens import TokenService
from hypha.broker.presence import Presence
from hypha.broker.router import Router
from hypha.doors.newcomers import Newcomers
from hypha.doors.sites import SiteRule
from hypha.settings import Limits

if TYPE_CHECKING:
    from hypha.doors.handshake import PeerSocket

__all__ = ["DoorContext"]


@dataclass
class DoorContext:
    """What doors need of the server.

    Attributes:
        info: the constant part of ``connection_info``.
        workspaces: existence and owners, for the decision.
        enter: called with an admission whose connection was made (creates workspaces).
        clock: monotonic seconds.
        now: seconds since the epoch.
        draining: the server is stopping; newcomers get HTTP 503.
        sites: pages of which sites may come in.
        sockets: every socket from its upgrade to its end.
        newcomers: those of them that are not let in yet.
    """

    limits: Limits
    tokens: TokenService
    router: Router
    presence: Presence
    workspaces: Workspaces
    enter: Callable[[Admission], None]
    info: dict[str, Any]
    clock: Callable[[], float]
    now: Callable[[], float]
    draining: bool = False
    sites: SiteRule = field(default_factory=SiteRule)
    sockets: set[PeerSocket] = field(default_factory=set)
    newcomers: Newcomers = field(init=False)
    _emptied: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.newcomers = Newcomers(self.limits, self.clock)

    def busy(self, address: str) -> bool:
        """Whether a newcomer must be turned away at the upgrade (HTTP 503: it comes back)."""
        return self.draining or self.newcomers.full(address)

    def forget(self, peer: PeerSocket) -> None:
        """The socket of *peer* is gone."""
        self.sockets.discard(peer)
        if not self.sockets:
            self._emptied.set()

    async def close_all(self, code: int, reason: str, patience_s: float) -> None:
        """Say good-bye to everybody; who has not gone after *patience_s* is cut."""
        self.draining = True
        for peer in list(self.sockets):
            peer.dismiss(code, reason)
        try:
            async with asyncio.timeout(patience_s):
                while self.sockets:
                    self._emptied.clear()
                    await self._emptied.wait()
        except TimeoutError:
            for peer in list(self.sockets):
                peer.outlet.abort()
