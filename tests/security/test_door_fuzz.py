"""Damaged messages at the WebSocket door: the server goes on as before, and so do its other clients (S42, S43).

Both doors, each in a server process of its own; the seed is fixed, so what fails here fails again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from hypha.auth.scopes import ParsedScope
from hypha.auth.secret import Secrets
from hypha.auth.tokens import Grant, TokenService
from hypha.testing import ServerProcess
from hypha_rpc import connect_to_server
from tests.conftest import Eventually
from tests.security.attack import Attack, Target, latencies
from tests.security.mutations import Mutator

pytestmark = pytest.mark.timeout(60)

SEED = 20_470
CONNECTIONS, FRAMES = 90, 150
STREAMS, POSTS = 10, 40
LONGEST_LINE, LONGEST_OF_CLIENTS = 400, 250
GROWTH_MB = 16.0
SECRET = "only for this test: 0123456789abcdef"
SERVER_ID, WORKSPACE = "fuzzed", "ws-user-alice"
OWN = (f"{WORKSPACE}/prov", f"{WORKSPACE}/cons", "prov", "cons")
MANAGER = f"*/manager-{SERVER_ID}"
RECEIVERS = (*OWN, *OWN, MANAGER, MANAGER, "*", f"{WORKSPACE}/*", "public/nobody", "")
LEFT = ("calls", "running", "sessions", "partial_messages", "transfers")
LATENCY_S, LONGEST_S = 0.25, 2.0


@pytest.fixture(params=["picows", "asgi"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[ServerProcess]:
    env = {"HYPHA_DOOR": request.param, "HYPHA_JWT_SECRET": SECRET}
    async with ServerProcess("--in-memory", f"--server-id={SERVER_ID}", env=env) as running:
        yield running


@pytest.fixture(autouse=True)
async def patient_loop() -> None:
    """Thousands of frames a second are slow in debug mode, and only the server is looked at here."""
    asyncio.get_running_loop().set_debug(False)


def token() -> str:
    """Lets clients of one user in; nothing in it is random but its id."""
    scope = ParsedScope({}, None, WORKSPACE)
    return TokenService(Secrets(SECRET.encode())).mint(
        Grant(user_id="alice", scope=scope, expires_in=600, roles=["user"])
    )


async def health(server: ServerProcess) -> dict[str, Any]:
    async with httpx2.AsyncClient(trust_env=False) as http:
        report: dict[str, Any] = (await http.get(f"{server.url}/health")).json()
    return report


async def server_errors(server: ServerProcess) -> list[str]:
    """Answers of the server's own failing, as its metrics count them; while it starts there are some."""
    async with httpx2.AsyncClient(trust_env=False) as http:
        lines = (await http.get(f"{server.url}/metrics")).text.splitlines()
    return [line for line in lines if line.startswith("http_requests_total{") and 'status="5' in line]


async def settled(server: ServerProcess, before: dict[str, Any]) -> dict[str, Any]:
    """The figures once everybody who attacked has gone."""
    async with asyncio.timeout(10):
        while True:
            report = await health(server)
            gone = report["connections"]["active"] == before["connections"]["active"]
            # Those who asked a moment ago have tasks of their own.
            if gone and report["tasks"]["active"] <= before["tasks"]["active"] + 3:
                return report
            await asyncio.sleep(0.1)


def check_log(server: ServerProcess) -> None:
    """No trace, nothing alarming, no line that shows what was sent."""
    lines = server.log.read_text("utf-8", "replace").splitlines()
    loud = [line for line in lines if any(word in line for word in ("Traceback", "ERROR", "Exception", "WARNING"))]
    assert not loud, "\n".join(lines[lines.index(loud[0]) :][:40])
    assert max(map(len, lines), default=0) <= LONGEST_LINE
    # Each connection may be worth a line when it comes to nothing good, not each frame.
    assert len(lines) < 20 * CONNECTIONS, lines[-5:]


