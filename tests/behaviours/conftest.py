"""Two clients of ours in one workspace, on our server and, for what public servers promise, too, on a public one.

A test that takes ``pair`` runs on both; one that takes ``our_pair`` says something only ours keep.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from hypha_rpc import connect_to_server
from tests.interop.servers import Server
from tests.interop.sides import KINDS, OURS, InterpreterMissing, interpreter


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """The servers that were started, by side; each starts with the first test that wants it."""
    started: dict[str, Server] = {}
    yield started
    for server in started.values():
        server.stop()


def url_of(kind: str, servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory) -> str:
    if kind not in servers:
        try:
            interpreter(kind)
        except InterpreterMissing as error:
            pytest.fail(str(error), pytrace=False)
        server = Server(kind, tmp_path_factory.mktemp(f"behaviours-{kind}"))
        server.start()
        servers[kind] = server
    return servers[kind].url


@pytest.fixture(params=[pytest.param(kind, marks=() if kind == OURS else pytest.mark.interop) for kind in KINDS])
def server_url(
    request: pytest.FixtureRequest, servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The URL of either server."""
    return url_of(request.param, servers, tmp_path_factory)


@pytest.fixture
def our_url(servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of our server."""
    return url_of(OURS, servers, tmp_path_factory)


@dataclass
class Pair:
    """A provider and a consumer in one workspace.

    Attributes:
        url, token: to connect more clients to the workspace.
    """

    provider: Any
    consumer: Any
    url: str
    token: str

    @property
    def workspace(self) -> str:
        return str(self.provider.config["workspace"])

    async def offer(self, **members: Any) -> Any:
        """Register a service at the provider; returns the consumer's proxy of it."""
        config = {"visibility": "public"}
        info = await self.provider.register_service({"id": "svc", "config": config, **members}, overwrite=True)
        return await self.consumer.get_service(info["id"])


async def connected(url: str) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(connect_to_server(server_url=url))
        token = await provider.generate_token()
        options = {"server_url": url, "token": token, "workspace": provider.config["workspace"]}
        consumer = await stack.enter_async_context(connect_to_server(options))
        yield Pair(provider, consumer, url, token)


@pytest.fixture
async def pair(server_url: str) -> AsyncIterator[Pair]:
    """A pair on either server."""
    async for pair in connected(server_url):
        yield pair


@pytest.fixture
async def our_pair(our_url: str) -> AsyncIterator[Pair]:
    """A pair on our server."""
    async for pair in connected(our_url):
        yield pair
