"""A real server on a free port, and clients of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import pytest

from hypha_rpc import connect_to_server


@pytest.fixture(scope="session")
def server_url(tmp_path_factory):
    """The URL of one server process for the whole run."""
    log = tmp_path_factory.mktemp("server") / "server.log"
    command = [sys.executable, "-m", "hypha.server", "--host", "127.0.0.1", "--port", "0", "--in-memory"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )
    try:
        yield _announced(process, log)
    finally:
        process.terminate()
        assert process.wait(10) == 0, log.read_text()
        assert "Traceback" not in log.read_text(), log.read_text()


def _announced(process: subprocess.Popen[bytes], log: Any) -> str:
    """The URL the server prints when it is ready."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text().splitlines():
            if " is ready at " in line:
                return line.rpartition(" ")[2]
        time.sleep(0.02)
    pytest.fail(f"the server did not start:\n{log.read_text()}")


@pytest.fixture
async def anonymous(server_url):
    """An anonymous client in a workspace of its own."""
    async with connect_to_server(server_url=server_url) as server:
        yield server


@dataclass
class Pair:
    """Two clients of one workspace."""

    provider: Any
    consumer: Any
    workspace: str


@pytest.fixture
async def pair(server_url):
    """A provider and a consumer in one workspace."""
    async with connect_to_server(server_url=server_url, client_id="provider") as provider:
        token = await provider.generate_token()
        options = {"server_url": server_url, "token": token, "client_id": "consumer"}
        async with connect_to_server(options) as consumer:
            yield Pair(provider, consumer, provider.config.workspace)
