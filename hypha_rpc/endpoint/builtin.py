"""The service every client offers: ping, get_service, message_cache (protocol §6.1, §5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from hypha_rpc.addresses import workspace_of
from hypha_rpc.endpoint.catalog import describe_service
from hypha_rpc.endpoint.exports import Service

if TYPE_CHECKING:
    from hypha_rpc.endpoint.callee import Callee
    from hypha_rpc.endpoint.caller import Caller
    from hypha_rpc.endpoint.core import Core

__all__ = ["API_VERSION", "BUILTIN_ID", "Host", "service"]

API_VERSION: Final = 3
BUILTIN_ID: Final = "built-in"


class Host(Protocol):
    """The endpoint behind the functions."""

    core: Core
    caller: Caller
    callee: Callee

    def receive_assembled(self, data: bytes | memoryview, context: Mapping[str, Any]) -> None:
        """Take a frame that came in pieces."""

    def check_first(self, piece: bytes, context: Mapping[str, Any]) -> bool:
        """Look at its first piece: raise if it would be refused, False if that cannot be told yet."""


def service(host: Host) -> Service:
    """The built-in service of *host*."""
    functions = _Builtin(host)
    cache = {
        "create": functions.create,
        "append": functions.append,
        "set": functions.set,
        "process": functions.process,
        "remove": functions.remove,
    }
    return Service(
        BUILTIN_ID,
        {"ping": functions.ping, "get_service": functions.get_service, "message_cache": cache},
        {"require_context": True, "visibility": "public", "api_version": API_VERSION},
        {"name": f"Builtin services for {host.core.address}", "type": BUILTIN_ID},
    )


class _Builtin:
    """The functions; each takes the caller's context."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def ping(self, msg: str, context: Mapping[str, Any]) -> str:
        """Answer ``"pong"`` to ``"ping"``: tells the living from the dead."""
        if msg != "ping":
            raise ValueError("ping takes the text 'ping'")
        return "pong"

    def get_service(self, service_id: str, context: Mapping[str, Any]) -> dict[str, Any]:
        """Return the service *service_id* of this client to a caller that may have it."""
        core = self._host.core
        found = core.exports.services.get(service_id) if isinstance(service_id, str) else None
        if found is None:
            raise KeyError(f"Service not found: {service_id}")
        refusal = found.refusal(context["from"], workspace_of(core.address), f"getting protected service: {service_id}")
        if refusal is not None:
            raise PermissionError(refusal)
        return describe_service(core, found, context["to"] if core.address.startswith("*/") else None)

    def create(self, key: str, heartbeat: bool = False, overwrite: bool = False, *, context: Mapping[str, Any]) -> None:
        """Open an incomplete message."""
        sender = self._touch(key, heartbeat, context)
        core = self._host.core
        own = workspace_of(sender) == workspace_of(core.address)
        self._host.callee.messages.create(sender, key, overwrite=overwrite, own=own, now=core.now)

    def append(self, key: str, data: bytes, heartbeat: bool = False, *, context: Mapping[str, Any]) -> None:
        """Add a piece behind the last one."""
        sender = self._touch(key, heartbeat, context)
        self._put(sender, key, None, data, context)

    def set(self, key: str, index: int, data: bytes, heartbeat: bool = False, *, context: Mapping[str, Any]) -> None:
        """Add the piece at *index*."""
        sender = self._touch(key, heartbeat, context)
        self._put(sender, key, int(index), data, context)

    def process(self, key: str, heartbeat: bool = False, *, context: Mapping[str, Any]) -> None:
        """Handle the complete message as if it had just arrived from the caller."""
        sender = self._touch(key, heartbeat, context)
        self._host.receive_assembled(self._host.callee.messages.take(sender, key), context)

    def remove(self, key: str, *, context: Mapping[str, Any]) -> None:
        """Forget an incomplete message."""
        self._host.callee.messages.remove(context["from"], key)

    def _put(self, sender: str, key: str, index: int | None, data: bytes, context: Mapping[str, Any]) -> None:
        host = self._host
        host.callee.messages.put(
            sender, key, index, data, host.core.now, check=lambda piece: host.check_first(piece, context)
        )

    def _touch(self, key: Any, heartbeat: bool, context: Mapping[str, Any]) -> str:
        """Check the key; a step of an answer restarts the clock of the call it answers."""
        if not isinstance(key, str) or not key:
            raise TypeError("the key of a message must be text")
        sender: str = context["from"]
        if heartbeat:
            call = self._host.caller.calls.get(key)
            if call is None or call.target != sender:
                raise KeyError(f"session does not exist anymore: {key}")
            call.heard = self._host.core.now
        return sender
