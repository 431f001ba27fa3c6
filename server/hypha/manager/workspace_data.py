"""What is kept in a workspace: variables, types of services, bookmarks (server §3.1, §3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hypha.manager.core import Caller, ManagerCore
from hypha.manager.directory import Query
from hypha.manager.lookup import LookupMethods
from hypha.manager.values import packed_size
from hypha.manager.workspaces import Workspace

__all__ = ["WorkspaceDataMethods"]

_MAX_KEY: Final = 256
_MAX_ENTRIES: Final = 1000
_BOOKMARK_TYPES: Final = ("workspace", "service")
_TYPE_KEYS: Final = ("id", "name", "definition", "description", "config", "docs")
_BOOKMARK_KEYS: Final = ("id", "name", "description")


class WorkspaceDataMethods:
    """Methods that keep things in a workspace.

    Args:
        core: what all methods share.
        lookup: finds the service that a bookmark names.
    """

    def __init__(self, core: ManagerCore, lookup: LookupMethods) -> None:
        self._core = core
        self._lookup = lookup

    # -- variables -----------------------------------------------------------------

    async def set_env(self, key: str, value: Any, *, context: Mapping[str, Any]) -> None:
        """Set a variable of the caller's workspace.

        Args:
            key: its name.
            value: its value; null deletes it.
        """
        caller = self._core.caller(context)
        self._core.check(caller, "set_env")
        workspace = self._core.workspace(caller.workspace)
        environment = workspace.environment
        if not isinstance(key, str) or not 0 < len(key) <= _MAX_KEY:
            raise ValueError(f"the name of a variable must be text of 1 to {_MAX_KEY} characters")
        if value is None:
            environment.pop(key, None)
            await self._core.keeper.keep_variable(workspace, key)
            return
        limits = self._core.settings.limits
        if packed_size(value, "the value of a variable") > limits.max_env_value:
            raise ValueError(f"the value of a variable may have at most {limits.max_env_value} bytes")
        if key not in environment and len(environment) >= limits.max_env_variables:
            raise ValueError(f"a workspace may have at most {limits.max_env_variables} variables")
        environment[key] = value
        await self._core.keeper.keep_variable(workspace, key)

    def get_env(self, key: str | None = None, *, context: Mapping[str, Any]) -> Any:
        """Return a variable of the caller's workspace, or all of them.

        Args:
            key: its name; all if not given.
        """
        caller = self._core.caller(context)
        self._core.check(caller, "get_env")
        environment = self._core.workspace(caller.workspace).environment
        if key is None:
            return dict(environment)
        if key not in environment:
            raise KeyError(f"Environment variable '{key!s:.256}' not found in workspace {caller.workspace}")
        return environment[key]

    # -- types of services -----------------------------------------------------------

    async def register_service_type(self, type_info: dict[str, Any], *, context: Mapping[str, Any]) -> dict[str, Any]:
        """Register a type of services in the caller's workspace.

        Args:
            type_info: id, name, definition, and optionally description, config, docs.
        """
        caller = self._core.caller(context)
        self._core.check(caller, "register_service_type")
        entry = _service_type(type_info, self._core.settings.limits.max_service_record)
        workspace = self._core.workspace(caller.workspace)
        types = workspace.service_types
        if entry["id"] in types:
            raise KeyError(f"Service type already exists: {entry['id']}")
        if len(types) >= _MAX_ENTRIES:
            raise ValueError(f"a workspace may have at most {_MAX_ENTRIES} service types")
        types[entry["id"]] = entry
        await self._core.keeper.keep_type(workspace, entry["id"])
        return entry

    def get_service_type(self, type_id: str, *, context: Mapping[str, Any]) -> dict[str, Any]:
        """Return a type of services.

        Args:
            type_id: its id, with or without the workspace.
        """
        core = self._core
        caller = core.caller(context)
        if not isinstance(type_id, str):
            raise TypeError(f"type_id must be text, not {type(type_id).__name__}")
        head, slash, name = type_id.rpartition("/")
        where = head if slash else caller.workspace
        workspace = core.workspaces.get(where)
        found = workspace.service_types.get(name) if workspace is not None else None
        if found is None or not _is_public(found):
            # Nobody without a right learns which types there are.
            core.check(caller, "get_service_type", where)
        if found is None:
            raise KeyError(f"Service type not found: {type_id:.256}")
        return {**found, "id": f"{where}/{name}"}

    def list_service_types(self, workspace: str | None = None, *, context: Mapping[str, Any]) -> list[dict[str, Any]]:
        """List the types of services of a workspace.

        Args:
            workspace: its id; the caller's own if not given.
        """
        core = self._core
        caller = core.caller(context)
        found = core.workspaces.get(workspace or caller.workspace)
        types = list(found.service_types.values()) if found is not None else []
        if found is None or not core.allows(caller, "list_service_types", found.id):
            types = [entry for entry in types if _is_public(entry)]
            if not types:
                core.check(caller, "list_service_types", workspace)
        return types

    # -- bookmarks -------------------------------------------------------------------

    async def bookmark(self, item: dict[str, Any], *, context: Mapping[str, Any]) -> None:
        """Remember a workspace or a service in the caller's own workspace.

        Args:
            item: bookmark_type ('workspace' or 'service') and id.
        """
        caller = self._core.caller(context)
        home = self._home(caller, "bookmark")
        kind, wanted = _bookmark(item)
        entry = await self._described(kind, wanted, caller)
        kept = [other for other in home.bookmarks if not _names(other, kind, entry["id"])]
        if len(kept) >= _MAX_ENTRIES:
            raise ValueError(f"a user may have at most {_MAX_ENTRIES} bookmarks")
        home.bookmarks[:] = [*kept, entry]
        await self._core.keeper.keep_bookmarks(home)

    async def unbookmark(self, item: dict[str, Any], *, context: Mapping[str, Any]) -> None:
        """Forget a bookmark.

        Args:
            item: bookmark_type ('workspace' or 'service') and id.
        """
        caller = self._core.caller(context)
        home = self._home(caller, "unbookmark")
        kind, wanted = _bookmark(item)
        # What was bookmarked may be gone, so its id is compared as text, short or complete.
        home.bookmarks[:] = [
            other
            for other in home.bookmarks
            if not _names(other, kind, wanted) and not (kind == "service" and _means(other, wanted, caller))
        ]
        await self._core.keeper.keep_bookmarks(home)

    def _home(self, caller: Caller, action: str) -> Workspace:
        home = self._core.workspaces.home_id(caller.user)
        self._core.check(caller, action, home)
        return self._core.workspaces.home(caller.user)

    async def _described(self, kind: str, wanted: str, caller: Caller) -> dict[str, Any]:
        core = self._core
        if kind == "workspace":
            workspace = core.workspace(wanted)
            core.check(caller, "get_workspace_info", workspace.id)
            marked = workspace.entry()
        else:
            marked = (await self._lookup.choose(Query.parse(wanted, caller.workspace), {}, caller)).info
        return {"bookmark_type": kind, **{key: marked.get(key) for key in _BOOKMARK_KEYS}}


def _service_type(type_info: Any, limit: int) -> dict[str, Any]:
    if not isinstance(type_info, Mapping):
        raise ValueError("a service type must be a map")
    entry: dict[str, Any] = {key: type_info.get(key) for key in _TYPE_KEYS}
    entry["config"] = entry["config"] or {}
    for key in ("id", "name"):
        if not isinstance(entry[key], str) or not 0 < len(entry[key]) <= _MAX_KEY:
            raise ValueError(f"the {key} of a service type must be text of 1 to {_MAX_KEY} characters")
    if "/" in entry["id"]:
        raise ValueError("the id of a service type has no '/'")
    for key in ("definition", "config"):
        if not isinstance(entry[key], dict):
            raise ValueError(f"the {key} of a service type must be a map")
    if packed_size(entry, "a service type") > limit:
        raise ValueError(f"a service type may have at most {limit} bytes")
    return entry


def _is_public(service_type: Mapping[str, Any]) -> bool:
    return bool(service_type["config"].get("visibility") == "public")


def _bookmark(item: Any) -> tuple[str, str]:
    if not isinstance(item, Mapping):
        raise ValueError("a bookmark must be a map")
    kind, wanted = item.get("bookmark_type"), item.get("id")
    if not kind:
        raise AssertionError("Bookmark type must be provided.")
    if kind not in _BOOKMARK_TYPES:
        raise ValueError(f"Invalid bookmark type: {kind!s:.80}")
    if not isinstance(wanted, str) or not wanted:
        raise ValueError("a bookmark needs the id of what it marks")
    return str(kind), wanted


def _names(bookmark: Mapping[str, Any], kind: str, wanted: str) -> bool:
    return bool(bookmark["bookmark_type"] == kind and bookmark["id"] == wanted)


def _means(bookmark: Mapping[str, Any], wanted: str, caller: Caller) -> bool:
    """Whether the service query *wanted* fits a bookmarked service id."""
    marked, query = Query.parse(bookmark["id"], ""), Query.parse(wanted, caller.workspace)
    if bookmark["bookmark_type"] != "service" or marked.name != query.name:
        return False
    return query.client in ("*", marked.client) and (query.bare or query.workspace == marked.workspace)
