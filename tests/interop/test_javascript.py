"""The public JavaScript client as a peer of ours, either way, over both servers: every value, callbacks, generators."""

from __future__ import annotations

import collections
import io
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy
import pytest

from hypha_rpc import connect_to_server
from hypha_rpc.client.files import RemoteFile
from hypha_rpc.errors import RemoteException

from .peers import HERE, start_provider, wait_until_ready
from .processes import Process
from .servers import Server
from .sides import KINDS, OURS, PUBLIC, environment

pytestmark = pytest.mark.timeout(120)

START_S = 30.0
RUN_S = 60.0
CHECKS = (
    "plain_values binaries typed_arrays sets_and_maps dates keyword_arguments errors errors_as_values callbacks "
    "functions_in_results interfaces generators big_values"
).split()


class Stage:
    """A server, a JavaScript provider and consumer, and a provider of ours; started when asked for."""

    def __init__(self, kind: str, folder: Path, node_modules: Path) -> None:
        self.server = Server(kind, folder)
        self._folder = folder
        self._node_modules = node_modules
        self._processes: dict[str, Process] = {}

    def javascript(self, role: str, *arguments: str) -> Process:
        if role not in self._processes:
            program = str(HERE / "programs" / "peer.mjs")
            command = ["node", program, str(self._node_modules), role, self.server.url, *arguments]
            log = self._folder / f"javascript-{role}.log"
            self._processes[role] = Process(command, env=environment(PUBLIC), log=log, cwd=HERE)
        return self._processes[role]

    def python(self) -> dict[str, Any]:
        """What our provider says about itself."""
        if "python" not in self._processes:
            self._processes["python"] = start_provider(OURS, self.server.url, self._folder)
        return wait_until_ready(self._processes["python"])

    def close(self) -> None:
        for process in self._processes.values():
            process.kill()
        self.server.stop()


@pytest.fixture(scope="module", params=KINDS)
def stage(
    request: pytest.FixtureRequest, node_modules: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    stage = Stage(request.param, tmp_path_factory.mktemp("javascript"), node_modules)
    try:
        stage.server.start()
        yield stage
    finally:
        stage.close()


@pytest.fixture
async def service(stage: Stage) -> AsyncIterator[Any]:
    """The JavaScript provider's service, fetched by a client of ours in another workspace."""
    ready = stage.javascript("provider").wait_for("ready", timeout_s=START_S)
    async with connect_to_server(server_url=stage.server.url) as server:
        yield await server.get_service(f"{ready['workspace']}/{ready['client_id']}:js")


# -- JavaScript calls us ----------------------------------------------------------------------


@pytest.mark.parametrize("name", CHECKS)
def test_the_javascript_client_uses_our_services(stage: Stage, name: str) -> None:
    consumer = stage.javascript("consumer", json.dumps(stage.python()))
    report = consumer.wait_for("check", name=name, timeout_s=RUN_S)
    assert report["error"] == "", consumer.state()


# -- we call JavaScript -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        5,
        -(2**53) + 1,
        1.5,
        float("inf"),
        "",
        "ünï 🦋",
        b"",
        b"\x00\xff",
        [],
        {},
        [1, ["a", None]],
        {"a": {"b": [1]}, "x y": 2},
        {1, "a"},
        collections.OrderedDict([("k", 1), (2, "x")]),
        msgpack.Timestamp(1700000000, 123000000),
    ],
    ids=repr,
)
async def test_values_come_back_from_javascript(service: Any, value: Any) -> None:
    returned = await service.echo(value)
    assert returned == value
    assert type(returned) is type(value) or isinstance(value, dict)


async def test_values_that_javascript_does_not_know_come_back_as_they_were(service: Any) -> None:
    array = numpy.arange(6, dtype=">i2").reshape(2, 3)
    returned = await service.echo(array)
    assert (returned.dtype, returned.shape) == (array.dtype, array.shape)
    assert numpy.array_equal(returned, array)
    assert await service.echo((1, (2, 3))) == [1, [2, 3]]
    assert bytes(await service.echo(memoryview(b"abc"))) == b"abc"
    assert await service.echo(1.0) == 1


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (b"x", "Uint8Array"),
        (memoryview(b"x"), "ArrayBuffer"),
        ({1}, "Set"),
        (ValueError("x"), "Error"),
        (collections.OrderedDict([(1, 2)]), "Map"),
        (msgpack.Timestamp(1, 0), "Date"),
        (len, "Function"),
    ],
    ids=repr,
)
async def test_what_javascript_sees(service: Any, value: Any, kind: str) -> None:
    assert await service.kind(value) in (kind, f"Async{kind}")


async def test_what_javascript_gives(service: Any) -> None:
    assert await service.special("set") == {1, "a"}
    assert await service.special("map") == collections.OrderedDict([("k", 1), (2, "x")])
    assert await service.special("date") == msgpack.Timestamp(1700000000, 123000000)
    assert await service.special("buffer") == memoryview(b"\x01\x02\x03")
    for name, items in (("int16", [1, -2]), ("float32", [1.5, -2])):
        array = await service.special(name)
        assert (str(array.dtype), array.tolist()) == (name, items)
    assert await service.special("nothing") is None
    error = await service.special("error")
    assert isinstance(error, TypeError) and isinstance(error, RemoteException)
    assert error.remote_message == "just a value"


async def test_a_blob_is_a_file(service: Any) -> None:
    blob = await service.special("blob")
    assert type(blob) is RemoteFile
    assert (blob.type, blob.size) == ("text/plain", 3)
    assert [piece async for piece in blob] == [b"\x05\x06\x07"]


async def test_a_file_of_ours_is_read_by_javascript(service: Any) -> None:
    assert await service.read(io.BytesIO(b"one\ntwo")) == [b"one\ntwo", False, 0, b"one\n"]


async def test_errors_of_javascript(service: Any) -> None:
    with pytest.raises(RemoteException, match="^RemoteError:so it is\nRangeError: so it is") as caught:
        await service.fail("so it is")
    assert (caught.value.remote_type, caught.value.remote_message) == ("RangeError", "so it is")


async def test_callbacks_interfaces_and_returned_functions(service: Any) -> None:
    assert await service.call_back(lambda number: number * 10, 20) == [10 * number for number in range(20)]

    async def nest(callback: Any, depth: int) -> Any:
        return await callback(nest, depth - 1) if depth else "bottom"

    assert await service.nest(nest, 5) == "bottom"
    with pytest.raises(RemoteException, match="trouble"):
        await service.call_back(lambda number: [].index("trouble"), 1)
    interface = await service.special("interface")
    assert (interface.value, await interface.double(21)) == (3, 42)
    assert await (await service.adder(5))(1) == 6


async def collect(generator: Any, into: list[Any]) -> None:
    """Append the items one by one, so that an error loses none."""
    async for item in await generator:
        into += [item]


async def test_generators_both_ways(service: Any) -> None:
    assert [item async for item in await service.count(25)] == list(range(25))
    assert await service.consume(iter(range(12))) == list(range(12))
    seen: list[int] = []
    with pytest.raises(RemoteException, match="no more"):
        await collect(service.broken(3), seen)
    assert seen == [0, 1, 2]


async def test_leaving_a_generator_early_runs_its_finally(service: Any) -> None:
    before = await service.closed()
    items = await service.endless()
    assert [await anext(items) for _ in range(3)] == [0, 1, 2]
    await items.aclose()
    assert await service.closed() == before + 1


async def test_three_megabytes_come_back(service: Any) -> None:
    value = bytes(range(256)) * 12_000
    assert await service.echo(value) == value
