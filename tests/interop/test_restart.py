"""A server that restarts: providers and consumers of both sides come back to it by themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .peers import CELLS, CONNECT_S, Cell, run_program, start_provider, wait_until_ready
from .processes import Process, ProcessFailed
from .servers import Server
from .sides import KINDS, OURS, PUBLIC

pytestmark = pytest.mark.timeout(240)

BACK_S = 100.0


class Restart:
    """One server with a provider of each side and a consumer of each side for each, restarted once.

    Args:
        kind: The side of the server.
        folder: Where logs and server state go.
    """

    def __init__(self, kind: str, folder: Path) -> None:
        self._folder = folder
        self._cells = [cell for cell in CELLS if cell.server == kind]
        self.server = Server(kind, folder)
        self.exit_code: int | None = None
        self._broken = ""
        self._providers: dict[str, Process] = {}
        self._consumers: dict[Cell, Process] = {}

    def run(self) -> None:
        """Do it all; a failure is told to those who ask for results, the other server's tests go on."""
        try:
            self._run()
        except ProcessFailed as error:
            self._broken = str(error)

    def _run(self) -> None:
        """Connect everybody, stop the server, start it on the same port with the same secret."""
        self.server.start()
        self._providers = {kind: start_provider(kind, self.server.url, self._folder) for kind in KINDS}
        for cell in self._cells:
            arguments = [self.server.url, json.dumps(wait_until_ready(self._providers[cell.provider]))]
            log = self._folder / f"returner-{cell}.log"
            self._consumers[cell] = run_program(cell.consumer, "returner", arguments, log=log)
        for consumer in self._consumers.values():
            consumer.wait_for("before", timeout_s=CONNECT_S)
        self.exit_code = self.server.stop()
        self.server.start()
        for consumer in self._consumers.values():
            consumer.write("the server is back")

    def result(self, cell: Cell, what: str) -> dict[str, Any]:
        """Wait for a proxy of a cell to work again; fails with all logs when it does not."""
        if self._broken:
            pytest.fail(self._broken, pytrace=False)
        consumer, report = self._consumers[cell], dict[str, Any]()
        # the program tries them in this order; what stays broken is reported after its own deadline
        for earlier in ("service", "manager", "fetched"):
            report = self._either(consumer, earlier)
            if earlier == what:
                break
        if report["event"] == "broken":
            logs = [consumer.state(), self._providers[cell.provider].state(), self.server.state()]
            pytest.fail("\n".join([f"{report}", *logs]), pytrace=False)
        return report

    @staticmethod
    def _either(consumer: Process, what: str) -> dict[str, Any]:
        try:
            return consumer.wait_for("works", what=what, timeout_s=BACK_S)
        except ProcessFailed:
            broken = consumer.find("broken", what=what)
            if broken is None:
                raise
            return broken

    def close(self) -> None:
        """End all processes."""
        for process in [*self._consumers.values(), *self._providers.values()]:
            process.kill()
        self.server.stop()


@pytest.fixture(scope="module")
def restarts(both_sides: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Restart]]:
    """Both servers, restarted under their clients."""
    restarts = {kind: Restart(kind, tmp_path_factory.mktemp(f"restart-{kind}")) for kind in KINDS}
    try:
        for restart in restarts.values():
            restart.run()
        yield restarts
    finally:
        for restart in restarts.values():
            restart.close()


each_cell = pytest.mark.parametrize("cell", CELLS, ids=str)
# protocol 1.8, 10.3: the public client keeps the public server's old manager address after a restart
manager_returns = [cell for cell in CELLS if cell.consumer == OURS or cell.server == OURS]


@each_cell
def test_the_same_service_proxy_works_after_a_restart(restarts: dict[str, Restart], cell: Cell) -> None:
    report = restarts[cell.server].result(cell, "service")
    assert report["attempts"] >= 1


@pytest.mark.parametrize("cell", manager_returns, ids=str)
def test_the_same_manager_proxy_works_after_a_restart(restarts: dict[str, Restart], cell: Cell) -> None:
    report = restarts[cell.server].result(cell, "manager")
    assert report["attempts"] >= 1


@pytest.mark.parametrize("cell", manager_returns, ids=str)
def test_the_service_is_found_again_after_a_restart(restarts: dict[str, Restart], cell: Cell) -> None:
    report = restarts[cell.server].result(cell, "fetched")
    assert report["attempts"] >= 1


def test_our_server_ends_in_time_on_sigterm(restarts: dict[str, Restart]) -> None:
    assert restarts[OURS].exit_code == 0, restarts[OURS].server.state()


def test_no_proxy_of_our_own_peers_needs_long(restarts: dict[str, Restart]) -> None:
    report = restarts[OURS].result(Cell(OURS, OURS, OURS), "service")
    assert report["seconds"] <= 5.0, f"ours needed {report['seconds']} s: reliability 1 promises 2 s"


def test_the_public_pair_is_what_we_compare_with(restarts: dict[str, Restart]) -> None:
    assert restarts[PUBLIC].result(Cell(PUBLIC, PUBLIC, PUBLIC), "service")["what"] == "service"
