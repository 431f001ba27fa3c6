"""What ``create_workspace`` is given: checked and brought into form (server §3.1, security S10).

Pure: it knows names, not who asks or what exists.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hypha.manager.values import packed_size

__all__ = ["WorkspaceRequest", "check_name"]

_NAME: Final = re.compile(r"[a-z0-9|-]{1,128}")
_MAX_TEXT: Final = 4096
_MAX_CONFIG: Final = 64 * 1024
_MAX_OWNERS: Final = 100
#: First words of the server's own routes that a workspace name could have (server §1.4).
_ROUTES: Final = frozenset({"api-docs", "api-redoc"})
_RESERVED: Final = ("ws-user-", "ws-anonymous")
# These live in places of their own and are not for `create_workspace` to write.
_KEPT_ELSEWHERE: Final = frozenset({"environs", "bookmarks"})


def check_name(name: str, mounts: Collection[str] = ()) -> None:
    """Let *name* be the id of a new workspace, or raise.

    Args:
        name: the id asked for.
        mounts: first path segments of the operator's static mounts.

    Raises:
        ValueError: it is malformed or reserved.
    """
    if "-" not in name:
        raise ValueError("Workspace name must contain at least one hyphen (e.g. my-workspace).")
    if _NAME.fullmatch(name) is None:
        raise ValueError(
            f"Invalid workspace name: {name:.128}, only lowercase letters, numbers and hyphens are allowed."
        )
    if name.startswith(_RESERVED) or name in _ROUTES or name in mounts:
        raise ValueError(f"Invalid workspace name: {name}, it is reserved.")


@dataclass(frozen=True, slots=True)
class WorkspaceRequest:
    """A checked ``config``; None for what was not given."""

    id: str
    name: str | None
    description: str | None
    persistent: bool | None
    read_only: bool | None
    owners: tuple[str, ...] | None
    icon: str | None
    covers: Any
    docs: Any
    config: dict[str, Any] | None

    @classmethod
    def parse(cls, config: Any) -> WorkspaceRequest:
        """Check the form of *config*; members without a meaning are ignored.

        Raises:
            ValueError: a member has the wrong form, or no id was given.
        """
        if not isinstance(config, Mapping):
            raise ValueError("config must be a map")
        if packed_size(dict(config), "the config of a workspace") > _MAX_CONFIG:
            raise ValueError(f"the config of a workspace may have at most {_MAX_CONFIG} bytes")
        name = _text(config, "name")
        workspace_id = _text(config, "id") or name
        if not workspace_id:
            raise ValueError("Workspace id must be provided.")
        return cls(
            workspace_id,
            name,
            _text(config, "description"),
            _flag(config, "persistent"),
            _flag(config, "read_only"),
            _owners(config.get("owners")),
            _text(config, "icon"),
            config.get("covers"),
            config.get("docs"),
            _options(config.get("config")),
        )

    def given(self) -> dict[str, Any]:
        """What is to be set in the record, the id and the owners aside."""
        names = ("name", "description", "persistent", "read_only", "icon", "covers", "docs", "config")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def _text(config: Mapping[str, Any], name: str) -> str | None:
    value = config.get(name)
    if value is not None and (not isinstance(value, str) or len(value) > _MAX_TEXT):
        raise ValueError(f"{name} must be text of at most {_MAX_TEXT} characters")
    return value


def _flag(config: Mapping[str, Any], name: str) -> bool | None:
    value = config.get(name)
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false")
    return value


def _owners(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or len(value) > _MAX_OWNERS:
        raise ValueError(f"owners must be a list of at most {_MAX_OWNERS} user ids or e-mail addresses")
    if not all(isinstance(owner, str) and 0 < len(owner) <= 320 for owner in value):
        raise ValueError("owners must be user ids or e-mail addresses")
    return tuple(dict.fromkeys(value))


def _options(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError("config of a workspace must be a map")
    return {key: item for key, item in value.items() if key not in _KEPT_ELSEWHERE}
