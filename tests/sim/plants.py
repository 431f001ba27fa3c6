"""Bugs planted into the product, each of a kind that the histories must find: a test of the tests."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any
from unittest import mock

from hypha.broker.router import Router
from hypha.manager.directory import Directory
from hypha_rpc.client.outbox import Outbox
from hypha_rpc.client.session import Session
from hypha_rpc.client.streams import _Intake
from hypha_rpc.endpoint.callee import Callee
from hypha_rpc.endpoint.caller import Caller
from hypha_rpc.endpoint.endpoint import Endpoint
from hypha_rpc.endpoint.exports import ExportTable
from hypha_rpc.endpoint.running import Running
from hypha_rpc.errors import CallError, PeerGone

Patches = list[tuple[type, str, Callable[..., Any]]]


@dataclass(frozen=True)
class Plant:
    """One bug.

    Attributes:
        name: what is wrong.
        finds: what a violation that shows it begins with.
        patches: class, name, and what is put in its place.
    """

    name: str
    finds: tuple[str, ...]
    patches: tuple[tuple[type, str, Any], ...]

    def planted(self) -> AbstractContextManager[Any]:
        """A context with the bug in it."""
        stack = ExitStack()
        for owner, name, replacement in self.patches:
            stack.enter_context(mock.patch.object(owner, name, replacement))
        return stack


# -- the six properties -------------------------------------------------------------------


def _ignore_loss(self: Caller, address: str) -> None:
    """Calls to a peer that is gone go on waiting."""
    self.transfers.forget(address)


_call_again = Outbox.call_again


def _repeat_everything(self: Outbox, call: Any, error: BaseException) -> bool:
    """What may have run is taken for what has not."""
    if isinstance(error, CallError):
        error.may_have_run = False
    return _call_again(self, call, error)


def _make_up_answers(self: Callee, caller: str, session: str) -> None:
    """Whoever asks after a call that is not known gets a result."""
    job = self.running.find(caller, session)
    if job is not None:
        self._sign_of_life(job)
        return
    unknown = Running(caller, self._core.address, session, self._core.exports.services, "*", None)  # type: ignore[arg-type]
    self.reply(unknown, ["done", session])


_take_answer = _Intake._take_answer


def _end_at_loss(self: _Intake, flight: Any, asked: int) -> None:
    """A stream that was broken off looks as if it had ended."""
    _take_answer(self, flight, asked)
    if isinstance(self.error, CallError):
        self.error = None


def _forget_nobody(self: Directory, address: str) -> list[Any]:
    """Who has left stays registered."""
    return []


def _close_nothing(self: ExportTable, session_id: str) -> None:
    """What was exported for a call stays."""


# -- and five known ways to break them ------------------------------------------------------

_link_up = Endpoint.link_up


def _same_epoch(self: Endpoint, now: float, *, resumed: bool) -> None:
    """Calls of a former connection are taken for calls of this one: nobody asks what became of them."""
    _link_up(self, now, resumed=True)
    self._query_at = None


_answer = Caller.answer


def _answer_and_keep(self: Caller, call: Any, name: str, sender: str, extra: dict[str, Any]) -> None:
    """A call that was answered stays in the table."""
    _answer(self, call, name, sender, extra)
    if name != "heartbeat" and sender == call.target:
        self.calls.add(call)


def _fail_anyhow(self: Caller, calls: list[Any], text: str, *, may_have_run: bool = True) -> None:
    """Calls fail that have been answered."""
    for call in calls:
        self._end(call)
        call.waiter.set_exception(PeerGone(text, peer=call.target, may_have_run=may_have_run))


_reply = Callee.reply


def _release_at_once(self: Callee, job: Running, value: Any) -> None:
    """A callback is gone after it was called once."""
    _reply(self, job, value)
    exports = self._core.exports
    for session in list(exports.sessions.values()):
        if job.target in session.objects.values() and not session.keeps:
            exports.close_session(session.id)


_announce = Session._announce


async def _announce_once(self: Session, services: list[Any]) -> list[str]:
    """After a reconnection only the built-in service is registered again."""
    return await _announce(self, services if self.manager is None else services[:1])


_detach = Router.detach


def _detach_whoever(self: Router, connection: Any) -> bool:
    """The end of an old socket removes the connection that has taken its place."""
    return _detach(self, self.connections.get(connection.address, connection))


UNSETTLED = ("not settled", "settled by silence")

PLANTS = (
    Plant("a call is not settled", UNSETTLED, ((Caller, "peer_gone", _ignore_loss),)),
    Plant("a call is executed twice", ("executed",), ((Outbox, "call_again", _repeat_everything),)),
    Plant(
        "a result without an execution",
        ("a result without an execution", "wrong result"),
        ((Callee, "query", _make_up_answers),),
    ),
    Plant("a stream ends well too early", ("a stream of",), ((_Intake, "_take_answer", _end_at_loss),)),
    Plant(
        "the dead stay registered",
        ("registered, but does not live", "not empty at the server"),
        ((Directory, "remove_client", _forget_nobody),),
    ),
    Plant(
        "exports are not withdrawn", ("not empty at the clients",), ((ExportTable, "close_session", _close_nothing),)
    ),
    Plant("lost epoch check", UNSETTLED, ((Endpoint, "link_up", _same_epoch),)),
    Plant(
        "double settle",
        ("settled twice", "broke: InvalidStateError"),
        ((Caller, "answer", _answer_and_keep), (Caller, "_fail", _fail_anyhow)),
    ),
    Plant("early release", ("a callback was gone",), ((Callee, "reply", _release_at_once),)),
    Plant(
        "missing re-registration",
        ("lives, but is not registered",),
        ((Session, "_announce", _announce_once),),
    ),
    Plant(
        "late clean-up of an old socket",
        ("cannot be reached", "lives, but is not registered", "not back"),
        ((Router, "detach", _detach_whoever),),
    ),
)
