"""The door of the HTTP transport: ``GET /rpc`` is a stream down, ``POST /rpc`` brings frames up (protocol §7).

Reads requests and answers them; who may come in is decided as for sockets
(`hypha.doors.handshake`), who may post to a stream is decided here (security
S19). Where it hangs, and CORS, are the web application's business.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import parse_qs

from hypha.auth.errors import AuthenticationError
from hypha.auth.identity import User, home_of
from hypha.auth.tokens import refuse_specialised
from hypha.doors.context import DoorContext
from hypha.doors.rpc_post import Disconnected, PostFailure, take_post
from hypha.doors.rpc_stream import CONTENT_TYPE, Introduction, StreamOutlet, StreamPeer

__all__ = ["RpcDoor"]

_log = logging.getLogger("hypha.doors")

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_LAST_WORD_S: Final = 0.2
_END_S: Final = 3.0
_MAX_SECRET: Final = 256
_MIN_SECRET: Final = 16


class RpcDoor:
    """An ASGI application that serves the streams of peers and their POSTs.

    Args:
        context: the server.
        address_of: where a request comes from, which behind proxies is not its peer.
    """

    def __init__(self, context: DoorContext, address_of: Callable[[Scope], str] | None = None) -> None:
        self._context = context
        self._address_of = address_of or _peer_address
        self._streams: dict[str, StreamPeer] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        method = scope["method"]
        request = _Request(scope, self._address_of(scope))
        try:
            if method == "POST":
                await self._post(request, receive)
                # Made anew each time: who stands between may add to it.
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
                await send({"type": "http.response.body", "body": b""})
            elif method == "GET":
                await self._stream(request, receive, send)
            else:
                raise PostFailure(405, "GET or POST")
        except PostFailure as failure:
            await _fail(send, failure.status, failure.detail)
        except Disconnected:
            # Nobody is left to be answered.
            return

    # -- GET -----------------------------------------------------------------------------

    async def _stream(self, request: _Request, receive: Receive, send: Send) -> None:
        if not request.client_id:
            raise PostFailure(400, "client_id is required")
        if self._context.busy(request.address):
            raise PostFailure(503, "Server busy, please retry")
        introduction = request.introduction()
        outlet = StreamOutlet(self._context, introduction.level)
        peer = StreamPeer(self._context, outlet, introduction, self._let_in)
        loop = asyncio.get_running_loop()
        writer = loop.create_task(outlet.write(send), name="hypha-stream-write")
        watcher = loop.create_task(_until_disconnected(receive), name="hypha-stream-watch")
        waited: set[asyncio.Future[Any]] = {writer, watcher}
        try:
            await asyncio.wait({*waited, outlet.aborted}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._forget(peer)
            outlet.end()
            peer.on_closed(peer.code)
            # A peer that reads gets a proper end of its stream.
            await asyncio.wait({writer}, timeout=_LAST_WORD_S)
            writer.cancel()
            watcher.cancel()
            await asyncio.wait(waited, timeout=_END_S)
        if outlet.refusal is not None:
            raise PostFailure(*outlet.refusal)
        if not writer.cancelled() and isinstance(error := writer.exception(), Exception):
            _log.debug("a stream could not be written: %s", error)

    def _let_in(self, peer: StreamPeer) -> None:
        if peer.connection is not None:
            self._streams[peer.connection.address] = peer

    def _forget(self, peer: StreamPeer) -> None:
        address = peer.connection.address if peer.connection is not None else ""
        if self._streams.get(address) is peer:
            del self._streams[address]

    # -- POST ----------------------------------------------------------------------------

    async def _post(self, request: _Request, receive: Receive) -> None:
        if not request.client_id:
            raise PostFailure(400, "client_id is required")
        if request.header(b"content-encoding", "identity") != "identity":
            raise PostFailure(415, "Bodies are not compressed here")
        peer = self._find(request)
        framed = request.header(b"content-type", "").partition(";")[0].strip().encode() == CONTENT_TYPE
        await take_post(peer, receive, self._context.limits, number=request.number, framed=framed)

    def _find(self, request: _Request) -> StreamPeer:
        """The stream that a POST belongs to, if it may be posted to by whoever posts (security S19)."""
        workspace = request.workspace
        if not workspace:
            user = self._user(request)
            if user is None:
                raise PostFailure(400, "workspace is required")
            workspace = user.current_workspace or home_of(user.id)
        peer = self._streams.get(f"{workspace}/{request.client_id}")
        if peer is None or peer.connection is None:
            # Public clients repeat a POST that is answered by 400: theirs may be ahead of its stream.
            status = 404 if request.header(b"x-hypha-stream", "") else 400
            raise PostFailure(status, f"No stream is open for client {request.client_id:.128}: GET /rpc comes first")
        if not self._may_post(request, peer):
            raise PostFailure(403, "Permission denied: this stream belongs to another client")
        return peer

    def _may_post(self, request: _Request, peer: StreamPeer) -> bool:
        known = peer.knows(request.header(b"x-hypha-stream", ""))
        if known is not None:
            return known
        token = request.token
        user: Any = peer.connection.user if peer.connection is not None else None
        if token is None:
            return bool(user.is_anonymous) and request.address == peer.address
        if peer.has_token(token):
            return True
        poster = self._user(request)
        return poster is not None and poster.id == user.id

    def _user(self, request: _Request) -> User | None:
        if request.token is None:
            return None
        try:
            user = self._context.tokens.authenticate(request.token)
            refuse_specialised(user)
        except AuthenticationError as error:
            raise PostFailure(401, f"Authentication error: {error}") from error
        except PermissionError as error:
            raise PostFailure(403, str(error)) from error
        return user


class _Request:
    """The parts of a request that matter here."""

    def __init__(self, scope: Scope, address: str) -> None:
        self.address = address
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        query = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=64)
        self.client_id = query.get("client_id", [""])[0]
        self.workspace = query.get("workspace", [""])[0]
        self._reconnection_token = query.get("reconnection_token", [""])[0]

    def header(self, name: bytes, default: str) -> str:
        """One header."""
        value = self._headers.get(name)
        return default if value is None else value.decode("latin-1").strip()

    @property
    def token(self) -> str | None:
        """The credential in ``Authorization``: Bearer, raw or Basic; never from the query (security S19)."""
        header = self.header(b"authorization", "")
        kind, _, rest = header.partition(" ")
        return (rest.strip() if kind.lower() in ("bearer", "basic") else header) or None

    @property
    def number(self) -> int | None:
        """Which POST of its stream this is, as our own clients say."""
        text = self.header(b"x-hypha-post", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None

    def introduction(self) -> Introduction:
        """What a request for a stream says."""
        level = self.header(b"x-hypha-level", "0")
        x = int(level) if level.isascii() and level.isdigit() and len(level) < 9 else 0
        secret = self.header(b"x-hypha-stream", "")
        if secret and not _MIN_SECRET <= len(secret) <= _MAX_SECRET:
            raise PostFailure(400, f"X-Hypha-Stream has {_MIN_SECRET} to {_MAX_SECRET} characters")
        # Old public clients ask for `public` when they have been told nothing (server §5.8).
        workspace = self.workspace if x or self.workspace != "public" else ""
        frame = {
            "client_id": self.client_id,
            "workspace": workspace,
            "token": self.token,
            "reconnection_token": self._reconnection_token,
            "x": x,
            "life": self.header(b"x-hypha-life", ""),
        }
        return Introduction(frame, self.token, secret or None, self.address)


def _peer_address(scope: Scope) -> str:
    return str((scope.get("client") or ("",))[0])


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


async def _fail(send: Send, status: int, detail: str) -> None:
    body = json.dumps({"success": False, "detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status in (429, 503):
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
