"""Persistent workspaces are written through, in small pieces, and a refusing disk is told (server §2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from hypha.manager.keeping import WorkspaceKeeper
from hypha.manager.workspaces import Workspace, WorkspaceTable
from hypha.store import MemoryStore, Put, StoreError
from hypha.store.base import Change


class Disk(MemoryStore):
    """A store that counts, and that can be full."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False
        self.batches: list[list[Change]] = []

    def write(self, changes: Sequence[Change]) -> Any:
        self.batches.append(list(changes))
        if not self.full:
            return super().write(changes)
        failed = super().write([]).get_loop().create_future()
        failed.set_exception(StoreError("full"))
        failed.exception()
        return failed

    @property
    def puts(self) -> int:
        """Records in the last batch."""
        return sum(isinstance(change, Put) for change in self.batches[-1])


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def keeper(disk: Disk) -> WorkspaceKeeper:
    return WorkspaceKeeper(disk)


def lab(**members: Any) -> Workspace:
    return Workspace("ada-lab", "Lab", persistent=True, owners=["ada"], **members)


def reloaded(disk: Disk) -> WorkspaceTable:
    table = WorkspaceTable()
    WorkspaceKeeper(disk).load(table)
    return table


async def test_a_workspace_comes_back_as_it_was(disk: Disk, keeper: WorkspaceKeeper) -> None:
    workspace = lab(
        description="d",
        icon="i",
        covers=["c"],
        docs={"a": 1},
        config={"x": None},
        environment={"k": b"\x00", "a/b": [1]},
        service_types={"t": {"id": "t", "definition": {1: 2}}},
        bookmarks=[{"id": "b"}],
    )
    await keeper.keep(workspace)
    found = reloaded(disk).get("ada-lab")
    assert found is not None
    assert {name: getattr(found, name) for name in Workspace.__slots__} == {
        name: getattr(workspace, name) for name in Workspace.__slots__
    }


async def test_a_small_change_is_a_small_write(disk: Disk, keeper: WorkspaceKeeper) -> None:
    workspace = lab(environment={str(number): number for number in range(50)})
    await keeper.keep(workspace)
    assert disk.puts == 52
    workspace.environment["new"] = 1
    await keeper.keep_variable(workspace, "new")
    assert len(disk.batches[-1]) == 1
    del workspace.environment["new"]
    await keeper.keep_variable(workspace, "new")
    found = reloaded(disk).get("ada-lab")
    assert found is not None and len(found.environment) == 50


async def test_what_is_not_persistent_touches_no_disk(disk: Disk, keeper: WorkspaceKeeper) -> None:
    workspace = lab()
    workspace.persistent = False
    await keeper.keep(workspace)
    keeper.note(workspace)
    workspace.environment["k"] = 1
    await keeper.keep_variable(workspace, "k")
    await keeper.forget(workspace.id)
    assert disk.batches == []


async def test_one_that_is_persistent_no_more_is_dropped(disk: Disk, keeper: WorkspaceKeeper) -> None:
    workspace = lab(environment={"k": 1})
    await keeper.keep(workspace)
    workspace.persistent = False
    await keeper.keep(workspace)
    assert reloaded(disk).get("ada-lab") is None
    assert disk.load("workspace-variable") == {}


async def test_a_forgotten_one_takes_nothing_of_its_neighbours_along(disk: Disk, keeper: WorkspaceKeeper) -> None:
    other = Workspace("ada-lab-2", "Other", persistent=True, environment={"k": 1})
    await keeper.keep(lab(environment={"k": 1}))
    await keeper.keep(other)
    await keeper.forget("ada-lab")
    table = reloaded(disk)
    found = table.get("ada-lab-2")
    assert table.get("ada-lab") is None
    assert found is not None and found.environment == {"k": 1}


async def test_the_first_change_of_one_that_is_not_kept_yet_keeps_it_whole(disk: Disk, keeper: WorkspaceKeeper) -> None:
    workspace = lab(environment={"a": 1})
    workspace.environment["b"] = 2
    await keeper.keep_variable(workspace, "b")
    found = reloaded(disk).get("ada-lab")
    assert found is not None and found.environment == {"a": 1, "b": 2}


async def test_what_a_full_disk_refused_is_written_with_the_next_change(disk: Disk, keeper: WorkspaceKeeper) -> None:
    workspace = lab()
    await keeper.keep(workspace)
    disk.full = True
    workspace.environment["a"] = 1
    with pytest.raises(StoreError, match="^The change holds, but only until the server ends: full$"):
        await keeper.keep_variable(workspace, "a")
    disk.full = False
    workspace.environment["b"] = 2
    await keeper.keep_variable(workspace, "b")
    found = reloaded(disk).get("ada-lab")
    assert found is not None and found.environment == {"a": 1, "b": 2}


async def test_who_comes_in_does_not_wait_for_the_disk(disk: Disk, keeper: WorkspaceKeeper, eventually: Any) -> None:
    disk.full = True
    workspace = lab()
    keeper.note(workspace)
    await eventually(lambda: "ada-lab" not in keeper._known)
    disk.full = False
    await keeper.keep_bookmarks(workspace)
    assert reloaded(disk).get("ada-lab") is not None


async def test_the_servers_own_workspaces_keep_their_variables(disk: Disk, keeper: WorkspaceKeeper) -> None:
    public = WorkspaceTable().get("public")
    assert public is not None
    public.environment["k"] = 1
    await keeper.keep_variable(public, "k")
    found = reloaded(disk).get("public")
    assert found is not None and found.environment == {"k": 1}
    assert found.read_only


async def test_creating_on_a_full_disk_creates_nothing(world: Any) -> None:
    disk = Disk()
    world.core.keeper = WorkspaceKeeper(disk)
    ada = await world.join_as("ada")
    disk.full = True
    with pytest.raises(StoreError, match="full"):
        await ada.call("create_workspace", {"id": "ada-lab", "persistent": True})
    assert not world.workspaces.exists("ada-lab")
    await ada.call("create_workspace", {"id": "ada-tmp"})
    disk.full = False
    await ada.call("create_workspace", {"id": "ada-lab", "persistent": True})
    assert reloaded(disk).exists("ada-lab")


async def test_deleting_on_a_full_disk_says_that_it_comes_back(world: Any) -> None:
    disk = Disk()
    world.core.keeper = WorkspaceKeeper(disk)
    ada = await world.join_as("ada")
    await ada.call("create_workspace", {"id": "ada-lab", "persistent": True})
    disk.full = True
    with pytest.raises(StoreError, match="gone, but only until the server ends"):
        await ada.call("delete_workspace", "ada-lab")
    assert not world.workspaces.exists("ada-lab")
