"""Pages of which sites may open a WebSocket, and under which host names the server answers (security S28).

A browser opens sockets for any page. Where the operator lists origins, pages of others are refused; and a name that
was made to lead here (DNS rebinding) is none of ours. It knows neither sockets nor HTTP.
"""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import urlsplit

from hypha.settings import Settings

__all__ = ["SiteRule"]

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class SiteRule:
    """What the operator's list of origins means.

    Args:
        origins: origins that are listed; None for any.
        hosts: host names served then, in lower case.
    """

    def __init__(self, origins: frozenset[str] | None = None, hosts: frozenset[str] = frozenset()) -> None:
        self._origins = origins
        self._hosts = hosts

    @classmethod
    def of(cls, settings: Settings, public_url: str) -> SiteRule:
        """The rule for a server with these *settings* that others reach at *public_url*."""
        if "*" in settings.allow_origins:
            return cls()
        public = urlsplit(public_url)
        apps = urlsplit(settings.apps_origin or "").hostname
        names = (*_LOOPBACK, settings.host, public.hostname, apps, *settings.allowed_hosts)
        origins = {origin.rstrip("/") for origin in settings.allow_origins}
        return cls(
            frozenset((*origins, f"{public.scheme}://{public.netloc}")),
            frozenset(name.lower() for name in names if name),
        )

    @property
    def origins(self) -> frozenset[str] | None:
        """The origins that are listed; None for any."""
        return self._origins

    def knows_host(self, host: str) -> bool:
        """Whether a request with this ``Host`` header is meant for this server."""
        if self._origins is None:
            return True
        host = host.lower()
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        return name in self._hosts or host in self._hosts

    def refusal(self, host: str, origin: str | None) -> HTTPStatus | None:
        """Why an upgrade with these headers is refused; None when it is not. Programs send no origin."""
        if not self.knows_host(host):
            return HTTPStatus.MISDIRECTED_REQUEST
        if self._origins is None or origin is None or origin in self._origins:
            return None
        # A page of this very server, under a name that was found to be one of its own.
        own = urlsplit(origin).netloc.lower() == host.lower()
        return None if own else HTTPStatus.FORBIDDEN
