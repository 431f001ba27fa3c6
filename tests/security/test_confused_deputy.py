"""Nobody gets others to call for it what it may not call itself (security S8)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from hypha.testing import RunningServer, run_server
from hypha_rpc import connect_to_server
from tests.integration.raw_peers import RawPeer, Rejected, peer_at


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with run_server() as running:
        yield running


async def apply(f: Any, *args: Any) -> Any:
    """What providers of map and reduce offer."""
    return await f(*args)


@pytest.fixture
async def victim(server: RunningServer) -> AsyncIterator[Any]:
    """A client with a public function that calls what it is given, and one that only its workspace may call."""
    options = {"server_url": server.url, "token": server.token("alice"), "client_id": "prov"}
    async with connect_to_server(options) as client:
        await client.register_service({"id": "open", "config": {"visibility": "public"}, "apply": apply})
        await client.register_service(
            {"id": "closed", "config": {"visibility": "protected"}, "read": lambda: "private"}
        )
        yield client


def reference(target: str, method: str) -> dict[str, Any]:
    """A function on the wire (protocol §4.1)."""
    return {"_rtype": "method", "_rtarget": target, "_rmethod": method, "_rpromise": "*", "_rname": "f"}


async def given(peer: RawPeer, target: str, method: str, *args: Any) -> Any:
    """What the victim's ``apply`` answers when it is given a function."""
    return await peer.call("ws-user-alice/prov", "services.open.apply", reference(target, method), *args)


@pytest.mark.parametrize(
    ("target", "method"),
    [
        ("*/{manager}", "services.default.generate_token"),
        ("*/manager-former", "services.default.generate_token"),
        ("ws-user-alice/prov", "services.closed.read"),
        ("ws-user-alice/other", "services.anything.run"),
        ("ws-user-alice/prov", "services.closed.read.__call__"),
    ],
)
async def test_functions_of_others_are_refused_in_arguments(
    server: RunningServer, victim: Any, target: str, method: str
) -> None:
    async with peer_at(server.ws_url, "evil", token=server.token("mallory")) as peer:
        with pytest.raises(Rejected, match=r"foreign reference at args\[0\]"):
            await given(peer, target.format(manager=victim.config.manager_id), method)


async def test_a_name_without_a_workspace_is_one_of_the_senders_workspace(server: RunningServer, victim: Any) -> None:
    async with peer_at(server.ws_url, "evil", token=server.token("mallory")) as peer:
        with pytest.raises(Rejected, match="ws-user-mallory/prov is not connected"):
            await given(peer, "prov", "services.closed.read")


async def test_a_function_of_the_sender_may_be_given(server: RunningServer, victim: Any) -> None:
    options = {"server_url": server.url, "token": server.token("mallory")}
    async with connect_to_server(options) as client:
        svc = await client.get_service("ws-user-alice/prov:open")
        assert await svc.apply(lambda value: value + 1, 41) == 42
