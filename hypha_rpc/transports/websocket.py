"""Opens WebSocket connections on CPython, whichever library moves the frames.

Decides the engine (picows if it can be imported, else `websockets`, same
behaviour), follows redirects, maps every failure to the words of `base`. Does
not know frames.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
import socket
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from hypha_rpc.transports.base import Credentials, Limits, OpenOptions, OpenTimeout, Transport, Unavailable
from hypha_rpc.transports.dial import dial
from hypha_rpc.transports.handshake import authenticate, normalize_server_url
from hypha_rpc.transports.target import Target, checked_headers, parse_target, redirected
from hypha_rpc.transports.tls import TlsContexts, tls_failure

if TYPE_CHECKING:
    from hypha_rpc.transports.pipe import Pipe

__all__ = ["ENGINES", "WebSocketConnector"]

_log = logging.getLogger("hypha_rpc.transport")

ENGINES = ("picows", "websockets")
MAX_REDIRECTS = 5

Headers = Sequence[tuple[str, str]]


class UpgradeRefused(Exception):
    """An engine's word for: the server answered the upgrade with something else than 101."""

    def __init__(self, status: int, location: str | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.location = location


class UpgradeFailed(Exception):
    """An engine's word for: that was no proper answer to an upgrade."""


class Engine(Protocol):
    """What the modules `picows_transport` and `websockets_transport` provide."""

    async def upgrade(
        self, target: Target, sock: socket.socket, *, tls: ssl.SSLContext | None, headers: Headers, limits: Limits
    ) -> Pipe:
        """Make a WebSocket of the connected *sock*, which is the engine's from now on.

        Raises:
            UpgradeRefused, UpgradeFailed: by the server's answer.
            OSError: the connection failed, or TLS did.
        """


class WebSocketConnector:
    """Opens `Transport`s over WebSocket (protocol §1.1-1.3)."""

    def __init__(self, engine: str | None = None, *, limits: Limits | None = None) -> None:
        """Choose how to connect.

        Args:
            engine: ``"picows"`` or ``"websockets"``; the best one present by default.
            limits: what the transports carry.
        """
        if engine is not None and engine not in ENGINES:
            raise ValueError(f"engine must be one of {ENGINES}, not {engine!r}")
        self._engine_name = engine
        self._limits = limits or Limits()
        self._tls = TlsContexts()

    async def open(self, options: OpenOptions, credentials: Credentials) -> tuple[Transport, dict[str, Any]]:
        """Connect and authenticate; see `base.Connector`.

        Raises:
            Refused: the server sent an ``error`` message.
            Unavailable: no connection for now; with `OpenRefused`, `OpenTimeout`,
                `OpenAborted` for the cases of python-client §3.5.
            ValueError: the options can never work.

        Cancellation:
            Leaves nothing behind.
        """
        target = parse_target(normalize_server_url(options.url))
        headers = checked_headers(options.headers)
        pipe: Pipe | None = None
        try:
            async with asyncio.timeout(options.timeout_s):
                pipe = await self._connect(target, headers, options.ssl)
                info = await authenticate(pipe, credentials)
        except BaseException as error:
            if pipe is not None:
                await pipe.discard()
            if isinstance(error, TimeoutError) and not isinstance(error, Unavailable):
                what = "sent no connection_info" if pipe is not None else "could not be reached"
                raise OpenTimeout(f"{target.authority} {what} within {options.timeout_s:g} seconds") from error
            raise
        return cast("Transport", pipe), info

    async def _connect(self, target: Target, headers: Headers, tls_option: Any) -> Pipe:
        """Follow redirects to an open pipe."""
        for _ in range(MAX_REDIRECTS + 1):
            try:
                return await self._upgrade(target, headers, tls_option)
            except UpgradeRefused as refusal:
                following = redirected(target, refusal.status, refusal.location)
                if following is None:
                    text = f"server rejected WebSocket connection: HTTP {refusal.status}"
                    raise Unavailable(f"{target.authority}: {text}", status=refusal.status) from refusal
                target = following
        raise Unavailable(f"{target.authority}: too many redirects")

    async def _upgrade(self, target: Target, headers: Headers, tls_option: Any) -> Pipe:
        """Make one connection and map what may go wrong on it."""
        engine = _load_engine(self._engine_name)
        tls = self._tls.get(tls_option) if target.secure else None
        if target.authorization is not None:
            headers = [*headers, ("Authorization", target.authorization)]
        sock = await dial(target)
        try:
            return await engine.upgrade(target, sock, tls=tls, headers=headers, limits=self._limits)
        except (TimeoutError, Unavailable):
            raise
        except ssl.SSLError as error:
            raise Unavailable(tls_failure(target.authority, error)) from error
        except OSError as error:
            raise Unavailable(f"The connection to {target.authority} failed: {error}") from error
        except UpgradeFailed as error:
            raise Unavailable(f"{target.authority} does not speak WebSocket: {error}") from error


def _load_engine(name: str | None) -> Engine:
    """Import the engine at the first connect: importing the package stays cheap."""
    if name is None:
        name = "picows" if importlib.util.find_spec("picows") is not None else "websockets"
    try:
        module = importlib.import_module(f"hypha_rpc.transports.{name}_transport")
    except ImportError:
        if name != "picows" or importlib.util.find_spec("websockets") is None:
            raise
        _log.warning("picows cannot be imported; using websockets", exc_info=True)
        module = importlib.import_module("hypha_rpc.transports.websockets_transport")
    return cast("Engine", module)
