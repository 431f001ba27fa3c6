"""Every test of a socket transport runs against both engines and over HTTP, and must leave nothing running.

What is about WebSocket itself takes the fixture ``websocket`` instead of ``connector``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hypha_rpc.transports import Connector, Limits, Transport
from hypha_rpc.transports.http import HttpConnector
from hypha_rpc.transports.websocket import ENGINES, WebSocketConnector

from . import raw_server
from .raw_server import RawServer
from .receivers import CREDENTIALS, Recorder, options, settle

HTTP = "http"


@pytest.fixture(params=[*ENGINES, HTTP])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How frames are moved; the server speaks accordingly."""
    name = str(request.param)
    monkeypatch.setattr(raw_server, "OVER", "http" if name == HTTP else "websocket")
    return name


@pytest.fixture
def connector(engine: str) -> Connector:
    return make_connector(engine)


@pytest.fixture(params=ENGINES)
def websocket(request: pytest.FixtureRequest) -> WebSocketConnector:
    return WebSocketConnector(str(request.param))


@pytest.fixture
def http(monkeypatch: pytest.MonkeyPatch) -> HttpConnector:
    monkeypatch.setattr(raw_server, "OVER", "http")
    return HttpConnector()


def make_connector(engine: str, **limits: int) -> Connector:
    """A connector of one kind."""
    chosen = Limits(**limits)
    return HttpConnector(limits=chosen) if engine == HTTP else WebSocketConnector(engine, limits=chosen)


@pytest.fixture(autouse=True)
async def no_task_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    await settle()
    left = [task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()]
    assert not left, left


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def open_to(connector: Connector, server: RawServer, **changes: Any) -> tuple[Transport, Recorder]:
    """Open and start."""
    transport, _ = await connector.open(options(server.url, **changes), CREDENTIALS)
    recorder = Recorder()
    transport.start(recorder)
    return transport, recorder


async def end(transport: Transport) -> None:
    transport.close()
    await transport.wait_closed()
