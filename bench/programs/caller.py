"""The calling side: prepares one workload after the other, and runs it when told to.

Run as ``python caller.py SERVER_URL READY_JSON``, with what the callee reported. Each order is a line
``{"workload": name, "seconds": s, ...}``: the program warms up, reports ``prepared``, waits for another line,
runs, and reports ``result``. Uses nothing but the public API, so that it runs with either package.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import memory
from lines import order, tell

from hypha_rpc import connect_to_server

Result = dict[str, float]
Workload = Callable[[Any, float, dict[str, Any]], Awaitable[Result]]

METHOD_TIMEOUT_S = 120


async def latency(service: Any, seconds: float, options: dict[str, Any]) -> Result:
    """One call at a time; the median of their durations in microseconds."""
    durations: list[float] = []
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end:
        await service.echo(len(durations))
        durations.append(time.perf_counter() - begin)
    return {"value": statistics.median(durations) * 1e6, "calls": len(durations)}


async def in_flight(service: Any, seconds: float, options: dict[str, Any]) -> Result:
    """Always the same number of calls under way; calls a second."""
    begin = time.perf_counter()
    counts = await asyncio.gather(*(repeat(service, begin + seconds) for _ in range(options["width"])))
    return {"value": sum(counts) / (time.perf_counter() - begin), "calls": sum(counts)}


async def repeat(service: Any, end: float) -> int:
    """Call until the time is over."""
    count = 0
    while time.perf_counter() < end:
        await service.echo(count)
        count += 1
    return count


async def bytes_echo(service: Any, seconds: float, options: dict[str, Any]) -> Result:
    """The same bytes there and back; their size divided by the time of a round trip, in MB/s."""
    # noise, the same on both sides: the public packages compress what they send
    value = random.Random(1).randbytes(options["size"])
    return await send_and_get(service, value, options["size"], seconds)


async def array_echo(service: Any, seconds: float, options: dict[str, Any]) -> Result:
    """The same with an array of float32."""
    import numpy as np

    count = options["size"] // 4
    value = np.random.default_rng(1).standard_normal(count).astype("float32")
    return await send_and_get(service, value, value.nbytes, seconds)


async def send_and_get(service: Any, value: Any, size: int, seconds: float) -> Result:
    """Echo until the time is over, twice at least."""
    count, begin = 0, time.perf_counter()
    while count < 2 or time.perf_counter() < begin + seconds:
        got = await service.echo(value)
        count += 1
        if len(got) != len(value):
            raise ValueError(f"sent {len(value)} elements, got {len(got)}")
    return {"value": size * count / (time.perf_counter() - begin) / 1e6, "calls": count}


async def array_memory(service: Any, seconds: float, options: dict[str, Any]) -> Result:
    """Peak extra memory of an echo, of the caller or the callee, whichever needs more; in sizes of the array."""
    import numpy as np

    value = np.random.default_rng(1).standard_normal(options["size"] // 4, dtype="float32")
    await service.echo(value[:1000])
    there, here = await service.begin_peak(), memory.begin_peak()
    got = await service.echo(value)
    extra = max(memory.peak() - here, await service.peak() - there)
    if len(got) != len(value):
        raise ValueError(f"sent {len(value)} elements, got {len(got)}")
    return {"value": extra / value.nbytes, "calls": 1}


async def small_beside_big(service: Any, seconds: float, options: dict[str, Any]) -> Result:
    """The median duration in milliseconds of small calls while a big echo is under way."""
    value = random.Random(1).randbytes(options["size"])
    durations: list[float] = []
    end = time.perf_counter() + seconds
    while not durations or time.perf_counter() < end:
        big = asyncio.ensure_future(service.echo(value))
        while not big.done():
            begin = time.perf_counter()
            await service.echo(len(durations))
            durations.append(time.perf_counter() - begin)
        await big
    return {"value": statistics.median(durations) * 1e3, "calls": len(durations)}


async def callbacks(service: Any, seconds: float, options: dict[str, Any]) -> Result:
    """Invocations of a callback by one call after the other, a second."""
    count, begin = 0, time.perf_counter()
    while time.perf_counter() < begin + seconds:
        count += await service.call_many(identity, options["count"])
    return {"value": count / (time.perf_counter() - begin), "calls": count}


def identity(value: Any) -> Any:
    """The callback."""
    return value


async def generator(service: Any, seconds: float, options: dict[str, Any]) -> Result:
    """Items a second of an asynchronous generator."""
    count, begin = 0, time.perf_counter()
    while time.perf_counter() < begin + seconds:
        async for _ in await service.generate(options["count"]):
            count += 1
    return {"value": count / (time.perf_counter() - begin), "calls": count}


async def generator_of_bytes(service: Any, seconds: float, options: dict[str, Any]) -> Result:
    """Items a second of an asynchronous generator of binaries."""
    count, begin = 0, time.perf_counter()
    while time.perf_counter() < begin + seconds:
        async for item in await service.generate_bytes(options["count"], options["size"]):
            count += len(item) == options["size"]
    return {"value": count / (time.perf_counter() - begin), "calls": count}


async def http_calls(service: Any, seconds: float, options: dict[str, Any]) -> Result:
    """``GET .../echo?value=N`` on connections that stay open; answers a second."""
    begin = time.perf_counter()
    counts = await asyncio.gather(*(ask(options, begin + seconds) for _ in range(options["width"])))
    return {"value": sum(counts) / (time.perf_counter() - begin), "calls": sum(counts)}


async def ask(options: dict[str, Any], end: float) -> int:
    """One connection: ask and read until the time is over. By hand, so that little time is spent here."""
    where = urlsplit(options["url"])
    path = f"/{options['workspace']}/services/{options['service'].rpartition('/')[2]}/echo?value="
    fields = f"Host: {where.netloc}\r\nAuthorization: Bearer {options['token']}\r\n\r\n"
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    count = 0
    try:
        while time.perf_counter() < end:
            writer.write(f"GET {path}{count} HTTP/1.1\r\n{fields}".encode())
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(answer.partition(b"content-length:")[2].partition(b"\r")[0])
            body = await reader.readexactly(length)
            if b" 200 " not in answer[:20] or int(body) != count:
                raise ValueError(f"unexpected answer: {answer[:40]!r} {body[:200]!r}")
            count += 1
    finally:
        writer.close()
    return count


FUNCTIONS: tuple[Workload, ...] = (
    *(latency, in_flight, bytes_echo, array_echo, array_memory, small_beside_big),
    *(callbacks, generator, generator_of_bytes, http_calls),
)
WORKLOADS: dict[str, Workload] = {function.__name__: function for function in FUNCTIONS}


async def run(url: str, ready: dict[str, Any]) -> None:
    """Serve orders until the parent closes the pipe."""
    options = {"workspace": ready["workspace"], "token": ready["token"], "method_timeout": METHOD_TIMEOUT_S}
    server = await connect_to_server({"server_url": url, **options})
    service = await server.get_service(ready["service"])
    tell("ready")
    while what := await order():
        workload, seconds = WORKLOADS[what["workload"]], what["seconds"]
        what.update(ready, url=url)
        try:
            await workload(service, seconds / 5, what)
            tell("prepared")
            await order()
            tell("result", **await workload(service, seconds, what))
        except Exception as error:  # noqa: BLE001 - supervision: a workload that fails is a result, the next one may work
            tell("failed", error=repr(error))
    await server.disconnect()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], json.loads(sys.argv[2])))
