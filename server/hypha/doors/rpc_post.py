"""The bodies of POSTs of the HTTP transport: read within bounds, taken apart, given to the switch (protocol §7.2).

A body is one frame or control message, or, from our own clients, several with
their lengths in front. POSTs of one stream are read one after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, Final

from hypha.doors.rpc_stream import StreamPeer
from hypha.settings import Limits
from hypha_rpc.errors import MessageTooLarge
from hypha_rpc.wire.frame import FrameError, read_header
from hypha_rpc.wire.lengths import LengthReader, read_control

__all__ = ["Disconnected", "PostFailure", "take_post"]

Buffer = bytes | bytearray | memoryview
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

MAX_WAITING: Final = 1000
BODY_S: Final = 20.0
TURN_S: Final = 120.0

CONTROLS: Final = frozenset({"ping", "refresh_token", "close"})


class PostFailure(Exception):
    """A POST is answered with an error.

    Attributes:
        status: of the answer.
        detail: its text.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Disconnected(Exception):
    """The client has gone before the end of its request."""


async def take_post(peer: StreamPeer, receive: Receive, limits: Limits, *, number: int | None, framed: bool) -> None:
    """Read one POST of *peer* when its turn has come, and route what is in it.

    Args:
        peer: whose stream it belongs to.
        receive: of the request.
        limits: bounds.
        number: which POST of its stream it is, for a peer that repeats those it got no answer to.
        framed: lengths stand in front of frames.

    Raises:
        PostFailure: it was not taken; of several frames only what is malformed was not.
        Disconnected: the client has gone.
    """
    posts = peer.posts
    if posts.waiting >= MAX_WAITING:
        raise PostFailure(429, "Too many requests of this client wait")
    posts.waiting += 1
    try:
        async with asyncio.timeout(TURN_S), posts.turn:
            await peer.reading.wait()
            body = await _read(receive, limits.rpc_post_bytes)
            if number is not None and number <= posts.latest:
                return
            await _route(peer, body, limits, framed=framed)
            if number is not None:
                posts.latest = number
    except TimeoutError as error:
        raise PostFailure(408, "The request took too long") from error
    finally:
        posts.waiting -= 1


async def _read(receive: Receive, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async with asyncio.timeout(BODY_S):
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            piece = message.get("body", b"")
            size += len(piece)
            if size > most:
                raise PostFailure(413, f"The request body is larger than {most} bytes")
            if piece:
                parts.append(piece)
            if not message.get("more_body"):
                break
    if not size:
        raise PostFailure(400, "Empty request body")
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _route(peer: StreamPeer, body: bytes, limits: Limits, *, framed: bool) -> None:
    failure: PostFailure | None = None
    for payload in _payloads(body, limits) if framed else (body,):
        # A sender that is to be slowed is held within a body as well.
        if not peer.reading.is_set():
            await peer.reading.wait()
        if peer.connection is None:
            raise PostFailure(400, "The stream of this client has ended")
        control = read_control(payload, CONTROLS)
        if control is not None:
            peer.on_control(control)
        elif (problem := _route_frame(peer, payload)) is not None:
            # The others of the body are routed all the same, as they would be from a socket.
            failure = failure or PostFailure(400, f"Malformed frame: {problem}")
    if failure is not None:
        raise failure


def _payloads(body: bytes, limits: Limits) -> Iterator[Buffer]:
    reader = LengthReader(limits.max_frame_bytes)
    try:
        yield from reader.feed(body)
    except MessageTooLarge as error:
        raise PostFailure(413, str(error)) from error
    if reader.unfinished:
        raise PostFailure(400, "The request body ends within a frame")


def _route_frame(peer: StreamPeer, frame: Buffer) -> str | None:
    """Give one frame to the switch; returns what is wrong with it."""
    problem = None
    try:
        header, _ = read_header(frame)
        if not isinstance(header.get("type"), str) or not isinstance(header.get("to"), str):
            problem = "a frame needs a type and a receiver"
    except FrameError as error:
        problem = str(error)
    # The switch counts what is malformed.
    peer.on_binary(frame)
    return problem
