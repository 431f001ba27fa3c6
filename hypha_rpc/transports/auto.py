"""WebSocket where it gets through, else HTTP (python-client §3.2, ``transport: "auto"``).

Decides which of two connectors is tried; knows nothing of how they work.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import Any, Final

from hypha_rpc.transports.base import Connector, Credentials, OpenOptions, OpenRefused, Transport, Unavailable

__all__ = ["AutoConnector"]

_log = logging.getLogger("hypha_rpc.transport")

#: A way that swallows upgrades without an answer costs no more than this, and no more than half of the time.
BLOCKED_S: Final = 5.0
#: Once it worked, so many failures in a row make it count as blocked: a server that restarts fails, too.
FAILURES: Final = 3


class AutoConnector:
    """Opens over the first connector, over the second one where the first does not get through.

    What has worked is tried first the next time. A server that refuses these credentials, and a
    port where nothing listens, are final: the other way leads to the same server.

    Args:
        first: preferred.
        second: for when it is blocked.
    """

    def __init__(self, first: Connector, second: Connector) -> None:
        self._first = first
        self._second = second
        self._using_second = False
        self._worked = False
        self._failures = 0

    async def open(self, options: OpenOptions, credentials: Credentials) -> tuple[Transport, dict[str, Any]]:
        """Connect and authenticate; see `base.Connector`."""
        if self._using_second:
            try:
                return await self._second.open(options, credentials)
            except Unavailable:
                # Perhaps we have moved: next time both ways are tried.
                self._using_second = False
                raise
        return await self._open_either(options, credentials)

    async def _open_either(self, options: OpenOptions, credentials: Credentials) -> tuple[Transport, dict[str, Any]]:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + options.timeout_s
        alone = self._worked and self._failures < FAILURES - 1
        limit = options.timeout_s if alone else min(BLOCKED_S, options.timeout_s / 2)
        try:
            opened = await self._first.open(dataclasses.replace(options, timeout_s=limit), credentials)
        except OpenRefused:
            raise
        except Unavailable as blocked:
            self._failures += 1
            if alone:
                raise
            left = dataclasses.replace(options, timeout_s=max(give_up_at - loop.time(), 0.1))
            return await self._fall_back(left, credentials, blocked)
        self._worked, self._failures = True, 0
        return opened

    async def _fall_back(
        self, options: OpenOptions, credentials: Credentials, blocked: Unavailable
    ) -> tuple[Transport, dict[str, Any]]:
        try:
            opened = await self._second.open(options, credentials)
        except (Unavailable, ImportError) as error:
            blocked.add_note(f"Over HTTP it did not work either: {error}")
            raise blocked from error
        _log.info("WebSocket does not get through (%s): using HTTP", blocked)
        self._using_second, self._failures = True, 0
        return opened
