"""What a provider may put into an answer of this site, and what it gets to see (security S33, S36, S37).

Pure functions of headers; they know nothing of services.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from hypha.web.identity import COOKIE

__all__ = ["SANDBOX", "BadAnswer", "answer_headers", "checked_status", "request_headers"]

SANDBOX: Final = (
    "sandbox allow-scripts allow-forms allow-modals allow-downloads allow-popups allow-popups-to-escape-sandbox"
)

Headers = list[tuple[bytes, bytes]]

_HOP_BY_HOP: Final = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding "
    b"upgrade".split()
)
_OURS: Final = frozenset(
    b"strict-transport-security clear-site-data service-worker-allowed alt-svc date server x-frame-options".split()
)
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}")
_BAD_VALUE: Final = re.compile(rb"[\r\n\x00]")
_COOKIE_NAMES: Final = (COOKIE, "__host-", "__secure-")
_MAX_HEADERS: Final = 256


class BadAnswer(ValueError):
    """A provider's answer that is no HTTP; the client gets a 502."""


def checked_status(status: Any) -> int:
    """*status*, if it is one of a final answer.

    Raises:
        BadAnswer: it is not.
    """
    if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
        raise BadAnswer(f"the status must be a number from 200 to 599, not {status!r:.40}")
    return status


def answer_headers(given: Any, *, prefix: str, trusted: bool) -> Headers:
    """The headers of a provider's answer that are passed on.

    Args:
        given: a map, or pairs, of text or bytes.
        prefix: path of the app; its cookies stay below it.
        trusted: the server's own service: it may set any cookie of this site.

    Raises:
        BadAnswer: a name or a value is not valid.
    """
    kept: Headers = []
    for name, value in _pairs(given):
        if not _NAME.fullmatch(name) or _BAD_VALUE.search(value):
            raise BadAnswer("a header is not valid")
        lower = name.lower()
        if lower in _HOP_BY_HOP or lower.startswith(b"access-control-"):
            continue
        if lower in _OURS and not (trusted and lower == b"x-frame-options"):
            continue
        if lower == b"set-cookie" and not trusted:
            cookie = _confined(value, prefix)
            if cookie is not None:
                kept.append((lower, cookie))
            continue
        kept.append((lower, value))
    return kept


def request_headers(given: Iterable[tuple[bytes, bytes]], *, verified: bool, trusted: bool) -> Headers:
    """The headers of a request that a provider gets to see: its caller's token is none of its business.

    Args:
        given: as received.
        verified: a token of this server was in it.
        trusted: the provider is the server's own.
    """
    kept: Headers = []
    for name, value in given:
        if name in _HOP_BY_HOP and name != b"upgrade":
            continue
        if not trusted:
            if name == b"authorization" and verified:
                continue
            if name == b"cookie":
                rest = _without_ours(value)
                if rest:
                    kept.append((name, rest))
                continue
        kept.append((name, value))
    return kept


def _pairs(given: Any) -> list[tuple[bytes, bytes]]:
    if given is None:
        return []
    items = list(given.items()) if isinstance(given, dict) else given
    if not isinstance(items, (list, tuple)) or len(items) > _MAX_HEADERS:
        raise BadAnswer("the headers must be a map or pairs")
    pairs: list[tuple[bytes, bytes]] = []
    for item in items:
        if not isinstance(item, (list, tuple)) or len(item) != 2:
            raise BadAnswer("a header must be a name and a value")
        name, value = item
        values = value if isinstance(value, list) and isinstance(given, dict) else [value]
        pairs.extend((_bytes(name), _bytes(one)) for one in values)
    return pairs


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        try:
            return str(value).encode("latin-1")
        except UnicodeEncodeError as error:
            raise BadAnswer("a header has characters that cannot be sent") from error
    raise BadAnswer(f"a header must be text, not {type(value).__name__}")


def _confined(cookie: bytes, prefix: str) -> bytes | None:
    """A provider's cookie below its own path; None for one whose name is the site's."""
    pair, *attributes = [part.strip() for part in cookie.decode("latin-1").split(";")]
    name = pair.partition("=")[0].strip().lower()
    if not name or name.startswith(_COOKIE_NAMES):
        return None
    path = prefix
    kept = [pair]
    for attribute in attributes:
        key, _, value = attribute.partition("=")
        lower = key.strip().lower()
        if lower == "path":
            if f"{value.strip()}/".startswith(f"{prefix}/") and ".." not in value:
                path = value.strip()
        elif lower != "domain":
            kept.append(attribute)
    return "; ".join([*kept, f"Path={path}"]).encode("latin-1")


def _without_ours(cookie: bytes) -> bytes:
    pairs = [part.strip() for part in cookie.split(b";")]
    ours = COOKIE.encode()
    return b"; ".join(part for part in pairs if part and part.partition(b"=")[0].strip() != ours)
