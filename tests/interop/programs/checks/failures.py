"""Checks: errors and their texts, peers that go, calls that last (protocol 4.3, 4.7; python-client 7)."""

from __future__ import annotations

import asyncio
import time

from ..world import World, check, failure, holds, same

SOON_S = 5.0
LONG_CALL_S = 31.5


@check
async def error_of_a_plain_function(world: World) -> None:
    """Message, class name and the common prefix are in the text."""
    error = await failure(world.service.fail("something is wrong"))
    text = str(error)
    holds(text.startswith("RemoteError:"), text)
    holds("something is wrong" in text, text)
    holds("ValueError" in text, text)


@check
async def error_of_an_asynchronous_function(world: World) -> None:
    """The same of a coroutine function."""
    text = str(await failure(world.service.fail_async("something is missing")))
    holds("RemoteError:" in text and "something is missing" in text and "KeyError" in text, text)


def missing() -> None:
    """Raise what a dictionary raises."""
    raise KeyError("deep inside")


@check
async def an_error_that_passes_through_the_callee(world: World) -> None:
    """The text survives the hop; our client shows it once, and as the class it was."""
    error = await failure(world.service.relay(missing))
    holds(str(error).startswith("RemoteError:") and "deep inside" in str(error), str(error))
    if hasattr(error, "remote_type"):
        holds(isinstance(error, KeyError), repr(type(error).__mro__))
        same([error.remote_type, error.remote_message], ["KeyError", "'deep inside'"])
        same(str(error), "RemoteError:'deep inside'\nKeyError: 'deep inside'")


@check
async def wrong_arguments(world: World) -> None:
    """The callee's ``TypeError`` comes back."""
    error = await failure(world.service.add(1, 2, 3))
    holds("TypeError" in str(error), repr(error))


@check
async def a_failing_call_leaves_the_others_alone(world: World) -> None:
    """Failures between successes change nothing."""
    results = await asyncio.gather(
        *(world.service.fail("odd") if number % 2 else world.service.echo(number) for number in range(20)),
        return_exceptions=True,
    )
    same([item for item in results if not isinstance(item, Exception)], list(range(0, 20, 2)))


@check
async def service_not_found(world: World) -> None:
    """The text that programs look for."""
    error = await failure(world.server.get_service("no-such-service"))
    holds("Service not found" in str(error), repr(error))
    error = await failure(world.server.get_service(f"{world.workspace}/{world.provider}:no-such-service"))
    holds("not found" in str(error), repr(error))


@check
async def unregistered_service_at_a_living_peer(world: World) -> None:
    """An old proxy gets the text of protocol 4.7 at once."""
    info = await world.server.register_service({"id": "short-lived", "echo": str})
    service = await world.server.get_service(info["id"])
    same(await service.echo(1), "1")
    await world.server.unregister_service("short-lived")
    begin = time.monotonic()
    error = await failure(service.echo(1))
    holds("not found" in str(error).lower(), repr(error))
    holds(time.monotonic() - begin < SOON_S, "the error took too long")


@check
async def peer_leaves_during_a_call(world: World) -> None:
    """A pending call fails soon after its callee has disconnected."""
    victim_id = await world.service.open_victim()
    victim = await world.server.get_service(victim_id)
    pending = asyncio.ensure_future(victim.sleep(600))
    same(await victim.echo("alive"), "alive")
    begin = time.monotonic()
    await world.service.close_victim(victim_id)
    error = await failure(pending)
    holds(time.monotonic() - begin < SOON_S, f"it took {time.monotonic() - begin:.1f} s: {error!r}")
    client = victim_id.split(":")[0]
    holds(client in str(error), repr(error))


@check
async def calling_a_gone_peer(world: World) -> None:
    """A call to a client that has left fails at once, naming it (protocol 2.6)."""
    victim_id = await world.service.open_victim()
    victim = await world.server.get_service(victim_id)
    same(await victim.echo(1), 1)
    await world.service.close_victim(victim_id)
    begin = time.monotonic()
    error = await failure(victim.echo(1))
    holds(time.monotonic() - begin < SOON_S, f"it took {time.monotonic() - begin:.1f} s: {error!r}")
    holds("not connected" in str(error) or "isconnected" in str(error), repr(error))


@check
async def disconnecting_fails_own_calls(world: World) -> None:
    """Pending and later calls of a closed connection fail at once."""
    server = await world.another(token=world.ready["token"], workspace=world.workspace)
    service = await server.get_service(f"{world.workspace}/{world.provider}:interop")
    pending = asyncio.ensure_future(service.sleep(60))
    same(await service.echo(1), 1)
    await server.disconnect()
    text = str(await failure(pending, SOON_S)).lower()
    holds("closed" in text or "disconnected" in text or "connection" in text, text)
    # a call may fail when it is made or when it is awaited
    error = await failure(call_echo(service), SOON_S)
    holds("closed" in str(error).lower(), repr(error))


async def call_echo(service: object) -> object:
    """Call a function inside a coroutine, so that any error comes out of awaiting it."""
    return await service.echo(1)  # type: ignore[attr-defined]


@check
async def a_silent_long_call_is_kept_alive(world: World) -> None:
    """Heartbeats keep a call of three times the caller's limit alive."""
    same(await world.service.sleep(LONG_CALL_S), LONG_CALL_S)
