"""The tables of the SQLite file and their versions.

`STEPS` grows at its end only: the number of a step is the version the file has
after it (``PRAGMA user_version``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from hypha.store.base import StoreError

__all__ = ["STEPS", "prepare"]

#: What makes a file of each version out of the one before.
STEPS: Final[Sequence[Sequence[str]]] = (
    (
        "CREATE TABLE record (kind TEXT NOT NULL, id TEXT NOT NULL, value BLOB NOT NULL, expires_at REAL,"
        " PRIMARY KEY (kind, id)) WITHOUT ROWID",
        "CREATE INDEX record_expiry ON record (expires_at) WHERE expires_at IS NOT NULL",
    ),
)


def prepare(connection: sqlite3.Connection, now: float) -> None:
    """Bring the file to the newest version and drop what has expired.

    Args:
        connection: to the file, outside of a transaction.
        now: seconds since the epoch.

    Raises:
        StoreError: the file was written by a newer server.
        sqlite3.Error: it cannot be read, or has to be written and cannot.
    """
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(STEPS):
        raise StoreError(
            f"The store has version {version}, this server knows {len(STEPS)}: "
            "it was written by a newer server. Use that one, or another --state-dir."
        )
    for number, step in enumerate(STEPS[version:], version + 1):
        _upgrade(connection, step, number)
    # On a full disk they stay, and whoever reads them knows their end as well.
    with suppress(sqlite3.OperationalError):
        connection.execute("DELETE FROM record WHERE expires_at < ?", (now,))


def _upgrade(connection: sqlite3.Connection, step: Sequence[str], number: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have been faster.
        if connection.execute("PRAGMA user_version").fetchone()[0] < number:
            for statement in step:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
