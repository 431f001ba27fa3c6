"""Calls and values (behaviours D, E); what `tests/integration/test_client_services.py` shows is not repeated here."""

from __future__ import annotations

import enum
import time
from typing import Any

import numpy
import pydantic
import pytest

from hypha_rpc.rpc import RPC, ObjectProxy
from hypha_rpc.utils.pydantic import register_pydantic_codec


class Inner(pydantic.BaseModel):
    name: str = "inner"


class Shade(enum.Enum):
    DARK = "dark"


class Item(pydantic.BaseModel):
    number: int
    text: str = "default"
    inner: Inner | None = None
    shade: Shade = Shade.DARK
    pair: tuple[int, str] = (1, "a")


def echo(value: Any) -> Any:
    return value


async def test_b059_blocking_the_loop_of_the_callee_breaks_nothing(pair: Any) -> None:
    service = await pair.offer(block=time.sleep, echo=echo)
    assert await service.block(2) is None
    assert [await service.echo(number) for number in range(5)] == list(range(5))


@pytest.mark.timeout(120)
async def test_b076_a_64_mib_array_makes_the_round_trip(pair: Any) -> None:
    service = await pair.offer(echo=echo)
    array = numpy.random.default_rng(1).random(16 * 1024 * 1024, dtype="float32")
    returned = await service.echo(array)
    assert returned.dtype == "float32"
    assert numpy.array_equal(returned, array)


async def test_b077_arrays_in_lists_and_dicts_keep_dtype_and_shape(pair: Any) -> None:
    service = await pair.offer(echo=echo)
    sent = {"list": [numpy.arange(3), numpy.ones((2, 2), "float32")], "reshaped": numpy.arange(6).reshape(2, 3)}
    returned = await service.echo(sent)
    for got, wanted in zip([*returned.list, returned.reshaped], [*sent["list"], sent["reshaped"]], strict=True):
        assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
        assert numpy.array_equal(got, wanted)


async def test_b078_bytes_and_lists_of_bytes_survive(pair: Any) -> None:
    service = await pair.offer(echo=echo)
    sent = [bytes(range(256)), [b"", b"\x00", b"x" * 100_000]]
    assert await service.echo(sent) == sent


async def test_b079_a_model_is_a_model_there_and_back(pair: Any) -> None:
    seen: list[Any] = []

    def note(model: Any) -> Any:
        seen.append(model)
        return model

    service = await pair.offer(note=note)
    returned = await service.note(Item(number=3))
    for model in (seen[0], returned):
        assert isinstance(model, pydantic.BaseModel)
        assert (model.number, model.text) == (3, "default")  # type: ignore[attr-defined]


async def test_b080_the_pydantic_codec_may_be_registered_again(pair: Any) -> None:
    for client in (pair.provider, pair.consumer):
        register_pydantic_codec(client.rpc)
    service = await pair.offer(echo=echo)
    assert (await service.echo(Item(number=4))).number == 4


def test_b081_encoding_gives_references_and_records_and_leaves_plain_data_alone() -> None:
    rpc = RPC(None, "c", workspace="w")
    sent = rpc.encode({"f": len, "a": numpy.arange(2, dtype="int8"), "plain": [1, {"b": b"x"}]})
    assert sent["f"]["_rtype"] == "method"
    assert sent["a"] == {"_rtype": "ndarray", "_rvalue": b"\x00\x01", "_rshape": [2], "_rdtype": "int8"}
    plain = {"a": [1, 2.5, None, {"b": b"x"}]}
    assert rpc.encode(plain) == plain
    assert rpc.decode(rpc.encode(plain)) == plain
    assert isinstance(rpc.decode(plain), ObjectProxy)


async def test_b082_a_list_of_dicts_survives(pair: Any) -> None:
    service = await pair.offer(echo=echo)
    sent = [{"id": number, "name": f"n{number}", "ok": bool(number % 2)} for number in range(50)]
    assert await service.echo(sent) == sent


async def test_b085_models_with_optional_models_enums_and_tuples_are_usable(our_pair: Any) -> None:
    service = await our_pair.offer(echo=echo)
    for sent in (Item(number=1), Item(number=2, inner=Inner(name="x"))):
        returned = await service.echo(sent)
        assert (returned.number, returned.shade, list(returned.pair)) == (sent.number, "dark", [1, "a"])
        assert (returned.inner.name if returned.inner else None) == (sent.inner.name if sent.inner else None)
        assert Item.model_validate(returned.model_dump()) == sent
