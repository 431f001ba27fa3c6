"""Golden messages that name functions: what we send reads alike, what they say becomes proxies (protocol §3.4-3.8)."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pydantic
import pytest

from hypha_rpc.client.files import RemoteFile
from hypha_rpc.client.proxies import RemoteFunction, RemoteGenerator
from hypha_rpc.rpc import RPC, ObjectProxy
from hypha_rpc.wire.forms.generators import STOP
from tests.unit.wire import vectors
from tests.unit.wire.test_vectors import unpacked

ANYTHING = {"_rdoc", "_rname", "_rasync", "_rx", "_rschema", "_rintf_service_id"}
"""What is the sender's own affair (protocol Appendix D), and what extensions §1 adds."""


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Point(pydantic.BaseModel):
    """A point."""

    x: int
    y: float = 0.5


class Mine:
    pass


class Items:
    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        raise StopIteration


def numbers() -> Iterator[int]:
    yield 1


async def numbers_async() -> AsyncIterator[int]:
    yield 1


def client() -> RPC:
    rpc = RPC(None, "py-client", workspace="ws-user-alice", server_base_url="http://hypha.example")
    rpc.register_codec({"name": "my-codec", "type": Mine, "encoder": lambda _: {"a": 1, "f": lambda x: x}})
    return rpc


MADE: dict[str, Any] = {
    "py.function_session": lambda: add,
    "py.function_session_ws": lambda: add,
    "py.function_lambda": lambda: lambda x: x,
    "py.generator": numbers,
    "py.async_generator": numbers_async,
    "py.iterator_builtin": Items,
    "py.rintf": lambda: {"_rintf": True, "hello": lambda: 1, "val": 3},
    "py.pydantic": lambda: Point(x=1),
    "py.custom_codec": Mine,
    "py.iostream": lambda: io.BytesIO(b"content"),
}
"""Case -> makes the value it describes."""


@pytest.mark.parametrize("name", MADE)
def test_what_we_send_reads_as_the_vector_says(name: str) -> None:
    sent = client().encode(MADE[name](), "S1")
    wanted = vectors.meant(vectors.case(name)["decoded"])
    assert comparable(sent) == comparable(wanted)


def comparable(value: Any) -> Any:
    """*value* without what is free, and with ids and addresses in one form."""
    if isinstance(value, list):
        return [comparable(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: comparable(item) for key, item in value.items() if key not in ANYTHING}
    for key in ("_rmethod", "_rclose_method"):
        if key in kept:
            kept[key] = shape_of(kept[key])
    if "_rtarget" in kept:
        kept["_rtarget"] = kept["_rtarget"].rpartition("/")[2]
    return kept


def shape_of(method: str) -> str:
    """The method id without what is opaque in it."""
    head, _, last = method.rpartition(".")
    if head.startswith("services."):
        return f"services.*.{last}"
    return "*.*" + "".join(mark + rest for mark in "#:" for _, found, rest in [last.partition(mark)] if found)


def every(kind: type) -> Any:
    return lambda value: type(value) is kind


READ: dict[str, Any] = {
    "function": every(RemoteFunction),
    "generator": every(RemoteGenerator),
    "iostream": every(RemoteFile),
}


@pytest.mark.parametrize(
    "case", vectors.cases("function", "service", "generator", "interface", "codec", "iostream"), ids=vectors.name_of
)
async def test_what_they_name_becomes_what_programs_use(case: vectors.Case) -> None:
    natives = unpacked(case)
    value = client().decode(natives)
    rtype = natives.get("_rtype")
    if rtype == "stop_iteration":
        assert value is STOP
    elif rtype == "pydantic_model":
        assert isinstance(value, pydantic.BaseModel)
        assert value.model_dump() == {"x": 1, "y": 0.5}
    elif rtype == "iostream":
        assert type(value) is RemoteFile
        assert isinstance(value.read, RemoteFunction) and isinstance(value.seek, RemoteFunction)
        assert "_rtype" not in dict.keys(value)
        assert value.get("size") == natives.get("size") and value.get("closed") == natives.get("closed")
    elif rtype == "method":
        assert type(value) is RemoteFunction
        assert value._reference.method == natives["_rmethod"]
        assert value._reference.target.startswith("ws-user-alice/")
        assert value.__name__ == (natives["_rname"] or value.__name__)
    elif rtype == "generator":
        assert type(value) is RemoteGenerator
        value._end()
    else:
        assert type(value) is ObjectProxy
        for key, item in natives.items():
            named = isinstance(item, dict) and item.get("_rtype") == "method"
            assert isinstance(value[key], RemoteFunction) if named else value[key] is not None


@pytest.mark.parametrize("name", ["py.service_object", "js.service_object", "js.blob", "py.iostream"])
async def test_what_was_received_is_passed_on_as_it_came(name: str) -> None:
    natives = unpacked(vectors.case(name))
    rpc = client()
    sent = rpc.encode(rpc.decode(natives), "S1")
    assert without_homes(sent) == without_homes(natives)


def without_homes(value: Any) -> Any:
    """Addresses become absolute on the way; nothing else changes."""
    if isinstance(value, dict):
        return {
            key: item.rpartition("/")[2] if key == "_rtarget" else without_homes(item) for key, item in value.items()
        }
    return value
