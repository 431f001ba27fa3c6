"""Which services exist and who answers to them: the registry and the resolution of names (server §2.4-2.7).

Pure state: it knows nothing of sockets, tokens or time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from hypha_rpc.addresses import ServiceId

__all__ = ["Directory", "Query", "Record"]


@dataclass(slots=True, eq=False)
class Record:
    """One registered service.

    Attributes:
        id: ``workspace/client:name``.
        info: the record as clients see it (server §2.4).
        server_id: the process that holds the provider's connection.
        order: grows with every registration.
    """

    id: str
    workspace: str
    client: str
    name: str
    info: dict[str, Any]
    server_id: str
    order: int = 0

    @property
    def config(self) -> dict[str, Any]:
        """The service's config."""
        config: dict[str, Any] = self.info["config"]
        return config

    @property
    def visibility(self) -> str:
        """``public``, ``protected`` or ``unlisted``."""
        return str(self.config.get("visibility", "protected"))

    @property
    def authorized(self) -> Iterable[str]:
        """Workspaces that may use it though it is protected."""
        return self.config.get("authorized_workspaces") or ()

    @property
    def app_id(self) -> str:
        """The application it belongs to; ``*`` for none."""
        return str(self.info.get("app_id") or "*")

    @property
    def address(self) -> str:
        """The provider's address."""
        return f"{self.workspace}/{self.client}"


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for, completed: every part is literal or ``*``.

    Attributes:
        bare: nothing but a name was given, so that other workspaces may be searched.
    """

    workspace: str
    client: str
    name: str
    app: str
    bare: bool = False

    @classmethod
    def parse(cls, text: Any, workspace: str) -> Query:
        """Complete the query *text* of a caller in *workspace* (protocol §6.4).

        Raises:
            AssertionError: it is no service id, or a wildcard.
        """
        if not isinstance(text, str) or not text or text == "*":
            raise AssertionError(f"Invalid service id: {text!r:.200}, it cannot be a wildcard.")
        parsed = ServiceId.parse(text)
        if parsed.name == "*":
            raise AssertionError(f"Invalid service id: {text!r:.200}, it cannot be a wildcard.")
        bare = parsed.workspace is None and parsed.client is None
        return cls(parsed.workspace or workspace, parsed.client or "*", parsed.name, parsed.app or "*", bare)

    def __str__(self) -> str:
        return f"{self.workspace}/{self.client}:{self.name}@{self.app}"


class Directory:
    """The registry of one process."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._by_workspace: dict[str, dict[str, Record]] = {}
        self._by_name: dict[str, dict[str, Record]] = {}
        # Names such as `built-in` occur once a client: a look into one workspace must not walk through all.
        self._by_local_name: dict[str, dict[str, Record]] = {}
        self._by_client: dict[str, dict[str, Record]] = {}
        self._order = itertools.count(1)

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(list(self._records.values()))

    def get(self, record_id: str) -> Record | None:
        """The record of exactly this id."""
        return self._records.get(record_id)

    def add(self, record: Record) -> Record | None:
        """Store *record*; returns the one it replaces."""
        former = self.remove(record.id)
        record.order = next(self._order)
        self._records[record.id] = record
        for index, key in self._places(record):
            index.setdefault(key, {})[record.id] = record
        return former

    def remove(self, record_id: str) -> Record | None:
        """Forget a record; returns it."""
        record = self._records.pop(record_id, None)
        if record is not None:
            for index, key in self._places(record):
                entries = index[key]
                del entries[record_id]
                if not entries:
                    del index[key]
        return record

    def remove_client(self, address: str) -> list[Record]:
        """Forget everything a client registered."""
        return [record for record_id in list(self._by_client.get(address, ())) if (record := self.remove(record_id))]

    def of_client(self, address: str) -> list[Record]:
        """What a client registered, in that order."""
        return list(self._by_client.get(address, {}).values())

    def of_workspace(self, workspace: str) -> list[Record]:
        """What is registered in a workspace, in that order."""
        return list(self._by_workspace.get(workspace, {}).values())

    def named(self, name: str, workspace: str | None = None) -> list[Record]:
        """Services of this name, of one workspace or of all, in the order of registration."""
        if workspace is None:
            return list(self._by_name.get(name, {}).values())
        return list(self._by_local_name.get(f"{workspace}/{name}", {}).values())

    def find(self, query: Query) -> list[Record]:
        """The records that match *query* in its workspace, in the order of registration."""
        return [
            record
            for record in self.named(query.name, query.workspace)
            if query.client in ("*", record.client) and query.app in ("*", record.app_id)
        ]

    def find_public(self, query: Query) -> list[Record]:
        """Public services that match *query* in any workspace, in the order of registration (server §2.7)."""
        return [
            record
            for record in self.named(query.name)
            if record.visibility == "public"
            and record.name != "built-in"
            and query.client in ("*", record.client)
            and query.app in ("*", record.app_id)
        ]

    def _places(self, record: Record) -> tuple[tuple[dict[str, dict[str, Record]], str], ...]:
        return (
            (self._by_workspace, record.workspace),
            (self._by_name, record.name),
            (self._by_local_name, f"{record.workspace}/{record.name}"),
            (self._by_client, record.address),
        )
