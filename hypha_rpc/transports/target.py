"""A WebSocket URL taken apart, and what may be asked of where it leads.

Pure: no sockets, no environment; Pyodide uses it, too.
"""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Target", "basic_authorization", "checked_headers", "parse_target", "redirected"]

_URL_CHARACTERS = "/?%:@!$&'()*+,;=~-._"


@dataclass(frozen=True, slots=True)
class Target:
    """A WebSocket URL taken apart.

    Attributes:
        url: the URL without user information and fragment.
        secure: whether it is a ``wss`` URL.
        host: host name or address, without brackets.
        port: port, the scheme's default filled in.
        authorization: value of the ``Authorization`` header for user information in the URL.
    """

    url: str
    secure: bool
    host: str
    port: int
    authorization: str | None = None

    @property
    def authority(self) -> str:
        """``host:port`` for texts and CONNECT requests; never contains credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_target(url: str) -> Target:
    """Take a ``ws(s)://`` URL apart.

    Raises:
        ValueError: not such a URL.
    """
    parsed = urllib.parse.urlsplit(url)
    scheme = parsed.scheme.lower()
    if scheme not in ("ws", "wss") or not parsed.hostname:
        raise ValueError(f"server_url must be an http(s):// or ws(s):// URL with a host, not {_shown(url)!r}")
    secure = scheme == "wss"
    port = parsed.port or (443 if secure else 80)
    host = parsed.hostname if parsed.hostname.isascii() else parsed.hostname.encode("idna").decode()
    netloc = f"[{host}]" if ":" in host else host
    if parsed.port is not None:
        netloc += f":{parsed.port}"
    path = urllib.parse.quote(parsed.path or "/", safe=_URL_CHARACTERS)
    query = urllib.parse.quote(parsed.query, safe=_URL_CHARACTERS)
    clean = urllib.parse.urlunsplit((scheme, netloc, path, query, ""))
    return Target(clean, secure, host, port, basic_authorization(parsed.username, parsed.password))


def redirected(target: Target, status: int, location: str | None) -> Target | None:
    """Return where a redirect leads, or None: never to another host and never out of TLS.

    The credentials go wherever the connection goes.

    Args:
        target: what was asked.
        status: of the answer.
        location: its header, relative or not.
    """
    if status not in (301, 302, 303, 307, 308) or not location:
        return None
    # `urljoin` does not know the ws schemes.
    following = urllib.parse.urljoin(f"http{target.url[2:]}", location)
    try:
        found = parse_target(f"ws{following[4:]}" if following.startswith("http") else following)
    except ValueError:
        return None
    if found.host != target.host or (target.secure and not found.secure):
        return None
    return found


def checked_headers(headers: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    """Return *headers*.

    Raises:
        ValueError: one contains a line break.
    """
    for name, value in headers:
        if any(character in f"{name}{value}" for character in "\r\n\0"):
            raise ValueError(f"The header {name!r} contains a line break")
    return headers


def basic_authorization(username: str | None, password: str | None) -> str | None:
    """Return the header value for user information of a URL, None if there is none."""
    if username is None:
        return None
    pair = f"{urllib.parse.unquote(username)}:{urllib.parse.unquote(password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode("ascii")


def _shown(url: str) -> str:
    """*url* without what may be secret in it."""
    head, separator, rest = url.partition("://")
    return f"{head}{separator}{rest.rpartition('@')[2].partition('?')[0]}"[:200]
