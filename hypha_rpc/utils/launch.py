"""Programs of any language as services of a server: started, watched, started again (python-client §17.3, server §1.9).

Responsible for one external program beside a connected client: its command
line, when it is ready, when it is started again. `hypha_rpc.utils._child` knows
processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from hypha_rpc.errors import CallError, ConnectionLost, HyphaError, RemoteException
from hypha_rpc.utils._child import ChildProcess

__all__ = ["ExternalService", "LaunchError", "launch_external_services"]

_log = logging.getLogger("hypha_rpc.launch")

_POLL_S: Final = 0.1
_WATCH_S: Final = 2.0
_VANISHED_S: Final = 10.0
_ASK_S: Final = 5.0
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0
_HEALTHY_S: Final = 60.0


class LaunchError(HyphaError):
    """An external program did not become ready; a note tells why."""


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What `launch_external_services` was asked for."""

    command: str
    name: str
    env: Mapping[str, str]
    services: Sequence[str]
    url: str | None
    timeout_s: float
    log: logging.Logger | logging.LoggerAdapter[Any]


class ExternalService:
    """An external program under supervision. `launch_external_services` makes it.

    It is started again, after a pause that doubles up to a minute, when it ends
    with an error or when its services are gone for 10 s while the connection is
    up. It is ended when the client that launched it disconnects for good.
    """

    def __init__(self, server: Any, plan: _Plan) -> None:
        self._server = server
        self._plan = plan
        self._child: ChildProcess | None = None
        self._secret = ""
        self._disconnected = asyncio.Event()
        self._supervision: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """What it is called in the log."""
        return self._plan.name

    @property
    def pid(self) -> int | None:
        """Process id of the program; None when it does not run."""
        return self._child.pid if self._child is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether the program runs at this moment."""
        return self._child is not None and self._child.returncode is None

    async def ready(self) -> bool:
        """Whether it runs and its services, or its URL, answer."""
        return self.running and await self._answers()

    async def kill(self) -> None:
        """End the program with everything it started, and the supervision; idempotent."""
        if self._supervision is not None:
            self._supervision.cancel()
            await asyncio.wait([self._supervision])
        await self._stop()

    def __repr__(self) -> str:
        return f"<ExternalService {self.name} pid={self.pid}>"

    # -- starting ----------------------------------------------------------------------

    async def _launch(self) -> None:
        """Start the program, wait until it is ready, then watch it.

        Raises:
            LaunchError: it did not become ready; it is ended then.
        """
        await self._start()
        self._server.on("disconnected", self._on_disconnected)
        self._supervision = asyncio.get_running_loop().create_task(self._supervise(), name=f"external {self.name}")
        # Programs forget the handle: it has to live as long as what it watches.
        _supervised.add(self)

    async def _start(self) -> None:
        try:
            await self._spawn()
            async with asyncio.timeout(self._plan.timeout_s):
                await self._until_ready()
        except (OSError, TimeoutError, _Ended) as error:
            why = str(error) or f"it was not ready within {self._plan.timeout_s:g} s"
            raise await self._failure(why) from error
        except BaseException:
            await self._stop()
            raise

    async def _failure(self, why: str) -> LaunchError:
        await self._stop()
        tail = "\n".join(f"  {line}" for line in self._child.tail) if self._child is not None else ""
        written = f"; the last it wrote:\n{self._masked(tail)}" if tail else ""
        self._plan.log.error("external services (%s): %s%s", self.name, why, written)
        failure = LaunchError(f"External services ({self.name}) failed to start")
        failure.add_note(why)
        return failure

    async def _spawn(self) -> None:
        config = self._server.config
        values = {"{server_url}": config["local_base_url"], "{workspace}": config["workspace"]}
        if "{token}" in self._plan.command:
            # A fresh one at every start: the former may have expired.
            values["{token}"] = self._secret = str(await self._server.generate_token())
        words = [_filled(word, values) for word in shlex.split(self._plan.command, posix=os.name == "posix")]
        self._child = await ChildProcess.start(words, {**os.environ, **self._plan.env}, self._on_line)
        self._plan.log.info("external services (%s): started, process %d", self.name, self._child.pid)

    def _on_line(self, line: str) -> None:
        self._plan.log.info("[%s] %s", self.name, self._masked(line))

    def _masked(self, text: str) -> str:
        return text.replace(self._secret, "<token>") if self._secret else text

    async def _until_ready(self) -> None:
        child = self._child
        if child is None:
            return
        while True:
            if child.returncode:
                raise _Ended(f"it ended with status {child.returncode}")
            if await self._answers():
                return
            await asyncio.sleep(_POLL_S)

    async def _answers(self) -> bool:
        plan = self._plan
        if plan.services:
            return all([await self._service_answers(service) for service in plan.services])
        return await _url_answers(plan.url) if plan.url is not None else self.running

    async def _service_answers(self, service_id: str) -> bool:
        try:
            return not await self._is_missing(service_id)
        except (CallError, ConnectionLost, TimeoutError):
            return False

    async def _is_missing(self, service_id: str) -> bool:
        """Whether the server says that nobody offers the service, or that its client does not answer.

        Raises:
            CallError: the server did not say.
            ConnectionLost: there is no connection any more.
            TimeoutError: the server did not say in time.
        """
        server = self._server
        query = service_id if "/" in service_id else f"{server.config['workspace']}/{service_id}"
        async with asyncio.timeout(_ASK_S):
            try:
                info = await server.get_service_info(query)
            except RemoteException:
                return True
            client = str(info["id"]).rpartition(":")[0]
            return bool(await server.ping(client, timeout=_ASK_S) != "pong")

    # -- supervision -------------------------------------------------------------------

    def _on_disconnected(self, _: object = None) -> None:
        self._disconnected.set()

    async def _supervise(self) -> None:
        loop = asyncio.get_running_loop()
        pause, why = _FIRST_PAUSE_S, ""
        try:
            while True:
                begin = loop.time()
                why = why or await self._watch()
                if not why:
                    return
                if loop.time() - begin > _HEALTHY_S:
                    pause = _FIRST_PAUSE_S
                self._plan.log.warning("external services (%s): %s; started again in %g s", self.name, why, pause)
                await self._stop()
                if await self._is_disconnected(pause):
                    return
                pause = min(pause * 2, _LONGEST_PAUSE_S)
                why = await self._start_again()
        finally:
            _supervised.discard(self)
            self._server.off("disconnected", self._on_disconnected)
            await self._stop()

    async def _start_again(self) -> str:
        """Why that failed; empty when the program is ready."""
        try:
            await self._start()
        except LaunchError:
            return "it did not come up"
        except (CallError, ConnectionLost) as error:
            return f"no token for it ({type(error).__name__})"
        return ""

    async def _watch(self) -> str:
        """Why the program has to be started again; empty when it need not be."""
        loop = asyncio.get_running_loop()
        seen = loop.time()
        while not await self._is_disconnected(_WATCH_S):
            status = self._child.returncode if self._child is not None else None
            if status is not None:
                return f"it ended with status {status}" if status else ""
            if not await self._has_vanished():
                seen = loop.time()
            elif loop.time() - seen > _VANISHED_S:
                return f"its services have been gone for {_VANISHED_S:g} s"
        return ""

    async def _has_vanished(self) -> bool:
        """Whether the server knows a service no more; silence of the server says nothing."""
        try:
            return any([await self._is_missing(service) for service in self._plan.services])
        except (CallError, ConnectionLost, TimeoutError):
            return False

    async def _is_disconnected(self, seconds: float) -> bool:
        """Wait, at most until the client is disconnected for good; whether it is."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._disconnected.wait(), seconds)
        return self._disconnected.is_set()

    async def _stop(self) -> None:
        if self._child is not None:
            await self._child.stop()


