"""Start-up functions: users' code that registers services when the server starts (server §1.8).

They run one after another on a loop thread of their own, with a real client that
comes in by the door inside the process: a blocking one never stops the switch.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import secrets
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from hypha.doors.inproc import InprocDoor
from hypha_rpc.client.link import Link
from hypha_rpc.client.options import ConnectOptions
from hypha_rpc.client.rpc import RPC
from hypha_rpc.client.workspace import build_server
from hypha_rpc.transports.memory import MemoryConnector

__all__ = ["StartupError", "StartupFunctions", "load_function"]


class StartupError(Exception):
    """A start-up function is missing, wrong, or raised; the server must not start."""


def load_function(uri: str) -> Callable[..., Any]:
    """Load ``file.py:function`` or ``module:function``.

    Raises:
        StartupError: it does not exist, or is no coroutine function.
    """
    path, _, name = uri.rpartition(":")
    if not path or not name:
        raise StartupError(f"Entrypoint is required for {uri}, please use {uri}:entrypoint_function")
    module = _load_file(path) if path.endswith(".py") else _load_module(path)
    function = getattr(module, name, None)
    if function is None:
        raise StartupError(f"Entrypoint {name} does not exist in {path}")
    if not inspect.iscoroutinefunction(function):
        raise StartupError(f"Entrypoint {name} is not a coroutine")
    loaded: Callable[..., Any] = function
    return loaded


def _load_file(path: str) -> ModuleType:
    file = Path(path)
    if not file.is_file():
        raise StartupError(f"Module {path} does not exist")
    # Two files of one name must not share a module.
    name = f"hypha_startup_{file.stem.replace('-', '_')}_{secrets.token_hex(4)}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise StartupError(f"Module {path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise StartupError(f"Module {path} cannot be loaded: {type(error).__name__}: {error}") from error
    return module


def _load_module(name: str) -> ModuleType:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise StartupError(f"Module {name} cannot be loaded: {type(error).__name__}: {error}") from error


class StartupFunctions:
    """Runs start-up functions and keeps their client alive.

    Args:
        door: where their client comes in.
        loop: the server's loop.
        client_id: id of that client; services are ``public/<client_id>:<id>``.
        url: shown as the client's server URL.
    """

    def __init__(self, door: InprocDoor, loop: asyncio.AbstractEventLoop, *, client_id: str, url: str) -> None:
        self._door = door
        self._server_loop = loop
        self._client_id = client_id
        self._url = url
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._rpc: RPC | None = None

    async def run(self, uris: Sequence[str]) -> None:
        """Run the functions *uris* name, in this order.

        Raises:
            StartupError: one is missing, wrong, or raised; the text names it.
        """
        if not uris:
            return
        functions = [(uri, load_function(uri)) for uri in uris]
        loop = self._start_thread()
        server = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._connect(), loop))
        for uri, function in functions:
            outcome = asyncio.run_coroutine_threadsafe(function(server), loop)
            try:
                await asyncio.wrap_future(outcome)
            except Exception as error:
                raise StartupError(f"Startup function {uri} failed: {type(error).__name__}: {error}") from error

    async def _connect(self) -> Any:
        options = ConnectOptions.parse({"server_url": self._url, "client_id": self._client_id, "ping_interval": 0}, {})
        self._rpc = RPC(None, self._client_id, name="startup functions")
        link = Link(
            MemoryConnector(self._door.accept, loop=self._server_loop), options, secrets.token_hex(12), self._rpc
        )
        await self._rpc.open(link)
        return build_server(self._rpc)

    def _start_thread(self) -> asyncio.AbstractEventLoop:
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), name="hypha-startup", daemon=True)
        self._thread.start()
        ready.wait()
        assert self._loop is not None
        return self._loop

    def _serve(self, ready: threading.Event) -> None:
        loop = self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        loop.call_soon(ready.set)
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    async def close(self, patience_s: float = 3.0) -> None:
        """Disconnect the client and end the thread; one that blocks is left behind."""
        loop, thread, rpc = self._loop, self._thread, self._rpc
        if loop is None or thread is None:
            return
        if rpc is not None:
            leaving = asyncio.run_coroutine_threadsafe(rpc.disconnect(), loop)
            await asyncio.wait([asyncio.wrap_future(leaving)], timeout=patience_s)
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.get_running_loop().run_in_executor(None, thread.join, patience_s)
