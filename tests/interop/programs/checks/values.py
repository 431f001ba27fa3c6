"""Checks: every value form of protocol 3.2 and 3.3, there and back, and as what the callee sees it."""

from __future__ import annotations

import math
from typing import Any

from ..world import World, check, holds, same


async def unchanged(world: World, *values: Any) -> None:
    """Send each value through both echo functions."""
    for value in values:
        same(await world.service.echo(value), value)
        same(await world.service.echo_async(value), value)


async def arrives_as(world: World, value: Any, *names: str) -> None:
    """The callee sees a value of one of these types (or of one derived from it)."""
    kinds = await world.service.inspect(value)
    holds(set(kinds) & set(names), f"the callee got {kinds}, none of {names}")


@check
async def none_and_booleans(world: World) -> None:
    """``None``, ``True`` and ``False``."""
    await unchanged(world, None, True, False)
    await arrives_as(world, None, "NoneType")
    await arrives_as(world, True, "bool")


@check
async def integers_to_the_edges(world: World) -> None:
    """From -2^63 to 2^64-1, at every change of width."""
    edges = [0, 1, -1, 127, 128, -32, -33, -128, -129, 255, 256, 2**15, 2**16, -(2**15) - 1, 2**31, 2**32]
    await unchanged(world, edges, [2**53 - 1, 2**53 + 1, -(2**31) - 1, -(2**63), 2**63 - 1, 2**63, 2**64 - 1])
    await arrives_as(world, 2**64 - 1, "int")


@check
async def floats(world: World) -> None:
    """Fractions, extremes, infinities, not-a-number, a negative zero."""
    await unchanged(world, [0.0, 1.5, -2.25, 1e308, 5e-324, math.inf, -math.inf], 1.0)
    holds(math.isnan(await world.service.echo(math.nan)), "nan came back as a number")
    holds(math.copysign(1.0, await world.service.echo(-0.0)) < 0, "the sign of -0.0 is lost")
    await arrives_as(world, 1.0, "float")


@check
async def strings(world: World) -> None:
    """Empty, long, beyond the basic plane, with a zero."""
    await unchanged(world, "", "plain", "ünïcödé 中文 🦋👩‍🔬", "a\0b", "x" * 70_000)


@check
async def byte_strings(world: World) -> None:
    """Every byte, none, and sizes around the width changes of the encoding."""
    await unchanged(world, b"", bytes(range(256)), b"\0" * 65_535, b"\xff" * 65_536)
    await arrives_as(world, b"x", "bytes")


@check
async def lists(world: World) -> None:
    """Empty, nested and longer than 16 bits count."""
    await unchanged(world, [], [[], [[]]], [1, "a", None, [True, 2.5]], list(range(70_000)))


@check
async def tuples_become_lists(world: World) -> None:
    """There is no tuple on the wire."""
    same(await world.service.echo((1, (2, 3))), [1, [2, 3]])


@check
async def dictionaries(world: World) -> None:
    """Nested, deep, empty; they come back with attribute access and in order."""
    value = {"z": 1, "a": {"b": [{"c": None}]}, "empty": {}, "with space": 2, "ключ": 3}
    got = await world.service.echo(value)
    same(dict(got) == value, True)
    same(list(got), list(value))
    same(got.a.b[0].c, None)
    deep: Any = "bottom"
    for _ in range(50):
        deep = {"down": deep}
    holds(await world.service.echo(deep) == deep, "50 levels did not survive")


@check
async def sets(world: World) -> None:
    """A set stays a set."""
    await unchanged(world, set(), {1, 2, 3}, {"a", "b"})
    await arrives_as(world, {1}, "set")


@check
async def memory_views(world: World) -> None:
    """A memoryview stays one, a part of a buffer included."""
    view = memoryview(bytearray(range(100)))[10:20]
    got = await world.service.echo(view)
    holds(isinstance(got, memoryview), f"got a {type(got).__name__}")
    same(bytes(got), bytes(range(10, 20)))
    await arrives_as(world, view, "memoryview")


@check
async def keyword_arguments(world: World) -> None:
    """Positional and keyword arguments, defaults, and a dictionary as the last positional one."""
    same(await world.service.add(1), 11)
    same(await world.service.add(b=1, a=2), 3)
    got = await world.service.arguments(1, {"a": 2}, x=[3], y=None)
    same([got[0][0], dict(got[0][1]), dict(got[1])], [1, {"a": 2}, {"x": [3], "y": None}])
    got = await world.service.arguments({"last": 1})
    same([dict(got[0][0]), dict(got[1])], [{"last": 1}, {}])


