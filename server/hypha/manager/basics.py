"""The everyday methods: echo, subscriptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hypha.manager.core import Caller, ManagerCore

__all__ = ["BasicMethods"]

_MAX_NAME: Final = 512


class BasicMethods:
    """Methods that need no state of their own.

    Args:
        core: what all methods share.
    """

    def __init__(self, core: ManagerCore) -> None:
        self._core = core

    def echo(self, data: Any, *, context: Mapping[str, Any]) -> Any:
        """Return what was sent.

        Args:
            data: anything.
        """
        self._core.check(self._core.caller(context), "echo")
        return data

    def subscribe(self, event_type: str | list[str], *, context: Mapping[str, Any]) -> bool:
        """Receive broadcasts of these types.

        Args:
            event_type: a name, or a list of names.
        """
        core = self._core
        caller = core.caller(context)
        names = self._own_events(caller, event_type)
        connection = caller.connection
        if connection is None:
            raise RuntimeError(f"Connection not found for client {caller.address}")
        limit = core.settings.limits.max_subscriptions
        if len(connection.subscriptions | set(names)) > limit:
            raise ValueError(f"a client can subscribe to at most {limit} event types")
        connection.subscriptions.update(names)
        return True

    def unsubscribe(self, event_type: str | list[str], *, context: Mapping[str, Any]) -> bool:
        """Receive broadcasts of these types no more.

        Args:
            event_type: a name, or a list of names.
        """
        caller = self._core.caller(context)
        names = self._own_events(caller, event_type)
        if caller.connection is not None:
            caller.connection.subscriptions.difference_update(names)
        return True

    def _own_events(self, caller: Caller, event_type: Any) -> list[str]:
        """The names in *event_type*, none of which belongs to another workspace (server §2.12)."""
        names = _names(event_type)
        for name in names:
            workspace = _workspace_named(name)
            if workspace is not None and workspace != caller.workspace:
                raise ValueError(f"Subscription to event '{name:.200}' is forbidden. It belongs to another workspace.")
            self._core.check(caller, "subscribe", subject=name)
        return names


def _names(event_type: Any) -> list[str]:
    names = [event_type] if isinstance(event_type, str) else event_type
    if not isinstance(names, list) or not all(isinstance(name, str) and 0 < len(name) <= _MAX_NAME for name in names):
        raise ValueError("event_type must be a name or a list of names")
    return names


def _workspace_named(name: str) -> str | None:
    """The workspace that an event name belongs to by its form (server §2.12), or None."""
    if "/" in name:
        return name.partition("/")[0]
    return name.partition(":")[0] if name.startswith("ws-") else None
