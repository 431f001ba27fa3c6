"""What every answer has in common: CORS, security headers, limits, compression, one form of errors.

It stands in front of the routes as a plain ASGI application and knows no route
(server §1.10, security S27-S29, S35, §8).
"""

from __future__ import annotations

import gzip
import logging
from collections.abc import Callable
from typing import Final

from starlette.responses import JSONResponse, PlainTextResponse, Response

from hypha.doors.sites import SiteRule
from hypha.web.addresses import ClientAddress, header_of
from hypha.web.apps import PROVIDED
from hypha.web.context import App, Message, Receive, Scope, Send, WebContext
from hypha.web.failures import to_response
from hypha.web.identity import too_many
from hypha.web.rates import Buckets

__all__ = ["Front"]

_log = logging.getLogger("hypha.web")

_METHODS: Final = b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
_ALLOWED: Final = (
    b"Accept, Accept-Encoding, Accept-Language, Access-Control-Allow-Origin, Access-Control-Request-Headers, "
    b"Access-Control-Request-Method, Authorization, Content-Encoding, Content-Language, Content-Type, "
    b"Inference-Header-Content-Length, Origin, Range, X-Hypha-Level, X-Hypha-Life, X-Hypha-Post, X-Hypha-Stream, "
    b"X-Requested-With"
)
_EXPOSED: Final = (
    b"Inference-Header-Content-Length, Accept-Encoding, Range, Origin, Content-Type, Content-Disposition, Retry-After"
)
_EXEMPT: Final = ("/health",)
_COMPRESSED: Final = 1000
_TEXT: Final = (b"text/", b"application/json", b"application/javascript", b"application/xml", b"image/svg+xml")
_HSTS: Final = (b"strict-transport-security", b"max-age=31536000")


class Front:
    """The web application as the outside sees it.

    Args:
        context: the server.
        routes: serves what is let through.
        addresses: tells where a request comes from.
        buckets: how often an address may ask without a token.
        seen: told the method and status of every answer.
    """

    def __init__(
        self,
        context: WebContext,
        routes: App,
        addresses: ClientAddress,
        *,
        buckets: Buckets,
        seen: Callable[[str, int], None],
    ) -> None:
        self._routes = routes
        self._addresses = addresses
        self._seen = seen
        self._base = context.base_path
        self._buckets = buckets
        origins = context.settings.allow_origins
        self._origins = None if "*" in origins else frozenset(origin.rstrip("/") for origin in origins)
        self._sites = SiteRule.of(context.settings, context.public_url)
        self._common = [(b"x-content-type-options", b"nosniff")]
        if context.public_url.startswith("https://"):
            self._common.append(_HSTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._routes(scope, receive, send)
            return
        answer = _Answer(self, scope, send)
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, answer.send)
            return
        try:
            await self._routes(scope, receive, answer.send)
        except Exception:  # noqa: BLE001 - supervision boundary: no request ends the server
            _log.exception("a request failed")
            if not answer.started:
                response = JSONResponse({"success": False, "detail": "Internal Server Error"}, status_code=500)
                await response(scope, receive, answer.send)

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that goes no further."""
        if not self._sites.knows_host(header_of(scope, b"host") or ""):
            return PlainTextResponse("This server does not answer to that host name", status_code=421)
        if scope["method"] == "OPTIONS" and header_of(scope, b"access-control-request-method") is not None:
            return PlainTextResponse("OK")
        if str(scope["path"]).removeprefix(self._base).startswith(_EXEMPT) or self._addresses.is_local(scope):
            return None
        if header_of(scope, b"authorization") is None and (wait := self._buckets.take(self._addresses.of(scope))):
            return to_response(too_many(wait))
        return None

    def cors(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """The CORS headers for a request; never with credentials (security S27)."""
        origin = header_of(scope, b"origin")
        if self._origins is None:
            allowed = b"*"
            headers: list[tuple[bytes, bytes]] = []
        else:
            headers = [(b"vary", b"Origin")]
            if origin is None or origin not in self._origins:
                return headers
            allowed = origin.encode("latin-1")
        if origin is None:
            return headers
        headers += [(b"access-control-allow-origin", allowed), (b"access-control-expose-headers", _EXPOSED)]
        if scope["method"] == "OPTIONS":
            headers += [
                (b"access-control-allow-methods", _METHODS),
                (b"access-control-allow-headers", _ALLOWED),
                (b"access-control-max-age", b"600"),
            ]
        return headers

    def common(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """What is added to every answer; whether a type may be guessed is a provider's own decision."""
        return self._common[1:] if PROVIDED in scope else self._common

    def seen(self, method: str, status: int) -> None:
        """Count an answer."""
        self._seen(method, status)


class _Answer:
    """Completes the head of an answer, and compresses a body that comes in one piece."""

    def __init__(self, front: Front, scope: Scope, send: Send) -> None:
        self._front = front
        self._scope = scope
        self._send = send
        self._held: Message | None = None
        self.started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            scope = self._scope
            self.started = True
            self._front.seen(scope["method"], message["status"])
            message["headers"] = [
                *message.get("headers", ()),
                *self._front.cors(scope),
                *self._front.common(scope),
            ]
            if _wants_gzip(scope) and _is_text(message["headers"]):
                self._held = message
                return
        elif self._held is not None:
            head, self._held = self._held, None
            await self._send_held(head, message)
            return
        await self._send(message)

    async def _send_held(self, head: Message, message: Message) -> None:
        head["headers"].append((b"vary", b"Accept-Encoding"))
        body = message.get("body", b"")
        if not message.get("more_body") and len(body) >= _COMPRESSED:
            message["body"] = body = gzip.compress(body, compresslevel=5, mtime=0)
            head["headers"] = [pair for pair in head["headers"] if pair[0] not in (b"content-length", b"etag")]
            length = str(len(body)).encode()
            head["headers"] += [(b"content-encoding", b"gzip"), (b"content-length", length)]
        await self._send(head)
        await self._send(message)


def _wants_gzip(scope: Scope) -> bool:
    if scope["method"] == "HEAD":
        return False
    accepted = header_of(scope, b"accept-encoding")
    return accepted is not None and "gzip" in accepted and "gzip;q=0" not in accepted.replace(" ", "")


def _is_text(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a body can be compressed: text, long enough, not encoded already, no part of a whole."""
    kind, length = b"", _COMPRESSED
    for name, value in headers:
        lower = name.lower()
        if lower in (b"content-encoding", b"content-range"):
            return False
        if lower == b"content-type":
            kind = value.lower()
        elif lower == b"content-length" and value.isdigit():
            length = int(value)
    return length >= _COMPRESSED and kind.startswith(_TEXT) and not kind.startswith(b"text/event-stream")
