"""Registering and withdrawing services (server §2.8)."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, Final

from hypha.broker.connections import Connection
from hypha.manager.core import Caller, ManagerCore
from hypha.manager.directory import Query, Record
from hypha.manager.values import packed_size
from hypha.manager.visibility import BUILT_IN
from hypha_rpc.addresses import ServiceId, is_valid_service_name
from hypha_rpc.endpoint import Reference

__all__ = ["RegistrationMethods"]

_VISIBILITIES: Final = ("public", "protected", "unlisted")
_MAX_DESCRIPTION: Final = 1024
_DEFAULTS: Final[Mapping[str, Any]] = {
    "visibility": "protected",
    "require_context": False,
    "flags": [],
    "singleton": False,
    "service_embedding": None,
    "authorized_workspaces": None,
}


class RegistrationMethods:
    """``register_service`` and ``unregister_service``.

    Args:
        core: what all methods share.
    """

    def __init__(self, core: ManagerCore) -> None:
        self._core = core

    def register_service(
        self, service: dict[str, Any], config: dict[str, Any] | None = None, *, context: Mapping[str, Any]
    ) -> Awaitable[None] | None:
        """Register a service of the caller.

        Args:
            service: its description: id, name, type, config, service_schema.
            config: accepted for compatibility.
        """
        core = self._core
        caller = core.caller(context)
        core.check(caller, "register_service")
        if not isinstance(service, dict):
            raise TypeError(f"a service description must be a map, not {type(service).__name__}")
        parsed = self._identity(service, caller)
        given = service.get("config") or {}
        if not isinstance(given, dict):
            raise TypeError("the config of a service must be a map")
        connection = caller.connection
        if given.get("_local_only") or parsed.name.startswith("_rintf_") or connection is None:
            return None
        record = self._record(parsed, service, given, caller)
        if record.name == BUILT_IN:
            self._introduce(record, connection)
            return None
        if not connection.exists:
            return None
        self._check_quota(record, caller)
        self._check_singleton(record)
        return self._store(record)

    def _store(self, record: Record) -> Awaitable[None] | None:
        core = self._core
        former = core.directory.add(record)
        if former is not None:
            core.publish(record.workspace, "service_removed", record.info)
        core.publish(record.workspace, "service_added", record.info)
        if former is None and record.name == "default" and "setup" in record.info["service_schema"]:
            # The registration counts as done when the application has set itself up.
            return core.peers.ask(Reference(record.address, "services.default.setup"))
        return None

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
        return ServiceId(workspace, own, parsed.name, parsed.app)

    def _record(self, parsed: ServiceId, service: dict[str, Any], given: dict[str, Any], caller: Caller) -> Record:
        user = caller.user
        config = {**_DEFAULTS, **given}
        if config["visibility"] == "private":
            config["visibility"] = "protected"
        _check_config(config)
        config["workspace"] = parsed.workspace
        config["created_by"] = user.to_wire() if parsed.name == BUILT_IN else {"id": user.id}
        info = {key: value for key, value in service.items() if not key.startswith("_")}
        info.update(
            id=f"{parsed.workspace}/{parsed.client}:{parsed.name}",
            name=service.get("name") or parsed.name,
            type=service.get("type") or "generic",
            description=service.get("description"),
            docs=service.get("docs"),
            app_id=service.get("app_id") or parsed.app or "*",
            service_schema=service.get("service_schema") or {},
            config=config,
        )
        _check_info(info)
        limit = self._core.settings.limits.max_service_record
        if packed_size(info, "the description of a service") > limit:
            raise ValueError(f"the description of a service may have at most {limit} bytes")
        workspace, client = str(parsed.workspace), str(parsed.client)
        return Record(info["id"], workspace, client, parsed.name, info, self._core.server_id)

    def _introduce(self, record: Record, connection: Connection) -> None:
        """The built-in service: from now on the client exists (protocol §1.9)."""
        core = self._core
        address = connection.address
        known = core.directory.add(record)
        core.load.start(address, connection.frames, core.clock())
        connection.exists = True
        data: dict[str, Any] = {"id": address, "workspace": connection.workspace}
        # It is the first introduction after a resumption that brings the news.
        resumed = address in core.presence.resumed
        core.presence.resumed.discard(address)
        if resumed:
            data["resumed"] = True
        kind = "client_connected" if known is None or resumed else "client_updated"
        core.publish(connection.workspace, kind, data, about=address)
        if resumed:
            for peer in connection.abroad:
                core.router.tell(peer, "client_connected", data, about=address)

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
        if query.workspace != caller.workspace:
            core.check(caller, "unregister_service.other", query.workspace)
        found = core.directory.find(query)
        own = [record for record in found if record.address == caller.address]
        if query.client == "*" and own:
            found = own
        if not found:
            raise KeyError(f"Service not found: {query}")
        if len(found) > 1:
            raise AssertionError(f"Multiple services found for {query}, e.g. {[record.id for record in found[:5]]}")
        record = found[0]
        if record.address != caller.address:
            core.check(caller, "unregister_service.other", record.workspace)
        core.directory.remove(record.id)
        if record.name == BUILT_IN and (owner := core.router.connections.get(record.address)) is not None:
            # Without it the client does not exist for others (protocol §1.9).
            owner.exists = False
        core.publish(record.workspace, "service_removed", record.info)


def _check_info(info: dict[str, Any]) -> None:
    description, app_id = info["description"], info["app_id"]
    if description is not None and (not isinstance(description, str) or len(description) > _MAX_DESCRIPTION):
        raise ValueError(f"description must be text of at most {_MAX_DESCRIPTION} characters")
    for key in ("name", "type", "app_id"):
        if not isinstance(info[key], str):
            raise ValueError(f"{key} must be text")
    if "/" in app_id:
        raise ValueError("app_id must be text without '/'")
    if not isinstance(info["service_schema"], dict):
        raise ValueError("service_schema must be a map")


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