@check
async def exceptions_as_values(world: World) -> None:
    """An exception that is sent as a value arrives as an exception with its text."""
    got = await world.service.echo(ValueError("just a value"))
    holds(isinstance(got, Exception), f"got a {type(got).__name__}")
    holds("just a value" in str(got), repr(got))
    await arrives_as(world, ValueError("just a value"), "Exception")


@check
async def pydantic_models(world: World) -> None:
    """A model is rebuilt from its schema on either side."""
    from pydantic import BaseModel

    class Point(BaseModel):
        x: int
        name: str = "origin"

    got = await world.service.echo(Point(x=3))
    holds(isinstance(got, BaseModel), f"got a {type(got).__name__}")
    fields = got.model_dump()
    same([fields["x"], fields["name"]], [3, "origin"])
    await arrives_as(world, Point(x=3), "BaseModel")


def make_arrays() -> dict[str, Any]:
    """Arrays of every kind that travels."""
    import numpy as np

    numbers = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
    numbers += ["float16", "float32", "float64", "complex64", "complex128", ">i2", ">u4", ">f4", ">f8"]
    arrays: dict[str, Any] = {name: np.arange(12).reshape(3, 4).astype(name) for name in numbers}
    return {
        **arrays,
        "bool": np.array([[True, False], [False, True]]),
        "0-d": np.array(7.5),
        "empty": np.empty((0,), dtype="float32"),
        "empty with shape": np.empty((2, 0, 3), dtype="int16"),
        "text": np.array(["ab", "é"]),
        "dates": np.array(["2024-02-29", "1969-07-20"], dtype="datetime64[D]"),
        "transposed": np.arange(6, dtype="int32").reshape(2, 3).T,
        "strided": np.arange(20, dtype="float32")[::3],
        "nan": np.array([math.nan, math.inf, -0.0]),
    }


@check
async def arrays(world: World) -> None:
    """Element types, byte orders, shapes without elements, without dimensions, not contiguous."""
    for name, array in make_arrays().items():
        seen = await world.service.inspect_array(array)
        same([name, seen["dtype"], list(seen["shape"])], [name, str(array.dtype), list(array.shape)])
        holds(bytes(seen["data"]) == array.tobytes(), f"{name}: other contents at the callee")
        got = await world.service.echo(array)
        same([name, str(got.dtype), got.shape], [name, str(array.dtype), array.shape])
        holds(got.tobytes() == array.tobytes(), f"{name}: other contents came back")


@check
async def numpy_scalars(world: World) -> None:
    """A scalar comes back with its value."""
    import numpy as np

    for value in (np.float32(1.5), np.int16(-3), np.uint8(200)):
        got = await world.service.echo(value)
        same(float(got), float(value))


@check
async def values_around_the_chunk_size(world: World) -> None:
    """Bytes just below, at and above what is sent in one frame (protocol 5)."""
    for size in (262_144 - 500, 262_144, 262_144 + 1024, 263_168 + 1, 600_000):
        value = bytes(size - 4) + b"tail"
        holds(await world.service.echo(value) == value, f"{size} bytes came back changed")


@check
async def a_20_mb_array(world: World) -> None:
    """Twenty million bytes of noise, there and back."""
    import numpy as np

    array = np.random.default_rng(1).standard_normal(2_500_000)
    got = await world.service.echo(array)
    same([str(got.dtype), got.shape], ["float64", array.shape])
    holds(np.array_equal(got, array), "other contents came back")


@check
async def a_100_mb_array(world: World) -> None:
    """A hundred million bytes, there and back."""
    import numpy as np

    array = np.random.default_rng(2).random(12_500_000)
    got = await world.service.echo(array)
    same([str(got.dtype), got.shape], ["float64", array.shape])
    holds(np.array_equal(got, array), "other contents came back")


@check
async def many_calls_at_once(world: World) -> None:
    """Each of 200 simultaneous calls gets its own answer."""
    import asyncio

    answers = await asyncio.gather(*(world.service.echo(number) for number in range(200)))
    same(list(answers), list(range(200)))
