"""A terminal in a folder of its own: commands as a user types them, and programs that go on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from hypha.testing import free_port
from tests.house.import_rules import REPOSITORY

NOTEBOOK = Path(__file__).with_name("notebook.py")
START_S = 20.0
END_S = 15.0


class Running:
    """A program that goes on; everything it prints is in a file."""

    def __init__(self, command: str, folder: Path, log: Path, env: dict[str, str]) -> None:
        self.command, self.log = command, log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def printed(self) -> str:
        """What it has printed so far."""
        return self.log.read_text("utf-8", "replace")

    def wait_for(self, condition: Callable[[], object], what: str, seconds: float = START_S) -> None:
        """Return when *condition* holds; it fails when the program ends before, or it takes too long."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"{self.command}\nended with {self.process.returncode}:\n{self.printed}"
            assert time.monotonic() < deadline, f"{self.command}\n{what} did not come:\n{self.printed}"
            time.sleep(0.02)

    def wait_for_line(self, text: str, seconds: float = START_S) -> str:
        """The first line with *text* in it, as soon as it is printed."""
        self.wait_for(lambda: self.line(text), f"the line {text!r}", seconds)
        return str(self.line(text))

    def line(self, text: str) -> str | None:
        """The first line with *text* in it; None before it is printed whole."""
        lines = self.printed.splitlines(keepends=True)
        return next((line.rstrip("\n") for line in lines if text in line and line.endswith("\n")), None)

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self, seconds: float = END_S) -> int:
        """Wait for its end; its exit status."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
            raise AssertionError(f"{self.command}\ndid not end within {seconds} s:\n{self.printed}") from None


class Terminal:
    """A shell in an empty folder where ``python`` and ``python3`` are the interpreter of the tests.

    The document's address becomes a free port of the loopback interface; nothing else is changed.
    """

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://localhost:{self.port}"
        self._started: list[Running] = []
        (folder / "home").mkdir(exist_ok=True)
        installed = python != sys.executable
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HYPHA_", "PYTHON"))}
        self.env = {
            **kept,
            "PATH": os.pathsep.join([str(Path(python).parent), os.environ["PATH"]]),
            "HOME": str(folder / "home"),
            "XDG_STATE_HOME": str(folder / "home" / "state"),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            **({} if installed else {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'server'}"}),
        }

    def adapt(self, text: str) -> str:
        """The text of the document with this server's address."""
        return text.replace("0.0.0.0", "127.0.0.1").replace("9527", str(self.port)).strip()

    def write(self, name: str, text: str) -> Path:
        """Save a program of the document."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.adapt(text) + "\n", encoding="utf-8")
        return path

    def start(self, command: str) -> Running:
        """Type a command that goes on."""
        log = self.folder / f"output-{len(self._started)}.log"
        running = Running(self.adapt(command), self.folder, log, self.env)
        self._started.append(running)
        return running

    def cells(self, *texts: str) -> str:
        """The command that runs programs of the document as cells of one notebook, which may ``await`` anywhere."""
        names = [f"cell-{len(list(self.folder.glob('cell-*.py')))}-{index}.py" for index, _ in enumerate(texts)]
        for name, text in zip(names, texts, strict=True):
            self.write(name, text)
        return f"python {NOTEBOOK} {' '.join(names)}"

    def serve(self, command: str) -> Running:
        """Type the command of a server and wait until it is ready."""
        server = self.start(command)
        server.wait_for(self.is_ready, "a ready server")
        return server

    def run(self, command: str, seconds: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Type a command that ends."""
        return subprocess.run(
            ["bash", "-c", self.adapt(command)],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def output(self, command: str, seconds: float = 30.0) -> str:
        """What a command prints that ends well."""
        done = self.run(command, seconds)
        assert done.returncode == 0, f"{command}\nended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def is_ready(self) -> bool:
        """Whether the server says that it is."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health/readiness", timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.HTTPError):
            return False

    def close(self) -> None:
        """End everything, the server (started first) last."""
        for running in reversed(self._started):
            with contextlib.suppress(AssertionError):
                running.end()


@contextlib.contextmanager
def terminal(folder: Path, python: str = sys.executable) -> Iterator[Terminal]:
    """A terminal whose programs are ended with it."""
    opened = Terminal(folder, python)
    try:
        yield opened
    finally:
        opened.close()
