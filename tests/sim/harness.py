"""What every simulated world stands on: its chances, its clock, and what is looked at in the end."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from unittest import mock

from hypha_rpc.client import producing
from hypha_rpc.client.proxies import PendingCall
from tests.sim.journal import Journal
from tests.sim.loop import Stuck, VirtualLoop

NEVER_EMPTY = frozenset({"services", "reconnects"})


def abandon(loop: VirtualLoop) -> None:
    """Close the loop, whatever is left in it."""
    # That it was stuck has been told.
    with suppress(Stuck):
        loop.run_until_complete(_cancel_all())
        loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


async def _cancel_all() -> None:
    """Cancel what is left, and what that makes, a few times over."""
    current = asyncio.current_task()
    for _ in range(5):
        tasks = [task for task in asyncio.all_tasks() if task is not current]
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0)


@contextmanager
def chances(seed: str, loop: VirtualLoop) -> Iterator[None]:
    """Everything that chance decides follows *seed*: ids, jitter, when garbage is collected, how long steps take."""
    ids = random.Random(f"ids {seed}")
    state = random.getstate()
    random.seed(f"jitter {seed}")
    gc.disable()
    try:
        with (
            mock.patch.object(secrets, "token_bytes", lambda nbytes=None: ids.randbytes(nbytes or 32)),
            mock.patch.object(os, "urandom", ids.randbytes),
            mock.patch.object(producing, "_clock", loop.time),
        ):
            yield
    finally:
        random.setstate(state)
        gc.enable()


def left_at(app: Any) -> dict[str, Any]:
    """The tables of a server with nobody in it but its own residents."""
    core, router = app.manager.core, app.router
    sizes = {
        "connections": [address for address in router.connections if not address.startswith("public/")],
        "records": [record.id for record in core.directory if not record.id.startswith("public/")],
        "mailboxes": router.mailboxes.addresses(),
        "mailbox bytes": router.mailboxes._used,
        "lanes": len(router.lanes),
        "sockets": len(app.doors.sockets),
        "newcomers": app.doors.newcomers.total,
        "users": {user: count for user, count in app.presence._users.items() if user != "root"},
        "rights": [address for address in app.presence._rights if not address.startswith("public/")],
        "resumed": list(app.presence.resumed),
    }
    stats = {key: count for key, count in app.manager.peer.endpoint.stats().items() if key not in NEVER_EMPTY}
    sizes.update({f"manager {key}": count for key, count in stats.items()})
    return {key: what for key, what in sizes.items() if what}


async def until(condition: Callable[[], bool], seconds: float, *, pause: float = 0.1) -> bool:
    """Let time pass until *condition* holds; False if it does not within *seconds*."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + seconds
    while not condition():
        if loop.time() >= give_up_at:
            return False
        await asyncio.sleep(pause)
    return True


@contextmanager
def counted(journal: Journal) -> Iterator[None]:
    """See to it that no call is settled that is settled already."""
    with ExitStack() as stack:
        for name in ("set_result", "set_exception", "set_exception_quietly"):
            stack.enter_context(mock.patch.object(PendingCall, name, _once(getattr(PendingCall, name), journal)))
        yield


def _once(settle: Callable[[PendingCall, Any], None], journal: Journal) -> Callable[[PendingCall, Any], None]:
    def checked(call: PendingCall, outcome: Any) -> None:
        if call.done():
            journal.wrong(f"settled twice: with {outcome!r:.200}")
        else:
            settle(call, outcome)

    return checked


@contextmanager
def listening(complaints: logging.Handler) -> Iterator[None]:
    """Hear what is logged as an error, and let nobody print what is less."""
    loggers = [logging.getLogger(name) for name in ("hypha_rpc", "hypha", "asyncio")]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(complaints)
        logger.setLevel(logging.ERROR)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(complaints)
            logger.setLevel(level)
            logger.propagate = propagate
