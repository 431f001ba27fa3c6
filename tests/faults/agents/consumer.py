"""The calling side: does what its parent writes, a line of JSON an order, and reports how each call ended.

Run as ``python -m agents.consumer SERVER_URL SERVICE_ID [TOKEN WORKSPACE [CLIENT_ID]]``.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from typing import Any

from programs.report import order, tell

from hypha_rpc import connect_to_server

LIFE_S = 900.0
ATTEMPT_S = 3.0


class Consumer:
    """Calls on order."""

    def __init__(self, server: Any, service: Any, name: str) -> None:
        self._server = server
        self._service = service
        self._name = name
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loading = False
        self._heard = 0

    def token(self) -> str:
        """Fresh for every call."""
        return f"{self._name}-{next(self._numbers)}"

    def start(self, wish: dict[str, Any]) -> None:
        """Begin what is ordered."""
        task = asyncio.ensure_future(getattr(self, wish.pop("do"))(**wish))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def call(self, label: str, method: str = "echo", seconds: float | None = None, size: int = 0) -> None:
        """Call once and report."""
        tell("began", label=label)
        begin = time.monotonic()
        try:
            await self._made(method, seconds, size)
        except Exception as error:  # noqa: BLE001 - supervision: the error is the report
            fields: dict[str, Any] = {"outcome": "error", "error": f"{type(error).__name__}: {error}"[:200]}
            fields["may_have_run"] = getattr(error, "may_have_run", None)
        else:
            fields = {"outcome": "result"}
        fields["state"] = str(getattr(self._server.rpc, "state", ""))
        tell("settled", label=label, took=round(time.monotonic() - begin, 3), at=time.time(), **fields)

    def _made(self, method: str, seconds: float | None, size: int) -> Any:
        if method == "take":
            return self._service.take(bytes(size))
        if method == "give":
            return self._service.give(size)
        if method == "revoke":
            return self._revoke()
        return self._service[method](self.token(), *([] if seconds is None else [seconds]))

    async def _revoke(self) -> None:
        """Something for which the server needs its disk."""
        await self._server.revoke_token(await self._server.generate_token({"expires_in": 60}))

    async def burst(self, label: str, count: int) -> None:
        """Call many times at once."""
        calls = (self._service.echo(self.token()) for _ in range(count))
        results = await asyncio.gather(*calls, return_exceptions=True)
        failed = [repr(result)[:200] for result in results if isinstance(result, BaseException)]
        tell("burst", label=label, at=time.time(), failed=len(failed), first=failed[:1])

    async def consume(self, label: str, count: int) -> None:
        """Take all items of a generator that makes them as fast as it can."""
        items, error = 0, ""
        try:
            async for _ in await self._service.count(count):
                items += 1
        except Exception as problem:  # noqa: BLE001 - supervision: the error is the report
            error = f"{type(problem).__name__}: {problem}"[:200]
        tell("consumed", label=label, at=time.time(), items=items, error=error)

    async def listen(self, label: str, kind: str) -> None:
        """Subscribe to events, and report each small one."""

        def heard(event: dict[str, Any]) -> None:
            self._heard += 1
            if not event["data"]["filling"]:
                tell("heard", number=event["data"]["number"], at=time.time(), of_all=self._heard)

        self._server.on(kind, heard)
        await self._server.subscribe([kind])
        tell("listening", label=label)

    async def announce(self, label: str, kind: str, number: int = 0, size: int = 0) -> None:
        """Send an event to all who listen."""
        data = {"number": number, "filling": bytes(size)}
        begin = time.time()
        await self._server.emit({"type": kind, "to": "*", "data": data})
        tell("announced", label=label, at=begin)

    async def until(self, label: str, what: str = "echo", limit: float = 90.0) -> None:
        """Repeat something until it works."""
        begin, attempts, last = time.monotonic(), 0, ""
        while time.monotonic() - begin < limit:
            attempts += 1
            try:
                await asyncio.wait_for(self._used(what), ATTEMPT_S)
            except Exception as error:  # noqa: BLE001 - supervision: any failure is a reason to try again, until the limit
                last = f"{type(error).__name__}: {error}"[:200]
                await asyncio.sleep(0.05)
            else:
                tell("works", label=label, at=time.time(), took=round(time.monotonic() - begin, 3), attempts=attempts)
                return
        tell("works", label=label, at=None, took=None, attempts=attempts, error=last)

    async def _used(self, what: str) -> None:
        if what == "echo":
            await self._service.echo(self.token())
        elif what == "manager":
            await self._server.echo("x")
        else:
            listed = [entry["id"] for entry in await self._server.list_services()]
            if (what == "listed") != any(name.endswith(":fault") for name in listed):
                raise LookupError(f"not {what}")

    async def load(self, label: str, every: float) -> None:
        """Call steadily until `stop`; reports what came of it."""
        self._loading = True
        results: list[tuple[float, str]] = []
        calls: set[asyncio.Task[None]] = set()

        async def one() -> None:
            begin = time.monotonic()
            try:
                await self._service.echo(self.token())
            except Exception as error:  # noqa: BLE001 - supervision: the error is the result
                results.append((time.monotonic() - begin, type(error).__name__))
            else:
                results.append((time.monotonic() - begin, ""))

        while self._loading:
            task = asyncio.ensure_future(one())
            calls.add(task)
            task.add_done_callback(calls.discard)
            await asyncio.sleep(every)
        if calls:
            await asyncio.wait(calls, timeout=60)
        durations = sorted(took for took, _ in results) or [0.0]
        tell(
            "loaded",
            label=label,
            made=len(results) + len(calls),
            unsettled=len(calls),
            failed=sum(bool(error) for _, error in results),
            longest=round(durations[-1], 3),
            median=round(durations[len(durations) // 2], 4),
        )

    async def stop(self) -> None:
        """End the steady calls."""
        self._loading = False


async def main(url: str, service_id: str, *identity: str) -> None:
    """Connect, fetch the service, take orders."""
    options: dict[str, Any] = {"server_url": url}
    options.update(zip(("token", "workspace", "client_id"), identity, strict=False))
    server = await connect_to_server(options)
    consumer = Consumer(server, await server.get_service(service_id), identity[2] if len(identity) > 2 else "c")
    tell("ready")
    while line := await order(LIFE_S):
        consumer.start(json.loads(line))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
