"""Start-up functions: users' code that registers services when the server starts (server §1.8).

They are loaded and run one after another on a loop thread of their own, with a
real client that comes in by the door inside the process: a blocking one never
stops the switch. What they leave running there lives until the server stops.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import logging
import secrets
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar

from hypha.doors.inproc import InprocDoor
from hypha_rpc.client.link import Link
from hypha_rpc.client.options import ConnectOptions
from hypha_rpc.client.rpc import RPC
from hypha_rpc.client.workspace import build_server
from hypha_rpc.transports.memory import MemoryConnector

__all__ = ["StartupError", "StartupFunctions", "load_function"]

T = TypeVar("T")

_log = logging.getLogger("hypha.startup")

_LEAVE_PATIENCE_S: Final = 1.0
# External programs get 3 s to end, and are killed then.
_TASKS_PATIENCE_S: Final = 4.0


_HERE: Final = Path(__file__).parent
_IMPORTLIB: Final = str(Path(importlib.__file__).parent)


class StartupError(Exception):
    """A start-up function is missing, wrong, or raised; the server must not start."""


def load_function(uri: str) -> Callable[..., Any]:
    """Load ``file.py:function`` or ``module:function``.

    Raises:
        StartupError: it does not exist, or is no coroutine function.
    """
    path, _, name = uri.rpartition(":")
    if not path or not name or uri.endswith(".py"):
        raise StartupError(f"Entrypoint is required for {uri}, please use {uri}:entrypoint_function")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = _load_file(path) if path.endswith(".py") else importlib.import_module(name=path)
    except StartupError:
        raise
    except (Exception, SystemExit) as error:
        # Supervision boundary: users' code may raise anything.
        _log.error("loading %s failed", path, exc_info=_of_users(error))
        raise StartupError(f"Module {path} cannot be loaded: {_text(error)}") from error
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
    # Classes look their module up by its name, while it is being executed already.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _of_users(error: BaseException) -> BaseException:
    """*error* with the frames of the users' code only: how it was called is no help."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith((str(_HERE), "<frozen", _IMPORTLIB)):
        trace = trace.tb_next
    return error.with_traceback(trace)


def _text(error: BaseException) -> str:
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    return f"{type(error).__name__}: {error}{notes}"


async def _guarded(uri: str, work: Awaitable[T]) -> T:
    """Await *work*; whatever it raises becomes a `StartupError`.

    ``sys.exit`` would end the loop of the start-up thread, and who waits for the
    outcome would never be told.
    """
    try:
        return await work
    except (StartupError, asyncio.CancelledError):
        raise
    except BaseException as error:
        _log.error("startup function %s failed", uri, exc_info=_of_users(error))
        raise StartupError(f"Startup function {uri} failed: {_text(error)}") from error


class StartupFunctions:
    """Runs start-up functions and keeps their client alive.

    Args:
        door: where their client comes in.
        loop: the server's loop.
        client_id: id of that client; services are ``public/<client_id>:<id>``.
        url: shown as the client's server URL.
        extras: further members of the object that the functions get (server §1.8).
    """

    def __init__(
        self,
        door: InprocDoor,
        loop: asyncio.AbstractEventLoop,
        *,
        client_id: str,
        url: str,
        extras: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        self._door = door
        self._server_loop = loop
        self._client_id = client_id
        self._url = url
        self._extras = dict(extras or {})
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._rpc: RPC | None = None
        self._stuck = False

    async def run(self, uris: Sequence[str]) -> None:
        """Run the functions *uris* name, in this order.

        Raises:
            StartupError: one is missing, wrong, or raised; the text names it.
        """
        if not uris:
            return
        self._start_thread()
        functions = [(uri, await self._there(_load(uri))) for uri in uris]
        server = await self._there(self._connect())
        for uri, function in functions:
            await self._there(_guarded(uri, function(server)))

    async def _there(self, work: Coroutine[Any, Any, T]) -> T:
        """Run *work* on the start-up thread."""
        loop = self._loop
        assert loop is not None
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))

    async def _connect(self) -> Any:
        options = ConnectOptions.parse({"server_url": self._url, "client_id": self._client_id, "ping_interval": 0}, {})
        self._rpc = RPC(None, self._client_id, name="startup functions")
        link = Link(
            MemoryConnector(self._door.accept, loop=self._server_loop), options, secrets.token_hex(12), self._rpc
        )
        await self._rpc.open(link)
        server = build_server(self._rpc)
        for name, function in self._extras.items():
            server[name] = function
        return server

    def _start_thread(self) -> None:
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), name="hypha-startup", daemon=True)
        self._thread.start()
        ready.wait()

    def _serve(self, ready: threading.Event) -> None:
        loop = self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        loop.call_soon(ready.set)
        try:
            loop.run_forever()
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    async def leave(self) -> None:
        """Take the services back and disconnect the client; idempotent."""
        if self._rpc is not None:
            await self._bounded(self._rpc.disconnect(), _LEAVE_PATIENCE_S)

    async def close(self) -> None:
        """Disconnect the client, end what the functions left running, and the thread; idempotent.

        A function that blocks is left behind; what runs then ends with the process.
        """
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        await self.leave()
        await self._bounded(_end_tasks(), _TASKS_PATIENCE_S)
        stuck, self._loop, self._thread, self._rpc = self._stuck, None, None, None
        loop.call_soon_threadsafe(loop.stop)
        if not stuck:
            await asyncio.get_running_loop().run_in_executor(None, thread.join, _LEAVE_PATIENCE_S)

    async def _bounded(self, work: Coroutine[Any, Any, Any], patience_s: float) -> None:
        """Run *work* on the start-up thread, but do not wait longer for it."""
        if self._loop is None or self._stuck:
            work.close()
            return
        outcome = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))
        await asyncio.wait([outcome], timeout=patience_s)
        if not outcome.done():
            outcome.cancel()
            self._stuck = True
            _log.warning("startup functions block their thread: it is left behind")
        elif not outcome.cancelled() and outcome.exception() is not None:
            _log.warning("the client of the startup functions did not end cleanly: %s", outcome.exception())


async def _load(uri: str) -> Callable[..., Any]:
    return load_function(uri)


async def _end_tasks() -> None:
    """Cancel what the functions left running and wait for it: external programs are ended that way."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
