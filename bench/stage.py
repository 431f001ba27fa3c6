"""Three processes of one side (server, callee, caller), and the measuring of one workload with them."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from processes import Process
from server import Server
from workloads import Workload

READY_S = 60.0
RESULT_S = 300.0
CONNECTS = 10


@dataclass(frozen=True)
class Measurement:
    """One workload, measured once on one side.

    Attributes:
        value: In the workload's unit.
        cpu: CPU seconds per call by process.
    """

    value: float
    cpu: dict[str, float] = field(default_factory=dict)


class Stage:
    """One side's processes; they stay for the whole run. Make it with :meth:`start`."""

    def __init__(self, side: str, folder: Path, server: Server) -> None:
        self.side, self._folder, self._server = side, folder, server
        self._processes: dict[str, Process] = {"server": server.process}
        self._ready: dict[str, Any] = {}
        self._runs = 0

    @classmethod
    async def start(cls, side: str, folder: Path) -> Self:
        """Start server, callee and caller."""
        stage = cls(side, folder, await Server.start(side, folder))
        try:
            await stage._join()
        except BaseException:
            await stage.close()
            raise
        return stage

    async def _join(self) -> None:
        callee = await Process.program(self.side, "callee", [self._server.url], self._folder)
        self._processes["callee"] = callee
        self._ready = await callee.wait_for("ready", READY_S)
        arguments = [self._server.url, json.dumps(self._ready)]
        caller = await Process.program(self.side, "caller", arguments, self._folder)
        self._processes["caller"] = caller
        await caller.wait_for("ready", READY_S)

    @property
    def versions(self) -> str:
        """Versions of client and server."""
        return f"client {self._ready['client_version']}, server {self._ready['server_version']}"

    async def measure(self, workload: Workload, seconds: float) -> Measurement:
        """Measure one workload once.

        Raises:
            BenchFailed: A process did not do its part.
        """
        if workload.where == "crowd":
            return await self._crowd(workload, seconds)
        if workload.where == "blocking":
            return await self._blocking(workload, seconds)
        if workload.where == "cold":
            return await self._cold()[workload.name]()
        caller = self._processes["caller"]
        await caller.order({**workload.options, "seconds": seconds})
        await caller.wait_for("prepared", RESULT_S)
        before = self._cpu(self._processes)
        await caller.order({"go": True})
        result = await caller.wait_for("result", RESULT_S)
        return self._measurement(result, before, self._processes)

    @staticmethod
    def _cpu(processes: dict[str, Process]) -> dict[str, float]:
        return {name: process.cpu_seconds() for name, process in processes.items()}

    def _measurement(
        self, result: dict[str, Any], before: dict[str, float], processes: dict[str, Process]
    ) -> Measurement:
        after = self._cpu(processes)
        return Measurement(result["value"], {name: (after[name] - before[name]) / result["calls"] for name in after})

    def _cold(self) -> dict[str, Callable[[], Awaitable[Measurement]]]:
        measures = [self._connect, self._server_start, self._server_memory]
        measures += [self._server_start_share, self._server_memory_share]
        measures += [self._import, self._import_memory, self._import_asyncio]
        return {measure.__name__.removeprefix("_"): measure for measure in measures}

    def _fresh(self) -> Path:
        self._runs += 1
        return self._folder / f"run-{self._runs}"

    async def _crowd(self, workload: Workload, seconds: float) -> Measurement:
        arguments = [self._server.url, json.dumps(self._ready), str(workload.options["clients"]), str(seconds)]
        before = self._cpu(self._processes)
        crowd = await Process.program(self.side, "crowd", arguments, self._fresh())
        processes = {**self._processes, "caller": crowd}
        try:
            connected = await crowd.wait_for("connected", RESULT_S)
            if workload.name == "crowd_connect":
                # the new process starts from zero: its import counts, as it does in life
                return self._measurement(connected, {**before, "caller": 0.0}, processes)
            before = self._cpu(processes)
            await crowd.order({"go": True})
            return self._measurement(await crowd.wait_for("result", RESULT_S), before, processes)
        finally:
            await crowd.close()

    async def _blocking(self, workload: Workload, seconds: float) -> Measurement:
        arguments = [self._server.url, json.dumps(self._ready), workload.options["workload"], str(seconds)]
        program = await Process.program(self.side, "blocking", arguments, self._fresh())
        processes = {**self._processes, "caller": program}
        try:
            await program.wait_for("prepared", RESULT_S)
            before = self._cpu(processes)
            await program.order({"go": True})
            return self._measurement(await program.wait_for("result", RESULT_S), before, processes)
        finally:
            await program.close()

    async def _connect(self) -> Measurement:
        before = self._processes["server"].cpu_seconds()
        program = await Process.program(self.side, "connecting", [self._server.url, str(CONNECTS)], self._fresh())
        try:
            result = await program.wait_for("result", RESULT_S)
            return self._measurement(result, {"server": before}, {"server": self._processes["server"]})
        finally:
            await program.close()

    async def _server_start(self) -> Measurement:
        server = await Server.start(self.side, self._fresh())
        await server.close()
        return Measurement(server.start_s * 1e3)

    async def _server_memory(self) -> Measurement:
        server = await Server.start(self.side, self._fresh())
        memory = server.process.megabytes()
        await server.close()
        return Measurement(memory)

    async def _libraries(self) -> tuple[float, float]:
        """Milliseconds from starting a process until it has imported the server's libraries; its memory then."""
        begin = time.perf_counter()
        program = await Process.program(self.side, "dependencies", [], self._fresh())
        try:
            result = await program.wait_for("result", READY_S)
            return (time.perf_counter() - begin) * 1e3, float(result["megabytes"])
        finally:
            await program.close()

    async def _server_start_share(self) -> Measurement:
        begin, _ = await self._libraries()
        start = (await self._server_start()).value
        # Once before and once after: what else the machine does hits both.
        end, _ = await self._libraries()
        return Measurement((begin + end) / 2 / start)

    async def _server_memory_share(self) -> Measurement:
        _, memory = await self._libraries()
        return Measurement(memory / (await self._server_memory()).value)

    async def _importing(self, *arguments: str) -> dict[str, Any]:
        program = await Process.program(self.side, "importing", arguments, self._fresh())
        try:
            return await program.wait_for("result", READY_S)
        finally:
            await program.close()

    async def _import(self) -> Measurement:
        return Measurement((await self._importing("hypha_rpc", "connect_to_server"))["milliseconds"])

    async def _import_memory(self) -> Measurement:
        return Measurement((await self._importing("hypha_rpc", "connect_to_server"))["megabytes"])

    async def _import_asyncio(self) -> Measurement:
        return Measurement((await self._importing("asyncio"))["milliseconds"])

    async def close(self) -> None:
        """End all processes, the server last."""
        for process in reversed(self._processes.values()):
            await process.close()
