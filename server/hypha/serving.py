"""A server on a port of its own: bound, served by uvicorn, ended on request.

Responsible for the order of binding, listening, starting and stopping, and for
what uvicorn is told. Knows neither the command line nor signals.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import shlex
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn

from hypha import __version__
from hypha.app import HyphaServer
from hypha.doors.choice import OpenDoor, choose_door, open_door, quiet_runner
from hypha.settings import Settings

__all__ = ["ServerRunner", "announce"]


class ServerRunner:
    """Binds the port, serves, stops on a signal.

    Args:
        settings: the operator's decisions.
        announce: called once the server is ready, with the running server.
    """

    def __init__(self, settings: Settings, announce: Callable[[HyphaServer], object] | None = None) -> None:
        self._settings = settings
        self._announce = announce
        self._stopping = asyncio.Event()
        self._failure: Exception | None = None
        self.server: HyphaServer | None = None

    def stop(self) -> None:
        """Ask the server to stop."""
        self._stopping.set()

    async def run(self) -> None:
        """Serve until `stop`.

        Raises:
            OSError: the port cannot be bound.
            SettingsError: a static mount has nothing to serve.
            StartupError: a start-up function failed.
        """
        self._settings.mounts()
        listener = bind(self._settings.host, self._settings.port)
        try:
            server = self.server = HyphaServer(self._settings, listener.getsockname()[1])
            path = f"{self._settings.base_path.rstrip('/')}/ws"
            door = open_door(await choose_door(), server.doors, path, server.asgi())
        except BaseException:
            listener.close()
            raise
        web = _WebServer(self._web_config(door))
        serving = asyncio.get_running_loop().create_task(web.serve(sockets=[listener]))
        stopping = asyncio.get_running_loop().create_task(self._stopping.wait())
        try:
            await self._start(server, web, stopping)
            await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
            await server.drain()
        finally:
            stopping.cancel()
            await server.stop()
            web.should_exit = True
            await asyncio.wait([serving], timeout=10.0)
            listener.close()

    async def _start(self, server: HyphaServer, web: _WebServer, stopping: asyncio.Task[Any]) -> None:
        await web.listening.wait()
        starting = asyncio.get_running_loop().create_task(server.start())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait([starting])
            return
        starting.result()
        if self._announce is not None:
            self._announce(server)

    def _web_config(self, door: OpenDoor) -> uvicorn.Config:
        settings = self._settings
        quiet_runner()
        if settings.access_log:
            access = logging.getLogger("uvicorn.access")
            access.setLevel(logging.INFO)
            access.addFilter(_without_query)
        return uvicorn.Config(
            door.application,
            http=_http_protocol(),
            ws=door.ws,
            ws_max_size=settings.limits.max_frame_bytes,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            access_log=settings.access_log,
            server_header=False,
            # Whose forwarding headers count is decided by the web room (security S35).
            proxy_headers=False,
            timeout_graceful_shutdown=2,
            # Clients of the HTTP transport use a connection again after up to a minute.
            timeout_keep_alive=75,
            h11_max_incomplete_event_size=settings.limits.http_head_bytes,
        )


def _without_query(record: logging.LogRecord) -> bool:
    """Cut the query off the path in a record of the access log: it may hold a token (security S50)."""
    if isinstance(record.args, tuple) and len(record.args) == 5:
        client, method, path, version, status = record.args
        record.args = (client, method, str(path).partition("?")[0], version, status)
    return True


def _http_protocol() -> Any:
    """The protocol on httptools where that is installed, else what uvicorn has."""
    try:
        from hypha.doors.http import ExplainingProtocol
    except ImportError:
        return "auto"
    return ExplainingProtocol


class _WebServer(uvicorn.Server):
    """uvicorn without its signal handlers, and with word when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    def capture_signals(self) -> Any:
        """The runner handles signals."""
        return contextlib.nullcontext()


def bind(host: str, port: int) -> socket.socket:
    """Bind the port, so that a taken one is told before anything is started.

    Raises:
        OSError: it cannot be bound; the text names address and port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        hint = "; another program has this port, choose one with --port" if error.errno == errno.EADDRINUSE else ""
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}{hint}") from error
    listener.listen(2048)
    listener.setblocking(False)
    return listener


def _interpreter() -> str:
    """This interpreter as one would type it here: it has the client for sure."""
    path = Path(sys.executable)
    inside = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return shlex.quote(str(inside))


def announce(server: HyphaServer) -> None:
    """Say where the server is and what to try."""
    url = server.settings.public_url(server.port)
    lines = [f"Hypha server {__version__} is ready at {url}"]
    if any("hello" in uri for uri in server.settings.startup_functions):
        lines += [
            "",
            "Try it:",
            f"  curl '{url}/public/services/hello-world/hello?name=John'",
            "or in Python:",
            f"  {_interpreter()} -c 'from hypha_rpc.sync import get_remote_service",
            f'with get_remote_service("{url}/public/services/hello-world") as service:',
            '    print(service.hello("John"))\'',
        ]
    print("\n".join(lines), flush=True)  # noqa: T201 - what the operator looks for
