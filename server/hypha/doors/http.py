"""uvicorn's HTTP protocol, which also says what is wrong with a request that is none (server §4.4).

And it bounds the head of a request, in bytes and in time (security §8).
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["ExplainingProtocol"]

_NAME: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}"
_SPACED: Final = re.compile(rb"\n(" + _NAME + rb")[ \t]+:")
_LOOKED_AT: Final = 16_384
_HEAD_BYTES: Final = 16 * 1024


class ExplainingProtocol(HttpToolsProtocol):
    """As its base, but a refusal at the level of HTTP is JSON and names the cause where it is known.

    Attributes:
        head_timeout_s: how long a head may take.
    """

    head_timeout_s: float = 20.0

    _last: bytes = b""
    _in_head: bool = True
    _head_size: int = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a first head."""
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(self.head_timeout_s, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Keep what may be refused; refuse a head that is too large before it is looked at."""
        if self._in_head:
            end = data.find(b"\r\n\r\n")
            self._head_size += len(data) if end < 0 else end
            if self._head_size > (self.config.h11_max_incomplete_event_size or _HEAD_BYTES):
                self._refuse(431, "Request Header Fields Too Large", "The head of the request is too large")
                return
        self._last = data
        super().data_received(data)
        self._last = b""
        if self._in_head and self._head_size and self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(self.head_timeout_s, self._too_slow)

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._in_head, self._head_size = False, 0
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next head may begin."""
        self._in_head = True
        super().on_message_complete()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self._refuse(408, "Request Timeout", "The head of the request did not arrive in time")

    def send_400_response(self, msg: str) -> None:
        """Refuse the request and close."""
        detail = msg
        spaced = _SPACED.search(self._last[:_LOOKED_AT])
        if spaced is not None:
            # RFC 9112 §5.1 obliges a server to refuse it.
            name = spaced[1].decode("ascii")
            detail = (
                f"Invalid HTTP request received: there must be no space between the header name '{name}' and its colon"
            )
        self._refuse(400, "Bad Request", detail)

    def _refuse(self, status: int, phrase: str, detail: str) -> None:
        self._stop_timer()
        body = json.dumps({"success": False, "detail": detail}).encode()
        head = (
            f"HTTP/1.1 {status} {phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()
