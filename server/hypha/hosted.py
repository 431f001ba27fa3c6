"""The server as an ASGI application, for a runner of the operator's choice."""

from __future__ import annotations

import asyncio
import logging
import signal

from hypha.app import HyphaServer
from hypha.cli import load_environment
from hypha.doors.asgi import AsgiDoor, Message, Receive, Scope, Send
from hypha.settings import Settings, SettingsError
from hypha.startup import StartupError
from hypha.store.state import StateError

__all__ = ["AsgiServer"]

_log = logging.getLogger("hypha.server")


class AsgiServer:
    """The server as an ASGI application; the runner listens, and starts and stops it by lifespan messages.

    Settings come from the environment only (server §1.1). Start-up functions run when
    the port is open already, as they may connect to it; until they are done
    ``/health/readiness`` says 503. If one fails, the runner is told to end.
    """

    def __init__(self) -> None:
        self._server: HyphaServer | None = None
        self._door: AsgiDoor | None = None
        self._starting: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the life of the application."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._door is None:
            raise RuntimeError("hypha.server:app needs a runner that sends lifespan messages")
        else:
            await self._door(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] == "lifespan.startup":
            await send(self._start())
        await self._stop()
        await send({"type": "lifespan.shutdown.complete"})

    def _start(self) -> Message:
        try:
            settings = Settings.from_env(load_environment())
            settings.mounts()
            server = HyphaServer(settings, settings.port)
        except (SettingsError, StateError) as error:
            return {"type": "lifespan.startup.failed", "message": str(error)}
        self._server = server
        self._door = AsgiDoor(server.doors, f"{settings.base_path.rstrip('/')}/ws", server.asgi())
        self._starting = asyncio.get_running_loop().create_task(self._become_ready(server))
        return {"type": "lifespan.startup.complete"}

    async def _become_ready(self, server: HyphaServer) -> None:
        try:
            await server.start()
        except StartupError as error:
            _log.error("%s", error)
            signal.raise_signal(signal.SIGTERM)

    async def _stop(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        if self._server is not None:
            await self._server.stop()
        self._server = self._door = self._starting = None