async def test_damaged_messages_harm_neither_the_server_nor_a_bystander(
    server: ServerProcess, caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    caplog.set_level(logging.INFO)
    options = {"server_url": server.url, "token": token()}
    async with (
        connect_to_server({**options, "client_id": "prov"}) as provider,
        connect_to_server({**options, "client_id": "cons"}) as consumer,
    ):
        await provider.register_service(
            {"id": "svc", "config": {"visibility": "public"}, "echo": lambda value=None: value}
        )
        svc = await consumer.get_service("svc")
        attack = Attack(Target(server.url, token()), Mutator(SEED, RECEIVERS))
        before, errors, tasks = await health(server), await server_errors(server), len(asyncio.all_tasks())
        stop = asyncio.Event()
        calling = asyncio.create_task(latencies(lambda: svc.echo(1), stop))
        await attack.run(connections=CONNECTIONS, frames=FRAMES)
        warm = await settled(server, before)
        await attack.run(connections=CONNECTIONS, frames=FRAMES)
        stop.set()
        times = sorted(await calling)
        after = await settled(server, before)
        assert await svc.echo("still there") == "still there"
        for client in (provider, consumer):
            await eventually(
                lambda rpc=client.rpc: not any(rpc.endpoint.stats()[name] for name in LEFT), what="no rest"
            )
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks, what="no task left")

    assert attack.ended == 2 * CONNECTIONS
    assert attack.sent > CONNECTIONS * FRAMES / 2
    assert times[len(times) // 2] < LATENCY_S and times[-1] < LONGEST_S, (times[len(times) // 2], times[-1])
    assert after["memory"]["rss_mb"] - warm["memory"]["rss_mb"] < GROWTH_MB
    assert after["objects"]["services"] == before["objects"]["services"]
    assert await server_errors(server) == errors
    check_log(server)
    ours = [record for record in caplog.records if record.name.startswith("hypha_rpc")]
    assert all(len(record.getMessage()) <= LONGEST_OF_CLIENTS and not record.exc_info for record in ours), ours


@pytest.mark.parametrize("server", ["picows"], indirect=True)
async def test_damaged_bodies_at_the_http_door_harm_nobody(server: ServerProcess) -> None:
    mutator = Mutator(SEED + 1, RECEIVERS)
    options = {"server_url": server.url, "token": token()}
    async with connect_to_server({**options, "client_id": "prov"}) as provider:
        await provider.register_service({"id": "svc", "config": {"visibility": "public"}, "echo": lambda value: value})
        svc = await provider.get_service("svc")
        before, errors = await health(server), await server_errors(server)
        statuses: set[int] = set()
        async with httpx2.AsyncClient(
            trust_env=False, base_url=server.url, timeout=10, headers={"Authorization": f"Bearer {token()}"}
        ) as http:
            for number in range(STREAMS):
                statuses |= await attack_stream(http, mutator, f"evil-{number}")
                assert await svc.echo(number) == number
        await settled(server, before)
        assert await server_errors(server) == errors
    assert statuses <= {200, 400, 403, 404, 408, 411, 413, 415, 429}, statuses
    assert {200, 400} <= statuses
    check_log(server)


async def attack_stream(http: httpx2.AsyncClient, mutator: Mutator, client_id: str) -> set[int]:
    """Open a stream and post damaged bodies to it; the statuses of the answers."""
    statuses: set[int] = set()
    async with http.stream("GET", "/rpc", params={"client_id": client_id}) as stream:
        reading = asyncio.create_task(read_all(stream))
        for _ in range(POSTS):
            body, kind = body_of(mutator)
            response = await http.post("/rpc", params={"client_id": client_id}, content=body, headers=kind)
            statuses.add(response.status_code)
        reading.cancel()
        await asyncio.wait([reading])
    return statuses


async def read_all(stream: httpx2.Response) -> None:
    async for _ in stream.aiter_raw():
        pass


def body_of(mutator: Mutator) -> tuple[bytes, dict[str, str]]:
    """One frame, or several with their lengths, not always the right ones."""
    chance = mutator.random
    if chance.random() < 0.3:
        return mutator.frame() or b"\xc1", {}
    body = b"".join(len(frame).to_bytes(4, "big") + frame for frame in mutator.frames(chance.choice((1, 5, 30))))
    if chance.random() < 0.3:
        damaged = bytearray(body)
        damaged[chance.randrange(min(len(damaged), 8))] ^= 1 << chance.randrange(8)
        body = bytes(damaged)
    return body, {"Content-Type": "application/x-msgpack-stream"}
