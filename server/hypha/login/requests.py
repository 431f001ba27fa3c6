"""The page's requests and answers: events of ``functions`` services (server §5.6) as typed values.

Everything in an event may be made up by whoever calls the function directly: it
serves to tell well-behaved browsers what to do, and proves nothing by itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

__all__ = ["COOKIE", "BadRequest", "PageRequest", "answer", "json_answer"]

COOKIE: Final = "access_token"

_MAX_BODY: Final = 16 * 1024
_MAX_FIELDS: Final = 20


class BadRequest(Exception):
    """A request the page never makes.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One HTTP request to the login pages."""

    method: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes

    @classmethod
    def parse(cls, event: object) -> PageRequest:
        """Read an event.

        Raises:
            BadRequest: it is none.
        """
        if not isinstance(event, Mapping) or event.get("type") != "http":
            raise BadRequest(400, "not an HTTP event")
        given = event.get("headers")
        headers = {str(name).lower(): str(value) for name, value in given.items()} if isinstance(given, Mapping) else {}
        try:
            query = dict(parse_qsl(str(event.get("query_string") or ""), max_num_fields=_MAX_FIELDS))
        except ValueError as error:
            raise BadRequest(400, "too many fields in the query") from error
        body = event.get("body") or b""
        if isinstance(body, str):
            body = body.encode()
        if not isinstance(body, bytes) or len(body) > _MAX_BODY:
            raise BadRequest(413, "the body is too large")
        return cls(str(event.get("method", "GET")).upper(), headers, query, body)

    @property
    def is_framed(self) -> bool:
        """Whether the answer is to be shown inside another page."""
        return self.headers.get("sec-fetch-dest") in ("iframe", "frame", "embed", "object")

    @property
    def referrer_origin(self) -> str:
        """Origin of the page it comes from, as far as the browser tells."""
        return origin_of(self.headers.get("referer", ""))

    def is_own(self, own_origin: str) -> bool:
        """Whether a page of this server, or the person itself, made the request (security S32)."""
        site, origin = self.headers.get("sec-fetch-site"), self.headers.get("origin")
        if site is not None:
            return site in ("same-origin", "none")
        if origin is None:
            return True
        return origin == own_origin or urlsplit(origin).netloc == self.headers.get("host")

    def cookie(self) -> str | None:
        """The token in the cookie, whoever sent it."""
        jar = SimpleCookie()
        try:
            jar.load(self.headers.get("cookie", ""))
        except CookieError:
            return None
        return jar[COOKIE].value if COOKIE in jar else None

    def json(self) -> dict[str, Any]:
        """The fields of a request of the page's script.

        Raises:
            BadRequest: another method, content type or form; a form of another site can send none of it.
        """
        if self.method != "POST":
            raise BadRequest(405, "POST is the only method here")
        if self.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise BadRequest(415, "the body must be application/json")
        try:
            fields = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise BadRequest(400, "the body is not JSON") from error
        if not isinstance(fields, dict):
            raise BadRequest(400, "the body must be an object")
        return fields


def origin_of(url: str) -> str:
    """``scheme://host[:port]`` of *url*, or an empty text."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""


def answer(
    body: str | bytes, kind: str, headers: Mapping[str, str] | None = None, *, status: int = 200
) -> dict[str, Any]:
    """An answer of a ``functions`` service."""
    return {"status": status, "headers": {"Content-Type": kind, **(headers or {})}, "body": body}


def json_answer(value: Any, headers: Mapping[str, str] | None = None, *, status: int = 200) -> dict[str, Any]:
    """*value* for the page's script; never kept by anybody."""
    kept = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})}
    return answer(json.dumps(value, ensure_ascii=False), "application/json", kept, status=status)
