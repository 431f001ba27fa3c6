"""Opens connections of the HTTP transport (protocol §7): a stream down, POSTs up.

The only module that knows the HTTP library, which is loaded at the first connect.
Makes the requests and maps every failure to the words of `base`; how frames
travel in them is `http_pipe`'s business.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import secrets
import socket
import ssl
import urllib.parse
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from hypha_rpc.transports.base import (
    Credentials,
    Limits,
    OpenAborted,
    OpenOptions,
    OpenRefused,
    OpenTimeout,
    Refused,
    Transport,
    Unavailable,
)
from hypha_rpc.transports.dial import proxy_for
from hypha_rpc.transports.handshake import MAX_MESSAGE, read_answer
from hypha_rpc.transports.http_pipe import CourierFailed, HttpPipe, PostAnswer
from hypha_rpc.transports.target import Target, checked_headers, parse_target, redirected
from hypha_rpc.transports.tls import TlsContexts, tls_failure
from hypha_rpc.transports.token import workspace_of_token

if TYPE_CHECKING:
    import httpx2

__all__ = ["HttpConnector", "normalize_server_url"]

MAX_REDIRECTS: Final = 5
MAX_ERROR_BYTES: Final = 64 * 1024
#: Servers of ours keep a quiet connection for longer, others as long as their runner does by default.
KEEP_ALIVE_S: Final = 60.0
KEEP_ALIVE_PUBLIC_S: Final = 4.0
POST_S: Final = 60.0
STREAM: Final = "application/x-msgpack-stream"
MESSAGE: Final = "application/msgpack"

Headers = Sequence[tuple[str, str]]


def normalize_server_url(server_url: str | None) -> str:
    """Return the HTTP address of *server_url* (python-client §3.3).

    Args:
        server_url: ``http(s)://host[:port][/prefix][/]``, or the same server's WebSocket address, whose
            ``ws(s)`` becomes ``http(s)`` and whose trailing ``/ws`` is removed.

    Raises:
        ValueError: the URL is missing or empty.
    """
    if not server_url:
        raise ValueError("server_url is required")
    scheme, separator, rest = server_url.partition("://")
    plain = {"ws": "http", "wss": "https"}.get(scheme.lower())
    if separator and plain is not None:
        server_url = f"{plain}://{rest}"
    return server_url.rstrip("/").removesuffix("/ws").rstrip("/")


class HttpConnector:
    """Opens `Transport`s over HTTP (protocol §7)."""

    def __init__(self, *, limits: Limits | None = None) -> None:
        """Choose what the transports carry.

        Args:
            limits: the default of `Limits` if not given.
        """
        self._limits = limits or Limits()
        self._tls = TlsContexts()

    async def open(self, options: OpenOptions, credentials: Credentials) -> tuple[Transport, dict[str, Any]]:
        """Connect and authenticate; see `base.Connector`.

        Raises:
            Refused: the server said no.
            Unavailable: no connection for now; with `OpenRefused`, `OpenTimeout`,
                `OpenAborted` for the cases of python-client §3.5.
            ValueError: the options can never work.
            ImportError: the HTTP library is not installed.

        Cancellation:
            Leaves nothing behind.
        """
        target = parse_target(_as_websocket(f"{normalize_server_url(options.url)}/rpc"))
        headers = checked_headers(options.headers)
        _library()
        courier: _Courier | None = None
        pipe: HttpPipe | None = None
        try:
            async with asyncio.timeout(options.timeout_s):
                tls = self._tls.get(options.ssl) if target.secure else None
                courier = _Courier(target, tls, _Identity(credentials, headers, target.authorization))
                await courier.open()
                pipe = HttpPipe(self._limits, courier)
                info = read_answer(await pipe.first_message(), pipe)
        except BaseException as error:
            if pipe is not None:
                await pipe.discard()
            elif courier is not None:
                await courier.close()
            if isinstance(error, TimeoutError) and not isinstance(error, Unavailable):
                raise OpenTimeout(
                    f"{target.authority} sent no connection_info within {options.timeout_s:g} seconds"
                ) from error
            raise
        return cast("Transport", pipe), info


class _Identity:
    """What every request of one connection says about who makes it."""

    def __init__(self, credentials: Credentials, headers: Headers, authorization: str | None) -> None:
        self.credentials = credentials
        if credentials.token:
            authorization = f"Bearer {credentials.token}"
        own = [("Authorization", authorization)] if authorization else []
        own.append(("X-Hypha-Stream", secrets.token_urlsafe(24)))
        taken = {name.lower() for name, _ in own}
        self.headers = [*(pair for pair in headers if pair[0].lower() not in taken), *own]

    def opening(self) -> tuple[str, list[tuple[str, str]]]:
        """Query and headers of the request for the stream."""
        who = self.credentials
        query = {
            "client_id": who.client_id,
            "workspace": who.workspace or workspace_of_token(who.token),
            "reconnection_token": who.reconnection_token,
        }
        headers = [
            *self.headers,
            ("Accept", STREAM),
            ("Accept-Encoding", "identity"),
            ("Cache-Control", "no-cache"),
            ("Content-Type", MESSAGE),
            ("X-Hypha-Level", "1"),
        ]
        if who.life:
            headers.append(("X-Hypha-Life", who.life))
        return _query(query), headers


class _Courier:
    """The requests of one connection (`http_pipe.Courier`)."""

    def __init__(self, target: Target, tls: ssl.SSLContext | None, identity: _Identity) -> None:
        self._target = target
        self._tls = tls
        self._identity = identity
        self._pools: list[httpx2.AsyncHTTPTransport] = []
        self._stream: httpx2.Response | None = None
        self._posts: httpx2.AsyncHTTPTransport | None = None
        self._post_url: httpx2.URL | None = None
        self._post_headers: dict[bool, list[tuple[str, str]]] = {}

    # ------------------------------------------------------------------ opening

    async def open(self) -> None:
        """Get the stream, following redirects; the caller's time limit bounds it."""
        query, headers = self._identity.opening()
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._get(query, headers)
            if response.status_code == 200:
                self._stream = response
                return
            following = redirected(self._target, response.status_code, response.headers.get("location"))
            if following is None:
                raise _meaning(self._target, response.status_code, await _error_text(response))
            await response.aclose()
            self._target = following
        raise Unavailable(f"{self._target.authority}: too many redirects")

    async def _get(self, query: str, headers: Headers) -> httpx2.Response:
        library = _library()
        pool = self._pool(KEEP_ALIVE_PUBLIC_S)
        url = f"{_as_http(self._target.url)}?{query}"
        request = library.Request("GET", url, headers=[*_host(url, headers), *headers], extensions={"timeout": {}})
        try:
            return await pool.handle_async_request(request)
        except library.TransportError as error:
            raise _unavailable(self._target, error) from error

    def _pool(self, keep_alive_s: float) -> httpx2.AsyncHTTPTransport:
        library = _library()
        # Without TLS nothing is checked: making the default context would cost milliseconds for nothing.
        pool: httpx2.AsyncHTTPTransport = library.AsyncHTTPTransport(
            verify=self._tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            trust_env=False,
            limits=library.Limits(max_connections=2, max_keepalive_connections=1, keepalive_expiry=keep_alive_s),
            proxy=proxy_for(self._target),
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        self._pools.append(pool)
        return pool

    def settle(self, workspace: str, *, ours: bool) -> None:
        """POSTs may be made from now on."""
        library = _library()
        query = _query({"client_id": self._identity.credentials.client_id, "workspace": workspace})
        url = f"{_as_http(self._target.url)}?{query}"
        self._post_url = library.URL(url)
        self._posts = self._pool(KEEP_ALIVE_S if ours else KEEP_ALIVE_PUBLIC_S)
        common = [*_host(url, self._identity.headers), *self._identity.headers]
        for framed, kind in ((False, MESSAGE), (True, STREAM)):
            self._post_headers[framed] = [*common, ("Content-Type", kind), ("Accept-Encoding", "identity")]

    # ------------------------------------------------------------------ Courier

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The body of the stream."""
        library = _library()
        assert self._stream is not None
        stream = cast("httpx2.AsyncByteStream", self._stream.stream)
        try:
            async for chunk in stream:
                yield chunk
        except library.TransportError as error:
            raise CourierFailed(f"the stream broke: {error!r}", sent=True) from error

    async def post(self, body: bytes, *, framed: bool, number: int) -> PostAnswer:
        """Make one POST."""
        library = _library()
        assert self._posts is not None
        assert self._post_url is not None
        headers = [*self._post_headers[framed], ("Content-Length", str(len(body))), ("X-Hypha-Post", str(number))]
        request = library.Request("POST", self._post_url, headers=headers, content=body, extensions=_POST_TIMES)
        try:
            response = await self._posts.handle_async_request(request)
            try:
                await response.aread()
            finally:
                await response.aclose()
        except (library.ConnectError, library.ConnectTimeout, library.PoolTimeout) as error:
            raise CourierFailed(f"a request could not be made: {error!r}", sent=False) from error
        except library.TransportError as error:
            raise CourierFailed(f"a request got no answer: {error!r}", sent=True) from error
        return PostAnswer(response.status_code, _seconds(response.headers.get("retry-after")))

    async def close(self) -> None:
        """Close all connections."""
        pools, self._pools = self._pools, []
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.aclose()
        for pool in pools:
            await pool.aclose()


_POST_TIMES: Final = {"timeout": {"connect": POST_S, "read": POST_S, "write": POST_S, "pool": POST_S}}


# ---------------------------------------------------------------------- failures


def _meaning(target: Target, status: int, detail: str | None) -> Exception:
    """The error for an answer that is no stream.

    Args:
        target: who was asked.
        status: of the answer.
        detail: what the server says, None if whoever answered is no server of ours.
    """
    if status in (401, 403) or (detail is not None and status in (400, 404, 409)):
        return Refused((detail or f"{target.authority} refused the connection: HTTP {status}")[:MAX_MESSAGE])
    text = f"{target.authority}: the server gave no stream: HTTP {status}"
    if status == 500 and detail:
        # Public servers say so that a workspace does not exist (server §5.8).
        error: Unavailable = OpenAborted(detail[:MAX_MESSAGE])
        error.status = status
        return error
    return Unavailable(f"{text}: {detail[:MAX_MESSAGE]}" if detail else text, status=status)


async def _error_text(response: httpx2.Response) -> str | None:
    """``detail`` of a JSON answer."""
    body = bytearray()
    async for chunk in cast("httpx2.AsyncByteStream", response.stream):
        body += chunk
        if len(body) > MAX_ERROR_BYTES:
            break
    await response.aclose()
    try:
        answer = json.loads(bytes(body))
    except (ValueError, RecursionError):
        return None
    detail = answer.get("detail") if isinstance(answer, dict) else None
    return detail if isinstance(detail, str) else None


def _unavailable(target: Target, error: Exception) -> Unavailable:
    """What went wrong below HTTP, in our words."""
    where = target.authority
    for cause in _causes(error):
        if isinstance(cause, ConnectionRefusedError):
            return OpenRefused(f"Nothing listens at {where}")
        if isinstance(cause, ssl.SSLError):
            return Unavailable(tls_failure(where, cause))
        if isinstance(cause, socket.gaierror):
            return Unavailable(f"Cannot find the host {target.host!r}: {cause}")
    return Unavailable(f"The connection to {where} failed: {type(error).__name__}: {error}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """*error*, what caused it, and so on; a group stands for its members."""
    pending, seen = [error], 0
    while pending and seen < 50:
        current = pending.pop()
        seen += 1
        yield current
        if isinstance(current, BaseExceptionGroup):
            pending.extend(current.exceptions)
        pending.extend(cause for cause in (current.__cause__, current.__context__) if cause is not None)


# ---------------------------------------------------------------------- small things


def _library() -> Any:
    """The HTTP library, loaded when it is needed first.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return importlib.import_module("httpx2")
    except ImportError as error:
        raise ImportError("transport 'http' needs the package httpx2: pip install 'hypha-rpc[http]'") from error


def _query(members: dict[str, str | None]) -> str:
    return urllib.parse.urlencode({name: value for name, value in members.items() if value})


def _host(url: str, headers: Headers) -> list[tuple[str, str]]:
    if any(name.lower() == "host" for name, _ in headers):
        return []
    return [("Host", urllib.parse.urlsplit(url).netloc)]


def _seconds(text: str | None) -> float:
    return float(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 6 else 0.0


def _as_http(url: str) -> str:
    return f"http{url[2:]}"


def _as_websocket(url: str) -> str:
    # A target is a WebSocket URL.
    return f"ws{url[4:]}" if url[:4].lower() == "http" else url
