"""Keep-alive, addresses of services, probes and applications over HTTP (behaviours A, C, N)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from hypha_rpc import connect_to_server
from hypha_rpc.utils import parse_service_url
from hypha_rpc.utils.serve import register_asgi_service


@pytest.mark.parametrize(("interval", "pings"), [(0.05, True), (None, False), (0, False)])
async def test_b012_without_an_interval_no_ping_is_sent(
    our_url: str, monkeypatch: pytest.MonkeyPatch, interval: float | None, pings: bool
) -> None:
    sent: list[Mapping[str, Any]] = []
    async with connect_to_server(server_url=our_url, ping_interval=interval) as server:
        transport = type(server.rpc._link.transport)
        monkeypatch.setattr(transport, "send_control", lambda _, message: sent.append(message))
        await asyncio.sleep(0.4)  # the time of several pings: that none is sent can be shown by nothing else
        assert await server.echo(1) == 1
    assert ({"type": "ping"} in sent) is pings


async def test_b039_probes_are_reached_over_http(pair: Any) -> None:
    await pair.provider.register_probes({"readiness": lambda: True, "liveness": lambda: True})
    async with httpx2.AsyncClient() as http:
        for name in ("readiness", "liveness"):
            answer = await http.get(f"{pair.url}/{pair.workspace}/services/probes/{name}")
            assert (answer.status_code, answer.json()) == (200, True)


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("svc", ("*", "svc", "*")),
        ("client:svc", ("client", "svc", "*")),
        ("svc@app", ("*", "svc", "app")),
        ("client:svc@app", ("client", "svc", "app")),
        ("client:svc@app/", ("client", "svc", "app")),
    ],
)
def test_b250_a_service_url_is_taken_apart(path: str, parts: tuple[str, ...]) -> None:
    assert parse_service_url(f"https://host:8/ws/services/{path}") == ("https://host:8", "ws", *parts)


@pytest.mark.parametrize("url", ["https://host/ws/svc", "https://host/ws/services/", "ws/services/svc", ""])
def test_b250_a_url_of_no_service_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected pattern"):
        parse_service_url(url)


async def test_b252_an_application_is_reached_under_its_path(pair: Any) -> None:
    async def home(request: Request) -> JSONResponse:
        return JSONResponse({"query": dict(request.query_params)})

    async def item(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"item {request.path_params['number']}: {(await request.body()).decode()}")

    application = Starlette(routes=[Route("/", home), Route("/items/{number:int}", item, methods=["POST"])])
    await register_asgi_service(pair.provider, "web", application)
    async with httpx2.AsyncClient(base_url=f"{pair.url}/{pair.workspace}/apps/web") as http:
        assert (await http.get("/?a=1")).json() == {"query": {"a": "1"}}
        answer = await http.post("/items/7", content=b"seven")
        assert (answer.status_code, answer.text) == (200, "item 7: seven")
        assert (await http.get("/nowhere")).status_code == 404
