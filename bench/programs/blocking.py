"""The calling side, blocking: one measurement of the face without ``await``.

Run as ``python blocking.py SERVER_URL READY_JSON WORKLOAD SECONDS``. It reports ``prepared``, waits for a line,
runs, and reports ``result``. Uses nothing but the public API, so that it runs with either package.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from lines import tell

import hypha_rpc
from hypha_rpc.sync import connect_to_server

Result = dict[str, float]

METHOD_TIMEOUT_S = 120
BLOCK = 300


def latency(options: dict[str, Any], service_id: str, seconds: float) -> Callable[[], Result]:
    """One call at a time; the median of their durations in microseconds."""
    server = connect_to_server(options)
    service = server.get_service(service_id)
    for number in range(BLOCK):
        service.echo(number)

    def run() -> Result:
        durations: list[float] = []
        end = time.perf_counter() + seconds
        while (begin := time.perf_counter()) < end:
            service.echo(len(durations))
            durations.append(time.perf_counter() - begin)
        return {"value": statistics.median(durations) * 1e6, "calls": len(durations)}

    return run


def overhead(options: dict[str, Any], service_id: str, seconds: float) -> Callable[[], Result]:
    """CPU time of a blocking call minus that of an awaited one, by turns in one process, in microseconds."""
    loop = asyncio.new_event_loop()
    awaited = loop.run_until_complete(asynchronous(options, service_id))
    blocking = connect_to_server(options).get_service(service_id)

    def run() -> Result:
        differences: list[float] = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(differences) < 5:
            begin = time.process_time()
            loop.run_until_complete(block(awaited))
            middle = time.process_time()
            for number in range(BLOCK):
                blocking.echo(number)
            differences.append((time.process_time() - middle - (middle - begin)) / BLOCK)
        return {"value": statistics.median(differences) * 1e6, "calls": 2 * BLOCK * len(differences)}

    run()
    return run


async def asynchronous(options: dict[str, Any], service_id: str) -> Any:
    """The same service, to be awaited."""
    server = await hypha_rpc.connect_to_server(options)
    return await server.get_service(service_id)


async def block(service: Any) -> None:
    """Some awaited calls."""
    for number in range(BLOCK):
        await service.echo(number)


WORKLOADS = {"latency": latency, "overhead": overhead}


def main(url: str, ready: dict[str, Any], workload: str, seconds: float) -> None:
    """Prepare, wait for the order, run, report."""
    options = {"server_url": url, "workspace": ready["workspace"], "token": ready["token"]}
    run = WORKLOADS[workload]({**options, "method_timeout": METHOD_TIMEOUT_S}, ready["service"], seconds)
    tell("prepared")
    sys.stdin.readline()
    tell("result", **run())


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
