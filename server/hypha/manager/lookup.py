"""Finding services: ``get_service``, ``get_service_info`` (server §2.7)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any, Final

from hypha.auth import permissions
from hypha.manager.core import Caller, ManagerCore
from hypha.manager.directory import Query, Record
from hypha_rpc.endpoint import Reference
from hypha_rpc.errors import PeerGone

__all__ = ["LookupMethods"]

_DEFAULT_TIMEOUT_S: Final = 10.0
_MAX_TIMEOUT_S: Final = 600.0
_SELECT_TIMEOUT_S: Final = 2.0
_HIDDEN: Final = ("authorized_workspaces",)
_MODES: Final = "'random', 'first', 'last', 'exact', 'min_load', 'native:random'"


class LookupMethods:
    """Methods that find services."""

    def __init__(self, core: ManagerCore, itself: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
        self._core = core
        self._itself = itself

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
            return self._itself(context)
        record = await self.choose(Query.parse(service_id, caller.workspace), options, caller)
        service = await self._fetch(record, caller, options)
        from hypha_rpc.case import convert_case

        converted: dict[str, Any] = convert_case(service, options.get("case_conversion"))
        return converted

    def _readable(self, records: list[Record], caller: Caller) -> list[Record]:
        return [record for record in records if self._admits(record, caller)]

    def _admits(self, record: Record, caller: Caller) -> bool:
        if record.visibility != "protected" or caller.workspace in record.authorized:
            return True
        return self._core.may_read(caller, record.workspace)

    async def choose(self, query: Query, options: Mapping[str, Any], caller: Caller) -> Record:
        """The one record that *query* means to *caller*.

        Raises:
            KeyError: there is none.
            PermissionError: there are some, but the caller may have none of them.
            AssertionError: there are several, and the mode is ``exact``.
        """
        found = self._candidates(query)
        allowed = self._readable(found, caller)
        if not allowed and query.bare:
            allowed = self._elsewhere(query)
        if not allowed:
            if found and not query.bare:
                raise PermissionError(f"Permission denied for non-public service in workspace {query.workspace}")
            raise KeyError(f"Service not found: {query}")
        mode = options.get("mode") or ("random" if query.workspace == "public" else "exact")
        if query.bare and allowed[0].workspace != query.workspace:
            return allowed[0]
        return await self._pick(allowed, str(mode), query, options)

    def _candidates(self, query: Query) -> list[Record]:
        if query.workspace == "*":
            return self._core.directory.find_public(query)
        return self._core.directory.find(query)

    def _elsewhere(self, query: Query) -> list[Record]:
        """A bare name: workspace ``public``, then public services anywhere, the newest living one first."""
        directory = self._core.directory
        found = [
            record
            for record in directory.find(Query("public", "*", query.name, query.app))
            if record.visibility != "protected"
        ]
        if found or not self._core.settings.global_name_lookup:
            return found
        return [record for record in directory.find_public(query) if record.address in self._core.router.connections]

    async def _pick(self, records: list[Record], mode: str, query: Query, options: Mapping[str, Any]) -> Record:
        if mode == "exact":
            if len(records) > 1:
                keys = [_key(record) for record in records[:5]]
                raise AssertionError(
                    f"Multiple services found for {query.workspace}/{query.client}:{query.name}, e.g. {keys}. "
                    "You can either specify the mode as 'random', 'first', 'last', 'native:random', "
                    "or use 'select:criteria:function' format."
                )
            return records[0]
        if mode == "first":
            return records[0]
        if mode == "last":
            return records[-1]
        if mode in ("random", "native:random"):
            return random.choice(records)
        if mode == "min_load":
            return min(records, key=lambda record: record.order)
        if mode.startswith("select:"):
            return await self._select(records, mode, options)
        raise ValueError(
            f"Invalid mode: {mode}. Mode must be {_MODES}, or 'select:criteria:function' format (e.g., 'select:min:get_load')"
        )

    async def _select(self, records: list[Record], mode: str, options: Mapping[str, Any]) -> Record:
        """Ask every candidate at once; those that fail are skipped; none left: any."""
        parts = mode.split(":")
        if len(parts) != 3 or not parts[2]:
            raise ValueError(f"Invalid select mode format: {mode}. Expected 'select:criteria:function'")
        _, criteria, function = parts
        if criteria not in ("min", "max", "first_success"):
            raise ValueError(f"Unknown selection criteria: {criteria}")
        timeout = _seconds(options.get("select_timeout"), _SELECT_TIMEOUT_S)
        answers = await asyncio.gather(
            *(self._ask(record, function, timeout) for record in records), return_exceptions=True
        )
        good = [(answer, record) for answer, record in zip(answers, records, strict=True) if _usable(answer, criteria)]
        if not good:
            return random.choice(records)
        if criteria == "first_success":
            return good[0][1]
        best = min if criteria == "min" else max
        return best(good, key=lambda pair: float(pair[0]))[1]  # type: ignore[arg-type]

    async def _ask(self, record: Record, function: str, timeout: float) -> Any:
        reference = Reference(record.address, f"services.{record.name}.{function}")
        return await asyncio.wait_for(self._core.peers.ask(reference), timeout)

    async def _fetch(self, record: Record, caller: Caller, options: Mapping[str, Any]) -> dict[str, Any]:
        """The service object of the provider, completed (protocol §6.4)."""
        if record.address not in self._core.router.connections:
            raise PeerGone(f"Target peer {record.address} is not connected", may_have_run=False)
        reference = Reference(record.address, "services.built-in.get_service", promise=True)
        timeout = _seconds(options.get("timeout"), _DEFAULT_TIMEOUT_S)
        service = await asyncio.wait_for(self._core.peers.ask(reference, record.name), timeout)
        if not isinstance(service, dict):
            raise TypeError(f"{record.address} did not return a service")
        config = dict(service.get("config") or {})
        config.update(workspace=record.workspace, url=self._url(record))
        if not self._core.may_read(caller, record.workspace):
            for key in _HIDDEN:
                config.pop(key, None)
        return {**service, "id": record.id, "config": config}

    def _url(self, record: Record) -> str:
        return f"{self._core.public_url}/{record.workspace}/services/{record.client}:{record.name}"

    async def get_service_info(
        self, service_id: str, config: dict[str, Any] | None = None, *, context: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Find a service and return its record.

        Args:
            service_id: [workspace/][client:]name[@app].
            config: mode, select_timeout.
        """
        options = _options(config)
        caller = self._core.caller(context)
        if service_id in ("~", f"{caller.workspace}/~"):
            return {**self._itself(context), "id": "~"}
        record = await self.choose(Query.parse(service_id, caller.workspace), options, caller)
        return self.visible(record, caller)

    def visible(self, record: Record, caller: Caller) -> dict[str, Any]:
        """The record as *caller* may see it: abroad without who made it and who else may use it (security S12)."""
        if self._core.may_read(caller, record.workspace):
            owners = self._core.owners(record.workspace)
            if record.name != "built-in" or permissions.has_right(caller.user, record.workspace, "a", owners):
                return record.info
            created_by = {"id": (record.config.get("created_by") or {}).get("id")}
            return {**record.info, "config": {**record.config, "created_by": created_by}}
        hidden = ("created_by", *_HIDDEN)
        return {**record.info, "config": {key: value for key, value in record.config.items() if key not in hidden}}


def _options(config: Any) -> dict[str, Any]:
    if config is None:
        return {}
    if not isinstance(config, dict):
        raise TypeError(f"config must be a map, not {type(config).__name__}")
    return config


def _seconds(value: Any, default: float) -> float:
    if value is None:
        return default
    if not isinstance(value, (int, float)) or not value > 0:
        raise ValueError(f"a timeout must be a number above 0, not {value!r:.80}")
    return min(float(value), _MAX_TIMEOUT_S)


def _usable(answer: Any, criteria: str) -> bool:
    if isinstance(answer, BaseException):
        return False
    return criteria == "first_success" or (isinstance(answer, (int, float)) and answer == answer)


def _key(record: Record) -> str:
    kind = record.info.get("type")
    return f"services:{record.visibility}|{kind}:{record.workspace}/{record.client}:{record.name}@{record.app_id}"
