"""The Python blocks of the documents run in the order they are printed, against a real server.

What a block takes for given (a service to call, a value to send) is put into its names first; places to fill in
(``<...>``, addresses) are filled in. What is checked besides that nothing is raised stands with each document.
"""

from __future__ import annotations

import ast
import asyncio
import datetime
import inspect
import re
import sys
import types
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hypha.testing import RunningServer, run_server
from hypha_rpc import connect_to_server
from tests.house.import_rules import REPOSITORY

pytestmark = pytest.mark.timeout(60)


def blocks(document: str) -> list[str]:
    text = (REPOSITORY / document).read_text("utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


async def run(block: str, names: dict[str, Any], **places: str) -> None:
    """Run *block* as a notebook's cell; *places* are texts in it and what to put there."""
    for place, filled in places.items():
        assert place in block
        block = block.replace(place, filled)
    code = compile(block, names["__name__"], "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, names)
    if inspect.isawaitable(result):
        await result


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with run_server() as running:
        yield running


@pytest.fixture
async def provider(server: RunningServer) -> AsyncIterator[Any]:
    async with connect_to_server(server_url=server.url) as client:
        yield client


@pytest.fixture
async def consumer(server: RunningServer, provider: Any) -> AsyncIterator[Any]:
    token = await provider.generate_token()
    async with connect_to_server(server_url=server.url, token=token) as client:
        yield client


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Where the blocks of a document put their names: a module, as schemas are read from annotations."""
    module = types.ModuleType("document")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return vars(module)


def test_every_document_with_python_is_run() -> None:
    tested = {"calls.md", "encryption.md", "schemas-and-types.md", "values.md", "http-transport.md"}
    elsewhere = {"getting-started.md"}  # tests/seed
    assert {path.name for path in (REPOSITORY / "docs").glob("*.md") if blocks(f"docs/{path.name}")} == (
        tested | elsewhere
    )


async def test_calls(provider: Any, consumer: Any, names: dict[str, Any]) -> None:
    kept: list[Any] = []
    told = asyncio.Event()
    await provider.register_service(
        {
            "id": "svc",
            "train": lambda data, timeout: (data, timeout),
            "fetch": lambda url: url,
            "upload": len,
            "subscribe": kept.append,
        }
    )
    service = await consumer.get_service("svc")
    limits, idempotent, keeping = blocks("docs/calls.md")
    names.update(service=service, data=1, url="u", array=bytes(3_000_000))
    moved: list[tuple[int, int]] = []
    names["print"] = lambda *done: moved.append(done)
    await run(limits, names)
    assert moved[-1] == (moved[-1][1],) * 2

    names.update(server=provider, get={}.get, put={}.__setitem__)
    names["get"], names["put"] = (lambda key: 1), (lambda key, value: None)
    await run(idempotent, names)
    assert await (await consumer.get_service("store")).get("x") == 1

    names["on_event"] = lambda: told.set()
    before, after = keeping.split("...\n")
    await run(before, names)
    await kept[0]()
    async with asyncio.timeout(5):
        await told.wait()
    await run(after, names)


async def test_encryption(server: RunningServer, names: dict[str, Any]) -> None:
    connecting, providing, calling = blocks("docs/encryption.md")
    url = {"http://localhost:9527": server.url}
    shown: list[str] = []
    names["print"] = shown.append
    await run(connecting, names, **url)
    caller = names["server"]
    await run(connecting, names, **url)
    provider = names["server"]
    try:
        await run(providing, names, **{"<public key of the caller>": shown[0]})
        names["server"] = caller
        await run(calling, names, **{"<id of the service>": shown[2], "<public key of the provider>": shown[1]})
        assert await names["archive"].read("letters") == f"letters for {shown[0]}"
    finally:
        await caller.disconnect()
        await provider.disconnect()


async def test_schemas_and_types(provider: Any, names: dict[str, Any]) -> None:
    describing, typed = blocks("docs/schemas-and-types.md")
    names["server"] = provider
    await run(describing, names)
    await run(typed, names)
    assert names["weight"] == 2.5
    assert str(inspect.signature(names["scales"].weigh)).startswith("(sample: ")


async def test_values(provider: Any, consumer: Any, names: dict[str, Any], tmp_path: Path) -> None:
    files, codecs, errors = blocks("docs/values.md")
    table = tmp_path / "data.csv"
    table.write_text("a\nb\nc\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the block leaves its file to the collector
        serving, using = files.split("\n\n", 1)
        await run(serving, names)
        await provider.register_service({"id": "files", "count": names["count"], "find": {}.__getitem__})
        names["service"] = await consumer.get_service("files")
        await run(using.replace("await service", "counted = await service"), names, **{"data.csv": str(table)})
    assert names["counted"] == 3

    names["datetime"] = datetime
    names["server"] = provider
    await run(codecs, names)
    names["server"] = consumer
    await run(codecs, names)
    noon = datetime.datetime(2020, 1, 1, 12)
    assert await consumer.echo(noon) == noon

    await run(errors.replace("    error.remote_type,", "    seen = error.remote_type,"), names)
    assert names["seen"][:2] == ("KeyError", "'x'")


async def test_http_transport(server: RunningServer, names: dict[str, Any]) -> None:
    (connecting,) = blocks("docs/http-transport.md")
    await run(connecting, names, **{"https://hypha.example": server.url})
    try:
        assert await names["server"].echo("over HTTP") == "over HTTP"
    finally:
        await names["server"].disconnect()
