"""A child process with all its descendants: started without a shell, its output read, ended as a group.

Knows nothing of servers and services. Whatever still runs when the interpreter
ends is killed then.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self

__all__ = ["ChildProcess", "kill_all"]

_POSIX: Final = os.name == "posix"
_TERM_PATIENCE_S: Final = 3.0
_OUTPUT_PATIENCE_S: Final = 1.0
_CHUNK: Final = 65_536
_LONGEST_LINE: Final = 8_192
_TAIL_LINES: Final = 20


class ChildProcess:
    """A running child, leader of a process group of its own. Make it with `start`.

    Attributes:
        pid: its process id.
        tail: the last lines it wrote.
    """

    def __init__(self, process: asyncio.subprocess.Process, on_line: Callable[[str], None]) -> None:
        self._process = process
        self._on_line = on_line
        self.pid = process.pid
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._reader = asyncio.get_running_loop().create_task(self._read(), name=f"output of process {process.pid}")
        _alive.add(self)

    @classmethod
    async def start(cls, words: Sequence[str], env: Mapping[str, str], on_line: Callable[[str], None]) -> Self:
        """Start a program.

        Args:
            words: the program and its arguments.
            env: all of its environment variables.
            on_line: gets every line it writes to standard output and standard error.

        Raises:
            OSError: there is no such program, or it may not be run.
        """
        # A group of its own: it can be ended whole, and a Ctrl-C at the terminal is ours to handle.
        group: dict[str, Any] = {"start_new_session": True}
        if not _POSIX:
            group = {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
        process = await asyncio.create_subprocess_exec(
            _program(words[0], env),
            *words[1:],
            env=dict(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            **group,
        )
        return cls(process, on_line)

    @property
    def returncode(self) -> int | None:
        """How it ended (minus the signal); None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait for its end; the exit status. Without a deadline: it is the life of the child."""
        return await self._process.wait()

    async def _read(self) -> None:
        stdout, rest = self._process.stdout, b""
        if stdout is None:
            return
        while chunk := await stdout.read(_CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._line(line)
            if len(rest) > _LONGEST_LINE:
                self._line(rest)
                rest = b""
        if rest:
            self._line(rest)

    def _line(self, data: bytes) -> None:
        text = data[:_LONGEST_LINE].decode("utf-8", "replace").rstrip()
        if text:
            self.tail.append(text)
            self._on_line(text)

    async def stop(self) -> None:
        """End it and its group: TERM, and KILL to what is left after 3 s; idempotent."""
        if self.returncode is None:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _TERM_PATIENCE_S)
        # Its descendants as well: one that ignored TERM would go on as a client of the server.
        self.kill()
        await self._process.wait()
        # A descendant that left the group may hold the pipe open for ever.
        await asyncio.wait([self._reader], timeout=_OUTPUT_PATIENCE_S)
        self._reader.cancel()
        await asyncio.wait([self._reader])

    def kill(self) -> None:
        """Kill the group at once."""
        _alive.discard(self)
        self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))

    def _signal(self, number: int) -> None:
        try:
            if _POSIX:
                os.killpg(self.pid, number)
            else:
                self._process.terminate()
        except (ProcessLookupError, PermissionError):
            # Nobody is left in the group. (Some systems say it by the second.)
            return


def _program(name: str, env: Mapping[str, str]) -> str:
    """*name*; where a machine has no ``python`` on its path, the one that runs this."""
    if name in {"python", "python3"} and shutil.which(name, path=env.get("PATH")) is None:
        return sys.executable
    return name


_alive: set[ChildProcess] = set()


def kill_all() -> None:
    """Kill every child there is, at the end of the process."""
    for child in list(_alive):
        child.kill()


atexit.register(kill_all)
