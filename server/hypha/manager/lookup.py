"""Finding services: ``get_service``, ``get_service_info`` (server §2.7)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from hypha.manager.core import Caller, ManagerCore
from hypha.manager.directory import Query, Record
from hypha.manager.modes import Chooser, seconds
from hypha.manager.visibility import visible
from hypha_rpc.case import convert_case
from hypha_rpc.endpoint import Reference
from hypha_rpc.errors import PeerGone

__all__ = ["LookupMethods"]

_DEFAULT_TIMEOUT_S: Final = 10.0
_WELL_KNOWN: Final = frozenset(
    {"hypha-login", "queue", "agent-skills", "server-apps", "artifact-manager", "s3-storage", "mcp"}
)
"""Services of the server: their bare names are not for others to answer to (security S13)."""


class LookupMethods:
    """Methods that find services.

    Args:
        core: what all methods share.
        itself: describes the manager's own service, for the query ``~``.
    """

    def __init__(self, core: ManagerCore, itself: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
        self._core = core
        self._itself = itself
        self._chooser = Chooser(core)

    async def get_service(
        self, service_id: str, config: dict[str, Any] | None = None, *, context: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Find a service and return it.

        Args:
            service_id: [workspace/][client:]name[@app]; ~ is the manager itself.
            config: mode, timeout, case_conversion, select_timeout.
        """
        options = _options(config)
        caller = self._core.caller(context)
        if service_id in ("~", f"{caller.workspace}/~"):
            service = self._itself(context)
        else:
            record = await self.choose(Query.parse(service_id, caller.workspace), options, caller)
            service = await self._fetch(record, caller, options)
        converted: dict[str, Any] = convert_case(service, options.get("case_conversion"))
        return converted

    async def get_service_info(
        self, service_id: str, config: dict[str, Any] | None = None, *, context: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Find a service and return its record.

        Args:
            service_id: [workspace/][client:]name[@app].
            config: mode, select_timeout; read_app_manifest is accepted for compatibility.
        """
        options = _options(config)
        caller = self._core.caller(context)
        if service_id in ("~", f"{caller.workspace}/~"):
            return {**self._itself(context), "id": "~"}
        record = await self.choose(Query.parse(service_id, caller.workspace), options, caller)
        return self.visible(record, caller)

    def visible(self, record: Record, caller: Caller) -> dict[str, Any]:
        """The record as *caller* may see it (security S12)."""
        return visible(record, caller, self._core)

    async def choose(self, query: Query, options: Mapping[str, Any], caller: Caller) -> Record:
        """The one record that *query* means to *caller*.

        Args:
            query: what is looked for.
            options: ``mode``, ``select_timeout``.
            caller: who looks.

        Raises:
            KeyError: there is none.
            PermissionError: there are some, but the caller may have none of them.
            AssertionError: there are several, and the mode is ``exact``.
        """
        mode = options.get("mode")
        if mode is not None and not isinstance(mode, str):
            raise TypeError(f"mode must be text, not {type(mode).__name__}")
        if query.workspace == "*":
            return await self._anywhere(query, mode, options)
        if query.bare and query.name in _WELL_KNOWN and query.workspace != "public":
            served = self._served_in_public(query, caller)
            if served:
                return await self._chooser.pick(served, mode or "random", query, options)
        found = self._core.directory.find(query)
        allowed = [record for record in found if self._admits(record, caller)]
        if allowed:
            usual = "random" if query.workspace == "public" else "exact"
            return await self._chooser.pick(allowed, mode or usual, query, options)
        if query.bare:
            return await self._elsewhere(query, mode, options, caller)
        if found:
            # Raises: what was found is protected, and nothing admits the caller.
            self._core.check(caller, "get_service.protected", query.workspace)
        raise KeyError(f"Service not found: {query}")

    def _admits(self, record: Record, caller: Caller) -> bool:
        if record.visibility in ("public", "unlisted") or caller.workspace in record.authorized:
            return True
        return self._core.allows(caller, "get_service.protected", record.workspace)

    def _served_in_public(self, query: Query, caller: Caller) -> list[Record]:
        found = self._core.directory.find(Query("public", "*", query.name, query.app))
        return [record for record in found if record.name != "built-in" and self._admits(record, caller)]

    async def _elsewhere(self, query: Query, mode: str | None, options: Mapping[str, Any], caller: Caller) -> Record:
        """A bare name that the own workspace does not know: workspace ``public``, then public services anywhere."""
        served = self._served_in_public(query, caller)
        if served:
            return await self._chooser.pick(served, mode or "random", query, options)
        if not self._core.settings.global_name_lookup or query.name in _WELL_KNOWN:
            raise KeyError(f"Service not found: {query}")
        return await self._anywhere(query, mode, options)

    async def _anywhere(self, query: Query, mode: str | None, options: Mapping[str, Any]) -> Record:
        """Public services of connected clients in all workspaces; without a mode the one registered last."""
        connected = self._core.router.connections
        found = [record for record in self._core.directory.find_public(query) if record.address in connected]
        if not found:
            raise KeyError(f"Service not found: {query}")
        return await self._chooser.pick(found, mode or "last", query, options)

    async def _fetch(self, record: Record, caller: Caller, options: Mapping[str, Any]) -> dict[str, Any]:
        """The service object of the provider, completed (protocol §6.4)."""
        if record.address not in self._core.router.connections:
            raise PeerGone(f"Target peer {record.address} is not connected", may_have_run=False)
        reference = Reference(record.address, "services.built-in.get_service", promise=True)
        timeout_s = seconds(options.get("timeout"), _DEFAULT_TIMEOUT_S)
        try:
            async with asyncio.timeout(timeout_s):
                service = await self._core.peers.ask(reference, record.name)
        except TimeoutError as error:
            raise TimeoutError(f"Method call timed out: {record.address} did not return {record.name}") from error
        if not isinstance(service, dict):
            raise TypeError(f"{record.address} did not return a service")
        given = service.get("config")
        config = dict(given) if isinstance(given, dict) else {}
        config.update(workspace=record.workspace, url=self._url(record))
        if not self._core.may_read(caller, record.workspace):
            config.pop("authorized_workspaces", None)
        return {**service, "id": record.id, "config": config}

    def _url(self, record: Record) -> str:
        return f"{self._core.public_url}/{record.workspace}/services/{record.client}:{record.name}"


def _options(config: Any) -> dict[str, Any]:
    if config is None:
        return {}
    if not isinstance(config, dict):
        raise TypeError(f"config must be a map, not {type(config).__name__}")
    return config
