"""``python -m hypha.server``: the command line, then a running server.

The rest of the server is imported after the command line was read: ``--help``
and a mistake are answered at once. `app` is the same server for an ASGI runner
of the operator's choice (``uvicorn hypha.server:app``), configured from the
environment.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn

from hypha.apps.browser import caution
from hypha.cli import parse
from hypha.settings import Settings, SettingsError

if TYPE_CHECKING:
    from hypha.hosted import AsgiServer
    from hypha.serving import ServerRunner

    app: AsgiServer

__all__ = ["app", "leave", "main", "run", "run_interactive"]

_log = logging.getLogger("hypha.server")

_THREADS_PATIENCE_S: Final = 1.0
# Whatever clients and start-up functions do: asked to end, the process is gone in 10 s (RELIABILITY: SIGTERM).
_END_S: Final = 9.0


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from hypha.hosted import AsgiServer

    globals()["app"] = hosted = AsgiServer()
    return hosted


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server.

    Returns:
        The exit code of the process.
    """
    settings = parse(argv)
    _set_up_logging(settings)
    for name in settings.ignored_options:
        _log.warning("option %s is accepted and ignored: this server does not have it", name)
    for text in settings.cautions():
        _log.warning("%s", text)
    if settings.enable_server_apps:
        _log.warning("%s", caution(settings.browser_executable))
    with _for_good():
        from hypha.serving import ServerRunner, announce
        from hypha.startup import StartupError
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(ServerRunner(settings, announce)))
    # A state directory that cannot be used is an OSError, too.
    except (SettingsError, StartupError, OSError) as error:
        print(f"hypha: {_told(error)}", file=sys.stderr)  # noqa: T201 - the one line an operator must see
        return 1
    return 0


def _told(error: Exception) -> str:
    """The text of *error*; the number of an error of the system says nothing, a file name does."""
    if isinstance(error, OSError) and error.filename is None and error.strerror:
        return error.strerror
    return str(error)


def run() -> NoReturn:
    """``hypha-server``."""
    leave(main())


def run_interactive() -> NoReturn:
    """``hypha-server-cli``: the server; it has no interactive mode and says so."""
    leave(main(["--interactive", *sys.argv[1:]]))


@contextmanager
def _for_good() -> Generator[None, None, None]:
    """What is made in here stays for the life of the process, so the collector need not look at it, now or later."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


async def _serve(runner: ServerRunner) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _stop, runner)
    await runner.run()


def _stop(runner: ServerRunner) -> None:
    runner.stop()
    threading.Thread(target=_end_late, args=(0, _END_S), name="hypha-end", daemon=True).start()


def _set_up_logging(settings: Settings) -> None:
    level = settings.loglevel.upper()
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    client = logging.getLogger("hypha_rpc")
    # The client library adds a handler where the variable is set, and everything would be there twice.
    for handler in client.handlers[:]:
        client.removeHandler(handler)
    if logging.getLogger().level <= logging.WARNING:
        # What external programs print is for whoever launched them, as it would be without a server in between.
        logging.getLogger("hypha_rpc.launch").setLevel(logging.INFO)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Uvloop where it is installed, else asyncio."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def leave(code: int) -> NoReturn:
    """End the process, even where a start-up function left a thread that blocks: the interpreter would wait for it."""
    threading.Thread(target=_end_late, args=(code, _THREADS_PATIENCE_S), name="hypha-end", daemon=True).start()
    raise SystemExit(code)


def _end_late(code: int, patience_s: float) -> None:
    time.sleep(patience_s)
    _log.warning("a thread does not end: it is left behind")
    children = sys.modules.get("hypha_rpc.utils._child")
    if children is not None:
        children.kill_all()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    leave(main())
