"""When a blocking program ends: serving on after its main thread, leaving politely.

A program that has registered services goes on until it is disconnected or interrupted;
one that only called ends at once. Decided when the interpreter is about to end, while
threads can still be started.
"""

from __future__ import annotations

import atexit
import logging
import sys

from hypha_rpc.sync import portal as portals
from hypha_rpc.sync.portal import Portal

__all__ = ["watch"]

_log = logging.getLogger("hypha_rpc.sync")
_LOOK_S = 1.0


def watch() -> None:
    """Make sure that the end of the interpreter is noticed; idempotent."""
    atexit.unregister(_at_exit)
    # Late, so that it runs before what else was registered: the program's own clean-up comes after serving.
    atexit.register(_at_exit)


def _at_exit() -> None:
    portal = portals.current()
    if portal is None:
        return
    try:
        if not _failed() and not _interactive():
            _serve(portal)
        for user in list(portal.users):
            user.close()
    except KeyboardInterrupt:
        # Twice: the person is in a hurry. The threads are daemons.
        return


def _serve(portal: Portal) -> None:
    try:
        if _serving(portal):
            _log.info("the main thread has ended; serving until disconnected or interrupted")
        while _serving(portal):
            portal.changed.wait(_LOOK_S)
            portal.changed.clear()
    except KeyboardInterrupt:
        _log.info("interrupted")


def _serving(portal: Portal) -> bool:
    return portal.alive and any(user.serves() for user in list(portal.users))


def _failed() -> bool:
    """The main thread ended with an exception nobody caught, Ctrl-C included."""
    return hasattr(sys, "last_exc") or hasattr(sys, "last_value")


def _interactive() -> bool:
    """A prompt or a notebook that is being closed shall close."""
    if hasattr(sys, "ps1") or sys.flags.interactive:
        return True
    shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return shell is not None and shell() is not None
