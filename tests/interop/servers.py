"""Real server processes of either side."""

from __future__ import annotations

import http.client
import socket
import time
from pathlib import Path

from .processes import Process, ProcessFailed
from .sides import environment, interpreter

READY_S = 60.0
# reliability 1: a server ends in 10 s, whatever its clients do
STOP_S = 10.0
_POLL_S = 0.05


def free_port() -> int:
    """A TCP port that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """One server that can be stopped and started again on its port, with its secret.

    Args:
        kind: ``ours`` or ``public``.
        folder: Where its log and its state go.

    Attributes:
        options: Further words of its command line.
        variables: Further variables of its environment.
        wrapper: What its command line is put behind.
    """

    def __init__(self, kind: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.kind = kind
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self.options: list[str] = []
        self.variables: dict[str, str] = {}
        self.wrapper: list[str] = []
        self.process: Process | None = None

    def start(self, *, ready: bool = True) -> None:
        """Start the process.

        Args:
            ready: Wait until it is ready; otherwise return at once.

        Raises:
            ProcessFailed: It ended, or was not ready in time.
        """
        command = [str(interpreter(self.kind)), "-m", "hypha.server", "--host", "127.0.0.1", "--port", str(self.port)]
        env = environment(
            self.kind,
            JWT_SECRET="interop-test-secret-of-sufficient-length",
            HYPHA_STATE_DIR=str(self._folder / "state"),
        )
        env.update(self.variables)
        # the working directory is on the import path of `python -m`: never the repository
        log = self._folder / f"server-{self.kind}.log"
        self.process = Process([*self.wrapper, *command, *self.options], env=env, log=log, cwd=self._folder)
        if ready:
            self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        process = self.process
        while process is not None and process.running and time.monotonic() < deadline:
            if self._is_ready():
                return
            time.sleep(_POLL_S)
        raise ProcessFailed(f"the {self.kind} server is not ready {process.state() if process else ''}")

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/health/readiness")
            return connection.getresponse().status == http.client.OK
        except OSError:
            return False
        finally:
            connection.close()

    def stop(self) -> int | None:
        """Send SIGTERM; returns the exit code, or None when the server had to be killed."""
        if self.process is None:
            return 0
        code = self.process.terminate(STOP_S)
        self.process.kill()
        return code

    def state(self) -> str:
        """The end of its log, for a failing test."""
        return f"{self.kind} server {self.process.state() if self.process else '(not started)'}"
