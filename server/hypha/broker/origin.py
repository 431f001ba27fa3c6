"""The identity of a sender, packed once and put on every frame it sends (protocol §2.4, security S1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from hypha_rpc.wire.frame import pack_pairs

__all__ = ["Identity", "Origin"]

_MAX_ABROAD = 64


class Identity(Protocol):
    """A user as far as the switch is concerned."""

    @property
    def id(self) -> str:
        """Its id."""

    def to_wire(self) -> dict[str, Any]:
        """The user info object."""

    def narrowed(self, *workspaces: str) -> Identity:
        """The user as told abroad."""


class Origin:
    """``from``, ``ws`` and ``user`` of one connection, ready to be appended to a header.

    Args:
        address: absolute address of the sender.
        workspace: its workspace.
        user: who it is.
    """

    __slots__ = ("_abroad", "address", "home", "name", "user", "workspace")

    def __init__(self, address: str, workspace: str, user: Identity) -> None:
        self.address = address
        self.workspace = workspace
        self.user = user
        self.home = self._packed(user.to_wire())
        self.name = pack_pairs({"from": address})
        self._abroad: dict[str, tuple[int, bytes]] = {}

    def stamp(self, workspace: str) -> tuple[int, bytes]:
        """The pairs for a receiver in *workspace*; abroad the user keeps the rights of both ends only."""
        if workspace == self.workspace:
            return self.home
        stamp = self._abroad.get(workspace)
        if stamp is None:
            if len(self._abroad) >= _MAX_ABROAD:
                self._abroad.clear()
            stamp = self._abroad[workspace] = self._packed(self.user.narrowed(self.workspace, workspace).to_wire())
        return stamp

    def _packed(self, user: Mapping[str, Any]) -> tuple[int, bytes]:
        return pack_pairs({"from": self.address, "ws": self.workspace, "user": user})
