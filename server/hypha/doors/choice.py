"""Which door serves: the fast one where its self-test passes, else the plain one.

``HYPHA_DOOR`` (``auto``, ``picows``, ``asgi``) decides otherwise.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any, Literal

from hypha.doors.asgi import Application, AsgiDoor
from hypha.doors.context import DoorContext
from hypha.settings import SettingsError

__all__ = ["DoorName", "OpenDoor", "choose_door", "open_door", "quiet_runner"]

_log = logging.getLogger("hypha.doors")

DoorName = Literal["asgi", "picows"]


@dataclass(frozen=True, slots=True)
class OpenDoor:
    """What uvicorn is given.

    Attributes:
        application: the application to serve.
        ws: its ``ws`` setting.
    """

    application: Application
    ws: Any


async def choose_door() -> DoorName:
    """Decide, by the environment or by trying.

    Raises:
        SettingsError: ``HYPHA_DOOR`` is none of the names, or names the fast door and it does not work here.
    """
    wanted = os.environ.get("HYPHA_DOOR") or "auto"
    if wanted not in {"auto", "asgi", "picows"}:
        raise SettingsError(f"HYPHA_DOOR must be auto, picows or asgi, not {wanted!r}")
    if wanted == "asgi":
        return "asgi"
    # Imported here: where picows does not exist the plain door must open.
    from hypha.doors.trial import problem_of_picows

    problem = await problem_of_picows()
    if problem is None:
        return "picows"
    if wanted == "picows":
        raise SettingsError(f"HYPHA_DOOR is picows, but it does not work here: {problem}")
    _log.warning("the fast door does not work here (%s): the plain one serves", problem)
    return "asgi"


def open_door(name: DoorName, context: DoorContext, path: str, application: Application) -> OpenDoor:
    """Put the door *name* in front of the web application.

    Args:
        name: from `choose_door`.
        context: the server.
        path: where the door is, e.g. ``/ws``.
        application: serves everything that is no WebSocket.
    """
    if name == "picows":
        from hypha.doors.picows import PicowsDoor

        return OpenDoor(application, PicowsDoor(context, path).protocol)
    return OpenDoor(AsgiDoor(context, path, application), "websockets-sansio")


class _PeersAreNoErrors(logging.Filter):
    """uvicorn reports what strangers send at WARNING and above; to us it is no news (RELIABILITY: garbage).

    It also reports the path of every upgrade with its query, in which clients of long ago have their token (S50).
    """

    _TEXTS = (
        "Invalid HTTP request",
        "Unsupported upgrade request",
        "Invalid UTF-8 sequence",
        "ASGI callable returned without",
        "Cancel 0 running",
    )
    _UPGRADE = '%s - "WebSocket %s"'

    def filter(self, record: logging.LogRecord) -> bool:
        return not (str(record.msg).startswith(self._UPGRADE) or record.getMessage().startswith(self._TEXTS))


_filter = _PeersAreNoErrors()


def quiet_runner() -> None:
    """Keep misbehaving peers, and what is sent, out of uvicorn's log; idempotent."""
    logger = logging.getLogger("uvicorn.error")
    logger.addFilter(_filter)
    if logger.getEffectiveLevel() < logging.INFO:
        # Below that it shows every message, tokens and all (S50).
        logger.setLevel(logging.INFO)
