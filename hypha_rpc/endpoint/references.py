"""Functions crossing the wire: naming ours, making proxies of the peer's.

An `Outgoing` collects the functions of one message in a session that opens only
when there is one; an `Incoming` checks where a received reference may come from
(security S8) before a proxy is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hypha_rpc.addresses import absolute, workspace_of
from hypha_rpc.endpoint.exports import Service, Session, Target, exported_members
from hypha_rpc.endpoint.leases import Kept, leased_id
from hypha_rpc.endpoint.ports import Reference
from hypha_rpc.endpoint.sealed import announced_key
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
        key: public key of the peer if the message is encrypted for it.
    """

    __slots__ = ("_core", "_interfaces", "_keeps", "_kept", "_key", "_me", "_peer", "_session", "_session_id")

    def __init__(
        self, core: Core, session_id: str, peer: str, *, me: str, keeps: bool, key: bytes | None = None
    ) -> None:
        self._core = core
        self._session_id = session_id
        self._peer = peer
        self._me = me
        self._keeps = keeps
        self._key = key
        self._session: Session | None = None
        self._interfaces: list[str] = []
        self._kept: list[str] = []

    def export_function(self, function: Callable[..., Any]) -> Mapping[str, Any]:
        """Name *function*; one that is a proxy already passes on as what it stands for."""
        reference = getattr(function, "__rpc_object__", None)
        if isinstance(reference, dict):
            return reference
        session = self._opened_for(function) if isinstance(function, Kept) else self._opened()
        name = getattr(function, "__name__", "")
        object_id = f"{len(session.objects):x}" + (f"#{name}".replace(".", "_") if isinstance(name, str) else "")
        session.objects[object_id] = Target(function, object_id)
        return self._described(function, f"{session.id}.{object_id}")

    def export_generator(self, source: Any) -> Mapping[str, Any]:
        """Name the two methods of a generator: the next item, and closing it."""
        session = self._opened()
        object_id = f"{len(session.objects):x}"
        close_id = f"{object_id}:close"
        forget = _Forget(self._core, session, (object_id, close_id))
        producer = self._core.options.producer(source, forget)
        session.closers.append(producer.abandon)
        session.objects[object_id] = Target(producer.pull, object_id)
        session.objects[close_id] = Target(producer.close, close_id)
        named: dict[str, Any] = {
            "_rtype": "generator",
            "_rtarget": self._me,
            "_rmethod": f"{session.id}.{object_id}",
            "_rclose_method": f"{session.id}.{close_id}",
            "_rpromise": "*",
            "_rdoc": "Remote generator",
            "_rx": 1,
        }
        if self._core.server_url is not None:
            named["_rserver"] = self._core.server_url
        if self._core.sealer is not None:
            named["_renc_pub"] = self._core.sealer.public_key
        return named

    def export_interface(self, interface: dict[str, Any]) -> dict[str, Any] | None:
        """Register the functions of an ``_rintf`` map as a hidden service that only the receiver may call."""
        members = {key: value for key, value in exported_members(interface) if key != "_dispose"}
        if not any(map(callable, members.values())):
            return None
        core = self._core
        service_id = f"_rintf_{core.new_id()}"
        disposer = _Dispose(core, service_id, dict.get(interface, "_dispose"))
        config: dict[str, Any] = {"visibility": "protected", "_local_only": True}
        if self._key is not None:
            config["trusted_keys"] = [self._key.hex()]
        service = Service(
            service_id, {**members, "_dispose": disposer}, config, announce=False, allowed_caller=self._peer
        )
        service.used = core.now
        core.exports.add(service)
        self._interfaces.append(service_id)
        interface["_rintf_service_id"] = service_id
        travels: dict[str, Any] = {"_rintf": True, "_rintf_service_id": service_id}
        for key, value in (*members.items(), ("_dispose", disposer)):
            travels[key] = self._member(value, f"services.{service_id}.{key}")
        for key, value in dict.items(interface):
            travels.setdefault(key, value)
        return travels

    def _member(self, value: Any, path: str) -> Any:
        """A member of an interface, with its functions as references, nested ones too."""
        if isinstance(value, dict):
            return {key: self._member(item, f"{path}.{key}") for key, item in exported_members(value)}
        if callable(value) and not isinstance(getattr(value, "__rpc_object__", None), dict):
            return _Named(self._described(value, path))
        return value

    def _described(self, function: Callable[..., Any], method: str) -> dict[str, Any]:
        """The map for *function*, with the key to encrypt its calls for if this side has one."""
        described = describe(function, method, target=self._me, server=self._core.server_url)
        if self._core.sealer is not None:
            described["_renc_pub"] = self._core.sealer.public_key
        return described

    def _opened(self) -> Session:
        """The session of this message, which opens with the first function in it."""
        if self._session is None:
            self._session = Session(self._session_id, self._peer, self._core.now, keeps=self._keeps)
            self._session.key = self._key
            self._core.exports.open_session(self._session)
        return self._session

    def _opened_for(self, kept: Kept) -> Session:
        """A session of its own for one sending of a function that outlives its call."""
        core = self._core
        session = Session(core.new_id(), self._peer, core.now, keeps=True)
        session.key = self._key
        core.exports.open_session(session)
        self._kept.append(session.id)
        kept.sent_as(session.id, core.exports)
        return session

    def discard(self) -> None:
        """The message was not sent: nothing was exported."""
        while self._kept:
            self._core.exports.close_session(self._kept.pop())
        if self._session is not None:
            self._core.exports.close_session(self._session_id)
            self._session = None
        while self._interfaces:
            self._core.exports.remove(self._interfaces.pop())


