"""Functions crossing the wire: naming ours, making proxies of the peer's.

An `Outgoing` collects the functions of one message in a session that opens only
when there is one; an `Incoming` checks where a received reference may come from
(security S8) before a proxy is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hypha_rpc.addresses import absolute, workspace_of
from hypha_rpc.endpoint.exports import Session, Target
from hypha_rpc.endpoint.ports import Reference
from hypha_rpc.wire.values import ForeignReferenceError

if TYPE_CHECKING:
    from hypha_rpc.endpoint.core import Core

__all__ = ["Incoming", "Outgoing", "describe"]


def describe(function: Callable[..., Any], method: str, *, target: str, server: str | None) -> dict[str, Any]:
    """The ``_rtype: method`` map for *function* at *method* (protocol §3.4, extensions §1)."""
    name = getattr(function, "__name__", None)
    described: dict[str, Any] = {
        "_rtype": "method",
        "_rtarget": target,
        "_rmethod": method,
        "_rpromise": "*",
        "_rname": name if isinstance(name, str) else method.rpartition(".")[2],
        "_rx": 1,
    }
    if server is not None:
        described["_rserver"] = server
    doc = getattr(function, "__doc__", None)
    described["_rdoc"] = doc if isinstance(doc, str) else None
    schema = getattr(function, "__schema__", None)
    if isinstance(schema, dict):
        described["_rschema"] = schema
    return described


class Outgoing:
    """The exporter of one message (`wire.values.Exporter`).

    Args:
        core: whose functions these are.
        session_id: under which they are named.
        peer: the client the message goes to; nobody else may call them.
        keeps: True for results (they live on), False for arguments (they end with the call).
    """

    __slots__ = ("_core", "_keeps", "_me", "_peer", "_session", "_session_id")

    def __init__(self, core: Core, session_id: str, peer: str, *, me: str, keeps: bool) -> None:
        self._core = core
        self._session_id = session_id
        self._peer = peer
        self._me = me
        self._keeps = keeps
        self._session: Session | None = None

    def export_function(self, function: Callable[..., Any]) -> Mapping[str, Any]:
        """Name *function*; one that is a proxy already passes on as what it stands for."""
        reference = getattr(function, "__rpc_object__", None)
        if isinstance(reference, dict):
            return reference
        if self._session is None:
            self._session = Session(self._session_id, self._peer, self._core.now, keeps=self._keeps)
            self._core.exports.open_session(self._session)
        name = getattr(function, "__name__", "")
        object_id = f"{len(self._session.objects):x}" + (f"#{name}".replace(".", "_") if isinstance(name, str) else "")
        self._session.objects[object_id] = Target(function, object_id)
        return describe(function, f"{self._session_id}.{object_id}", target=self._me, server=self._core.server_url)

    def discard(self) -> None:
        """The message was not sent: nothing was exported."""
        if self._session is not None:
            self._core.exports.close_session(self._session_id)
            self._session = None


class Incoming:
    """The importer of one message (`wire.values.Importer`).

    Args:
        core: who received it.
        sender: stamped address of the sender.
        parent: the sender's session under which its functions must be called, or None (results).
    """

    __slots__ = ("_core", "_parent", "_sender")

    def __init__(self, core: Core, sender: str, parent: str | None) -> None:
        self._core = core
        self._sender = sender
        self._parent = parent

    def import_function(self, reference: dict[str, Any]) -> Any:
        """Make what *reference* stands for callable here.

        Raises:
            ForeignReferenceError: the sender may not pass this on.
        """
        core, sender = self._core, self._sender
        target = absolute(reference["_rtarget"], self._home())
        method = reference["_rmethod"]
        if target == core.address:
            return self._own(method, reference)
        if target != sender and not self._may_pass_on(target):
            raise ForeignReferenceError("foreign reference")
        session = method.partition(".")[0]
        parent = self._parent if target == sender and session == self._parent else None
        level = 1 if isinstance(reference.get("_rx"), int) and reference["_rx"] >= 1 else 0
        return core.port.proxy(
            Reference(target, method, reference.get("_rpromise"), parent, level, {**reference, "_rtarget": target})
        )

    def _home(self) -> str:
        """Where a relative target lives: the sender's workspace; the manager speaks for its receiver's."""
        workspace = workspace_of(self._sender)
        return workspace if workspace != "*" else workspace_of(self._core.address)

    def _may_pass_on(self, target: str) -> bool:
        sender_home = workspace_of(self._sender)
        if sender_home == "*":
            return True
        home = workspace_of(target)
        if home == "*":
            return False
        own = workspace_of(self._core.address)
        return home != own or sender_home == own

    def _own(self, method: str, reference: dict[str, Any]) -> Any:
        """A function of this side comes back: it is itself, if the sender may call it (security S8)."""
        core = self._core
        target, refusal = core.lookup(method, self._sender)
        if target is None or refusal is not None:
            raise ForeignReferenceError("foreign reference")
        if target.service is None:
            return target.function
        level = 1
        wire = {**reference, "_rtarget": core.address}
        return core.port.proxy(Reference(core.address, method, "*", None, level, wire))
