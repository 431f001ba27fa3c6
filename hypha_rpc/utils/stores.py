"""Zarr arrays and groups as interfaces through which a peer reads and writes their chunks (protocol §3.8).

Works with version 2 and version 3 of ``zarr``, which is imported when it is needed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Final

__all__ = ["encode_zarr_store", "register_default_codecs"]

_NAMES: Final = ("zarr-array", "zarr-group")


def encode_zarr_store(zobj: Any) -> dict[str, Any]:
    """Describe a zarr array or group for a peer.

    Keys are relative to the array or group. The functions stay callable until the
    interface is disposed of.

    Args:
        zobj: a ``zarr.Array`` or ``zarr.Group``.

    Returns:
        A map with ``_rintf``, ``_rtype`` (``zarr-array`` or ``zarr-group``), ``getItem``,
        ``setItem`` and ``containsItem``.

    Raises:
        TypeError: it is neither.
    """
    zarr = importlib.import_module("zarr")
    if isinstance(zobj, zarr.Array):
        kind = "zarr-array"
    elif isinstance(zobj, zarr.Group):
        kind = "zarr-group"
    else:
        raise TypeError(f"a zarr array or group is wanted, not {type(zobj).__name__}")
    store: _Mapped | _Stored = _Mapped(zobj) if hasattr(zobj.store, "__getitem__") else _Stored(zobj)
    return {
        "_rintf": True,
        "_rtype": kind,
        "getItem": store.get_item,
        "setItem": store.set_item,
        "containsItem": store.contains_item,
    }


def register_default_codecs(api: Any, options: Mapping[str, Any] | None = None) -> None:
    """Register codecs for zarr arrays and groups on a connection.

    Args:
        api: the connected server object.
        options: ``{"zarr-array": False}`` leaves one out.
    """
    zarr = importlib.import_module("zarr")
    register: Callable[[dict[str, Any]], Any] = getattr(api, "register_codec", None) or api.registerCodec
    for name, kind in zip(_NAMES, (zarr.Array, zarr.Group), strict=True):
        if (options or {}).get(name, True):
            register({"name": name, "type": kind, "encoder": encode_zarr_store})


def _prefixed(path: str, key: str) -> str:
    return f"{path}/{key}" if path else key


class _Mapped:
    """A store of version 2: a mapping of keys to bytes."""

    def __init__(self, zobj: Any) -> None:
        self._store = zobj.store
        self._path = zobj.path

    def get_item(self, key: str, options: Any = None) -> bytes:
        """The bytes of *key*."""
        return bytes(self._store[_prefixed(self._path, key)])

    def set_item(self, key: str, value: bytes) -> None:
        """Replace the bytes of *key*."""
        self._store[_prefixed(self._path, key)] = bytes(value)

    def contains_item(self, key: str, options: Any = None) -> bool:
        """Whether there is *key*."""
        return _prefixed(self._path, key) in self._store


class _Stored:
    """A store of version 3, which is asynchronous."""

    def __init__(self, zobj: Any) -> None:
        self._store = zobj.store
        self._path = zobj.store_path.path

    async def get_item(self, key: str, options: Any = None) -> bytes:
        """The bytes of *key*."""
        buffers = importlib.import_module("zarr.core.buffer")
        found = await self._store.get(_prefixed(self._path, key), buffers.default_buffer_prototype())
        if found is None:
            raise KeyError(key)
        data: bytes = found.to_bytes()
        return data

    async def set_item(self, key: str, value: bytes) -> None:
        """Replace the bytes of *key*."""
        buffers = importlib.import_module("zarr.core.buffer")
        data = buffers.default_buffer_prototype().buffer.from_bytes(bytes(value))
        await self._store.set(_prefixed(self._path, key), data)

    async def contains_item(self, key: str, options: Any = None) -> bool:
        """Whether there is *key*."""
        return bool(await self._store.exists(_prefixed(self._path, key)))
