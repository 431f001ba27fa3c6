"""WebSocket connections of Pyodide: the JavaScript ``WebSocket`` of the page, worker or Node.

Knows the FFI of Pyodide (browser.md §3); importable everywhere, because `js` and
`pyodide.ffi` are imported when a connection is opened. Options that cannot exist
in a browser (``ssl``, headers) are ignored.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from hypha_rpc.transports.base import (
    HIGH_WATER,
    LOW_WATER,
    Buffer,
    Closed,
    Credentials,
    Limits,
    OpenOptions,
    OpenTimeout,
    Transport,
    Unavailable,
)
from hypha_rpc.transports.handshake import authenticate, normalize_server_url
from hypha_rpc.transports.pipe import CUT, Pipe
from hypha_rpc.transports.target import parse_target

__all__ = ["PyodideConnector", "PyodideTransport"]

_log = logging.getLogger("hypha_rpc.transport")

#: Browsers do not tell when their send queue has drained: while it is full, look this often.
POLL_S = 0.02
_OPEN = 1


class PyodideConnector:
    """Opens `Transport`s over the JavaScript ``WebSocket``."""

    def __init__(self, *, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()

    async def open(self, options: OpenOptions, credentials: Credentials) -> tuple[Transport, dict[str, Any]]:
        """Connect and authenticate; see `base.Connector`.

        Raises:
            Refused: the server sent an ``error`` message.
            Unavailable: no connection for now; browsers do not say why.
            RuntimeError: this JavaScript environment has no ``WebSocket``.
            ValueError: the options can never work.
        """
        target = parse_target(normalize_server_url(options.url))
        if options.ssl is not None or options.headers:
            _log.debug("The options ssl and headers do not exist in a browser and are ignored")
        pipe = PyodideTransport(self._limits, target.url)
        try:
            async with asyncio.timeout(options.timeout_s):
                await pipe.opened(target.authority)
                info = await authenticate(pipe, credentials)
        except BaseException as error:
            await pipe.discard()
            if isinstance(error, TimeoutError) and not isinstance(error, Unavailable):
                raise OpenTimeout(f"{target.authority} was not open within {options.timeout_s:g} seconds") from error
            raise
        return pipe, info


class PyodideTransport(Pipe):
    """A `Transport` over one JavaScript ``WebSocket``."""

    def __init__(self, limits: Limits, url: str) -> None:
        super().__init__(limits)
        js, self._ffi = _javascript()
        self._new_array: Callable[[int], Any] = js.Uint8Array.new
        self._open: asyncio.Future[bool] = self._loop.create_future()
        self._poll: asyncio.TimerHandle | None = None
        self._socket: Any = js.WebSocket.new(url)
        self._socket.binaryType = "arraybuffer"
        # JavaScript does not keep Python objects alive: these are ours to keep and to destroy.
        self._handlers = {
            "onopen": self._ffi.create_proxy(self._on_open),
            "onmessage": self._ffi.create_proxy(self._on_message),
            "onerror": self._ffi.create_proxy(self._on_error),
            "onclose": self._ffi.create_proxy(self._on_close),
        }
        for name, handler in self._handlers.items():
            setattr(self._socket, name, handler)

    @property
    def writable(self) -> bool:
        """Whether less than `HIGH_WATER` bytes wait to be written."""
        self._look()
        return self._writable

    async def opened(self, authority: str) -> None:
        """Wait until the socket is open; the caller's time limit bounds it.

        Raises:
            Unavailable: it did not open.
        """
        await asyncio.wait([self._open])
        if not self._open.result():
            code, reason = self._closed or CUT
            detail = f": {reason}" if reason else ""
            raise Unavailable(f"No connection to {authority} (code {code}{detail})")

    # ------------------------------------------------------------------ called by JavaScript

    def _on_open(self, event: Any) -> None:
        self._settle(opened=True)

    def _on_message(self, event: Any) -> None:
        data = event.data
        if isinstance(data, str):
            self._text(data)
        elif data.byteLength > self._limits.max_frame:
            self._fail(1009, f"Message of more than {self._limits.max_frame} bytes")
        else:
            self._frame(data.to_bytes())

    def _on_error(self, event: Any) -> None:
        # A close event follows and settles everything, once.
        _log.debug("The browser reports an error of the connection")

    def _on_close(self, event: Any) -> None:
        self._finish(Closed(int(event.code), str(event.reason or "")))

    # ------------------------------------------------------------------ writing

    def _write_frame(self, parts: Sequence[Buffer]) -> None:
        if self._socket.readyState == _OPEN:
            self._socket.send(self._ffi.to_js(parts[0]) if len(parts) == 1 else self._joined(parts))
            self._look()

    def _write_text(self, text: str) -> None:
        if self._socket.readyState == _OPEN:
            self._socket.send(text)

    def _write_close(self, code: int, reason: str) -> None:
        # Pages may say 1000 or a code of their own, nothing else.
        self._socket.close(code if code == 1000 or code >= 3000 else 1000, reason)

    def _hang_up(self) -> None:
        self._cut_later()

    def _cut(self) -> None:
        """A browser cannot be told to cut: forget the socket, whose closing it goes on with alone."""
        if self._closed is None:
            self._socket.close()
            self._loop.call_soon(self._finish, CUT)

    def _joined(self, parts: Sequence[Buffer]) -> Any:
        """Copy *parts* into one JavaScript array, each once."""
        views = [memoryview(part).cast("B") for part in parts]
        array, offset = self._new_array(sum(len(view) for view in views)), 0
        for view in views:
            if len(view):
                array.subarray(offset, offset + len(view)).assign(view)
            offset += len(view)
        return array

    # ------------------------------------------------------------------ back-pressure

    def _look(self) -> None:
        """Compare the browser's send queue with the marks; while it is full, look again soon."""
        if self._closed is not None:
            return
        waiting = self._socket.bufferedAmount
        if self._writable and waiting > HIGH_WATER:
            self._writable = False
            self._poll = self._loop.call_later(POLL_S, self._look_again)

    def _look_again(self) -> None:
        self._poll = None
        if self._closed is not None:
            return
        if self._socket.bufferedAmount < LOW_WATER:
            self._drained()
        else:
            self._poll = self._loop.call_later(POLL_S, self._look_again)

    # ------------------------------------------------------------------ ending

    def _settle(self, *, opened: bool) -> None:
        if not self._open.done():
            self._open.set_result(opened)

    def _finish(self, closed: Closed) -> None:
        """The socket is gone, or as good as gone: let go of everything, once."""
        if self._closed is not None:
            return
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None
        for name in self._handlers:
            setattr(self._socket, name, None)
        # One of them may be running right now.
        self._loop.call_soon(_destroy, list(self._handlers.values()))
        self._handlers = {}
        self._ended(closed)
        self._settle(opened=False)


def _javascript() -> tuple[Any, Any]:
    """Import the two modules that exist only in Pyodide."""
    js = importlib.import_module("js")
    ffi = importlib.import_module("pyodide.ffi")
    if not hasattr(js, "WebSocket"):
        raise RuntimeError("This JavaScript environment has no WebSocket: set globalThis.WebSocket first")
    return js, ffi


def _destroy(proxies: list[Any]) -> None:
    for proxy in proxies:
        proxy.destroy()
