"""One HTTP exchange with an ASGI service: its ``receive`` and ``send`` as functions a provider calls (server §5.7).

Bodies pass chunk by chunk in both directions; a chunk of the answer is
acknowledged to the provider when the socket has taken it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from hypha.gateway import GatewayCall
from hypha.web.addresses import header_of
from hypha.web.context import Message, Receive, Scope, Send
from hypha.web.provider_answers import BadAnswer, Headers, checked_status

__all__ = ["Exchange"]

_DISCONNECT: Final[dict[str, Any]] = {"type": "http.disconnect"}


class Exchange:
    """The messages of one request and its answer.

    Args:
        connection: ASGI ``scope``, ``receive`` and ``send`` of the client.
        headers: checks and completes the headers of the answer.
        most: bytes of the request's body at most.

    Attributes:
        started: the head of the answer was sent.
        complete: the whole answer was sent.
        problem: status and text to answer with instead, if the answer has not begun.
    """

    def __init__(
        self, connection: tuple[Scope, Receive, Send], headers: Callable[[Any], Headers], *, most: int
    ) -> None:
        self._scope, self._receive, self._send = connection
        self._headers = headers
        self._left = most
        self._head: Message | None = None
        self._reading = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._read_all = False
        self._over = asyncio.Event()
        self._first: dict[str, Any] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._call: GatewayCall | None = None
        self.started = False
        self.complete = False
        self.problem: tuple[int, str] | None = None

    async def run(self, call: Callable[[dict[str, Any]], GatewayCall], scope: dict[str, Any]) -> None:
        """Let the provider serve the request; raises what its function raises."""
        if header_of(self._scope, b"content-length") in (None, "0") and not header_of(
            self._scope, b"transfer-encoding"
        ):
            self._first = await self._next()
        self._call = call({"scope": scope, "receive": self.receive, "send": self.send})
        try:
            await asyncio.wait([self._call])
            if not self._call.cancelled():
                self._call.result()
        finally:
            self._call.cancel()
            self._over.set()
            if self._watch is not None:
                self._watch.cancel()
                await asyncio.wait([self._watch])

    # -- called by the provider --------------------------------------------------------

    async def receive(self) -> dict[str, Any]:
        """The next piece of the request's body; after the last one, news that the client has gone."""
        async with self._reading:
            first, self._first = self._first, None
            if first is not None:
                return first
            if not self._read_all:
                return await self._next()
        await self._over.wait()
        return dict(_DISCONNECT)

    async def send(self, message: Any) -> None:
        """A piece of the answer.

        Raises:
            ValueError: it is none.
            ConnectionError: nobody reads it any more.
        """
        if not isinstance(message, dict):
            raise TypeError("a message must be a map")
        async with self._writing:
            if self._over.is_set():
                raise ConnectionError("The client has gone")
            if self.problem is not None or self.complete:
                raise ValueError("The answer has ended")
            kind = message.get("type")
            if kind == "http.response.start":
                self._start(message)
            elif kind == "http.response.body":
                await self._body(message)
            else:
                raise ValueError(f"Messages of type {kind!r:.60} cannot be sent here")

    # -- private -------------------------------------------------------------------------

    def _start(self, message: dict[str, Any]) -> None:
        if self._head is not None:
            raise ValueError("The answer has begun already")
        try:
            status, headers = checked_status(message.get("status")), self._headers(message.get("headers"))
        except BadAnswer as error:
            self.problem = (502, f"Bad answer of the service: {error}")
            raise
        self._head = {"type": "http.response.start", "status": status, "headers": headers}

    async def _body(self, message: dict[str, Any]) -> None:
        if self._head is None:
            raise ValueError("The answer has not begun")
        body, more = _octets(message.get("body")), bool(message.get("more_body"))
        if not self.started:
            self.started = True
            await self._send(self._head)
        await self._send({"type": "http.response.body", "body": body, "more_body": more})
        self.complete = not more

    async def _next(self) -> dict[str, Any]:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._gone()
            return dict(_DISCONNECT)
        body, more = message.get("body", b""), bool(message.get("more_body"))
        self._left -= len(body)
        if self._left < 0:
            self.problem = (413, "The request body is too large")
            self._gone()
            return dict(_DISCONNECT)
        if not more:
            self._read_all = True
            self._watch = asyncio.get_running_loop().create_task(self._until_gone(), name="hypha-asgi-watch")
        return {"type": "http.request", "body": body, "more_body": more}

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self.complete:
            self._gone()

    def _gone(self) -> None:
        self._read_all = True
        self._over.set()
        if self._call is not None:
            self._call.cancel()


def _octets(body: Any) -> bytes:
    """The bytes of a body, in whatever form the provider's language has for them."""
    if isinstance(body, dict) and isinstance(body.get("_rvalue"), bytes):
        body = body["_rvalue"]
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    if not isinstance(body, (bytes, bytearray, memoryview)):
        raise TypeError(f"a body must be bytes, not {type(body).__name__}")
    return bytes(body)
