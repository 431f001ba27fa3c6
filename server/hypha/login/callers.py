"""Who calls the login service: the connection, and the network it comes from (security S23).

What a request says about itself proves nothing, as anybody can call the functions
with an event made up; only the stamped sender counts.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Caller", "Callers", "RemoteOf"]

#: The network address behind a stamped sender, or None.
RemoteOf = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who called.

    Attributes:
        sender: the stamped address.
        address: the network address, or an empty text.
        is_http: it is one request of many that share a sender.
    """

    sender: str
    address: str
    is_http: bool

    @property
    def network(self) -> str:
        """The network it is in: /24 of IPv4, /64 of IPv6."""
        return network_of(self.address)

    @property
    def budget(self) -> str:
        """What its tries are counted for."""
        return self.network if ":" in self.address else self.address or self.sender

    def is_like(self, other: Caller) -> bool:
        """Whether both are one connection, or in one network."""
        if self.address and other.address:
            return self.network == other.network or (not self.is_http and self.sender == other.sender)
        # Without an address HTTP callers can only be told by their shared sender.
        return self.sender == other.sender


class Callers:
    """Tells callers by the context of a call.

    Args:
        remote_of: the network address of a connection.
        http_remote_of: the network address behind a sender of the web gateway; None if it is not one of it.
    """

    def __init__(self, remote_of: RemoteOf, http_remote_of: RemoteOf) -> None:
        self._remote_of = remote_of
        self._http_remote_of = http_remote_of

    def caller(self, context: Mapping[str, Any]) -> Caller:
        """Who made the call with this *context*."""
        sender = str(context.get("from", ""))
        web = self._http_remote_of(sender)
        return Caller(sender, web if web is not None else self._remote_of(sender) or "", web is not None)


def network_of(address: str) -> str:
    """The network of *address* as far as one person's devices share it; *address* itself if it is none."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return str(ipaddress.ip_network((parsed, 24 if parsed.version == 4 else 64), strict=False))
