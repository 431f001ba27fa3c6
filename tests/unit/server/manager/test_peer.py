"""The manager as a peer: frames in, frames out, over the real router and endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgpack
import pytest

from hypha.manager.manager import METHODS, Manager
from hypha.manager.peer import ManagerPeer

from .conftest import Client, World

MANAGER = "*/manager-s1"


@pytest.fixture
async def peer(world: World) -> AsyncIterator[ManagerPeer]:
    """A manager behind its real endpoint, in the place of the scripted one."""
    peer = ManagerPeer(MANAGER, world.router, world.settings.limits, "http://127.0.0.1:9527")
    world.manager = Manager(world.core, peer, {"server_id": "s1"})
    world.router.manager = peer
    yield peer
    await world.manager.close(ConnectionError("over"))


def ask(world: World, client: Client, method: str, *args: Any, to: str = MANAGER) -> tuple[dict[str, Any], Any]:
    """Send a call; returns header and payload of the answer, which must come in the same stack."""
    client.outlet.frames.clear()
    header = {"type": "method", "to": to, "method": method, "session": "s0000000"}
    payload = {"args": list(args), "promise": "*", "t": 30.0}
    world.router.route(client.connection, msgpack.packb(header) + msgpack.packb(payload))
    (frame,) = client.outlet.frames
    unpacker = msgpack.Unpacker()
    unpacker.feed(frame)
    answered, extra = unpacker
    assert answered["method"] == "s0000000.resolve", extra
    return answered, extra["args"][0]


async def test_the_manager_service_is_as_documented(world: World, peer: ManagerPeer) -> None:
    alice = await world.join_as("alice")
    header, service = ask(world, alice, "services.built-in.get_service", "default")
    assert (header["from"], header["ws"], header["user"]["id"]) == (MANAGER, "ws-user-alice", "root")
    assert service["id"] == "default"
    assert service["type"] == "generic"
    assert service["config"] == {"require_context": True, "visibility": "public", "server_id": "s1"}
    assert set(METHODS) <= set(service)
    for name in METHODS:
        reference = service[name]
        assert reference["_rmethod"] == f"services.default.{name}"
        assert reference["_rtarget"] == MANAGER
        assert reference["_rschema"]["name"] == name


async def test_the_answer_is_prepared_once_for_each_address(world: World, peer: ManagerPeer) -> None:
    alice, bob = await world.join_as("alice"), await world.join_as("bob")
    _, first = ask(world, alice, "services.built-in.get_service", "default")
    _, second = ask(world, bob, "services.built-in.get_service", "default")
    assert first == second
    header, former = ask(world, alice, "services.built-in.get_service", "default", to="*/manager-former")
    assert header["from"] == former["echo"]["_rtarget"] == "*/manager-former"
    for number in range(40):
        ask(world, alice, "services.built-in.get_service", "default", to=f"*/manager-{number}")
    assert len(peer._prepared) <= 16
    _, again = ask(world, alice, "services.built-in.get_service", "default")
    assert again == first


async def test_a_prepared_answer_shows_what_is_offered_now(world: World, peer: ManagerPeer) -> None:
    alice = await world.join_as("alice")
    ask(world, alice, "services.built-in.get_service", "default")
    peer.offer({"echo": world.manager.methods["echo"]}, {"server_id": "s2"})
    _, service = ask(world, alice, "services.built-in.get_service", "default")
    assert service["config"]["server_id"] == "s2"
    assert "log" not in service


async def test_it_answers_from_the_address_it_was_called_at(world: World, peer: ManagerPeer) -> None:
    alice = await world.join_as("alice")
    header, value = ask(world, alice, "services.default.echo", 3, to="*/manager-of-a-former-run")
    assert (header["from"], value) == ("*/manager-of-a-former-run", 3)


async def test_it_answers_pings(world: World, peer: ManagerPeer) -> None:
    alice = await world.join_as("alice")
    assert ask(world, alice, "services.built-in.ping", "ping")[1] == "pong"


async def test_calls_leave_nothing_behind(world: World, peer: ManagerPeer) -> None:
    alice = await world.join_as("alice")
    for _ in range(20):
        ask(world, alice, "services.built-in.get_service", "default")
        ask(world, alice, "services.default.list_services")
    stats = peer.endpoint.stats()
    assert {name: count for name, count in stats.items() if name != "services" and count} == {}
