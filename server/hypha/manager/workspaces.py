"""Workspaces: which there are, whose they are, when they go (server §2.2)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hypha.auth.admission import Admission
from hypha.auth.identity import User, home_of
from hypha.auth.permissions import SYSTEM_WORKSPACES

__all__ = ["Workspace", "WorkspaceTable"]


@dataclass(slots=True, eq=False)
class Workspace:
    """One workspace and what is kept in it.

    Attributes:
        environment: variables of ``set_env``.
        service_types: types of ``register_service_type``.
        bookmarks: of ``bookmark``.
    """

    id: str
    name: str
    description: str | None = None
    persistent: bool = False
    owners: list[str] = field(default_factory=list)
    read_only: bool = False
    icon: str | None = None
    covers: Any = None
    docs: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    service_types: dict[str, dict[str, Any]] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    bookmarks: list[dict[str, Any]] = field(default_factory=list)

    def change(self, values: Mapping[str, Any]) -> None:
        """Set attributes by their names."""
        for name, value in values.items():
            setattr(self, name, value)

    def info(self, *, environs: bool = False, emails: bool = False) -> dict[str, Any]:
        """The workspace info of server §2.2.

        Args:
            environs: with the variables of ``set_env``.
            emails: with the owners' e-mail addresses.
        """
        config = dict(self.config)
        if self.bookmarks:
            config["bookmarks"] = list(self.bookmarks)
        if environs and self.environment:
            config["environs"] = dict(self.environment)
        return {
            "type": "workspace",
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "persistent": self.persistent,
            "owners": self.shown_owners(emails=emails),
            "read_only": self.read_only,
            "icon": self.icon,
            "covers": self.covers,
            "docs": self.docs,
            "service_types": dict(self.service_types),
            "config": config,
            "status": {"ready": True, "errors": None},
        }

    def entry(self, *, emails: bool = False) -> dict[str, Any]:
        """The short form of ``list_workspaces`` (server §3.1)."""
        return {
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "read_only": self.read_only,
            "persistent": self.persistent,
            "owners": self.shown_owners(emails=emails),
        }

    def shown_owners(self, *, emails: bool) -> list[str]:
        """The owners; e-mail addresses only with *emails* (security S12)."""
        return [owner for owner in self.owners if emails or "@" not in owner]


class WorkspaceTable:
    """The workspaces of this server."""

    def __init__(self) -> None:
        self._workspaces: dict[str, Workspace] = {}
        for name in sorted(SYSTEM_WORKSPACES):
            self.add(Workspace(name, name, persistent=True, owners=["root"], read_only=name == "public"))

    def __iter__(self) -> Iterator[Workspace]:
        return iter(list(self._workspaces.values()))

    def __len__(self) -> int:
        return len(self._workspaces)

    def get(self, workspace_id: str) -> Workspace | None:
        """The workspace of this id."""
        return self._workspaces.get(workspace_id)

    def exists(self, workspace_id: str) -> bool:
        """Whether there is a workspace of this id."""
        return workspace_id in self._workspaces

    def owners(self, workspace_id: str) -> Collection[str]:
        """Ids and e-mails of its owners."""
        workspace = self._workspaces.get(workspace_id)
        return workspace.owners if workspace is not None else ()

    def add(self, workspace: Workspace) -> None:
        """Store *workspace*."""
        self._workspaces[workspace.id] = workspace

    def remove(self, workspace_id: str) -> Workspace | None:
        """Forget a workspace."""
        return self._workspaces.pop(workspace_id, None)

    def enter(self, admission: Admission) -> Workspace | None:
        """Create the home of an admitted user if it is missing; returns what was created."""
        if admission.creates_for is None or self.exists(admission.workspace):
            return None
        return self.home(admission.user)

    def goes_when_empty(self, workspace_id: str) -> bool:
        """Whether the workspace ends with its last client."""
        workspace = self._workspaces.get(workspace_id)
        return workspace is not None and not workspace.persistent and workspace_id not in SYSTEM_WORKSPACES

    @staticmethod
    def home_id(user: User) -> str:
        """Id of the home of *user*, or of the user its token comes from."""
        return home_of(user.parent or user.id)

    def home(self, user: User) -> Workspace:
        """That home; created when missing."""
        name = self.home_id(user)
        workspace = self._workspaces.get(name)
        if workspace is None:
            workspace = Workspace(name, name, persistent=not user.is_anonymous, owners=[user.parent or user.id])
            self.add(workspace)
        return workspace

    def owned_by(self, user_id: str) -> list[Workspace]:
        """What *user_id* is named an owner of, its home left out."""
        home = home_of(user_id)
        return [workspace for workspace in self if user_id in workspace.owners and workspace.id != home]
