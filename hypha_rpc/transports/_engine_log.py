"""The logger given to WebSocket libraries: their words never rise above our DEBUG, and never show payloads."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter

__all__ = ["engine_log"]


class _EngineLog(_Adapter):
    """Takes everything down to DEBUG; what a library itself calls DEBUG may hold payloads and is dropped."""

    def isEnabledFor(self, level: int) -> bool:
        """Say whether a library's record of *level* is wanted."""
        return level > logging.DEBUG and self.logger.isEnabledFor(logging.DEBUG)

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        """Log at DEBUG whatever the library thinks of it."""
        if self.isEnabledFor(level):
            self.logger.log(logging.DEBUG, msg, *args, **kwargs)


engine_log = _EngineLog(logging.getLogger("hypha_rpc.transport.engine"), {})
