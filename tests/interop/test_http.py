"""The HTTP transport against the other side: each client over HTTP on each server, beside providers over WebSocket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from .peers import run_program, start_provider, wait_until_ready
from .processes import Process
from .programs.checks import CHECKS
from .servers import Server
from .sides import OURS, PUBLIC

pytestmark = pytest.mark.timeout(200)

CHECKS_S = 120.0
# (client over HTTP, provider over WebSocket, server)
CELLS = [(OURS, PUBLIC, PUBLIC), (PUBLIC, OURS, OURS), (OURS, PUBLIC, OURS)]
TAKES_LONG = {"a_silent_long_call_is_kept_alive", "a_100_mb_array"}
# The public client over HTTP asks again for ever when it is refused, has no `on`, and keeps what it has unregistered
# (python-client X22).
NOT_BY_PUBLIC_CLIENT = {
    "bad_token_is_refused",
    "foreign_workspace_is_refused",
    "custom_event_is_broadcast",
    "services_and_clients_are_announced",
    "unregistered_service_at_a_living_peer",
}
# The public server tells HTTP clients nothing about their user, puts all anonymous ones into one workspace, words the
# refusal of a token differently, and does not tell them of calls to peers that are gone (protocol §7.1, §7.3).
NOT_ON_PUBLIC_SERVER = {
    "anonymous_connection",
    "bad_token_is_refused",
    "calling_a_gone_peer",
    "context_names_the_caller",
    "context_cannot_be_given",
    "public_service_from_another_workspace",
}


def names_for(cell: tuple[str, str, str]) -> list[str]:
    """The checks of one cell."""
    client, _, server = cell
    left_out = TAKES_LONG | (NOT_BY_PUBLIC_CLIENT if client == PUBLIC else set())
    left_out |= NOT_ON_PUBLIC_SERVER if server == PUBLIC else set()
    return [name for name in CHECKS if name not in left_out]


@dataclass
class Stage:
    """The processes of this module; servers and providers are started when they are asked for first."""

    folder: Path
    servers: dict[str, Server] = field(default_factory=dict)
    processes: dict[Any, Process] = field(default_factory=dict)

    def server(self, kind: str) -> Server:
        if kind not in self.servers:
            self.servers[kind] = Server(kind, self.folder / f"on-{kind}")
            self.servers[kind].start()
        return self.servers[kind]

    def ready(self, provider: str, server: str) -> dict[str, Any]:
        key = (provider, server)
        if key not in self.processes:
            url = self.server(server).url
            self.processes[key] = start_provider(provider, url, self.folder / f"on-{server}")
        return wait_until_ready(self.processes[key])

    def consumer(self, cell: tuple[str, str, str]) -> Process:
        if cell not in self.processes:
            kind, provider, server = cell
            ready = json.dumps(self.ready(provider, server))
            log = self.folder / f"{'-'.join(cell)}.log"
            arguments = [self.server(server).url, ready, *names_for(cell)]
            self.processes[cell] = run_program(kind, "consumer", arguments, log=log, INTEROP_TRANSPORT="http")
        return self.processes[cell]

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
        for server in self.servers.values():
            server.stop()


@pytest.fixture(scope="module")
def stage(both_sides: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("interop-http"))
    try:
        yield stage
    finally:
        stage.close()


CASES = [pytest.param(cell, name, id=f"{'-'.join(cell)}-{name}") for cell in CELLS for name in names_for(cell)]


@pytest.mark.parametrize(("cell", "name"), CASES)
def test_check(stage: Stage, cell: tuple[str, str, str], name: str) -> None:
    report = stage.consumer(cell).wait_for("check", name=name, timeout_s=CHECKS_S)
    if report["error"]:
        pytest.fail(f"{report['error']}\n{stage.consumer(cell).state()}", pytrace=False)
