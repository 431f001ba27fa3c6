"""Turning what users register into services (python-client §5)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any, Final

from hypha_rpc.addresses import ServiceId, is_valid_service_name
from hypha_rpc.endpoint.exports import MAGIC_MEMBERS, Service
from hypha_rpc.objects import ObjectProxy
from hypha_rpc.schemas import service_schema

__all__ = ["announcement", "build_service", "local_id"]

_INFO: Final = ("name", "type", "description", "docs", "app_id", "service_schema")
_VISIBILITIES: Final = ("public", "protected", "unlisted")
_KEY: Final = re.compile(r"[0-9a-fA-F]{64}")


def build_service(source: Any, workspace: str, *, announce: bool) -> Service:
    """Check and convert what was given to ``register_service``; *source* is not changed.

    Args:
        source: a dictionary, an object whose public attributes are the members, or an `ObjectProxy`.
        workspace: recorded in the service's config.
        announce: whether the server shall know of it.

    Raises:
        ValueError: an id, visibility, list of workspaces or trusted key that cannot be.
        TypeError: a config that is no dictionary.
    """
    if source is None or isinstance(source, (str, bytes, int, float, list, tuple, set)):
        raise TypeError(f"a service is a dictionary with an 'id', or an object, not {type(source).__name__}")
    given = _members(source)
    for name in given:
        if not isinstance(name, str):
            raise TypeError(f"the names of a service's members must be text, not {type(name).__name__}: {name!r:.60}")
    service_id = given.pop("id", None)
    if service_id is None and isinstance(source, Mapping):
        raise ValueError("Service id not found: a service needs an 'id'")
    service_id = _own_name("default" if service_id is None else service_id)
    config = _config(given.pop("config", None), workspace)
    info: dict[str, Any] = {key: given.pop(key) for key in _INFO if key in given}
    info.setdefault("name", service_id)
    info.setdefault("type", "generic")
    members = _export(given)
    for path in _dotted(members):
        raise ValueError(f"the name {path!r} contains a dot and could not be called")
    if info.get("service_schema") is None:
        info["service_schema"] = service_schema(members, skip_context=bool(config.get("require_context")))
    return Service(service_id, members, config, info, announce=announce)


def _members(source: Any) -> dict[str, Any]:
    if isinstance(source, Mapping):
        return dict(dict.items(source)) if isinstance(source, dict) else dict(source.items())
    names = (name for name in dir(source) if not name.startswith("_") or name in MAGIC_MEMBERS)
    wanted = {name: getattr(source, name) for name in names}
    if inspect.isclass(source):
        raise TypeError(f"register an instance of {source.__name__}, not the class")
    # Object defaults that a plain object only has by Python's data model.
    return {name: value for name, value in wanted.items() if name not in MAGIC_MEMBERS or callable(value)}


def _export(node: Any) -> Any:
    """A copy of the interface: plain dicts and lists around the users' functions and values."""
    if isinstance(node, dict):
        return {
            key: _export(value)
            for key, value in dict.items(node)
            if isinstance(key, str) and (not key.startswith("_") or key in MAGIC_MEMBERS)
        }
    if type(node) in (list, tuple):
        return [_export(value) for value in node]
    return node


def _dotted(node: Any) -> list[str]:
    if not isinstance(node, dict):
        return []
    found = [key for key, value in node.items() if "." in key and (callable(value) or isinstance(value, dict))]
    for value in node.values():
        found.extend(_dotted(value))
    return found


def _own_name(service_id: Any) -> str:
    name = ServiceId.parse(service_id).name if isinstance(service_id, str) else service_id
    if not is_valid_service_name(name):
        raise ValueError(f"Invalid service id: {service_id!r}")
    return str(name)


def _config(given: Any, workspace: str) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"config must be a dictionary, not {type(given).__name__}")
    config = dict(dict.items(given)) if isinstance(given, dict) else dict(given or {})
    visibility = config.get("visibility", "protected")
    if visibility == "private":
        visibility = "protected"  # the older name (server §2.5)
    if visibility not in _VISIBILITIES:
        raise ValueError(f"visibility must be one of {', '.join(_VISIBILITIES)} (or private), not {visibility!r}")
    config["visibility"] = visibility
    _check_workspaces(config.get("authorized_workspaces"), visibility)
    for key in config.get("trusted_keys") or ():
        if not isinstance(key, str) or _KEY.fullmatch(key) is None:
            raise ValueError(f"Each trusted key must be a 64-char hex string, got {key!r:.80}")
    config["workspace"] = workspace
    return config


def _check_workspaces(workspaces: Any, visibility: str) -> None:
    if workspaces is None:
        return
    if visibility != "protected":
        raise ValueError(
            f"authorized_workspaces can only be set when visibility is 'protected', got visibility='{visibility}'"
        )
    if not isinstance(workspaces, (list, tuple)):
        raise ValueError(f"authorized_workspaces must be a list of workspace ids, got {type(workspaces).__name__}")
    for workspace in workspaces:
        if not isinstance(workspace, str):
            kind = type(workspace).__name__
            raise ValueError(f"Each workspace id in authorized_workspaces must be a string, got {kind}")


def announcement(service: Service, address: str, app_id: str) -> dict[str, Any]:
    """The description of *service* that goes to the server (protocol §6.2); functions stay here."""
    info = service.info
    return {
        "id": f"{address}:{service.id}",
        "name": info.get("name"),
        "type": info.get("type"),
        "description": info.get("description"),
        "docs": info.get("docs"),
        "app_id": app_id,
        "config": _sendable(service.config),
        "service_schema": info.get("service_schema"),
    }


def _sendable(node: Any) -> Any:
    """Config may hold objects of attribute access; the wire wants plain ones."""
    return node.toDict() if isinstance(node, ObjectProxy) else node


def local_id(service: Any, address: str) -> str:
    """The local id that *service* (an id in any form, or something with an ``id``) names.

    Raises:
        ValueError: it is a service of another client (X30), or no id at all.
    """
    given = service.get("id") if isinstance(service, dict) else service
    if not isinstance(given, str) or not given:
        raise ValueError("a service id, or a service with an 'id', is needed")
    parsed = ServiceId.parse(given)
    workspace, _, client = address.partition("/")
    if parsed.client not in (None, client) or parsed.workspace not in (None, workspace):
        raise ValueError(f"{given} is not a service of this client ({address})")
    return parsed.name
