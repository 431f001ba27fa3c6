"""One server for the tests of what operators and their programs do."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hypha.testing import RunningServer, run_server
from hypha_rpc import connect_to_server


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with run_server() as running:
        yield running


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[object]:
    """A connected client of that server."""
    async with connect_to_server(server_url=server.url) as connected:
        yield connected
