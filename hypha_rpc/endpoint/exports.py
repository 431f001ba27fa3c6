"""What others may call here: services and the functions sent along with messages.

A method id is looked up in tables that registration and sending filled; no
attribute of any object is ever walked (security S6, X15). Who may call each entry
is decided here, in the order of protocol §4.5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hypha_rpc.addresses import workspace_of

__all__ = ["MAGIC_MEMBERS", "ExportTable", "Service", "Session", "Target", "exported_members"]

MAGIC_MEMBERS: Final = frozenset({"__enter__", "__exit__", "_dispose"})
"""Names with a leading underscore that are members of a service all the same (protocol §6.4)."""

_OPEN: Final = frozenset({"public", "unlisted"})


class Target:
    """Something callable and the rules that hang on it."""

    __slots__ = ("function", "in_executor", "name", "needs_context", "service")

    def __init__(self, function: Callable[..., Any], name: str, service: Service | None = None) -> None:
        self.function = function
        self.name = name
        self.service = service
        self.needs_context = service is not None and service.wants_context(name)
        self.in_executor = service is not None and service.in_executor


@dataclass(slots=True, eq=False)
class Service:
    """A registered service.

    Attributes:
        id: local id (no workspace, no client).
        members: the interface: functions, nested maps and lists, plain values.
        config: as registered, with ``workspace``.
        info: ``name``, ``type``, ``description``, ``docs``, ``app_id``, ``service_schema`` as far as given.
        announce: whether the server is told about it.
        allowed_caller: for an interface: the client it was sent to.
        used: for an interface: when it was last called or renewed.
        doomed_at: for an interface: when it is withdrawn because its holder is lost.
    """

    id: str
    members: dict[str, Any]
    config: dict[str, Any]
    info: dict[str, Any] = field(default_factory=dict)
    announce: bool = True
    allowed_caller: str | None = None
    trusted: bool = False
    used: float = 0.0
    doomed_at: float = float("inf")
    open: bool = field(init=False)
    trusted_keys: frozenset[str] = field(init=False)
    visibility: str = field(init=False)
    authorized: frozenset[str] = field(init=False)
    in_executor: bool = field(init=False)
    _context: bool | frozenset[str] = field(init=False)
    _idempotent: bool | frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.visibility = str(self.config.get("visibility", "protected"))
        self.trusted_keys = frozenset(key.lower() for key in self.config.get("trusted_keys") or ())
        self.open = self.visibility in _OPEN and self.allowed_caller is None and not self.trusted_keys
        self.authorized = frozenset(self.config.get("authorized_workspaces") or ())
        self.in_executor = bool(self.config.get("run_in_executor"))
        self._context = _names(self.config.get("require_context", False))
        self._idempotent = _names(self.config.get("idempotent", False))

    def wants_context(self, name: str) -> bool:
        """Whether the member at dotted path *name* gets the call's context (python-client §13)."""
        return _covers(self._context, name)

    def is_idempotent(self, name: str) -> bool:
        """Whether the member at dotted path *name* may run twice for one call (``config.idempotent``)."""
        return _covers(self._idempotent, name)

    def distrust(self, key: bytes | None, what: str) -> str | None:
        """Why a call of *what* encrypted by the owner of *key* (None: not encrypted) is refused, or None."""
        if not self.trusted_keys:
            return None
        if key is None:
            return f"Encryption required for method {what} (trusted_keys is set)"
        if key.hex() not in self.trusted_keys:
            return f"Caller's public key is not in the trusted keys list for {what}"
        return None

    def refusal(self, caller: str, own_workspace: str, verb: str) -> str | None:
        """Why *caller* may not use this service, or None (protocol §4.5)."""
        if self.allowed_caller is not None:
            return None if caller == self.allowed_caller else f"caller {caller} is not the allowed caller"
        if self.visibility in _OPEN or self.trusted:
            return None
        workspace = workspace_of(caller)
        if workspace in (own_workspace, "*") or workspace in self.authorized:
            return None
        return f"Permission denied for {verb}, workspace mismatch: {own_workspace} != {workspace}"


def _names(wanted: Any) -> bool | frozenset[str]:
    """All members, none, or those named."""
    return frozenset(wanted) if isinstance(wanted, (list, tuple, set, frozenset)) else bool(wanted)


