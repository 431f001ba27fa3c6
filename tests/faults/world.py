"""The processes of one scenario: a server, providers, consumers, proxies, and their certain end."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.interop.processes import Process, ProcessFailed
from tests.interop.servers import Server
from tests.interop.sides import ROOT, environment, interpreter

from .proxy import Proxy

HERE = Path(__file__).resolve().parent
READY_S = 60.0


class World:
    """What one scenario runs in.

    Args:
        clients: side of providers and consumers.
        server: side of the server.
        folder: for logs, journals and state.
    """

    def __init__(self, clients: str, server: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.clients = clients
        self.folder = folder
        self.server = Server(server, folder)
        self.journal = folder / "journal"
        self._processes: list[Process] = []
        self._proxies: list[Proxy] = []
        self._names = 0

    def __enter__(self) -> World:
        self.server.start()
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._processes:
            process.kill()
        for proxy in self._proxies:
            proxy.close()
        if self.server.process is not None:
            self.server.process.kill()

    def proxy(self) -> Proxy:
        """A way to the server that can be broken."""
        proxy = Proxy(self.server.port)
        self._proxies.append(proxy)
        return proxy

    def _run(self, program: str, *arguments: str) -> Process:
        self._names += 1
        log = self.folder / f"{program}-{self._names}.log"
        env = environment(self.clients)
        env["PYTHONPATH"] = ":".join([str(ROOT / "tests/interop"), *filter(None, [env.get("PYTHONPATH")])])
        command = [str(interpreter(self.clients)), "-m", f"agents.{program}", *arguments]
        process = Process(command, env=env, log=log, cwd=HERE)
        self._processes.append(process)
        return process

    @property
    def server_process(self) -> Process:
        """The server's process.

        Raises:
            ProcessFailed: it was not started.
        """
        if self.server.process is None:
            raise ProcessFailed("the server is not there")
        return self.server.process

    def restart(self, *options: str, ready: bool = True, wrapper: Sequence[str] = ()) -> float:
        """Kill the server and start it with these options; returns when."""
        self.server_process.kill()
        self.server.options, self.server.wrapper = [*options], [*wrapper]
        begin = time.time()
        self.server.start(ready=ready)
        return begin

    def file(self, name: str, text: str) -> Path:
        """A file for the server's working directory."""
        path = self.folder / name
        path.write_text(text)
        return path

    def blocking_provider(self) -> dict[str, Any]:
        """Start a provider on the blocking face."""
        return self._run("blocking_provider", self.server.url).wait_for("ready", timeout_s=READY_S)

    def provider(self, url: str | None = None, *identity: str) -> tuple[Process, dict[str, Any]]:
        """Start a provider and wait until its service is there."""
        process = self._run("provider", url or self.server.url, str(self.journal), *identity)
        return process, process.wait_for("ready", timeout_s=READY_S)

    def consumer(self, ready: dict[str, Any], url: str | None = None, *, own: bool = False, name: str = "") -> Consumer:
        """Start a consumer of a provider's service, in its workspace or in one of its *own*."""
        identity = [] if own else [ready["token"], ready["workspace"], name or f"consumer-{self._names}"]
        process = self._run("consumer", url or self.server.url, ready["id"], *identity)
        process.wait_for("ready", timeout_s=READY_S)
        return Consumer(process)

    def crowd(self, count: int) -> Process:
        """Start many clients in one process."""
        process = self._run("crowd", self.server.url, str(count))
        process.wait_for("ready", timeout_s=180)
        return process

    def idle(self, count: int, parts: int) -> Process:
        """Start many clients that do nothing, in one process, part after part; does not wait."""
        return self._run("idle", self.server.url, str(count), str(parts))

    def try_consumer(self, ready: dict[str, Any], name: str) -> Process:
        """Start a consumer that may be refused."""
        return self._run("consumer", self.server.url, ready["id"], ready["token"], ready["workspace"], name)

    def runs(self) -> Counter[str]:
        """How often each token was run."""
        return Counter(token for event, token in self._lines() if event == "run")

    def events(self, event: str) -> list[str]:
        """The tokens of one kind of event in the journal."""
        return [token for kind, token in self._lines() if kind == event]

    def _lines(self) -> list[tuple[str, str]]:
        text = self.journal.read_text() if self.journal.exists() else ""
        pairs = [line.split() for line in text.splitlines()]
        return [(pair[0], pair[1]) for pair in pairs if len(pair) == 2]

    def server_rss_mb(self) -> float:
        """Resident memory of the server process."""
        pid = self.server_process.pid
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise ProcessFailed("the server has no memory")

    def server_cpu_s(self) -> float:
        """Seconds of processor time that the server process has used."""
        fields = Path(f"/proc/{self.server_process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Consumer:
    """A consumer process that takes orders.

    Attributes:
        made: how many orders it got: the latest has this number in its label.
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        self.made = 0

    def order(self, do: str, **fields: Any) -> str:
        """Begin something; returns the label of its report."""
        self.made += 1
        label = f"{do}-{self.made}"
        self.process.write(json.dumps({"do": do, **({} if do == "stop" else {"label": label}), **fields}))
        return label

    def call(self, **fields: Any) -> str:
        """Begin a call, and wait until it was made."""
        label = self.order("call", **fields)
        self.process.wait_for("began", timeout_s=30, label=label)
        return label

    def settled(self, label: str, timeout_s: float = 90.0) -> dict[str, Any]:
        """Wait for the end of a call."""
        return self.process.wait_for("settled", timeout_s=timeout_s, label=label)

    def until_works(self, what: str = "echo", limit: float = 90.0) -> dict[str, Any]:
        """Repeat something until it works."""
        label = self.order("until", what=what, limit=limit)
        return self.process.wait_for("works", timeout_s=limit + 30, label=label)


def wait_until(condition: Any, timeout_s: float) -> float | None:
    """Seconds until *condition* holds, or None when it does not in time."""
    begin = time.monotonic()
    while time.monotonic() - begin < timeout_s:
        if condition():
            return time.monotonic() - begin
        time.sleep(0.05)
    return None
