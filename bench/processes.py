"""Child processes: their reports, the CPU time they have used, the memory they hold."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from programs.lines import PREFIX
from sides import PROGRAMS, environment, interpreter

_TICKS = os.sysconf("SC_CLK_TCK")
_LINE_LIMIT = 64 * 2**20
_END_S = 15.0


class BenchFailed(Exception):
    """A process did not do its part; the text says which, and ends with its log."""


def prepare(folder: Path) -> None:
    """Make a folder; nothing else runs on the loop while a process is being started."""
    folder.mkdir(parents=True, exist_ok=True)


class Process:
    """One child process with a log file. Make it with :meth:`start`."""

    def __init__(self, name: str, child: asyncio.subprocess.Process, log: Path) -> None:
        self._name, self._child, self._log = name, child, log
        self._reports: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(1000)
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, side: str, arguments: Sequence[str], folder: Path) -> Self:
        """Start the interpreter of one side.

        Args:
            side: ``ours`` or ``public``.
            arguments: What follows the interpreter; the first one names the process.
            folder: Its working directory, which gets its log.
        """
        prepare(folder)
        child = await asyncio.create_subprocess_exec(
            interpreter(side),
            *arguments,
            cwd=folder,
            env=environment(side, folder),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=_LINE_LIMIT,
        )
        name = Path(arguments[0]).stem.strip("-")
        return cls(f"{side} {name}", child, folder / f"{name}.log")

    @classmethod
    async def program(cls, side: str, name: str, arguments: Sequence[str], folder: Path) -> Self:
        """Start one of ``programs/``."""
        return await cls.start(side, [str(PROGRAMS / f"{name}.py"), *arguments], folder)

    async def _read(self) -> None:
        stdout = self._child.stdout
        if stdout is None:
            return
        with self._log.open("ab") as log:
            async for line in stdout:
                log.write(line)
                log.flush()
                if line.startswith(PREFIX.encode()):
                    await self._reports.put(json.loads(line[len(PREFIX) :]))
        await self._reports.put(None)

    async def wait_for(self, event: str, timeout_s: float) -> dict[str, Any]:
        """The next report, which has to be this event.

        Raises:
            BenchFailed: It is another one, or none.
        """
        try:
            report = await asyncio.wait_for(self._reports.get(), timeout_s)
        except TimeoutError:
            report = None
        if report is not None and report["event"] == "failed":
            raise BenchFailed(f"{self._name}: {report['error']}")
        if report is None or report["event"] != event:
            tail = self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""
            raise BenchFailed(f"{self._name}: wanted {event!r}, got {report}; end of its log:\n{tail}")
        return report

    async def order(self, what: dict[str, Any]) -> None:
        """Give the program a line."""
        if self._child.stdin is not None:
            self._child.stdin.write(json.dumps(what).encode() + b"\n")
            await self._child.stdin.drain()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._child.returncode is None

    def cpu_seconds(self) -> float:
        """CPU time of the process so far, user and system, all threads (a resolution of some 10 ms)."""
        fields = Path(f"/proc/{self._child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def megabytes(self) -> float:
        """Resident memory."""
        status = Path(f"/proc/{self._child.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1e3

    async def close(self) -> None:
        """End it: first by closing its input and SIGTERM, then by SIGKILL."""
        if self._child.stdin is not None:
            self._child.stdin.close()
        if self.running:
            self._child.terminate()
            try:
                await asyncio.wait_for(self._child.wait(), _END_S)
            except TimeoutError:
                self._child.kill()
        await self._child.wait()
        await self._reader
