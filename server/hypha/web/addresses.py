"""Where a request comes from: the peer, or what a trusted proxy says (security S35)."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable
from functools import lru_cache

from hypha.web.context import Scope

_log = logging.getLogger("hypha.web")

__all__ = ["ClientAddress", "header_of", "is_private"]

_FORWARDED = (b"x-forwarded-for", b"forwarded", b"x-real-ip")


class ClientAddress:
    """Tells the address of the client of a request.

    Args:
        trusted: addresses or networks of proxies whose forwarding headers count.

    Raises:
        ValueError: one of them is no address.
    """

    def __init__(self, trusted: Iterable[str]) -> None:
        self._warned = False
        self._trusted = [ipaddress.ip_network(text, strict=False) for text in trusted]

    def of(self, scope: Scope) -> str:
        """The peer's address or, behind trusted proxies, the rightmost one that is not theirs."""
        peer = _peer(scope)
        if not self._trusted or not self._is_trusted(peer):
            return peer
        forwarded = header_of(scope, b"x-forwarded-for") or ""
        for text in reversed([part.strip() for part in forwarded.split(",") if part.strip()]):
            if not self._is_trusted(text):
                return text
        return peer

    def is_relayed(self, scope: Scope) -> bool:
        """Whether somebody who is no trusted proxy says that it asks for another: who really asks is not known."""
        if not any(name in _FORWARDED for name, _ in scope["headers"]):
            return False
        if not self._trusted and not self._warned:
            self._warned = True
            _log.warning(
                "requests come with a forwarding header, but no proxy is trusted: all of them count as one address; "
                "name the proxy in HYPHA_TRUSTED_PROXIES"
            )
        return not self._is_trusted(_peer(scope))

    def is_local(self, scope: Scope) -> bool:
        """Whether a program of this machine asks, and for itself: no forwarding header is there."""
        if any(name in _FORWARDED for name, _ in scope["headers"]):
            self.is_relayed(scope)
            return False
        return _is_loopback(_peer(scope))

    def _is_trusted(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)


def _peer(scope: Scope) -> str:
    return str((scope.get("client") or ("",))[0])


def header_of(scope: Scope, name: bytes) -> str | None:
    """A header of a request, the last one if there are several; *name* in lower case."""
    found: str | None = None
    for key, value in scope["headers"]:
        if key == name:
            found = value.decode("latin-1")
    return found


@lru_cache(maxsize=1024)
def is_private(text: str) -> bool:
    """Whether *text* is a loopback or private address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return address.is_private or address.is_loopback


@lru_cache(maxsize=1024)
def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False
