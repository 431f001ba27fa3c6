"""Closing a remote generator that has ended already: its end was pulled ahead."""

from __future__ import annotations

import asyncio

from hypha_rpc.client.streams import RemoteGenerator
from hypha_rpc.endpoint.ports import Reference
from hypha_rpc.errors import CallbackExpired
from hypha_rpc.wire.forms.generators import Items


class Ended:
    """Stands for an `RPC` whose peer has sent all items and forgotten the generator."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.endpoint = self
        self.closed = None
        self.refused = 0

    def call(self, reference: Reference, args: object, kwargs: object) -> asyncio.Future[object]:
        future: asyncio.Future[object] = self.loop.create_future()
        if reference.method.endswith(":close"):
            self.refused += 1
            future.set_exception(CallbackExpired("Session not found"))
        else:
            future.set_result(Items([1, 2, 3], False))
        return future


async def test_leaving_a_stream_whose_end_was_pulled_ahead_is_no_error() -> None:
    rpc = Ended()
    items = RemoteGenerator(rpc, Reference("ws/p", "g.0", level=1), Reference("ws/p", "g.0:close", level=1))  # type: ignore[arg-type]
    assert await anext(items) == 1
    await items.aclose()
    assert rpc.refused == 1
