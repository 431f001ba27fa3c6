"""Checks: functions, generators and interfaces as values; context (protocol 3.4 to 3.6, 4)."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from typing import Any

from ..world import World, check, failure, holds, same


class Recorder:
    """Functions of the caller that remember how they were called."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def plain(self, value: Any) -> Any:
        """Remember and answer."""
        self.seen.append(value)
        return value * 10

    async def later(self, value: Any) -> Any:
        """Remember and answer asynchronously."""
        await asyncio.sleep(0)
        self.seen.append(value)
        return value * 10

    def fail(self) -> None:
        """Raise."""
        raise ValueError("trouble in the callback")

    async def fail_later(self) -> None:
        """Raise asynchronously."""
        await asyncio.sleep(0)
        raise ValueError("trouble in the callback")


@check
async def callbacks(world: World) -> None:
    """A plain function in an argument is called again and again."""
    recorder = Recorder()
    same(await world.service.call_many(recorder.plain, 100), [10 * number for number in range(100)])
    same(recorder.seen, list(range(100)))


@check
async def asynchronous_callbacks(world: World) -> None:
    """A coroutine function as well."""
    recorder = Recorder()
    same(await world.service.call_many(recorder.later, 100), [10 * number for number in range(100)])
    same(recorder.seen, list(range(100)))


@check
async def callbacks_at_once(world: World) -> None:
    """Simultaneous invocations get their own answers."""
    recorder = Recorder()
    same(await world.service.call_together(recorder.later, 100), [10 * number for number in range(100)])


@check
async def lambdas_as_callbacks(world: World) -> None:
    """A function without a proper name travels, too."""
    same(await world.service.call_many(lambda number: -number, 3), [0, -1, -2])


@check
async def failing_callbacks(world: World) -> None:
    """The callee gets the text of the error, the call itself goes on."""
    recorder = Recorder()
    for callback in (recorder.fail, recorder.fail_later):
        text = await world.service.call_failing(callback)
        holds("trouble in the callback" in text, text)


async def down(further: Any, depth: int) -> Any:
    """Call the callee's function with ours."""
    return await further(down, depth - 1) if depth else "bottom"


@check
async def callbacks_nest_five_deep(world: World) -> None:
    """Functions are passed back and forth, each inside the call of the other."""
    same(await world.service.nest(down, 5), "bottom")


@check
async def a_file_in_an_argument(world: World) -> None:
    """The callee reads and writes a file of the caller while the call lasts (protocol 3.7)."""
    file = io.BytesIO(b"one\ntwo\nthree")
    same(await world.service.use_file(file), [b"one", [b"\n", b"two\n", b"three"], 3, 3, False])
    same(file.getvalue(), b"ONE\ntwo\nthree")


@check
async def a_file_in_a_result(world: World) -> None:
    """A returned file stays usable after its call."""
    file = await world.service.open_file(b"one\ntwo")
    same([await file.read(1), await file.readline(), await file.tell()], [b"o", b"ne\n", 4])
    await file.close()
    error = await failure(file.read())
    holds("closed file" in str(error), repr(error))


@check
async def nested_object_with_functions(world: World) -> None:
    """Functions at any depth of an argument can be called."""
    recorder = Recorder()
    toolbox = {
        "add": lambda a, b: a + b,
        "inner": {"multiply": lambda a, b: a * b},
        "listed": [recorder.later],
        "version": 7,
    }
    same(await world.service.use_toolbox(toolbox), [3, 12, 50, 7])


@check
async def nested_service_members(world: World) -> None:
    """A service has members in dictionaries and lists."""
    same(await world.service.math.add(2, 3), 5)
    same(await world.service["math"]["deeper"]["echo"]("deep"), "deep")
    same(await world.service.listed[0]("first"), "first")
    same(await world.service.listed[1](1), 11)


@check
async def function_in_a_result(world: World) -> None:
    """A returned function stays callable after its call."""
    add = await world.service.make_adder(5)
    same([await add(1), await add(2)], [6, 7])


@check
async def object_with_functions_in_a_result(world: World) -> None:
    """Functions inside a returned object share their state."""
    counter = await world.service.make_counter(10)
    same(counter["start"], 10)
    same([await counter["functions"]["count"](), await counter["functions"]["count"]()], [11, 12])
    same(await counter.functions.add(1), 13)


@check
async def function_passed_back_to_its_owner(world: World) -> None:
    """A service function of the provider given back to it works there as a callback."""
    same(await world.service.call_many(world.service.echo, 3), [0, 1, 2])


@check
async def generators_in_results(world: World) -> None:
    """Plain and asynchronous ones arrive as asynchronous generators."""
    for make in (world.service.generate, world.service.generate_async):
        items = await make(25)
        same([item async for item in items], list(range(25)))


@check
async def generator_closed_early(world: World) -> None:
    """Leaving a generator early leaves the connection usable."""
    items = await world.service.generate_async(1000)
    async for item in items:
        if item == 3:
            break
    await items.aclose()
    same(await world.service.add(1, 1), 2)


def numbers(count: int) -> Iterator[int]:
    """Yield numbers."""
    yield from range(count)


async def numbers_async(count: int) -> AsyncIterator[int]:
    """Yield numbers asynchronously."""
    for number in range(count):
        await asyncio.sleep(0)
        yield number


@check
async def generators_in_arguments(world: World) -> None:
    """The callee pulls from a generator of the caller."""
    same(await world.service.consume(numbers(12)), list(range(12)))
    same(await world.service.consume(numbers_async(12)), list(range(12)))


@check
async def interfaces(world: World) -> None:
    """A map marked ``_rintf`` can be called, and is written its id (protocol 3.6)."""
    interface: dict[str, Any] = {"_rintf": True, "greet": lambda who: f"hello {who}", "value": 3}
    same(await world.service.use_interface(interface), ["hello you", 3])
    holds(interface.get("_rintf_service_id"), "no id was written into the object")


@check
async def context_names_the_caller(world: World) -> None:
    """``require_context``: user, workspace and address of the caller, as the server stamps them."""
    service = await world.server.get_service(f"{world.workspace}/{world.provider}:interop-context")
    got = await service.whoami()
    same(got["user"], world.server.config["user"]["id"])
    same(got["ws"], world.workspace)
    same(got["from"], f"{world.workspace}/{world.server.config['client_id']}")
    same(got["to"], f"{world.workspace}/{world.provider}")


@check
async def context_cannot_be_given(world: World) -> None:
    """A context among the arguments is replaced by the true one."""
    service = await world.server.get_service(f"{world.workspace}/{world.provider}:interop-context")
    got = await service.whoami(context={"user": {"id": "root"}, "ws": "x", "from": "x/y", "to": "z"})
    same(got["user"], world.server.config["user"]["id"])


@check
async def public_service_from_another_workspace(world: World) -> None:
    """A stranger may call what is public, and is named as a stranger."""
    stranger = await world.another()
    service = await stranger.get_service(f"{world.workspace}/{world.provider}:interop-context")
    got = await service.whoami()
    same(got["ws"], stranger.config["workspace"])
    same(got["user"], stranger.config["user"]["id"])


@check
async def protected_service_from_another_workspace(world: World) -> None:
    """A stranger is denied what is protected."""
    stranger = await world.another()
    error = await failure(stranger.get_service(f"{world.workspace}/{world.provider}:interop"))
    holds("Permission denied" in str(error), repr(error))
