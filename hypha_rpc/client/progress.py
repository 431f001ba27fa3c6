"""Tells a user's function how far a big value has moved, without letting it harm the call."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypha_rpc.client.proxies import PendingCall
    from hypha_rpc.client.settings import Progress
    from hypha_rpc.endpoint import Endpoint

__all__ = ["follow"]

_log = logging.getLogger("hypha_rpc.client")


def follow(endpoint: Endpoint, call: PendingCall, call_id: str, progress: Progress) -> None:
    """Tell *progress* of *call* until it is over."""
    endpoint.watch(call_id, _Told(progress))
    call.add_done_callback(_Unwatch(endpoint, call_id))


class _Told:
    """The user's function; one that raises is told no more."""

    __slots__ = ("_progress",)

    def __init__(self, progress: Progress) -> None:
        self._progress: Progress | None = progress

    def __call__(self, done: int, total: int) -> None:
        progress = self._progress
        if progress is None:
            return
        try:
            progress(done, total)
        except Exception:  # noqa: BLE001 - supervision boundary: user code between two pieces of a message
            self._progress = None
            _log.warning("a progress function raised and is not called any more", exc_info=True)


class _Unwatch:
    """The call is over."""

    __slots__ = ("_call_id", "_endpoint")

    def __init__(self, endpoint: Endpoint, call_id: str) -> None:
        self._endpoint = endpoint
        self._call_id = call_id

    def __call__(self, _: Any) -> None:
        self._endpoint.unwatch(self._call_id)
