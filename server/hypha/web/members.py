"""What is at a path of a service: a function, a value, or nothing (server §5.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hypha.manager.core import ManagerCore
from hypha.manager.directory import Record
from hypha_rpc.endpoint import Reference
from hypha_rpc.errors import PeerGone

__all__ = ["Function", "Members", "described"]

_FETCH_S: Final = 10.0
_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a service.

    Attributes:
        path: where it is, by dots.
        schema: JSON schema of its parameters, or None.
    """

    path: str
    schema: Mapping[str, Any] | None = None


class Members:
    """Looks into services: into their registered description first, which costs nothing.

    Args:
        core: the registry, and the way to ask a provider.
    """

    def __init__(self, core: ManagerCore) -> None:
        self._core = core

    async def at(self, record: Record, path: Sequence[str]) -> Any:
        """What *record*'s service has at *path*.

        Returns:
            A `Function`, or the value.

        Raises:
            KeyError: there is nothing.
            PeerGone: the provider has left.
        """
        found = described(record, path)
        return found if found is not None else await self._asked(record, path)

    async def _asked(self, record: Record, path: Sequence[str]) -> Any:
        if record.address not in self._core.router.connections:
            raise PeerGone(f"Target peer {record.address} is not connected", may_have_run=False)
        reference = Reference(record.address, "services.built-in.get_service", promise=True)
        async with asyncio.timeout(_FETCH_S):
            node = await self._core.peers.ask(reference, record.name)
        for part in path:
            node = _child(node, part)
            if node is _MISSING:
                raise KeyError(f"{'.'.join(path)} not found.")
        wire = getattr(node, "__rpc_object__", None)
        if not isinstance(wire, dict):
            return node
        return Function(".".join(path), _parameters(wire.get("_rschema")))


def described(record: Record, path: Sequence[str]) -> Function | None:
    """The function at *path* by the registered description, or None if that does not tell."""
    node: Any = record.info.get("service_schema")
    for part in path:
        node = _child(node, part)
        if node is _MISSING:
            return None
    if isinstance(node, dict) and node.get("type") == "function" and isinstance(node.get("function"), dict):
        return Function(".".join(path), _parameters(node["function"]))
    return None


def _child(node: Any, part: str) -> Any:
    """By key or index, never by attribute (security S6)."""
    if part.startswith("_"):
        return _MISSING
    if isinstance(node, Mapping):
        return node.get(part, _MISSING)
    if isinstance(node, (list, tuple)) and part.isascii() and part.isdigit() and len(part) < 10:
        return node[int(part)] if int(part) < len(node) else _MISSING
    return _MISSING


def _parameters(schema: Any) -> Mapping[str, Any] | None:
    parameters = schema.get("parameters") if isinstance(schema, dict) else None
    return parameters if isinstance(parameters, dict) else None
