"""Checks: connecting, registering, listing, finding, events (python-client 3 to 6)."""

from __future__ import annotations

import asyncio
from typing import Any

from ..world import World, check, failure, holds, same


@check
async def anonymous_connection(world: World) -> None:
    """Without credentials everybody gets a user and a workspace of their own."""
    server = await world.another()
    holds(server.config["user"]["is_anonymous"], "the user is not anonymous")
    holds(server.config["workspace"].startswith("ws-user-"), server.config["workspace"])
    holds(server.config["workspace"] != world.workspace, "two anonymous users share a workspace")


@check
async def token_connection(world: World) -> None:
    """A generated token leads to the workspace and the client id that were asked for."""
    chosen = f"chosen-{world.server.config['client_id']}"
    server = await world.another(token=world.ready["token"], workspace=world.workspace, client_id=chosen)
    same(server.config["workspace"], world.workspace)
    same(server.config["client_id"], chosen)
    same(await server.echo("hello"), "hello")


@check
async def token_without_workspace(world: World) -> None:
    """A token carries its workspace."""
    server = await world.another(token=world.ready["token"])
    same(server.config["workspace"], world.workspace)


@check
async def bad_token_is_refused(world: World) -> None:
    """A token that is none ends the attempt with the server's text."""
    error = await failure(world.connect({"server_url": world.url, "token": "no-token"}))
    holds("Authentication error" in str(error), repr(error))


@check
async def foreign_workspace_is_refused(world: World) -> None:
    """An anonymous user cannot join the workspace of another one."""
    error = await failure(world.connect({"server_url": world.url, "workspace": world.workspace}))
    holds("Permission denied" in str(error), repr(error))


@check
async def token_is_parsed(world: World) -> None:
    """The manager reads its own tokens."""
    info = await world.server.parse_token(world.ready["token"])
    same(info["scope"]["current_workspace"], world.workspace)


@check
async def register_list_unregister(world: World) -> None:
    """A registered service is listed with its absolute id, callable, and gone when unregistered."""
    info = await world.server.register_service({"id": "own", "double": twice})
    same(info["id"], f"{world.workspace}/{world.server.config['client_id']}:own")
    same(sum(item["id"] == info["id"] for item in await world.server.list_services()), 1)
    service = await world.server.get_service(info["id"])
    same(await service.double(4), 8)
    error = await failure(world.server.register_service({"id": "own", "double": twice}))
    holds("already exists" in str(error), repr(error))
    # protocol 6.2: the public client sends the bare id, which has no namesake here
    await world.server.unregister_service("own")
    error = await failure(world.server.get_service(info["id"]))
    holds("not found" in str(error).lower(), repr(error))
    holds(all(item["id"] != info["id"] for item in await world.server.list_services()), "still listed")


def twice(number: int) -> int:
    """Double a number."""
    return 2 * number


@check
async def overwriting_a_service_reaches_old_proxies(world: World) -> None:
    """A proxy holds a path, not a function (python-client 5.1)."""
    info = await world.server.register_service({"id": "changing", "f": twice})
    service = await world.server.get_service(info["id"])
    await world.server.register_service({"id": "changing", "f": str}, overwrite=True)
    same(await service.f(4), "4")


@check
async def listing_shows_the_provider(world: World) -> None:
    """The provider's services are listed with name, description and configuration."""
    wanted = f"{world.workspace}/{world.provider}:interop"
    found = [item for item in await world.server.list_services() if item["id"] == wanted]
    same(len(found), 1)
    same(found[0]["name"], "Interop")
    same(found[0]["description"], "what the checks call")


@check
async def get_by_plain_id(world: World) -> None:
    """``service``."""
    await found_as(world, "interop")


@check
async def get_by_client_and_id(world: World) -> None:
    """``client:service``."""
    await found_as(world, f"{world.provider}:interop")


@check
async def get_by_workspace_and_id(world: World) -> None:
    """``workspace/service``."""
    await found_as(world, f"{world.workspace}/interop")


@check
async def get_by_absolute_id(world: World) -> None:
    """``workspace/client:service``."""
    await found_as(world, f"{world.workspace}/{world.provider}:interop")


@check
async def get_by_absolute_id_and_app(world: World) -> None:
    """``workspace/client:service@app``."""
    await found_as(world, f"{world.workspace}/{world.provider}:interop@*")


@check
async def get_by_any_client(world: World) -> None:
    """``*:service``."""
    await found_as(world, "*:interop")


async def found_as(world: World, query: str) -> None:
    """Fetch the provider's service by this id and call it."""
    service = await world.server.get_service(query)
    same(service["id"], f"{world.workspace}/{world.provider}:interop")
    same(service["version"], "1.2")
    same(service.config["workspace"], world.workspace)
    same(await service.add(1, 2), 3)


@check
async def functions_are_described(world: World) -> None:
    """Names and documentation travel with a function, schemas with the registration (protocol 6.2)."""
    add = world.service.add
    same(add.__name__, "add")
    holds("Add two numbers" in add.__doc__, repr(add.__doc__))
    info = await world.server.get_service_info(f"{world.workspace}/{world.provider}:interop")
    schema = info["service_schema"]
    same([schema["add"]["type"], schema["add"]["function"]["name"]], ["function", "add"])
    same(sorted(schema["add"]["function"]["parameters"]["properties"]), ["a", "b"])
    same(schema["math"]["deeper"]["echo"]["function"]["name"], "echo")


@check
async def custom_event_is_broadcast(world: World) -> None:
    """A subscriber gets an event of its workspace, the sender included (protocol 2.7)."""
    arrived: asyncio.Queue[Any] = asyncio.Queue(10)
    await world.server.subscribe("interop-event")
    world.server.on("interop-event", arrived.put_nowait)
    await world.server.emit({"type": "interop-event", "to": "*", "data": {"n": 1}})
    event = await asyncio.wait_for(arrived.get(), 10)
    same(event["data"]["n"], 1)


@check
async def services_and_clients_are_announced(world: World) -> None:
    """``service_added`` and ``client_disconnected`` reach those who subscribed (protocol 6.6)."""
    added: asyncio.Queue[Any] = asyncio.Queue(100)
    left: asyncio.Queue[Any] = asyncio.Queue(100)
    await world.server.subscribe(["service_added", "client_disconnected"])
    world.server.on("service_added", added.put_nowait)
    world.server.on("client_disconnected", left.put_nowait)
    victim = await world.service.open_victim()
    client = victim.split("/")[1].split(":")[0]
    await wait_for_event(added, victim)
    await world.service.close_victim(victim)
    await wait_for_event(left, client)


async def wait_for_event(queue: asyncio.Queue[Any], wanted: str) -> None:
    """Read events until one has this id in its data."""
    async with asyncio.timeout(10):
        while (await queue.get())["data"]["id"] != wanted:
            pass
