"""Runs the checks of a cell in real processes, once, and hands out the results one by one."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from .peers import CELLS, Cell, start_consumer, start_provider, wait_until_ready
from .processes import Process, ProcessFailed
from .programs.checks import CHECKS
from .servers import Server
from .sides import KINDS

LONG_CALL = "a_silent_long_call_is_kept_alive"
BIG_VALUE = "a_100_mb_array"
QUICK = [name for name in CHECKS if name not in (LONG_CALL, BIG_VALUE)]
CELL_S = 240.0
LONG_CALL_S = 90.0


class Matrix:
    """All servers, providers and consumers of one test session.

    The silent long calls of all cells are started together at the beginning; their results are
    asked for last, so that they cost the suite no time of their own.

    Args:
        folder: Where logs and server state go.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers = {kind: Server(kind, folder / f"on-{kind}") for kind in KINDS}
        self._broken: dict[str, str] = {}
        self._providers: dict[tuple[str, str], Process] = {}
        self._long_calls: dict[Cell, Process] = {}
        self._runs: dict[Cell, Process] = {}

    def open(self) -> None:
        """Start servers, providers and the long calls."""
        for kind, server in self._servers.items():
            try:
                server.start()
            except ProcessFailed as error:
                # the cells on the other server still tell something
                self._broken[kind] = str(error)
        for provider, kind in itertools.product(KINDS, KINDS):
            if kind not in self._broken:
                process = start_provider(provider, self._servers[kind].url, self._folder / f"on-{kind}")
                self._providers[provider, kind] = process
        for cell in CELLS:
            try:
                self._long_calls[cell] = self._start(cell, [LONG_CALL], "long-call")
            except ProcessFailed:
                # asked for its result, the cell fails again and says why
                continue

    def _start(self, cell: Cell, names: list[str], what: str) -> Process:
        ready = self.provider(cell)
        url = self._servers[cell.server].url
        return start_consumer(cell.consumer, url, ready, names, log=self._folder / f"{what}-{cell}.log")

    def server(self, kind: str) -> Server:
        """The server of one side.

        Raises:
            ProcessFailed: It could not be started.
        """
        if kind in self._broken:
            raise ProcessFailed(self._broken[kind])
        return self._servers[kind]

    def provider(self, cell: Cell) -> dict[str, Any]:
        """What a cell's provider reported about itself."""
        self.server(cell.server)
        return wait_until_ready(self._providers[cell.provider, cell.server])

    def client(self, cell: Cell) -> dict[str, Any]:
        """Which package the consumer of a cell has imported."""
        return self._run(cell).wait_for("client", timeout_s=CELL_S)

    def result(self, cell: Cell, name: str) -> dict[str, Any]:
        """The report of one check; the cell's consumer is started by the first question."""
        if name == LONG_CALL:
            self.provider(cell)
            return self._long_calls[cell].wait_for("check", name=name, timeout_s=LONG_CALL_S)
        return self._run(cell).wait_for("check", name=name, timeout_s=CELL_S)

    def big_value(self, cell: Cell) -> dict[str, Any]:
        """The report of the check with the biggest value, by a consumer of its own."""
        process = self._start(cell, [BIG_VALUE], "big-value")
        try:
            return process.wait_for("check", name=BIG_VALUE, timeout_s=CELL_S)
        finally:
            process.kill()

    def _run(self, cell: Cell) -> Process:
        if cell not in self._runs:
            self._runs[cell] = self._start(cell, QUICK, "checks")
        return self._runs[cell]

    def logs(self, cell: Cell) -> str:
        """The ends of all logs of a cell, for a failing test."""
        processes = [self._providers[cell.provider, cell.server], self._runs.get(cell)]
        states = [process.state() for process in processes if process is not None]
        return "\n".join([self._servers[cell.server].state(), *states])

    def close(self) -> None:
        """End all processes."""
        for process in [*self._runs.values(), *self._long_calls.values(), *self._providers.values()]:
            process.kill()
        for server in self._servers.values():
            server.stop()
