"""Callbacks and persistent interfaces (behaviours F)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from hypha_rpc import connect_to_server
from hypha_rpc.errors import CallError

Eventually = Callable[..., Awaitable[None]]


class Keeper:
    """A service that keeps what it is given."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def keep(self, interface: Any) -> str:
        self.kept.append(interface)
        return "kept"

    async def fire(self, *args: Any) -> list[Any]:
        """Call everybody's listener."""
        return list(await asyncio.gather(*(interface.notify(*args) for interface in self.kept)))


def listener(**more: Any) -> tuple[dict[str, Any], list[Any]]:
    seen: list[Any] = []

    def notify(value: Any) -> Any:
        seen.append(value)
        return f"got {value}"

    return {"_rintf": True, "notify": notify, **more}, seen


def hidden(client: Any) -> list[str]:
    return [name for name in client.rpc.get_all_local_services() if name.startswith("_rintf_")]


@pytest.fixture
async def keeper(pair: Any) -> tuple[Keeper, Any]:
    keeper = Keeper()
    return keeper, await pair.offer(keep=keeper.keep, fire=keeper.fire)


@pytest.fixture
async def stranger(server_url: str) -> AsyncIterator[Any]:
    """A client of another workspace."""
    async with connect_to_server(server_url=server_url) as stranger:
        yield stranger


async def test_b093_callbacks_nest_five_deep(pair: Any) -> None:
    async def down(further: Any, depth: int) -> Any:
        return await further(down, depth - 1) if depth else "bottom"

    service = await pair.offer(down=down)
    assert await service.down(down, 5) == "bottom"


async def test_b100_an_interface_outlives_its_call(keeper: Any) -> None:
    kept, service = keeper
    interface, seen = listener()
    assert await service.keep(interface) == "kept"
    await asyncio.sleep(1.0)  # "at least for seconds": nothing else can show that no timer ends it
    for number in range(3):
        assert await service.fire(number) == [f"got {number}"]
    assert seen == [0, 1, 2]
    assert kept.kept[0]._rintf is True


async def test_b101_the_id_is_written_back_and_names_a_local_service(pair: Any, keeper: Any) -> None:
    _, service = keeper
    interface, _ = listener()
    await service.keep(interface)
    assert interface["_rintf_service_id"].startswith("_rintf_")
    assert hidden(pair.consumer) == [interface["_rintf_service_id"]]


async def test_b102_unregistering_it_ends_it(pair: Any, keeper: Any) -> None:
    _, service = keeper
    interface, seen = listener()
    await service.keep(interface)
    await service.fire(1)
    await pair.consumer.rpc.unregister_service(interface["_rintf_service_id"])
    with pytest.raises(CallError):
        await service.fire(2)
    assert seen == [1]


async def test_b103_b104_listeners_of_several_workspaces_hear_a_broadcast_once(
    pair: Any, keeper: Any, stranger: Any
) -> None:
    kept, service = keeper
    own, seen_here = listener()
    foreign, seen_there = listener()
    await service.keep(own)
    theirs = await stranger.get_service(f"{pair.workspace}/{pair.provider.config.client_id}:svc")
    await theirs.keep(foreign)
    assert await kept.fire("news") == ["got news", "got news"]
    assert seen_here == seen_there == ["news"]


async def test_b105_only_the_client_it_was_sent_to_may_call_it(pair: Any, keeper: Any, stranger: Any) -> None:
    kept, service = keeper
    interface, seen = listener()
    await service.keep(interface)
    reference = kept.kept[0].notify.__rpc_object__
    function = stranger.rpc.decode(reference)
    with pytest.raises(CallError, match="Permission denied for _rintf callback"):
        await function("stolen")
    assert await service.fire("mine") == ["got mine"]
    assert seen == ["mine"]


async def test_b106_b107_the_receiver_disposes_of_it_once_or_twice(pair: Any, keeper: Any, stranger: Any) -> None:
    kept, _ = keeper
    theirs = await stranger.get_service(f"{pair.workspace}/{pair.provider.config.client_id}:svc")
    interface, _ = listener()
    await theirs.keep(interface)
    (received,) = kept.kept
    await received._dispose()
    assert hidden(stranger) == []
    with pytest.raises(CallError):
        await received.notify(1)
    with pytest.raises(CallError):
        await received._dispose()
    assert await stranger.echo("alive") == "alive"


async def test_b108_b109_a_receiver_that_leaves_is_forgotten_and_the_owner_told(
    pair: Any, eventually: Eventually
) -> None:
    keeper = Keeper()
    disposed = asyncio.Event()
    options = {"server_url": pair.url, "token": pair.token, "workspace": pair.workspace}
    async with connect_to_server(options) as receiver:
        info = await receiver.register_service({"id": "keeper", "keep": keeper.keep})
        interface, _ = listener(_dispose=disposed.set)
        await (await pair.consumer.get_service(info["id"])).keep(interface)
        assert len(hidden(pair.consumer)) == 1
    await eventually(lambda: not hidden(pair.consumer), timeout_s=2, what="the hidden service to go")
    await asyncio.wait_for(disposed.wait(), 2)


async def test_b110_hidden_services_are_never_announced(our_pair: Any) -> None:
    keeper = Keeper()
    service = await our_pair.offer(keep=keeper.keep)
    interface, _ = listener()
    await service.keep(interface)
    assert "_rintf_" not in str(await our_pair.provider.list_services())
    assert "_rintf_" not in str(our_pair.consumer.rpc.get_client_info())
