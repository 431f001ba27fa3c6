from __future__ import annotations

from typing import Any

import pytest

from hypha.auth.admission import Admission
from hypha.auth.identity import Scope, User, anonymous_user
from hypha.manager.workspace_config import WorkspaceRequest, check_name
from hypha.manager.workspaces import Workspace, WorkspaceTable


@pytest.fixture
def table() -> WorkspaceTable:
    return WorkspaceTable()


def admission(user: User, creates_for: str | None) -> Admission:
    return Admission(user, f"ws-user-{creates_for or 'alice'}", "c1", creates_for=creates_for)


def test_the_workspaces_of_the_server_are_there_and_belong_to_root(table: WorkspaceTable) -> None:
    assert {workspace.id for workspace in table} == {"public", "ws-user-root", "ws-anonymous"}
    assert all(workspace.owners == ["root"] for workspace in table)
    assert [workspace.id for workspace in table if workspace.read_only] == ["public"]
    assert not any(table.goes_when_empty(workspace.id) for workspace in table)


def test_the_home_of_a_login_is_persistent(table: WorkspaceTable) -> None:
    assert table.enter(admission(User("alice", roles=("user",)), "alice"))
    home = table.get("ws-user-alice")
    assert home is not None and home.persistent and home.owners == ["alice"]
    assert not table.goes_when_empty("ws-user-alice")
    assert not table.enter(admission(User("alice"), "alice"))


def test_the_home_of_an_anonymous_user_ends_with_its_last_client(table: WorkspaceTable) -> None:
    user = anonymous_user(0.0)
    assert table.enter(admission(user, user.id))
    assert table.goes_when_empty(f"ws-user-{user.id}")


def test_a_child_opens_the_home_of_its_parent(table: WorkspaceTable) -> None:
    child = User("kid", parent="alice", scope=Scope(workspaces={"ws-user-alice": "r"}))
    assert table.enter(admission(child, "alice"))
    assert list(table.owners("ws-user-alice")) == ["alice"]
    assert table.get("ws-user-kid") is None


def test_nothing_is_created_for_who_enters_an_existing_workspace(table: WorkspaceTable) -> None:
    assert not table.enter(admission(User("alice"), None))
    assert len(table) == 3


def test_an_unknown_workspace_has_no_owners_and_does_not_go(table: WorkspaceTable) -> None:
    assert list(table.owners("nosuch-ws")) == []
    assert not table.goes_when_empty("nosuch-ws")
    assert table.remove("nosuch-ws") is None


def test_owned_workspaces_leave_the_home_out(table: WorkspaceTable) -> None:
    table.home(User("alice"))
    table.add(Workspace("a-b", "a-b", owners=["alice", "bob"]))
    assert [workspace.id for workspace in table.owned_by("alice")] == ["a-b"]


def test_the_info_shows_variables_and_addresses_only_when_asked() -> None:
    workspace = Workspace("a-b", "A", owners=["alice", "carol@example.com"])
    workspace.environment["k"] = "v"
    workspace.bookmarks.append({"bookmark_type": "service", "id": "x"})
    plain = workspace.info()
    assert plain["owners"] == ["alice"]
    assert plain["config"] == {"bookmarks": [{"bookmark_type": "service", "id": "x"}]}
    full = workspace.info(environs=True, emails=True)
    assert full["owners"] == ["alice", "carol@example.com"]
    assert full["config"]["environs"] == {"k": "v"}
    assert list(plain) == (
        "type id name description persistent owners read_only icon covers docs service_types config status".split()
    )
    assert plain["type"] == "workspace"
    assert plain["status"] == {"ready": True, "errors": None}


# ------------------------------------------------------------------ what create_workspace is given


@pytest.mark.parametrize("name", ["my-ws", "a-1|b", "x" * 126 + "-y"])
def test_names_of_created_workspaces(name: str) -> None:
    assert check_name(name) is None


@pytest.mark.parametrize("name", ["myws", "ws", "root", "public"])
def test_a_created_name_needs_a_hyphen(name: str) -> None:
    with pytest.raises(ValueError, match=r"Workspace name must contain at least one hyphen \(e.g. my-workspace\)\."):
        check_name(name)


@pytest.mark.parametrize("name", ["My-ws", "my_ws-x", "my-ws ", "a/b-c", "a:-b", "a-*", "ä-b", "a-b\n", "-" * 129])
def test_malformed_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="only lowercase letters, numbers and hyphens are allowed."):
        check_name(name)


@pytest.mark.parametrize("name", ["ws-user-bob", "ws-anonymous", "ws-anonymous2", "api-docs", "my-mount"])
def test_reserved_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="it is reserved"):
        check_name(name, {"my-mount"})


def test_a_name_alone_is_the_id() -> None:
    assert WorkspaceRequest.parse({"name": "a-b"}).id == "a-b"


def test_only_what_is_given_is_set() -> None:
    request = WorkspaceRequest.parse({"id": "a-b", "persistent": False, "config": {"x": 1, "environs": {}}, "odd": 1})
    assert request.given() == {"persistent": False, "config": {"x": 1}}
    assert request.owners is None


def test_owners_are_named_once() -> None:
    assert WorkspaceRequest.parse({"id": "a-b", "owners": ["x", "y", "x"]}).owners == ("x", "y")


@pytest.mark.parametrize(
    "config",
    [
        None,
        "a-b",
        {"id": 3},
        {"id": "a-b", "name": 3},
        {"id": "a-b", "description": "x" * 5000},
        {"id": "a-b", "persistent": "yes"},
        {"id": "a-b", "owners": "alice"},
        {"id": "a-b", "owners": [3]},
        {"id": "a-b", "owners": [""]},
        {"id": "a-b", "owners": ["x"] * 101},
        {"id": "a-b", "config": [1]},
        {"id": "a-b", "docs": "x" * 70_000},
        {"id": "a-b", "covers": object()},
    ],
)
def test_members_of_the_wrong_form_are_refused(config: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - one text each
        WorkspaceRequest.parse(config)


@pytest.mark.parametrize("config", [{}, {"id": ""}, {"id": None, "name": None}])
def test_an_id_is_needed(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Workspace id must be provided."):
        WorkspaceRequest.parse(config)
