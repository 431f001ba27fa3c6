"""Where a connection reports to: the library's loggers, nobody, or a user's own object (python-client §3.2, §21)."""

from __future__ import annotations

import logging
from typing import Any, Protocol

from hypha_rpc.client.options import ABSENT

__all__ = ["Log", "pick"]


class Log(Protocol):
    """What the client needs of a logger."""

    def debug(self, msg: str, /, *args: Any) -> None:
        """Report a detail."""

    def info(self, msg: str, /, *args: Any) -> None:
        """Report a change of the connection."""

    def warning(self, msg: str, /, *args: Any) -> None:
        """Report what somebody should look at."""

    def error(self, msg: str, /, *args: Any) -> None:
        """Report what has failed."""


class _Nobody:
    """Takes every report and keeps none."""

    def debug(self, msg: str, /, *args: Any) -> None:
        return None

    info = warning = error = debug


class _Users:
    """Reports to an object that is no logger of Python's: with the finished text only."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def debug(self, msg: str, /, *args: Any) -> None:
        self._target.debug(msg % args if args else msg)

    def info(self, msg: str, /, *args: Any) -> None:
        self._target.info(msg % args if args else msg)

    def warning(self, msg: str, /, *args: Any) -> None:
        self._target.warning(msg % args if args else msg)

    def error(self, msg: str, /, *args: Any) -> None:
        self._target.error(msg % args if args else msg)


def pick(option: Any, own: logging.Logger) -> Log:
    """The logger that the option ``logger`` of a connection means.

    Args:
        option: `ABSENT` for the library's own, None for silence, or an object with
            ``debug``, ``info``, ``warning`` and ``error``.
        own: the library's logger of that room.

    Raises:
        TypeError: the object lacks one of these.
    """
    if option is ABSENT:
        return own
    if option is None:
        return _Nobody()
    if isinstance(option, (logging.Logger, logging.LoggerAdapter)):
        return option
    missing = [name for name in ("debug", "info", "warning", "error") if not callable(getattr(option, name, None))]
    if missing:
        raise TypeError(f"a logger needs {', '.join(missing)}")
    return _Users(option)
