"""Files, codecs and arrays across real connections (python-client §8.1, §11; behaviour B086)."""

from __future__ import annotations

import io
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from hypha_rpc import connect_to_server
from hypha_rpc.client.files import RemoteFile
from hypha_rpc.errors import RemoteException


def echo(value: Any) -> Any:
    return value


async def lines_of(file: Any) -> list[Any]:
    return [line async for line in file]


# -- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "lines"),
    [
        (lambda path: io.BytesIO(b"one\ntwo"), [b"one\n", b"two"]),
        (lambda path: io.StringIO("ünï\ntwo"), ["ünï\n", "two"]),
        (lambda path: path.open("rb"), [b"one\n", b"two"]),
        (lambda path: path.open(), ["one\n", "two"]),
        (lambda path: path.open("rb", buffering=0), [b"one\n", b"two"]),
    ],
    ids=["bytes in memory", "text in memory", "binary file", "text file", "raw file"],
)
async def test_the_lines_of_a_file_in_an_argument_and_in_a_result(
    pair: Any, tmp_path: Path, make: Callable[[Path], Any], lines: list[Any]
) -> None:
    path = tmp_path / "x.txt"
    path.write_text("one\ntwo")
    with make(path) as given, make(path) as kept:
        service = await pair.offer(lines_of=lines_of, open=lambda: kept)
        assert await service.lines_of(given) == lines
        file = await service.open()
        assert type(file) is RemoteFile
        assert [line async for line in file] == lines


async def test_a_file_is_written_positioned_and_closed_from_afar(pair: Any) -> None:
    async def fill(file: Any) -> list[Any]:
        async with file:
            return [await file.write(b"0123456789"), await file.seek(3), await file.read(2), await file.truncate(5)]

    service = await pair.offer(fill=fill)
    with tempfile.NamedTemporaryFile() as file:
        assert await service.fill(file) == [10, 3, b"34", 5]
        assert file.closed


async def test_values_of_a_file_are_as_when_it_was_sent(pair: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.touch()

    async def look(file: Any) -> list[Any]:
        before = [file.name, file.closed]
        await file.close()
        return [*before, file.closed]

    service = await pair.offer(look=look)
    with path.open("rb") as file:
        assert await service.look(file) == [str(path), False, False]
        assert file.closed


async def test_errors_of_a_file_are_errors_of_the_call(pair: Any) -> None:
    service = await pair.offer(open=lambda: io.BytesIO(b"x"))
    file = await service.open()
    with pytest.raises(RemoteException, match="fileno"):
        await file.fileno()
    await file.close()
    with pytest.raises(ValueError, match="closed file"):
        await file.read()


async def test_a_file_that_comes_back_to_its_owner_is_itself(our_pair: Any) -> None:
    service = await our_pair.offer(echo=echo)
    file = io.BytesIO(b"x")
    assert await service.echo(file) is file
    assert await service.echo([{"f": file}]) == [{"f": file}]


async def test_a_callback_that_comes_back_to_its_owner_is_itself(our_pair: Any) -> None:
    service = await our_pair.offer(echo=echo)
    assert await service.echo(len) is len
    assert our_pair.consumer.rpc.stats()["sessions"] == 0


async def test_twenty_megabytes_of_a_file_are_read_at_once_and_nothing_stays(pair: Any) -> None:
    data = bytes(range(256)) * 80_000

    async def size(file: Any) -> int:
        return len(await file.read())

    service = await pair.offer(size=size)
    assert await service.size(io.BytesIO(data)) == len(data)
    assert pair.consumer.rpc.stats()["sessions"] == 0


# -- codecs -----------------------------------------------------------------------------------


class Shape:
    def __init__(self, sides: int) -> None:
        self.sides = sides


class Square(Shape):
    def __init__(self) -> None:
        super().__init__(4)


async def test_b086_codecs_apply_both_ways_and_the_most_specific_type_wins(our_pair: Any) -> None:
    for client in (our_pair.provider, our_pair.consumer):
        client.register_codec(
            {
                "name": "shape",
                "type": Shape,
                "encoder": lambda shape: {"sides": shape.sides, "area": lambda: shape.sides * 10},
                "decoder": lambda value: value,
            }
        )
        client.register_codec(
            {"name": "square", "type": Square, "encoder": lambda _: {}, "decoder": lambda _: Square()}
        )
        client.register_codec(
            {
                "name": "uuid",
                "type": uuid.UUID,
                "encoder": lambda value: {"hex": value.hex},
                "decoder": lambda value: uuid.UUID(value["hex"]),
            }
        )
    seen: list[Any] = []

    def note(value: Any) -> Any:
        seen.append(value)
        return value

    service = await our_pair.offer(note=note)
    key = uuid.uuid4()
    returned = await service.note([Square(), key, {"deep": (key,)}])
    assert type(returned[0]) is type(seen[0][0]) is Square
    assert returned[1] == seen[0][1] == returned[2].deep[0] == key
    shape = await service.note(Shape(3))
    assert shape.sides == 3
    assert shape.area() == 30  # the function itself, back at its owner


async def test_b086_a_codec_of_a_built_in_name_replaces_it(our_pair: Any) -> None:
    our_pair.consumer.register_codec({"name": "ndarray", "decoder": lambda value: ("mine", value["_rshape"])})
    service = await our_pair.offer(echo=echo)
    assert await service.echo(numpy.zeros((2, 3))) == ("mine", [2, 3])


# -- arrays -----------------------------------------------------------------------------------


async def test_arrays_can_be_written_to_when_asked_for(our_pair: Any) -> None:
    await our_pair.offer(zeros=numpy.zeros)
    options = {"server_url": our_pair.url, "token": our_pair.token, "workspace": our_pair.workspace}
    async with connect_to_server({**options, "writable_arrays": True}) as client:
        service = await client.get_service(f"{our_pair.provider.config.client_id}:svc")
        for shape in (3, 300_000):
            array = await service.zeros(shape)
            array += 1
            assert array.sum() == shape
