"""Servers for tests: one in the test's own loop, one as a process that can be killed.

Starts and stops real servers on real sockets and knows nothing of what is
tested against them. For users' tests as well as ours::

    async with run_server() as server:
        client = await connect_to_server({"server_url": server.url})
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import hypha
import hypha_rpc
from hypha.app import HyphaServer
from hypha.auth.identity import User
from hypha.auth.scopes import ParsedScope
from hypha.auth.tokens import Grant
from hypha.serving import ServerRunner
from hypha.settings import Limits, Settings

__all__ = ["RunningServer", "ServerProcess", "free_port", "run_server"]

_START_S = 20.0
_STOP_S = 15.0
_POLL_S = 0.02
_LIMITS = frozenset(field.name for field in dataclasses.fields(Limits))


def _settings(given: Mapping[str, Any]) -> Settings:
    """Settings from plain values; names of limits go into `Settings.limits`."""
    values: dict[str, Any] = {"in_memory": "state_dir" not in given, "port": 0, **given}
    if "limits" not in values:
        # Tests stop servers with clients that were busy a moment ago.
        values.setdefault("stop_grace", 0.0)
    limits = {name: values.pop(name) for name in _LIMITS & values.keys()}
    if limits:
        values["limits"] = dataclasses.replace(values.get("limits") or Limits(), **limits)
    # Without state these would be new at every start, and a restart would end all clients (protocol §1.7-1.8).
    values.setdefault("jwt_secret", secrets.token_urlsafe(32))
    values.setdefault("server_id", f"test-{secrets.token_hex(4)}")
    return Settings(**values)


class RunningServer:
    """A server in this process, on a real socket, in the running loop.

    Args:
        settings: fields of `hypha.settings.Settings` and of its ``limits`` by
            their names. Nothing is written unless ``state_dir`` is given.
    """

    def __init__(self, **settings: Any) -> None:
        self._settings = _settings(settings)
        self._runner: ServerRunner | None = None
        self._serving: asyncio.Task[None] | None = None
        self._app: HyphaServer | None = None

    @property
    def settings(self) -> Settings:
        """What it runs with; after the first start with the port really bound."""
        return self._settings

    @property
    def port(self) -> int:
        """The port it listens on; 0 before the first start."""
        return self._settings.port

    @property
    def url(self) -> str:
        """The address for clients (``http://``), without a trailing slash."""
        host = self._settings.host
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{self.port}{self._settings.base_path.rstrip('/')}"

    @property
    def ws_url(self) -> str:
        """The address of its WebSocket door."""
        return f"ws{self.url.removeprefix('http')}/ws"

    @property
    def app(self) -> HyphaServer:
        """The server object, for a look at its tables.

        Raises:
            RuntimeError: it is not running.
        """
        if self._app is None:
            raise RuntimeError("the server is not running")
        return self._app

    async def start(self) -> None:
        """Listen, and return when the server is ready; the port of a former start is used again.

        Raises:
            OSError: the port is taken.
            StartupError: a start-up function failed.
            TimeoutError: it was not ready in time.
        """
        ready: asyncio.Future[HyphaServer] = asyncio.get_running_loop().create_future()
        self._runner = ServerRunner(self._settings, ready.set_result)
        self._serving = asyncio.get_running_loop().create_task(self._runner.run(), name="test server")
        waited: set[asyncio.Future[Any]] = {self._serving, ready}
        await asyncio.wait(waited, timeout=_START_S, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            await self._failed()
        self._app = ready.result()
        self._settings = dataclasses.replace(self._settings, port=self._app.port)

    async def _failed(self) -> None:
        serving, self._serving = self._serving, None
        assert serving is not None
        if not serving.done():
            serving.cancel()
            await asyncio.wait([serving], timeout=_STOP_S)
            raise TimeoutError(f"the server was not ready within {_START_S:.0f} s")
        serving.result()
        raise RuntimeError("the server ended before it was ready")

    async def stop(self) -> None:
        """Stop as on SIGTERM and wait until the port is free; idempotent.

        Raises:
            TimeoutError: it did not stop in time.
        """
        runner, serving = self._runner, self._serving
        self._runner = self._serving = self._app = None
        if runner is None or serving is None:
            return
        runner.stop()
        done, _ = await asyncio.wait([serving], timeout=_STOP_S)
        if not done:
            serving.cancel()
            await asyncio.wait([serving], timeout=1.0)
            raise TimeoutError(f"the server did not stop within {_STOP_S:.0f} s")
        serving.result()

    async def restart(self, **changes: Any) -> None:
        """Stop, and start on the same port with the same secret and server id.

        Args:
            changes: settings that are different from now on.
        """
        await self.stop()
        if changes:
            now = {field.name: getattr(self._settings, field.name) for field in dataclasses.fields(Settings)}
            self._settings = _settings({**now, **changes})
        await self.start()

    def token(
        self,
        user_id: str = "alice",
        *,
        workspace: str | None = None,
        workspaces: Mapping[str, Any] | None = None,
        client_id: str | None = None,
        parent: str | None = None,
        email: str | None = None,
        roles: Sequence[str] = ("user",),
        expires_in: float = 3600.0,
    ) -> str:
        """Mint a token without asking anybody.

        Args:
            user_id: whose.
            workspace: the workspace it is for, or any (protocol §1.4).
            workspaces: right letter (``r``, ``rw``, ``a``) of each workspace; a
                user owns ``ws-user-<id>`` without it.
            client_id: the only client it is good for, or any.
            parent: the user that minted it; makes a child, which has the rights named and no others.
            email: address of the user.
            roles: roles of the user.
            expires_in: seconds.
        """
        scope = ParsedScope(workspaces=dict(workspaces or {}), current_workspace=workspace, client_id=client_id)
        grant = Grant(user_id=user_id, scope=scope, expires_in=expires_in, roles=roles, email=email, parent=parent)
        return self.app.tokens.mint(grant)

    def user(self, token: str) -> User:
        """Who *token* says one is."""
        return self.app.tokens.authenticate(token)


@asynccontextmanager
async def run_server(port: int = 0, **settings: Any) -> AsyncGenerator[RunningServer, None]:
    """Run a server in this loop for the length of a ``with`` block.

    Args:
        port: 0 lets the system choose.
        settings: see `RunningServer`.

    Yields:
        The server, ready.
    """
    server = RunningServer(port=port, **settings)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


def free_port() -> int:
    """A TCP port of the loopback interface that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ServerProcess:
    """``python -m hypha.server`` as a process of its own, always on the same port.

    An asynchronous context manager; its methods are not bound to one loop.

    Args:
        options: further options of the command line.
        port: by default a free one.
        env: variables in addition to those of this process.
        folder: where its log and its state are, by default a temporary one.

    Attributes:
        port: where it listens.
        url: the address for clients.
        folder: where its log and its state are.
    """

    def __init__(
        self,
        *options: str,
        port: int | None = None,
        env: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._options = options
        self._temporary = tempfile.TemporaryDirectory(prefix="hypha-test-") if folder is None else None
        self.folder = folder or Path(self._temporary.name if self._temporary else "")
        self._env = {"HYPHA_LOGLEVEL": "INFO", **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """The file with everything it prints."""
        return self.folder / "server.log"

    @property
    def ws_url(self) -> str:
        """The address of its WebSocket door."""
        return f"ws{self.url.removeprefix('http')}/ws"

    @property
    def pid(self) -> int:
        """Its process id.

        Raises:
            RuntimeError: it was never started.
        """
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """How it ended; None while it runs."""
        return self._child.poll()

    @property
    def _child(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process

    async def start(self, timeout_s: float = _START_S, *, ready: bool = True) -> None:
        """Start the process.

        Args:
            timeout_s: how long to wait.
            ready: wait until it is ready; otherwise return at once.

        Raises:
            RuntimeError: it ended; the text shows the end of its log.
            TimeoutError: it was not ready in time.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        arguments = [sys.executable, "-m", "hypha.server", "--host", "127.0.0.1", "--port", str(self.port)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - must not be bound to the loop it is started in
                [*arguments, *self._options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self._environment(),
            )
        if ready:
            await self._until_ready(timeout_s)

    def _environment(self) -> dict[str, str]:
        """This process's variables, and the packages it uses itself."""
        roots = {str(Path(str(module.__file__)).parents[1]): None for module in (hypha, hypha_rpc)}
        path = [*roots, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "PYTHONUNBUFFERED": "1",
            "HYPHA_STATE_DIR": str(self.folder / "state"),
            **self._env,
        }

    async def _until_ready(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.returncode is not None:
                raise RuntimeError(f"the server ended with {self.returncode}:\n{self.log_tail()}")
            if await self._is_ready():
                return
            await asyncio.sleep(_POLL_S)
        raise TimeoutError(f"the server was not ready within {timeout_s:.0f} s:\n{self.log_tail()}")

    async def _is_ready(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        try:
            writer.write(b"GET /health/readiness HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            async with asyncio.timeout(5.0):
                return b" 200 " in await reader.readline()
        except (OSError, TimeoutError):
            return False
        finally:
            writer.close()

    async def stop(self, timeout_s: float = _STOP_S) -> int:
        """Send SIGTERM and wait for the end; the exit code.

        Raises:
            TimeoutError: it did not end in time (it is killed then).
        """
        if self.returncode is None:
            self._child.send_signal(signal.SIGTERM)
        return await self.wait(timeout_s)

    async def kill(self) -> int:
        """Kill it without warning; the exit code (minus the signal)."""
        self._child.kill()
        return await self.wait()

    async def wait(self, timeout_s: float = _STOP_S) -> int:
        """Wait for its end; the exit code.

        Raises:
            TimeoutError: it did not end in time (it is killed then).
        """
        deadline = time.monotonic() + timeout_s
        while (code := self.returncode) is None:
            if time.monotonic() > deadline:
                self._child.kill()
                self._child.wait(5.0)
                raise TimeoutError(f"the server did not end within {timeout_s:.0f} s:\n{self.log_tail()}")
            await asyncio.sleep(_POLL_S)
        return code

    async def restart(self) -> None:
        """Stop it if it runs, and start it again: same port, same state."""
        if self._process is not None:
            await self.stop()
        await self.start()

    def signal(self, number: int) -> None:
        """Send a signal, for instance SIGSTOP and SIGCONT."""
        self._child.send_signal(number)

    def log_tail(self, characters: int = 4000) -> str:
        """The end of its log."""
        return self.log.read_text("utf-8", "replace")[-characters:] if self.log.exists() else ""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            if self._process is not None:
                # One that is stopped by SIGSTOP would never see SIGTERM.
                self._child.send_signal(signal.SIGCONT)
                await self.stop()
        finally:
            if self._temporary is not None:
                self._temporary.cleanup()