class Incoming:
    """The importer of one message (`wire.values.Importer`).

    Args:
        core: who received it.
        sender: stamped address of the sender.
        parent: the sender's session under which its functions must be called, or None (results).
        key: public key of the sender if the message was encrypted.
    """

    __slots__ = ("_core", "_key", "_parent", "_sender")

    def __init__(self, core: Core, sender: str, parent: str | None, key: bytes | None = None) -> None:
        self._core = core
        self._sender = sender
        self._parent = parent
        self._key = key

    def import_function(self, reference: dict[str, Any]) -> Any:
        """Make what *reference* stands for callable here.

        Raises:
            ForeignReferenceError: the sender may not pass this on.
        """
        target = absolute(reference["_rtarget"], self._home())
        core = self._core
        method = reference["_rmethod"]
        if target == core.address:
            return self._own(method, reference)
        return core.port.proxy(self._foreign(target, method, reference))

    def import_generator(self, reference: dict[str, Any]) -> Any:
        """Make an async iterator of what *reference* stands for.

        Raises:
            ForeignReferenceError: the sender may not pass this on.
        """
        target = absolute(reference["_rtarget"], self._home())
        pull = self._foreign(target, reference["_rmethod"], reference)
        method = reference.get("_rclose_method")
        close = self._foreign(target, method, reference) if isinstance(method, str) else None
        return self._core.port.stream(pull, close)

    def _foreign(self, target: str, method: str, reference: dict[str, Any]) -> Reference:
        """The reference to a function of somebody else, if the sender may name it (security S8)."""
        sender = self._sender
        if target not in (sender, self._core.address) and not self._may_pass_on(target):
            raise ForeignReferenceError("foreign reference")
        session = method.partition(".")[0]
        parent = self._parent if target == sender and session == self._parent else None
        level = 1 if isinstance(reference.get("_rx"), int) and reference["_rx"] >= 1 else 0
        wire = {**reference, "_rtarget": target}
        held = leased_id(method) if level and parent is None and target == sender else None
        lease = self._core.holdings.take(target, held) if held is not None else None
        # What came encrypted from its owner is called encrypted, whatever it says.
        key = self._key if target == sender else None
        if key is None and self._core.sealer is not None:
            key = announced_key(reference)
        return Reference(target, method, reference.get("_rpromise"), parent, level, wire, lease, key)

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
        target, refusal = core.lookup(method, self._sender, self._key)
        if target is None or refusal is not None:
            raise ForeignReferenceError("foreign reference")
        if target.service is None:
            return target.function
        level = 1
        wire = {**reference, "_rtarget": core.address}
        return core.port.proxy(Reference(core.address, method, "*", None, level, wire))


class _Named:
    """Stands in a map for a function that has been named already."""

    def __init__(self, reference: dict[str, Any]) -> None:
        self.__rpc_object__ = reference

    def __call__(self) -> None:
        raise TypeError("only a name")


class _Forget:
    """Removes the two methods of a generator that has ended."""

    def __init__(self, core: Core, session: Session, objects: tuple[str, str]) -> None:
        self._core = core
        self._session = session
        self._objects = objects

    def __call__(self) -> None:
        for object_id in self._objects:
            self._session.objects.pop(object_id, None)
        if not self._session.objects:
            self._core.exports.close_session(self._session.id)


class _Dispose:
    """The ``_dispose`` of an interface: withdraws its hidden service, then tells its owner; once."""

    def __init__(self, core: Core, service_id: str, told: Any) -> None:
        self._core = core
        self._service_id = service_id
        self._told = told

    def __call__(self) -> Any:
        if self._core.exports.remove(self._service_id) is None:
            return None
        return self._told() if callable(self._told) else None
