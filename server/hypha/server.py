"""``python -m hypha.server``: options to settings to a running server.

`app` is the same server for an ASGI runner of the operator's choice
(``uvicorn hypha.server:app``), configured from the environment.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

import uvicorn

from hypha import __version__
from hypha.app import HyphaServer
from hypha.cli import parse
from hypha.doors.asgi import AsgiDoor, Message, Receive, Scope, Send
from hypha.doors.choice import OpenDoor, choose_door, open_door, quiet_runner
from hypha.settings import Settings, SettingsError
from hypha.startup import StartupError
from hypha.store.state import StateError

__all__ = ["AsgiServer", "ServerRunner", "app", "main"]

_log = logging.getLogger("hypha.server")


class ServerRunner:
    """Binds the port, serves, stops on a signal.

    Args:
        settings: the operator's decisions.
        announce: called once the server is ready, with the running server.
    """

    def __init__(self, settings: Settings, announce: Any = None) -> None:
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
            StartupError: a start-up function failed.
        """
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
        return uvicorn.Config(
            door.application,
            ws=door.ws,
            ws_max_size=settings.limits.max_frame_bytes,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            access_log=settings.access_log,
            server_header=False,
            timeout_graceful_shutdown=3,
            h11_max_incomplete_event_size=settings.limits.http_head_bytes,
        )


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
        from contextlib import nullcontext

        return nullcontext()


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
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
    listener.listen(2048)
    listener.setblocking(False)
    return listener


def announce(server: HyphaServer) -> None:
    """Say where the server is and what to try."""
    url = server.settings.public_url(server.port)
    lines = [f"Hypha server {__version__} is ready at {url}"]
    if any("hello" in uri for uri in server.settings.startup_functions):
        lines += [
            "",
            "Try it:",
            f"  curl '{url}/public/services/hello-world/hello?name=John'",
            "or, where hypha-rpc is installed:",
            "  python -c 'import asyncio, hypha_rpc",
            "async def main():",
            f'    async with hypha_rpc.get_remote_service("{url}/public/services/hello-world") as service:',
            '        print(await service.hello("John"))',
            "asyncio.run(main())'",
        ]
    print("\n".join(lines), flush=True)  # noqa: T201 - what the operator looks for


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
            settings = Settings.from_env()
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


app = AsgiServer()


async def _serve(settings: Settings) -> None:
    runner = ServerRunner(settings, announce)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, runner.stop)
    await runner.run()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server.

    Returns:
        The exit code of the process.
    """
    settings = parse(argv)
    logging.basicConfig(level=settings.loglevel.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in settings.ignored_options:
        _log.warning("option %s is accepted and ignored: this server does not have it", name)
    for caution in settings.cautions():
        _log.warning("%s", caution)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(settings))
    except (SettingsError, StartupError, StateError, OSError) as error:
        print(f"hypha: {error}", file=sys.stderr)  # noqa: T201 - the one line an operator must see
        return 1
    return 0


def _loop_factory() -> Any:
    """Uvloop where it is installed, else asyncio."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


if __name__ == "__main__":
    raise SystemExit(main())
