"""What a caller may see of a service record (security S12, server §2.4).

Decides nothing by itself: rights come from the core, which asks
`hypha.auth.permissions`.
"""

from __future__ import annotations

from typing import Any, Final

from hypha.manager.core import Caller, ManagerCore
from hypha.manager.directory import Record

__all__ = ["BUILT_IN", "HIDDEN_ABROAD", "shown_abroad", "visible"]

BUILT_IN: Final = "built-in"
"""Name of the service that every client has."""

HIDDEN_ABROAD: Final = ("created_by", "authorized_workspaces")
"""Members of a config that only those with a right in the workspace see."""


def visible(record: Record, caller: Caller, core: ManagerCore) -> dict[str, Any]:
    """The record as *caller* may see it.

    Abroad it lacks who made it and who else may use it; who exactly a client is
    (e-mail, roles, scopes) is shown from `a` up.
    """
    if not core.may_read(caller, record.workspace):
        config = {key: value for key, value in record.config.items() if key not in HIDDEN_ABROAD}
        return {**record.info, "config": config}
    if record.name != BUILT_IN or core.has_right(caller, record.workspace, "a"):
        return record.info
    created_by = {"id": record.config["created_by"]["id"]}
    return {**record.info, "config": {**record.config, "created_by": created_by}}


def shown_abroad(record: Record, workspace: str) -> bool:
    """Whether somebody in *workspace*, without rights at the record's, finds it in a list."""
    if record.name == BUILT_IN or record.name.endswith("-rtc"):
        return False
    return record.visibility == "public" or (record.visibility == "protected" and workspace in record.authorized)
