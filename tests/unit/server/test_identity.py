from __future__ import annotations

import re

import pytest

from hypha.auth.identity import (
    Scope,
    User,
    anonymous_http_user,
    anonymous_user,
    is_valid_user_id,
    is_valid_workspace_id,
    root_user,
)


def test_wire_form_has_the_keys_of_the_protocol_in_order() -> None:
    user = User(
        "alice",
        roles=("user",),
        scope=Scope({"ws-user-alice": "a"}, "ws-user-alice", "py-prov", ()),
        email="alice@example.org",
        expires_at=1_800_000_000.0,
        current_workspace="ws-user-alice",
        email_verified=True,
        token_ids=("t1",),
        by_ownership=frozenset({"x"}),
    )
    wire = user.to_wire()
    assert wire == {
        "id": "alice",
        "roles": ["user"],
        "is_anonymous": False,
        "scope": {
            "current_workspace": "ws-user-alice",
            "workspaces": {"ws-user-alice": "a"},
            "client_id": "py-prov",
            "extra_scopes": [],
        },
        "email": "alice@example.org",
        "parent": None,
        "expires_at": 1_800_000_000.0,
        "current_workspace": "ws-user-alice",
    }
    order = ["id", "roles", "is_anonymous", "scope", "email", "parent", "expires_at", "current_workspace"]
    assert list(wire) == order
    assert list(wire["scope"]) == ["current_workspace", "workspaces", "client_id", "extra_scopes"]


def test_wire_form_is_a_copy() -> None:
    user = anonymous_user(0.0)
    user.to_wire()["scope"]["workspaces"]["ws-user-bob"] = "a"
    assert "ws-user-bob" not in user.scope.workspaces


def test_anonymous_user_has_a_home_of_its_own() -> None:
    user = anonymous_user(100.0)
    assert re.fullmatch(r"anonymouz-[a-z]+-[a-z]+-\d{8}", user.id)
    home = f"ws-user-{user.id}"
    assert user.scope.workspaces == {home: "a"}
    assert user.to_wire() == {
        "id": user.id,
        "roles": ["anonymous"],
        "is_anonymous": True,
        "scope": {"current_workspace": home, "workspaces": {home: "a"}, "client_id": None, "extra_scopes": None},
        "email": None,
        "parent": None,
        "expires_at": 700.0,
        "current_workspace": None,
    }
    assert anonymous_user(100.0).id != user.id


def test_http_caller_without_a_token_only_reads_ws_anonymous() -> None:
    wire = anonymous_http_user().to_wire()
    assert wire["id"] == "anonymouz-http"
    assert wire["scope"]["workspaces"] == {"ws-anonymous": "r"}
    assert wire["expires_at"] is None


def test_root_has_all_rights() -> None:
    user = root_user()
    assert (user.id, user.roles, dict(user.scope.workspaces)) == ("root", ("admin",), {"*": "a"})


def test_admitted_user_shows_connection_and_right() -> None:
    user = User("alice", scope=Scope({"ws-user-alice": "a"})).admitted("c1", "lab-ws", "a")
    assert (user.scope.client_id, user.scope.current_workspace) == ("c1", "lab-ws")
    assert user.scope.workspaces == {"ws-user-alice": "a", "lab-ws": "a"}
    assert user.by_ownership == {"lab-ws"}


def test_admission_by_a_word_of_the_token_is_not_ownership() -> None:
    user = User("kid", scope=Scope({"lab-ws": "rw"}), parent="alice").admitted("c1", "lab-ws", "rw")
    assert user.by_ownership == frozenset()
    assert root_user().admitted("c1", "public", "a").scope.workspaces == {"*": "a"}


def test_abroad_only_the_two_workspaces_are_told() -> None:
    user = User(
        "alice", scope=Scope({"ws-user-alice": "a", "secret-ws": "rw", "bob-ws": "r", "*": "a"}, "ws-user-alice")
    )
    assert user.narrowed("ws-user-alice", "bob-ws").scope.workspaces == {"ws-user-alice": "a", "bob-ws": "r"}
    assert user.narrowed("ws-user-alice", "bob-ws").scope.current_workspace == "ws-user-alice"
    assert len(user.scope.workspaces) == 4


@pytest.mark.parametrize("text", ["alice", "github|123", "a@b.org", "A.b_c+d-e", "x" * 120])
def test_good_user_ids(text: str) -> None:
    assert is_valid_user_id(text)
    assert is_valid_workspace_id(f"ws-user-{text}")


@pytest.mark.parametrize("text", ["", "a b", "a/b", "a:b", "a#b", "é", "x" * 121, "a\n", None, 5])
def test_bad_user_ids(text: object) -> None:
    assert not is_valid_user_id(text)


@pytest.mark.parametrize(
    "text", ["", "a b", "a\tb", "a/b", "a:b", "a@b", "a*", "*", "a#r", "x" * 129, "a\x00", "a\x85", 7]
)
def test_bad_workspace_ids(text: object) -> None:
    assert not is_valid_workspace_id(text)
