"""Listing services (server §2.10)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from hypha.auth.permissions import Verdict
from hypha.manager.core import Caller, ManagerCore
from hypha.manager.directory import Record
from hypha.manager.visibility import shown_abroad, visible
from hypha_rpc.addresses import ServiceId

__all__ = ["ListingMethods"]

_PARTS: Final = ("workspace", "visibility", "client_id", "service_id", "type", "app_id")
_KEYS: Final = frozenset({*_PARTS, "id"})
# Letters of any script, and what else client ids, service ids and workspaces may hold (security S10, server §2.1).
_PART: Final = re.compile(r"[\w/|*.@+\- ]*")
_MAX_PART: Final = 512


class ListingMethods:
    """``list_services``, ``search_services``.

    Args:
        core: what all methods share.
    """

    def __init__(self, core: ManagerCore) -> None:
        self._core = core

    def list_services(
        self,
        query: dict[str, Any] | str | None = None,
        include_unlisted: bool = False,
        include_app_services: bool = False,
        prioritize_running_services: bool = False,
        *,
        context: Mapping[str, Any],
    ) -> list[dict[str, Any]]:
        """List services.

        Args:
            query: a workspace, a service id with wildcards, or a map of visibility, workspace, client_id, service_id,
                type, app_id.
            include_unlisted: also those with visibility 'unlisted', in the own workspace.
            include_app_services: accepted for compatibility.
            prioritize_running_services: accepted for compatibility.
        """
        core = self._core
        caller = core.caller(context)
        pattern = _pattern(query, caller.workspace)
        workspace = pattern["workspace"]
        if "*" in workspace:
            records = self._everywhere(pattern, caller, include_unlisted)
        else:
            records = self._within(workspace, caller, include_unlisted)
        return [visible(record, caller, core) for record in records if _matches(record, pattern)]

    def search_services(
        self,
        query: str | None = None,
        filters: dict[str, Any] | None = None,
        limit: int = 5,
        offset: int = 0,
        return_fields: list[str] | None = None,
        order_by: str | None = None,
        pagination: bool = False,
        include_unlisted: bool = False,
        *,
        context: Mapping[str, Any],
    ) -> list[dict[str, Any]]:
        """Search services by meaning; this server does not have it.

        Args:
            query: what to look for.
            filters: values that the services must have.
            limit: how many to return at most.
            offset: how many to skip.
            return_fields: only these fields.
            order_by: field to sort by.
            pagination: with the number of all.
            include_unlisted: also those with visibility 'unlisted'.
        """
        self._core.check(self._core.caller(context), "search_services")
        raise RuntimeError("Service search is not enabled.")

    def _within(self, workspace: str, caller: Caller, include_unlisted: bool) -> list[Record]:
        core = self._core
        if include_unlisted:
            if workspace != caller.workspace:
                raise PermissionError(
                    f"Cannot include unlisted services from workspace {workspace}. "
                    f"Only services from your current workspace ({caller.workspace}) can include unlisted services."
                )
            core.check(caller, "list_services.unlisted", workspace)
        verdict = core.check(caller, "list_services", workspace)
        public_only = verdict is Verdict.PUBLIC_ONLY
        found = []
        for record in core.directory.of_workspace(workspace):
            if record.visibility == "unlisted" and not include_unlisted:
                continue
            if public_only and not shown_abroad(record, caller.workspace):
                continue
            found.append(record)
        return found

    def _everywhere(self, pattern: Mapping[str, str], caller: Caller, include_unlisted: bool) -> list[Record]:
        if include_unlisted:
            raise ValueError("Cannot include unlisted services when searching all workspaces.")
        if pattern["visibility"] in ("protected", "unlisted"):
            raise PermissionError("Cannot list protected or unlisted services in all workspaces.")
        own = caller.workspace
        return [
            record
            for record in self._core.directory
            if (record.workspace == own and record.visibility != "unlisted") or shown_abroad(record, own)
        ]


def _pattern(query: Any, workspace: str) -> dict[str, str]:
    pattern: dict[str, str] = dict.fromkeys(_PARTS, "*")
    pattern["workspace"] = workspace
    if isinstance(query, str) and query:
        pattern.update(_from_text(query, workspace))
    elif isinstance(query, dict):
        pattern.update(_from_map(query))
    elif query is not None and query != "":
        raise TypeError(f"a query must be text or a map, not {type(query).__name__}")
    for part in pattern.values():
        if len(part) > _MAX_PART or _PART.fullmatch(part) is None:
            raise ValueError(f"Invalid characters in query part: {part:.200}")
    return pattern


def _from_text(query: str, workspace: str) -> dict[str, str]:
    if "/" not in query and ":" not in query:
        return {"workspace": query}
    parsed = ServiceId.parse(query)
    return {
        "workspace": parsed.workspace or workspace,
        "client_id": parsed.client or "*",
        "service_id": parsed.name or "*",
        "app_id": parsed.app or "*",
    }


def _from_map(query: dict[str, Any]) -> dict[str, str]:
    unknown = set(query) - _KEYS
    if unknown:
        raise ValueError(f"Invalid query keys: {unknown!r:.200}")
    if "id" in query and "service_id" in query:
        raise ValueError("Cannot specify both 'id' and 'service_id' in the query.")
    chosen = {("service_id" if key == "id" else key): value for key, value in query.items() if value is not None}
    if not all(isinstance(value, str) for value in chosen.values()):
        raise TypeError("the values of a query must be text")
    if chosen.get("visibility") == "private":
        chosen["visibility"] = "protected"
    return chosen


def _matches(record: Record, pattern: Mapping[str, str]) -> bool:
    return (
        _fits(record.workspace, pattern["workspace"])
        and _fits(record.visibility, pattern["visibility"])
        and _fits(record.client, pattern["client_id"])
        and _fits(record.name, pattern["service_id"])
        and _fits(str(record.info.get("type")), pattern["type"])
        and _fits(record.app_id, pattern["app_id"])
    )


def _fits(text: str, pattern: str) -> bool:
    """Whether *text* is *pattern* with something for each ``*``; in linear time, for patterns come from strangers."""
    if "*" not in pattern:
        return text == pattern
    first, *middle, last = pattern.split("*")
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True