def _covers(names: bool | frozenset[str], path: str) -> bool:
    if isinstance(names, bool):
        return names
    return path in names or path.rpartition(".")[2] in names


def exported_members(members: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """The members of a service map that others may see: text keys, no leading underscore but the magic ones."""
    for key, value in members.items():
        if isinstance(key, str) and (not key.startswith("_") or key in MAGIC_MEMBERS):
            yield key, value


def _functions(node: Any, path: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every callable in a service with its dotted path."""
    if isinstance(node, dict):
        for key, value in exported_members(node):
            yield from _functions(value, f"{path}.{key}" if path else key)
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _functions(value, f"{path}.{index}")
    elif callable(node):
        yield path, node


class Session:
    """Functions that went out with one message; only the client it went to may call them (security S7)."""

    __slots__ = ("closers", "doomed_at", "id", "keeps", "key", "objects", "peer", "used")

    def __init__(self, session_id: str, peer: str, now: float, *, keeps: bool) -> None:
        self.id = session_id
        self.peer = peer
        self.used = now
        self.keeps = keeps
        # Public key of the peer if these went out encrypted: their calls must be, too.
        self.key: bytes | None = None
        self.doomed_at = float("inf")
        self.objects: dict[str, Target] = {}
        # Called when the functions are withdrawn: generators end with them.
        self.closers: list[Callable[[], None]] = []


class ExportTable:
    """Services and sessions of one endpoint."""

    def __init__(self) -> None:
        self.services: dict[str, Service] = {}
        self.sessions: dict[str, Session] = {}
        self._targets: dict[str, Target] = {}
        self.find_service_method = self._targets.get

    def add(self, service: Service) -> None:
        """Make *service* callable, replacing one of the same id."""
        self.remove(service.id)
        self.services[service.id] = service
        prefix = f"services.{service.id}."
        for path, function in _functions(service.members, ""):
            self._targets[prefix + path] = Target(function, path, service)

    def remove(self, service_id: str) -> Service | None:
        """Withdraw a service; returns it, or None when there was none."""
        service = self.services.pop(service_id, None)
        if service is not None:
            for path in [path for path, target in self._targets.items() if target.service is service]:
                del self._targets[path]
        return service

    def open_session(self, session: Session) -> None:
        """Make the functions of *session* callable."""
        self.sessions[session.id] = session

    def close_session(self, session_id: str) -> None:
        """Withdraw the functions of a session; idempotent."""
        session = self.sessions.pop(session_id, None)
        if session is not None:
            for close in session.closers:
                close()

    def close_sessions_of(self, peer: str) -> int:
        """Withdraw everything that went to *peer*; returns how many sessions that were."""
        lost = [session.id for session in self.sessions.values() if session.peer == peer]
        for session_id in lost:
            self.close_session(session_id)
        return len(lost)

    def doom(self, peer: str, at: float) -> int:
        """Withdraw what went to *peer* at time *at*, unless it comes back; infinity takes that back.

        Returns:
            How many sessions that are.
        """
        found = [session for session in self.sessions.values() if session.peer == peer]
        for session in found:
            session.doomed_at = at
        for interface in self.interfaces_of(peer):
            interface.doomed_at = at
        return len(found)

    def next_doom(self) -> float:
        """When the next thing of a lost holder is withdrawn, or infinity."""
        times = [session.doomed_at for session in self.sessions.values()]
        times.extend(interface.doomed_at for interface in self.interfaces())
        return min(times, default=float("inf"))

    def expire_sessions(self, now: float, life_s: float) -> int:
        """Withdraw functions nobody has called or renewed for *life_s* seconds, and those of holders lost for good."""
        old = [
            session.id
            for session in self.sessions.values()
            if now >= session.doomed_at or (session.keeps and now - session.used > life_s)
        ]
        for session_id in old:
            self.close_session(session_id)
        return len(old)

    def interfaces(self) -> list[Service]:
        """The hidden services of ``_rintf`` maps."""
        return [service for service in self.services.values() if service.allowed_caller is not None]

    def interfaces_of(self, caller: str) -> list[Service]:
        """The hidden services that only *caller* may call."""
        return [service for service in self.services.values() if service.allowed_caller == caller]

    def clear(self) -> None:
        """Withdraw everything."""
        self.services.clear()
        for session_id in list(self.sessions):
            self.close_session(session_id)
        self._targets.clear()
