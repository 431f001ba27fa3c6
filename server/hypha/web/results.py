"""Results of calls as answers: JSON, msgpack, bytes, and generators item by item (server §5.4)."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import msgpack
from starlette.responses import Response

from hypha.gateway import GatewayStream
from hypha.web.context import Receive, Scope, Send
from hypha.web.failures import describe
from hypha_rpc.wire.values import Encoder, default_forms

__all__ = ["StreamResponse", "json_text", "left_alone", "msgpack_bytes", "render"]

_JSON: Final = "application/json"
_MSGPACK: Final = "application/msgpack"
_SSE: Final = "text/event-stream; charset=utf-8"
_LINES: Final = "application/x-ndjson"
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_BINARY: Final = frozenset({"ndarray", "typedarray", "memoryview", "bytes"})


def render(value: Any, *, packed: bool, accept: str | None) -> Response:
    """The answer that carries *value*.

    Args:
        value: what the function returned.
        packed: msgpack is wanted.
        accept: the header; chooses the form of a stream.
    """
    if isinstance(value, GatewayStream):
        return StreamResponse(value, _stream_format(packed, accept))
    if packed:
        return _Body(msgpack_bytes(value), _MSGPACK)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _Body(bytes(value), "application/octet-stream")
    return _Body(json_text(value), _JSON)


class _Body(Response):
    """A body of bytes, made without what a general answer needs."""

    def __init__(self, body: bytes, kind: str) -> None:
        self.status_code = 200
        self.background = None
        self.body = body
        self.raw_headers = [(b"content-length", b"%d" % len(body)), (b"content-type", kind.encode())]


def _stream_format(packed: bool, accept: str | None) -> str:
    if packed:
        return _MSGPACK
    return _LINES if accept is not None and ("ndjson" in accept or "jsonl" in accept) else _SSE


class StreamResponse(Response):
    """A generator as a body that is written as it is produced.

    An item is pulled when the one before has been handed to the socket and the
    socket keeps up. When the client leaves the generator is closed at its producer.

    Args:
        stream: the generator.
        kind: media type, which says how items are written.
    """

    def __init__(self, stream: GatewayStream, kind: str) -> None:
        self._stream = stream
        self._kind = kind
        super().__init__(media_type=kind, headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write it."""
        async with left_alone(self._stream, receive):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                async for piece in self._pieces():
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _pieces(self) -> AsyncIterator[bytes]:
        try:
            async for item in self._stream:
                yield self._written(item)
        except Exception as error:  # noqa: BLE001 - supervision boundary: whatever a provider does ends its own stream
            yield self._written({"error": describe(error), "traceback": None})
        if self._kind == _SSE:
            yield b"data: [DONE]\n\n"

    def _written(self, item: Any) -> bytes:
        if self._kind == _MSGPACK:
            return msgpack_bytes(item)
        text = json_text(item)
        return b"data: " + text + b"\n\n" if self._kind == _SSE else text + b"\n"


@asynccontextmanager
async def left_alone(stream: GatewayStream, receive: Receive) -> AsyncGenerator[None, None]:
    """While the body of an answer is taken from *stream*: it ends when the client leaves, and with the block."""
    watch = asyncio.get_running_loop().create_task(_stopped_when_gone(stream, receive), name="hypha-stream-watch")
    try:
        yield
    finally:
        stream.stop()
        watch.cancel()
        await asyncio.wait([watch])


async def _stopped_when_gone(stream: GatewayStream, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    stream.stop()


# ----------------------------------------------------------------------------- forms


def json_text(value: Any) -> bytes:
    """*value* as JSON: bytes as base64 objects, functions by their schema, NaN as null."""
    try:
        text = _ENCODER.encode(value)
        if '"_rtype"' not in text:
            return text.encode()
    except (TypeError, ValueError):
        # Something in it is not JSON by itself.
        text = ""
    text = _ENCODER.encode(_jsonable(value))
    return text.encode("utf-8", "replace")


def msgpack_bytes(value: Any) -> bytes:
    """*value* as msgpack: bytes as they are, arrays as wire maps, functions by their schema."""
    packed: bytes = msgpack.packb(value, default=_packable)
    return packed


def _packable(value: Any) -> Any:
    found = _described(value)
    return Encoder(default_forms()).encode(value) if found is None else found


def _jsonable(value: Any) -> Any:
    if value is None or isinstance(value, (str, int, bool)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return _jsonable_map(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_jsonable(item) for item in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"_rtype": "bytes", "_rvalue": _base64(value)}
    found = _described(value)
    return _jsonable(Encoder(default_forms()).encode(value)) if found is None else found


def _jsonable_map(value: Mapping[Any, Any]) -> Any:
    form = value.get("_rtype")
    if form == "set":
        return _jsonable(value.get("_rvalue"))
    if form in _BINARY and isinstance(value.get("_rvalue"), bytes):
        rest = {str(key): _jsonable(item) for key, item in value.items() if key != "_rvalue"}
        return {**rest, "_rvalue": _base64(value["_rvalue"])}
    return {str(key): _jsonable(item) for key, item in value.items()}


def _described(value: Any) -> dict[str, Any] | None:
    """A function, a generator or an error inside a result; None for other things."""
    reference = getattr(value, "__rpc_object__", None)
    if isinstance(reference, dict):
        return {"type": "function", "function": reference.get("_rschema") or {"name": reference.get("_rname")}}
    if isinstance(value, GatewayStream):
        return {"type": "generator"}
    if isinstance(value, BaseException):
        return {"_rtype": "error", "_rvalue": describe(value)}
    return None


def _base64(value: Any) -> str:
    return base64.b64encode(value).decode("ascii")
