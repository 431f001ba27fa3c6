"""Every test of a socket transport runs against both engines and must leave nothing running."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hypha_rpc.transports import Transport
from hypha_rpc.transports.websocket import ENGINES, WebSocketConnector

from .raw_server import RawServer
from .receivers import CREDENTIALS, Recorder, options, settle


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def connector(engine: str) -> WebSocketConnector:
    return WebSocketConnector(engine)


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


async def open_to(connector: WebSocketConnector, server: RawServer, **changes: Any) -> tuple[Transport, Recorder]:
    """Open and start."""
    transport, _ = await connector.open(options(server.url, **changes), CREDENTIALS)
    recorder = Recorder()
    transport.start(recorder)
    return transport, recorder


async def end(transport: Transport) -> None:
    transport.close()
    await transport.wait_closed()
