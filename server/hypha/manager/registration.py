"""Registering and withdrawing services (server §2.8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgpack

from hypha.manager.core import Caller, ManagerCore
from hypha.manager.directory import Query, Record
from hypha_rpc.addresses import ServiceId, is_valid_service_name

__all__ = ["RegistrationMethods"]

_VISIBILITIES: Final = ("public", "protected", "unlisted")
_BUILT_IN: Final = "built-in"
_MAX_DESCRIPTION: Final = 1024


class RegistrationMethods:
    """``register_service`` and ``unregister_service``."""

    def __init__(self, core: ManagerCore) -> None:
        self._core = core

    def register_service(
        self, service: dict[str, Any], config: dict[str, Any] | None = None, *, context: Mapping[str, Any]
    ) -> None:
        """Register a service of the caller.

        Args:
            service: its description: id, name, type, config, service_schema.
            config: options.
        """
        core = self._core
        caller = core.caller(context)
        core.check(caller, "register_service")
        if not isinstance(service, dict):
            raise TypeError(f"a service description must be a map, not {type(service).__name__}")
        parsed = self._identity(service, caller)
        given = service.get("config")
        if not isinstance(given, dict):
            raise TypeError("the config of a service must be a map")
        if given.get("_local_only") or parsed.name.startswith("_rintf_"):
            return
        record = self._record(parsed, service, given, caller)
        if record.name == _BUILT_IN:
            self._introduce(record, caller)
            return
        if caller.connection is None or not caller.connection.exists:
            return
        self._check_quota(record, caller)
        self._check_singleton(record)
        former = core.directory.add(record)
        if former is not None:
            core.publish(record.workspace, "service_removed", record.info)
        core.publish(record.workspace, "service_added", record.info)

    def _identity(self, service: dict[str, Any], caller: Caller) -> ServiceId:
        text = service.get("id")
        if not isinstance(text, str) or ":" not in text:
            raise ValueError("Service id info must contain ':'")
        parsed = ServiceId.parse(text)
        workspace = parsed.workspace or caller.workspace
        if workspace != caller.workspace:
            raise PermissionError(
                f"Service ID workspace prefix '{workspace}' does not match the current workspace '{caller.workspace}'. "
                "Cannot register services in other workspaces."
            )
        if not is_valid_service_name(parsed.name):
            raise ValueError(f"Invalid service id: {parsed.name!r:.200}")
        own = caller.address.partition("/")[2]
        if parsed.client != own:
            self._core.check(caller, "register_service.foreign", subject=text)
        return ServiceId(workspace, own, parsed.name, None)

    def _record(self, parsed: ServiceId, service: dict[str, Any], given: dict[str, Any], caller: Caller) -> Record:
        config = dict(given)
        visibility = config.get("visibility", "protected")
        config["visibility"] = "protected" if visibility == "private" else visibility
        _check_config(config)
        description = service.get("description")
        if description is not None and (not isinstance(description, str) or len(description) > _MAX_DESCRIPTION):
            raise ValueError(f"description must be text of at most {_MAX_DESCRIPTION} characters")
        app_id = service.get("app_id") or "*"
        if not isinstance(app_id, str) or "/" in app_id:
            raise ValueError("app_id must be text without '/'")
        user = caller.user
        config.update(
            workspace=parsed.workspace, created_by=user.to_wire() if parsed.name == _BUILT_IN else {"id": user.id}
        )
        for key, default in (("require_context", False), ("flags", []), ("singleton", False)):
            config.setdefault(key, default)
        config.setdefault("service_embedding", None)
        config.setdefault("authorized_workspaces", None)
        info = {key: value for key, value in service.items() if not key.startswith("_")}
        info.update(
            id=f"{parsed.workspace}/{parsed.client}:{parsed.name}",
            name=service.get("name") or parsed.name,
            type=service.get("type") or "generic",
            description=description,
            docs=service.get("docs"),
            app_id=app_id,
            service_schema=service.get("service_schema") or {},
            config=config,
        )
        limit = self._core.settings.limits.max_service_record
        if len(msgpack.packb(info)) > limit:
            raise ValueError(f"the description of a service may have at most {limit} bytes")
        workspace, client = str(parsed.workspace), str(parsed.client)
        return Record(info["id"], workspace, client, parsed.name, info, self._core.server_id)

    def _introduce(self, record: Record, caller: Caller) -> None:
        """The built-in service: from now on the client exists (protocol §1.9)."""
        core, connection = self._core, caller.connection
        if connection is None:
            return
        former = core.directory.add(record)
        connection.exists = True
        data: dict[str, Any] = {"id": caller.address, "workspace": caller.workspace}
        if caller.address in core.presence.resumed:
            data["resumed"] = True
        kind = "client_connected" if former is None or "resumed" in data else "client_updated"
        core.publish(caller.workspace, kind, data, about=caller.address)
        if "resumed" in data:
            for peer in connection.abroad:
                core.router.tell(peer, "client_connected", data, about=caller.address)

    def _check_quota(self, record: Record, caller: Caller) -> None:
        core = self._core
        limit = core.settings.limits.max_services_per_client
        count = len(core.directory.of_client(caller.address))
        if count >= limit and core.directory.get(record.id) is None:
            raise RuntimeError(
                f"Service quota exceeded: client {record.client} already has {count} services (max {limit}). "
                "Remove unused services before registering new ones."
            )

    def _check_singleton(self, record: Record) -> None:
        others = [found for found in self._core.directory.named(record.name, record.workspace) if found.id != record.id]
        if others and (record.config["singleton"] or any(found.config.get("singleton") for found in others)):
            raise ValueError(
                f"A singleton service with the same name ({record.name}) already exists in the workspace "
                f"({record.workspace}), please remove it first or use a different name."
            )

    def unregister_service(self, service_id: str, *, context: Mapping[str, Any]) -> None:
        """Withdraw a service.

        Args:
            service_id: its id; a bare name means the caller's own service first.
        """
        core = self._core
        caller = core.caller(context)
        core.check(caller, "unregister_service")
        query = Query.parse(service_id, caller.workspace)
        found = [record for record in core.directory.find(query) if record.workspace == caller.workspace]
        own = [record for record in found if record.address == caller.address]
        if query.client == "*" and own:
            found = own
        if not found:
            raise KeyError(f"Service not found: {query}")
        if len(found) > 1:
            raise AssertionError(f"Multiple services found for {query}, e.g. {[record.id for record in found[:5]]}")
        record = found[0]
        if record.address != caller.address:
            core.check(caller, "unregister_service.other")
        core.directory.remove(record.id)
        core.publish(record.workspace, "service_removed", record.info)


def _check_config(config: dict[str, Any]) -> None:
    visibility, workspaces = config["visibility"], config.get("authorized_workspaces")
    if visibility not in _VISIBILITIES:
        raise ValueError(f"visibility must be one of {', '.join(_VISIBILITIES)}, not {visibility!r:.80}")
    if workspaces is None:
        return
    if visibility != "protected":
        raise ValueError(
            f"authorized_workspaces can only be set when visibility is 'protected', got visibility='{visibility}'"
        )
    if not isinstance(workspaces, list):
        raise ValueError("authorized_workspaces must be a list")
    for workspace in workspaces:
        if not isinstance(workspace, str):
            kind = type(workspace).__name__
            raise ValueError(f"Each workspace id in authorized_workspaces must be a string, got {kind}")
