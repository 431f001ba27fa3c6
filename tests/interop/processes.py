"""Child processes with a log, lines to wait for, and a certain end."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .programs.report import PREFIX

_TAIL_CHARACTERS = 6000


class ProcessFailed(AssertionError):
    """A child process ended or stayed silent when it should have reported; the text holds its log."""


class Process:
    """One child process whose output goes to a log file, and whose reports can be waited for.

    Args:
        arguments: The command line.
        env: The whole environment.
        log: File for everything it prints.
        cwd: Its working directory.
    """

    def __init__(self, arguments: Sequence[str], *, env: Mapping[str, str], log: Path, cwd: Path) -> None:
        self.log = log
        self.reports: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._ended = False
        self._child = subprocess.Popen(
            [*arguments],
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, name=f"reader of {log.name}", daemon=True)
        self._reader.start()

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._child.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._child.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; harmless when the process has ended."""
        if self.running:
            self._child.send_signal(number)

    def _read(self) -> None:
        stdout = self._child.stdout
        if stdout is None:
            return
        with self.log.open("a", encoding="utf-8") as log, stdout:
            for line in stdout:
                log.write(line)
                log.flush()
                if line.startswith(PREFIX):
                    self._add(json.loads(line[len(PREFIX) :]))
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _add(self, report: dict[str, Any]) -> None:
        with self._changed:
            self.reports.append(report)
            self._changed.notify_all()

    def find(self, event: str, **fields: Any) -> dict[str, Any] | None:
        """The first report of this event with these fields so far."""
        wanted = {"event": event, **fields}
        for report in self.reports:
            if wanted.items() <= report.items():
                return report
        return None

    def wait_for(self, event: str, *, timeout_s: float, **fields: Any) -> dict[str, Any]:
        """Wait for a report.

        Args:
            event: Its name.
            timeout_s: How long.
            **fields: What else it has to hold.

        Raises:
            ProcessFailed: The process ended without it, or the time is over.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while (report := self.find(event, **fields)) is None:
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    raise ProcessFailed(f"no report {event!r} {fields} {self.state()}")
                self._changed.wait(left)
        return report

    def state(self) -> str:
        """How the process stands, and the end of its log."""
        code = self._child.poll()
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return f"(exit code {code}); end of {self.log.name}:\n{text[-_TAIL_CHARACTERS:]}"

    def write(self, line: str) -> None:
        """Give the process a line to read."""
        if self._child.stdin is not None:
            self._child.stdin.write(f"{line}\n")
            self._child.stdin.flush()

    def terminate(self, timeout_s: float) -> int | None:
        """Send SIGTERM and wait.

        Returns:
            The exit code, or None when it had to be killed.
        """
        self._child.send_signal(signal.SIGTERM)
        try:
            return self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def kill(self) -> None:
        """End the process, whatever it does; harmless when it has ended."""
        if self.running:
            self._child.kill()
        self._child.wait(10)
        self._reader.join(10)
        if self._child.stdin is not None and not self._child.stdin.closed:
            try:
                self._child.stdin.close()
            except BrokenPipeError:
                return
