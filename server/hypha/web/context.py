"""What the routes need of the server, in one object."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from hypha.gateway import Gateway
from hypha.manager.core import ManagerCore
from hypha.manager.manager import Manager
from hypha.settings import Limits, Settings

__all__ = ["App", "Counters", "Message", "Receive", "Scope", "Send", "WebContext"]

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass
class Counters:
    """What has happened since the start, for ``/metrics`` and ``/health``.

    Attributes:
        connected: connections made.
        left: connections ended.
        frames: frames of connections that have ended.
    """

    connected: int = 0
    left: int = 0
    frames: int = 0


@dataclass
class WebContext:
    """What the routes need of the server.

    Attributes:
        settings: the operator's decisions.
        manager: the methods of the workspace manager, and the registry behind them.
        gateway: calls services in the name of HTTP callers.
        version: of this server.
        info: server info as clients are told it (server §1.5).
        public_url: where others reach this server, without a trailing slash.
        local_url: where programs on this machine reach it.
        not_ready: why the server is not ready, or None.
        counters: what has happened since the start.
        find_token: looks for a token in an ASGI scope before the standard places are looked at (server §4.6).
    """

    settings: Settings
    manager: Manager
    gateway: Gateway
    version: str
    info: Mapping[str, Any]
    public_url: str
    local_url: str
    not_ready: Callable[[], str | None]
    counters: Counters = field(default_factory=Counters)
    find_token: Callable[[Scope], Any] | None = None

    @property
    def core(self) -> ManagerCore:
        """The state behind the manager's methods."""
        return self.manager.core

    @property
    def limits(self) -> Limits:
        """The bounds of everything."""
        return self.settings.limits

    @property
    def base_path(self) -> str:
        """Prefix of every route, without a trailing slash."""
        return self.settings.base_path.rstrip("/")

    @property
    def on_loopback(self) -> bool:
        """Whether this is one person's own machine: both the bind address and the public URL are loopback."""
        host = self.public_url.partition("://")[2].partition("/")[0]
        public = host.startswith("[::1]") or host.partition(":")[0] in _LOOPBACK
        return public and self.settings.host in _LOOPBACK


_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