class _Ended(Exception):
    """The program ended before it was ready."""


_supervised: set[ExternalService] = set()


def _filled(word: str, values: Mapping[str, str]) -> str:
    for placeholder, value in values.items():
        word = word.replace(placeholder, value)
    return word


async def _url_answers(url: str) -> bool:
    """Whether *url* gives any HTTP response, whatever its status."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    try:
        async with asyncio.timeout(_ASK_S):
            port = parts.port or (443 if secure else 80)
            reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=_trusting() if secure else None)
            try:
                target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                head = f"GET {target} HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\nConnection: close\r\n\r\n"
                writer.write(head.encode())
                return (await reader.read(5)) == b"HTTP/"
            finally:
                writer.close()
    except (OSError, TimeoutError, UnicodeError):
        return False


def _trusting() -> ssl.SSLContext:
    """No certificate is checked: only whether somebody answers is asked, and nothing secret is sent."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def launch_external_services(  # noqa: PLR0917 - existing programs call it so
    server: Any,
    command: str,
    name: str | None = None,
    env: Mapping[str, str] | None = None,
    check_services: Sequence[str] | None = None,
    check_url: str | None = None,
    timeout: float = 5,
    logger: Any = None,
) -> ExternalService:
    """Start a program that offers services, wait until it is ready, and keep it running.

    ``{server_url}``, ``{workspace}`` and ``{token}`` in the command become the local
    URL of the server, the workspace of the client and a fresh token for it. The
    command is split as a shell would, quotes included, and no shell runs it; other
    braces stay. What the program prints goes to the log, at INFO.

    Args:
        server: the connected object, of `hypha_rpc.connect_to_server` or of a start-up function.
        command: the command line.
        name: what it is called in the log; the first word of the command by default.
        env: variables in addition to those of this process.
        check_services: ready when all these service ids are found and their client answers.
        check_url: else: ready when this URL gives any HTTP response.
        timeout: seconds to become ready.
        logger: where its output goes instead of ``hypha_rpc.launch``.

    Returns:
        The program under supervision, with ``kill()``, ``ready()``, ``pid``, ``running``.

    Raises:
        LaunchError: ``External services (<name>) failed to start``; nothing of it runs then.
        ValueError: the command is empty, or has a quote without its other half.

    Cancellation:
        The program is ended.
    """
    words = shlex.split(command, posix=os.name == "posix")
    if not words:
        raise ValueError("the command is empty")
    if isinstance(check_services, str):
        check_services = [check_services]
    plan = _Plan(
        command=command,
        name=name or words[0],
        env=dict(env or {}),
        services=tuple(check_services or ()),
        url=check_url,
        timeout_s=timeout,
        log=logger if logger is not None else _log,
    )
    service = ExternalService(server, plan)
    await service._launch()
    return service
