"""Addresses and service ids: parse, format, complete.

::

    address      workspace/client                     ws-user-alice/prov      */manager-srv1
    service id   workspace/client:name@app            every part but the name is optional

Pure text; nothing here knows about connections. Grammar: spec server §2.1,
protocol §6.4; limits: security S10.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["ServiceId", "absolute", "is_valid_client_id", "is_valid_service_name", "workspace_of"]

_CLIENT_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}")
_SERVICE_NAME = re.compile(r"[^/:@*.\s][^/:@*.]{0,127}")


class ServiceId(NamedTuple):
    """A parsed service id or query; absent parts are None."""

    workspace: str | None
    client: str | None
    name: str
    app: str | None

    @classmethod
    def parse(cls, text: str) -> ServiceId:
        """Parse ``[workspace/][client:]name[@app]``.

        Raises:
            AssertionError: when a separator occurs twice (the class is what
                existing programs see, server §2.1).
        """
        for separator in "/:@":
            if text.count(separator) > 1:
                raise AssertionError(f"Service id must contain at most one '{separator}'")
        workspace, slash, rest = text.rpartition("/")
        rest, _, app = rest.partition("@")
        client, colon, name = rest.rpartition(":")
        return cls(workspace if slash else None, client if colon else None, name, app or None)

    def __str__(self) -> str:
        text = self.name
        if self.client is not None:
            text = f"{self.client}:{text}"
        if self.workspace is not None:
            text = f"{self.workspace}/{text}"
        return f"{text}@{self.app}" if self.app is not None else text


def absolute(address: str, workspace: str) -> str:
    """Complete a relative *address* (no slash) with *workspace* (protocol §3.1)."""
    return address if "/" in address else f"{workspace}/{address}"


def workspace_of(address: str) -> str:
    """The workspace part of an absolute *address*."""
    return address.partition("/")[0]


def is_valid_client_id(client_id: object) -> bool:
    """Whether *client_id* is one our server admits (security S10)."""
    return isinstance(client_id, str) and _CLIENT_ID.fullmatch(client_id) is not None


def is_valid_service_name(name: object) -> bool:
    """Whether *name* can be registered and called (server §2.1)."""
    return isinstance(name, str) and _SERVICE_NAME.fullmatch(name) is not None
