"""Both stores keep the same promises; the one on disk keeps them over restarts and full disks."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hypha.store import AlreadyThere, Delete, DeleteBelow, MemoryStore, Put, Store, StoreError, kept
from hypha.store import base as store_base
from hypha.store import sqlite as sqlite_store
from hypha.store.schema import STEPS
from hypha.store.sqlite import SqliteStore
from hypha.store.state import StateDirectory, StateError

NOW = 1_800_000_000.0


def opened(folder: Path, now: float = NOW) -> SqliteStore:
    return SqliteStore(StateDirectory(folder), now=lambda: now)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else opened(folder)
    yield made
    await made.close()


class TestBothStores:
    async def test_a_record_is_found_by_kind_and_id(self, store: Store) -> None:
        await kept(store.write([Put("a", "x", b"1"), Put("b", "x", b"2")]))
        assert store.load("a") == {"x": b"1"}
        assert await store.get("b", "x") == b"2"
        assert await store.get("b", "y") is None

    async def test_the_last_write_of_a_record_counts(self, store: Store) -> None:
        for value in range(300):
            last = store.write([Put("a", "x", str(value).encode())])
        await kept(last)
        assert await store.get("a", "x") == b"299"

    async def test_a_record_that_must_be_new_replaces_none(self, store: Store) -> None:
        await kept(store.write([Put("a", "x", b"1", new=True)]))
        with pytest.raises(AlreadyThere):
            await kept(store.write([Put("a", "x", b"2", new=True)]))
        assert await store.get("a", "x") == b"1"

    async def test_changes_are_made_all_or_none(self, store: Store) -> None:
        await kept(store.write([Put("a", "x", b"1")]))
        with pytest.raises(AlreadyThere):
            await kept(store.write([Put("a", "y", b"2"), Put("a", "x", b"3", new=True)]))
        assert store.load("a") == {"x": b"1"}

    async def test_one_failing_write_does_not_fail_its_neighbours(self, store: Store) -> None:
        await kept(store.write([Put("a", "taken", b"1")]))
        writes = [store.write([Put("a", name, b"2", new=True)]) for name in ("one", "taken", "two")]
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [type(None), AlreadyThere, type(None)]
        assert set(store.load("a")) == {"taken", "one", "two"}

    async def test_deleting_below_a_prefix_leaves_the_others(self, store: Store) -> None:
        ids = ["w/a", "w/b%", "w-2/a", "w0", "v/a"]
        await kept(store.write([Put("k", name, b"") for name in ids]))
        await kept(store.write([DeleteBelow("k", "w/"), Delete("k", "nobody")]))
        assert set(store.load("k")) == {"w-2/a", "w0", "v/a"}

    async def test_closing_twice_is_harmless(self, store: Store) -> None:
        await store.close()
        await store.close()


class TestOnDisk:
    async def test_what_was_written_is_there_after_a_restart(self, folder: Path) -> None:
        first = opened(folder)
        await kept(first.write([Put("a", "x", b"\x00\xff")]))
        await first.close()
        second = opened(folder)
        assert second.load("a") == {"x": b"\x00\xff"}
        await second.close()

    async def test_what_was_begun_before_the_end_is_finished(self, folder: Path) -> None:
        first = opened(folder)
        for value in range(500):
            first.write([Put("a", str(value), b"")])
        await first.close()
        second = opened(folder)
        assert len(second.load("a")) == 500
        await second.close()

    async def test_the_files_are_private(self, folder: Path) -> None:
        store = opened(folder)
        await kept(store.write([Put("a", "x", b"1")]))
        modes = modes_in(folder)
        assert modes == dict.fromkeys(("hypha.sqlite3", "hypha.sqlite3-wal", "hypha.sqlite3-shm"), 0o600)
        await store.close()

    async def test_a_file_that_others_may_read_is_refused(self, folder: Path) -> None:
        await opened(folder).close()
        os.chmod(folder / "hypha.sqlite3", 0o644)
        with pytest.raises(StateError, match="open to others"):
            opened(folder)

    async def test_expired_records_are_gone_after_a_restart(self, folder: Path) -> None:
        first = opened(folder)
        await kept(first.write([Put("a", "old", b"", expires_at=NOW - 1), Put("a", "new", b"", expires_at=NOW + 1)]))
        await first.close()
        second = opened(folder)
        assert set(second.load("a")) == {"new"}
        await second.close()

    async def test_a_file_of_a_newer_server_is_refused_with_its_version(self, folder: Path) -> None:
        await opened(folder).close()
        with sqlite3.connect(folder / "hypha.sqlite3") as connection:
            connection.execute(f"PRAGMA user_version = {len(STEPS) + 7}")
        connection.close()
        before = threading.active_count()
        with pytest.raises(StateError, match=f"version {len(STEPS) + 7}.*newer server"):
            opened(folder)
        await wait_for(lambda: threading.active_count() <= before)

    async def test_what_is_no_database_is_refused(self, folder: Path) -> None:
        StateDirectory(folder)
        path = folder / "hypha.sqlite3"
        path.write_bytes(b"x" * 4096)
        path.chmod(0o600)
        with pytest.raises(StateError, match="not a database"):
            opened(folder)

    async def test_two_processes_share_a_file(self, folder: Path) -> None:
        one, two = opened(folder), opened(folder)
        await kept(one.write([Put("a", "x", b"1", new=True)]))
        assert await two.get("a", "x") == b"1"
        with pytest.raises(AlreadyThere):
            await kept(two.write([Put("a", "x", b"2", new=True)]))
        await one.close()
        await two.close()

    async def test_after_closing_every_write_is_refused(self, folder: Path) -> None:
        store = opened(folder)
        await store.close()
        with pytest.raises(StoreError, match="shutting down"):
            await kept(store.write([Put("a", "x", b"")]))
        assert not any(thread.name == "hypha-store" for thread in threading.enumerate())


class TestAFullDisk:
    async def test_who_needs_it_gets_one_clear_error_and_all_goes_on_when_there_is_room(
        self, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        store = opened(folder)
        await kept(store.write([Put("a", "before", b"1")]))
        await limit_pages(store, 8)
        with caplog.at_level(logging.WARNING, "hypha.store"):
            for _ in range(3):
                with pytest.raises(StoreError, match="store cannot be used: database or disk is full") as refused:
                    await kept(store.write([Put("a", "big", b"x" * 100_000)]))
                assert str(folder) not in str(refused.value)
            assert await store.get("a", "before") == b"1"
            assert [record.levelname for record in caplog.records] == ["ERROR"]
            await limit_pages(store, 100_000)
            await kept(store.write([Put("a", "big", b"x" * 100_000)]))
            assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
        await store.close()

    async def test_a_small_change_beside_a_big_one_still_fits(self, folder: Path) -> None:
        store = opened(folder)
        await limit_pages(store, 8)
        big, small = store.write([Put("a", "big", b"x" * 100_000)]), store.write([Put("a", "small", b"1")])
        outcomes = await asyncio.gather(big, small, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [StoreError, type(None)]
        assert await store.get("a", "small") == b"1"
        await store.close()


class TestAStartOnADiskThatTakesNothing:
    @pytest.fixture
    async def refused(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
        """A store with one record, on a disk that refuses from now on, until the list is cleared."""
        store = opened(folder)
        await kept(store.write([Put("a", "x", b"1"), Put("a", "old", b"1", expires_at=NOW - 1)]))
        await store.close()
        refusing = [True]
        usual = sqlite_store._open

        def open_if_it_can(path: Path) -> sqlite3.Connection:
            if refusing:
                raise sqlite3.OperationalError("disk I/O error")
            return usual(path)

        monkeypatch.setattr(sqlite_store, "_open", open_if_it_can)
        return refusing

    async def test_what_is_kept_is_read_and_what_is_new_is_refused_until_it_takes_again(
        self, folder: Path, refused: list[bool]
    ) -> None:
        store = opened(folder)
        assert set(store.load("a")) == {"x", "old"}
        assert await store.get("a", "x") == b"1"
        with pytest.raises(StoreError, match="disk I/O error"):
            await kept(store.write([Put("a", "new", b"1")]))
        refused.clear()
        await kept(store.write([Put("a", "new", b"1")]))
        assert set(store.load("a")) == {"x", "old", "new"}
        await store.close()

    async def test_what_a_killed_server_left_in_its_log_is_read_too(
        self, folder: Path, refused: list[bool], tmp_path: Path
    ) -> None:
        refused.clear()
        living = opened(folder)
        await kept(living.write([Put("a", "x", b"2"), Put("a", "late", b"1")]))
        # What a copy of the files finds now is what a kill would leave.
        left = tmp_path / "left"
        shutil.copytree(folder, left)
        await living.close()
        refused.append(True)
        store = opened(left)
        assert store.load("a") == {"x": b"2", "late": b"1"}
        with pytest.raises(StoreError, match="disk I/O error"):
            await kept(store.write([Put("a", "new", b"1")]))
        refused.clear()
        await kept(store.write([Put("a", "new", b"1")]))
        assert set(store.load("a")) == {"x", "late", "new"}
        await store.close()

    async def test_nothing_is_read_beside_a_server_that_writes(self, folder: Path, refused: list[bool]) -> None:
        refused.clear()
        living = opened(folder)
        await kept(living.write([Put("a", "late", b"1")]))
        refused.append(True)
        with pytest.raises(StateError, match="disk I/O error"):
            opened(folder)
        refused.clear()
        await living.close()


async def test_a_disk_that_does_not_respond_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_base, "_PATIENCE_S", 0.01)
    stuck: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    with pytest.raises(StoreError, match="does not respond"):
        await kept(stuck)
    assert not stuck.cancelled()


async def test_a_store_that_does_not_keep_up_refuses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hypha.store.sqlite._MAX_WAITING", 3)
    store = opened(folder)
    going, wait = threading.Event(), threading.Event()

    def stand_still(_connection: sqlite3.Connection) -> None:
        going.set()
        wait.wait(5)

    blocked = store._submit(stand_still)
    await wait_for(going.is_set)
    writes = [store.write([Put("a", str(n), b"")]) for n in range(4)]
    with pytest.raises(StoreError, match="does not keep up"):
        await kept(writes[3])
    wait.set()
    await blocked
    for write in writes[:3]:
        await kept(write)
    await store.close()


def modes_in(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


async def limit_pages(store: SqliteStore, pages: int) -> None:
    """As a disk with room for so many pages."""
    await store._submit(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchone())


async def wait_for(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)
