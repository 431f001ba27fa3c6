"""The store in a SQLite file, on one thread of its own that alone touches it.

The file is private (security S21), in WAL mode, and every commit is on the disk
before its future is done. Changes that wait together are committed together.
A disk that is full or cannot be written fails the changes it concerns, with one
clear text, and is tried again with the next ones.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hypha.store.base import AlreadyThere, Change, Delete, DeleteBelow, Put, StoreError
from hypha.store.schema import prepare
from hypha.store.state import StateDirectory, StateError

__all__ = ["SqliteStore"]

_log = logging.getLogger("hypha.store")

_FILE: Final = "hypha.sqlite3"
_MAX_WAITING: Final = 10_000
_MAX_TOGETHER: Final = 256
_BUSY_S: Final = 5.0
_START_S: Final = 30.0
_CLOSE_S: Final = 5.0


@dataclass(slots=True)
class _Job:
    """Something for the thread to do, and who waits for it."""

    work: Callable[[sqlite3.Connection], Any]
    done: Callable[[Any, BaseException | None], None]
    writes: bool = False


@dataclass(slots=True)
class _Answer:
    """What a thread waits for at the start."""

    ready: threading.Event = field(default_factory=threading.Event)
    result: Any = None
    error: BaseException | None = None

    def settle(self, result: Any, error: BaseException | None) -> None:
        self.result, self.error = result, error
        self.ready.set()


class SqliteStore:
    """Records in a SQLite file (`Store`). Make it in a running loop.

    Args:
        state: the directory it is kept in.
        now: seconds since the epoch.

    Raises:
        StateError: the file cannot be used; the text says why.
    """

    def __init__(self, state: StateDirectory, *, now: Callable[[], float] = time.time) -> None:
        self._path = state.private_file(_FILE)
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.Queue[_Job | None] = queue.Queue(_MAX_WAITING)
        self._failing = False
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="hypha-store", daemon=True)
        self._thread.start()
        try:
            self._ask(lambda connection: prepare(connection, self._now()))
        except StoreError as error:
            self._stop()
            raise StateError(f"{self._path}: {error}") from error

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    # -- Store -------------------------------------------------------------------------

    def load(self, kind: str) -> Mapping[str, bytes]:
        """All records of *kind* by id; blocks.

        Raises:
            StoreError: they cannot be read.
        """
        found: list[tuple[str, bytes]] = self._ask(
            lambda connection: connection.execute("SELECT id, value FROM record WHERE kind = ?", (kind,)).fetchall()
        )
        return dict(found)

    async def get(self, kind: str, record_id: str) -> bytes | None:
        """One record, or None.

        Raises:
            StoreError: it cannot be read.
        """
        query = "SELECT value FROM record WHERE kind = ? AND id = ?"
        row = await self._submit(lambda connection: connection.execute(query, (kind, record_id)).fetchone())
        return None if row is None else bytes(row[0])

    def write(self, changes: Sequence[Change]) -> asyncio.Future[None]:
        """Make *changes*, all or none of them."""
        kept = tuple(changes)
        return self._submit(lambda connection: _make_all(connection, kept), writes=True)

    async def close(self) -> None:
        """Finish what waits, at most 5 s long."""
        if self._closed:
            return
        self._stop()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._thread.join, _CLOSE_S)
        if self._thread.is_alive():
            _log.error("%s does not respond: what was not written yet is lost", self._path)

    # -- the loop's side ---------------------------------------------------------------

    def _submit(self, work: Callable[[sqlite3.Connection], Any], *, writes: bool = False) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._closed:
            _settle(future, None, StoreError("The server's store cannot be used: the server is shutting down"))
            return future
        try:
            self._jobs.put_nowait(_Job(work, _Settler(self._loop, future), writes))
        except queue.Full:
            _settle(future, None, StoreError("The server's store cannot be used: the disk does not keep up"))
        return future

    def _ask(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        answer = _Answer()
        self._jobs.put(_Job(work, answer.settle), timeout=_START_S)
        if not answer.ready.wait(_START_S):
            raise StoreError("The server's store cannot be used: the disk does not respond")
        if answer.error is not None:
            raise answer.error
        return answer.result

    def _stop(self) -> None:
        self._closed = True
        with suppress(queue.Full):
            self._jobs.put_nowait(None)

    # -- the thread's side ---------------------------------------------------------------

    def _serve(self) -> None:
        connection: sqlite3.Connection | None = None
        try:
            while (batch := self._next()) is not None:
                try:
                    connection = connection or _open(self._path)
                except sqlite3.Error as error:
                    self._run_read_only(batch, error)
                else:
                    self._run(connection, batch)
        finally:
            if connection is not None:
                # The last close folds the log into the file; a full disk leaves it for the next start.
                with suppress(sqlite3.Error):
                    connection.close()

    def _next(self) -> list[_Job] | None:
        """The next job, with the writes that directly follow a write; None at the end."""
        if self._closed and self._jobs.empty():
            # The end could not be announced in a full queue.
            return None
        job = self._jobs.get()
        if job is None:
            return None
        batch = [job]
        while job.writes and len(batch) < _MAX_TOGETHER and self._write_follows():
            follower = self._jobs.get_nowait()
            assert follower is not None
            batch.append(follower)
        return batch

    def _write_follows(self) -> bool:
        with self._jobs.mutex:
            follower = self._jobs.queue[0] if self._jobs.queue else None
        return follower is not None and follower.writes

    def _run(self, connection: sqlite3.Connection, batch: list[_Job]) -> None:
        if len(batch) > 1 and self._together(connection, batch):
            return
        # Alone, so that each learns its own outcome.
        for job in batch:
            self._alone(connection, job)

    def _run_read_only(self, batch: list[_Job], error: sqlite3.Error) -> None:
        """The file cannot be opened for writing: what is in it can still be read."""
        if batch[0].writes:
            self._fail(batch, error)
            return
        connection: sqlite3.Connection | None = None
        try:
            connection = _open_to_read(self._path)
        except sqlite3.Error:
            self._fail(batch, error)
        else:
            self._run(connection, batch)
        finally:
            if connection is not None:
                connection.close()

    def _together(self, connection: sqlite3.Connection, batch: list[_Job]) -> bool:
        try:
            _transact(connection, [job.work for job in batch])
        except (sqlite3.Error, AlreadyThere):
            return False
        self._recovered()
        for job in batch:
            job.done(None, None)
        return True

    def _alone(self, connection: sqlite3.Connection, job: _Job) -> None:
        try:
            result = _transact(connection, [job.work])[0] if job.writes else job.work(connection)
        except sqlite3.Error as error:
            self._fail([job], error)
        except (AlreadyThere, StoreError) as error:
            job.done(None, error)
        else:
            if job.writes:
                self._recovered()
            job.done(result, None)

    def _fail(self, batch: list[_Job], error: sqlite3.Error) -> None:
        if not self._failing:
            # Once, not for each change: clients can make many.
            _log.error("cannot use %s: %s; what cannot be kept is refused", self._path, error)
        self._failing = True
        for job in batch:
            # Peers are told no paths (security S50).
            job.done(None, StoreError(f"The server's store cannot be used: {error}"))

    def _recovered(self) -> None:
        if self._failing:
            self._failing = False
            _log.warning("%s can be written again", self._path)


class _Settler:
    """Brings an outcome from the thread to a future of the loop."""

    __slots__ = ("_future", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> None:
        self._loop = loop
        self._future = future

    def __call__(self, result: Any, error: BaseException | None) -> None:
        # A loop that is closed has nobody left who waits.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_settle, self._future, result, error)


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
        # Nobody has to look at the outcome.
        future.exception()


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL: a commit survives the machine, not only the process. NORMAL would lose revocations with the power.
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _open_to_read(path: Path) -> sqlite3.Connection:
    """Open the file where WAL finds no room on the disk, which it needs even for reading.

    A log that a killed server has left holds changes that must not be overlooked,
    revoked tokens for instance. Who has the file for itself keeps the log's index in
    memory and needs no room.
    """
    log = path.with_name(f"{_FILE}-wal")
    whole = not log.exists() or log.stat().st_size == 0
    mode = "mode=ro&immutable=1" if whole else "mode=rw"
    connection = sqlite3.connect(f"{path.as_uri()}?{mode}", uri=True, isolation_level=None)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA query_only = ON")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _transact(connection: sqlite3.Connection, works: Sequence[Callable[[sqlite3.Connection], Any]]) -> list[Any]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        results = [work(connection) for work in works]
        connection.execute("COMMIT")
    except BaseException:
        # SQLite has rolled back by itself after some errors.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return results


def _make_all(connection: sqlite3.Connection, changes: Sequence[Change]) -> None:
    for change in changes:
        _make(connection, change)


def _make(connection: sqlite3.Connection, change: Change) -> None:
    match change:
        case Put():
            verb = "INSERT" if change.new else "INSERT OR REPLACE"
            values = (change.kind, change.id, change.value, change.expires_at)
            try:
                connection.execute(f"{verb} INTO record (kind, id, value, expires_at) VALUES (?, ?, ?, ?)", values)
            except sqlite3.IntegrityError as error:
                raise AlreadyThere(change.id) from error
        case Delete():
            connection.execute("DELETE FROM record WHERE kind = ? AND id = ?", (change.kind, change.id))
        case DeleteBelow():
            # A range, not LIKE: ids may hold its wildcards. No character sorts above the last.
            bounds = (change.kind, change.prefix, change.prefix + "\U0010ffff")
            connection.execute("DELETE FROM record WHERE kind = ? AND id >= ? AND id < ?", bounds)
