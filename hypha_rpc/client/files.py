"""Files of peers: what a received ``iostream`` is for programs (python-client §11)."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from hypha_rpc.objects import ObjectProxy
from hypha_rpc.wire.forms.files import own_file

if TYPE_CHECKING:
    from hypha_rpc.wire.values import Decoder, Encoder, FormTable

__all__ = ["RemoteFile", "register"]

_READ_AHEAD: Final = 64 * 1024


class RemoteFile(ObjectProxy):
    """A file of a peer: a dictionary of its functions, which are awaited, and values.

    ``read``, ``write``, ``seek`` and the others work as on the file itself, there;
    ``name``, ``closed`` and ``size`` are what they were when it was sent.
    ``async for`` gives its lines (pieces of a ``Blob``, which has none), read ahead
    by 64 KiB; ``async with`` closes it.
    """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if "close" in dict.keys(self):
            await self["close"]()

    def __aiter__(self) -> _Lines:
        return _Lines(self)


class _Lines:
    """Reads a file to its end, a block of lines a call."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self._ahead: list[Any] = []

    def __aiter__(self) -> _Lines:
        return self

    async def __anext__(self) -> Any:
        if not self._ahead:
            self._ahead = await self._block()
            self._ahead.reverse()
        if not self._ahead:
            raise StopAsyncIteration
        return self._ahead.pop()

    async def _block(self) -> list[Any]:
        if "readlines" in dict.keys(self._file):
            lines: list[Any] = await self._file["readlines"](_READ_AHEAD)
            return lines
        piece = await self._file["read"](_READ_AHEAD)
        return [piece] if piece else []


def register(table: FormTable) -> None:
    """Make received files `RemoteFile`, and pass those on as what they are."""
    table.decode("iostream", _decode)
    table.encode(RemoteFile, _encode)


def _decode(value: dict[str, Any], decoder: Decoder) -> Any:
    native = value.get("_rnative")
    members = decoder.members({key: item for key, item in value.items() if key not in ("_rtype", "_rnative")})
    own = own_file(members)
    if own is not None:
        return own
    file = RemoteFile(members)
    # Not an item: a program that lists the members does not see it.
    object.__setattr__(file, "_native", native if isinstance(native, str) else "")
    return file


def _encode(value: RemoteFile, encoder: Encoder) -> Any:
    native = getattr(value, "_native", "")
    return {**encoder.mapping(dict.items(value)), "_rtype": "iostream", "_rnative": native}
