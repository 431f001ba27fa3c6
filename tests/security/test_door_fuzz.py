"""Damaged messages at the WebSocket door: the server goes on as before, and so do its other clients (security S42, S43).

Both doors, each in a server process of its own; the seed is fixed, so what fails here fails again.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from hypha.testing import ServerProcess
from hypha_rpc import connect_to_server
from tests.conftest import Eventually
from tests.security.attack import Attack, Target, latencies
from tests.security.mutations import Mutator

pytestmark = pytest.mark.timeout(60)

SEED = int(os.environ.get('FSEED','20470'))
CONNECTIONS, FRAMES = 90, 150
MIB = 1024 * 1024
LONGEST_LINE = 400
GROWTH_MB = 16.0
LATENCY_S, LONGEST_S = 0.25, 2.0


@pytest.fixture(params=["picows", "asgi"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[ServerProcess]:
    async with ServerProcess("--in-memory", env={"HYPHA_DOOR": request.param}) as running:
        yield running


@pytest.fixture(autouse=True)
async def patient_loop() -> None:
    """Thousands of frames a second are slow in debug mode, and only the server is looked at here."""
    asyncio.get_running_loop().set_debug(False)


async def health(server: ServerProcess) -> dict[str, Any]:
    async with httpx2.AsyncClient(trust_env=False) as http:
        report: dict[str, Any] = (await http.get(f"{server.url}/health")).json()
    return report


async def server_errors(server: ServerProcess) -> list[str]:
    """Answers of the server's own failing, as its metrics count them; while it starts there are some."""
    async with httpx2.AsyncClient(trust_env=False) as http:
        lines = (await http.get(f"{server.url}/metrics")).text.splitlines()
    return [line for line in lines if line.startswith("http_requests_total{") and 'status="5' in line]


async def settled(server: ServerProcess, connections: int, tasks: int) -> dict[str, Any]:
    """The figures once everybody who attacked has gone."""
    async with asyncio.timeout(10):
        while True:
            report = await health(server)
            if report["connections"]["active"] == connections and report["tasks"]["active"] <= tasks:
                return report
            await asyncio.sleep(0.1)


def check_log(server: ServerProcess) -> None:
    """No trace, nothing alarming, no line that shows what was sent."""
    lines = server.log.read_text("utf-8", "replace").splitlines()
    loud = [line for line in lines if any(word in line for word in ("Traceback", "ERROR", "Exception", "WARNING"))]
    assert not loud, open("/tmp/sec/loud.txt","w").write("\n".join(lines[lines.index(loud[0]) :][:60]))
    assert max(map(len, lines), default=0) <= LONGEST_LINE
    # Each connection may be worth a line when it comes to nothing good, not each frame.
    assert len(lines) < 20 * CONNECTIONS, lines[-5:]


async def test_damaged_messages_harm_neither_the_server_nor_a_bystander(
    server: ServerProcess, caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    caplog.set_level(logging.INFO)
    async with connect_to_server(server_url=server.url, client_id="prov") as provider:
        config = {"visibility": "public"}
        await provider.register_service({"id": "svc", "config": config, "echo": lambda value=None: value})
        token = await provider.generate_token()
        options = {"server_url": server.url, "token": token, "client_id": "cons"}
        async with connect_to_server(options) as consumer:
            svc = await consumer.get_service("svc")
            workspace, manager = provider.config.workspace, f"*/{provider.config.manager_id}"
            own = (f"{workspace}/prov", f"{workspace}/cons", "prov", "cons")
            mutator = Mutator(SEED, (*own, *own, manager, manager, "*", f"{workspace}/*", "public/nobody", ""))
            attack = Attack(Target(server.url, token), mutator)
            before, errors = await health(server), await server_errors(server)
            stop = asyncio.Event()
            calling = asyncio.create_task(latencies(lambda: svc.echo(1), stop))
            await attack.run(connections=CONNECTIONS, frames=FRAMES)
            warm = await settled(server, before["connections"]["active"], before["tasks"]["active"] + 3)
            await attack.run(connections=CONNECTIONS, frames=FRAMES)
            stop.set()
            times = sorted(await calling)
            after = await settled(server, before["connections"]["active"], before["tasks"]["active"] + 3)
            assert await svc.echo("still there") == "still there"
            await eventually(lambda: not any(provider.rpc.endpoint.stats()[name] for name in LEFT), what="empty tables")

    assert attack.ended == 2 * CONNECTIONS
    assert attack.sent > CONNECTIONS * FRAMES / 2
    assert times[len(times) // 2] < LATENCY_S and times[-1] < LONGEST_S, (times[len(times) // 2], times[-1])
    assert after["memory"]["rss_mb"] - warm["memory"]["rss_mb"] < GROWTH_MB
    assert after["objects"]["services"] == before["objects"]["services"]
    assert await server_errors(server) == errors
    check_log(server)
    ours = [record for record in caplog.records if record.name.startswith("hypha_rpc")]
    assert all(len(record.getMessage()) <= 250 and not record.exc_info for record in ours), ours


LEFT = ("calls", "running", "sessions", "partial_messages", "transfers")
