"""Feeds a transport with the pieces of big frames, one a turn of the loop: everything else goes between them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hypha_rpc.endpoint import Endpoint
    from hypha_rpc.transports.base import Transport

__all__ = ["Pump"]

_HEADER: Final = 1024
"""Room for the header of a piece."""


class Pump:
    """Asks the endpoint for pieces while the transport holds less than one.

    Args:
        endpoint: has the pieces.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._transport: Transport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn: asyncio.Handle | None = None

    def connect(self, transport: Transport) -> None:
        """Feed *transport* from now on."""
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        outgoing, limits = self._endpoint.big.outgoing, transport.limits
        outgoing.piece = min(outgoing.piece, limits.chunk, limits.max_frame - _HEADER)
        outgoing.pump = self.wake
        self.wake()

    def disconnect(self) -> None:
        """There is no transport any more."""
        self._transport = None
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def wake(self) -> None:
        """There are pieces, or room for one."""
        if self._turn is None and self._transport is not None and self._loop is not None:
            self._turn = self._loop.call_soon(self._go)

    def _go(self) -> None:
        self._turn = None
        transport, loop = self._transport, self._loop
        # Otherwise the transport says when it is writable again.
        if transport is None or loop is None or not transport.writable:
            return
        parts = self._endpoint.next_piece(loop.time())
        if parts is not None:
            transport.send(parts)
            self.wake()
