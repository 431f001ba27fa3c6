"""Zarr arrays and groups through `register_default_codecs` (protocol §3.8), with the zarr that is installed."""

from __future__ import annotations

from typing import Any

import numpy
import pytest

from hypha_rpc.utils import encode_zarr_store, register_default_codecs

zarr = pytest.importorskip("zarr")
V3 = zarr.__version__.startswith("3")
META, GROUP_META, CHUNK = ("zarr.json", "zarr.json", "c/0") if V3 else (".zarray", ".zgroup", "0")


def group() -> Any:
    made = zarr.group()
    data = numpy.arange(10)
    inner = made.create_group("inner")
    _ = inner.create_array("a", data=data) if V3 else inner.create_dataset("a", data=data)
    return made


async def test_chunks_are_read_written_and_asked_for_relative_to_what_was_sent(pair: Any) -> None:
    made = group()
    register_default_codecs(pair.provider)
    service = await pair.offer(get=lambda: {"group": made, "array": made["inner/a"]})
    got = await service.get()
    assert (got.group._rtype, got.array._rtype) == ("zarr-group", "zarr-array")
    assert await got.array.getItem(META) == await got.group.getItem(f"inner/a/{META}")
    assert await got.group.containsItem(GROUP_META) is True
    assert await got.array.containsItem("nothing") is False
    chunk = await got.array.getItem(CHUNK)
    made["inner/a"][:] = 0
    await got.array.setItem(CHUNK, chunk)
    assert made["inner/a"][:].tolist() == list(range(10))
    with pytest.raises(KeyError, match="nothing"):
        await got.array.getItem("nothing")


def test_only_arrays_and_groups_are_stores_and_each_may_be_left_out() -> None:
    with pytest.raises(TypeError, match="a zarr array or group is wanted, not dict"):
        encode_zarr_store({})
    registered: list[dict[str, Any]] = []

    class Api:
        registerCodec = registered.append

    register_default_codecs(Api(), {"zarr-group": False})
    assert [codec["name"] for codec in registered] == ["zarr-array"]
