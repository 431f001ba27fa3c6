"""Request bodies, counted as they stream in and after inflation (security S41)."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

from hypha.web.addresses import header_of
from hypha.web.context import Receive, Scope
from hypha.web.failures import HttpFailure

__all__ = ["Disconnected", "pieces", "read_body"]

_FREE_INFLATION = 1024 * 1024


class Disconnected(Exception):
    """The client has gone."""


async def read_body(scope: Scope, receive: Receive, *, most: int, ratio: int) -> bytes:
    """The whole body, inflated if it is gzip.

    Args:
        scope: of the request.
        receive: of the request.
        most: bytes at most, before and after inflation.
        ratio: how many bytes may become of one.

    Raises:
        HttpFailure: 413, 415 or 400.
        Disconnected: the client has gone.
    """
    encoding = (header_of(scope, b"content-encoding") or "identity").strip().lower()
    if encoding not in {"identity", "gzip", "x-gzip"}:
        raise HttpFailure(415, f"Unsupported content encoding: {encoding:.40}")
    announced = header_of(scope, b"content-length")
    if announced is not None and announced.isdigit() and int(announced) > most:
        raise _too_large(most)
    parts: list[bytes] = []
    size = 0
    async for piece in pieces(receive):
        size += len(piece)
        if size > most:
            raise _too_large(most)
        parts.append(piece)
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    return body if encoding == "identity" else _inflated(body, most, ratio)


async def pieces(receive: Receive) -> AsyncIterator[bytes]:
    """The pieces of a body as they arrive, without empty ones.

    Raises:
        Disconnected: the client has gone before the end.
    """
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        body = message.get("body", b"")
        if body:
            yield body
        if not message.get("more_body"):
            return


def _inflated(body: bytes, most: int, ratio: int) -> bytes:
    bound = min(most, max(len(body) * ratio, _FREE_INFLATION))
    inflater = zlib.decompressobj(wbits=31)
    try:
        inflated = inflater.decompress(body, bound + 1)
    except zlib.error as error:
        raise HttpFailure(400, f"Invalid request body: {error}") from error
    if len(inflated) > bound:
        raise _too_large(most)
    if not inflater.eof or inflater.unused_data:
        raise HttpFailure(400, "Invalid request body: the gzip data is not one complete stream")
    return inflated


def _too_large(most: int) -> HttpFailure:
    return HttpFailure(413, f"The request body is larger than {most} bytes")
