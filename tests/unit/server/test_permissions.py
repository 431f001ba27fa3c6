from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hypha.auth.identity import Scope, User, anonymous_http_user, anonymous_user, root_user
from hypha.auth.permissions import (
    ACTIONS,
    CELLS,
    SYSTEM_WORKSPACES,
    Cell,
    Verdict,
    cell_of,
    check,
    check_service,
    has_right,
    may_take_over,
    right,
    verdict,
)

if TYPE_CHECKING:
    from conftest import ForeignToken

    from hypha.auth.tokens import TokenService

LAB = "lab-ws"
OWNERS = ("alice",)


def child(letter: str | None, workspace: str = LAB) -> User:
    words = {} if letter is None else {workspace: letter}
    scope = Scope(words, workspace, "c1")  # type: ignore[arg-type]
    return User("kid", roles=("user",), scope=scope, parent="alice")


def connected(user: User, workspace: str) -> User:
    return user.admitted("c1", workspace, "a")


ANON = anonymous_user(0.0)
HOME = f"ws-user-{ANON.id}"

#: A user for each cell, and the workspace it is that on.
PEOPLE: dict[Cell, tuple[User, str]] = {
    "anon": (ANON.admitted("c1", HOME, "a"), HOME),
    "r": (child("r"), LAB),
    "rw": (child("rw"), LAB),
    "a": (child("a"), LAB),
    "owner": (User("alice", scope=Scope({}, LAB, "c1")), LAB),
    "other": (User("eve", scope=Scope({"ws-user-eve": "a"}, "ws-user-eve", "c1")), LAB),
    "root": (root_user(), LAB),
}

#: Security §3, as it is written there: actions, cells.
SPECIFIED = [
    ("echo log log_event set_env get_env register_service_type queue.push queue.pop", "yPyyy-y"),
    ("get_events get_event_stats check_status get_summary search_services queue.peek queue.get_length", "yyyyy-y"),
    ("text_frame", "yyyyy-y"),
    ("list_workspaces hypha-login get_service.public revoke_token.own manager.built-in frame.method", "yyyyyyy"),
    ("get_service_type list_service_types list_clients get_workspace_info ping apps.read", "yyyyyPy"),
    ("subscribe unsubscribe", "yyyyyFo"),
    ("register_service", "yPyyyIy"),
    ("register_service.foreign", "IIIIIII"),
    ("unregister_service bookmark unbookmark", "yPyyyPy"),
    ("unregister_service.other revoke_token cleanup delete_workspace", "yPPyyPy"),
    ("get_service.protected", "yyyyyNy"),
    ("list_services", "yyyyyLy"),
    ("list_services.unlisted", "yyyyyIo"),
    ("generate_token", "yGGyyHy"),
    ("generate_token.any", "HHHHHHy"),
    ("parse_token", "yyyyy4y"),
    ("create_workspace", "UUUyyyy"),
    ("create_workspace.over", "UOOOyOy"),
    ("admin-utils", "NNNNNNy"),
    ("apps.write", "PPyyyPy"),
    ("health", "444444y"),
    ("connect", "yyyyyCy"),
    ("rpc.post", "yyyyy44"),
    ("frame.other", "yyyyyDo"),
    ("broadcast", "yDyyyDo"),
    ("frame.server_only", "DDDDDDD"),
]
CASES = [
    (action, cell, letter)
    for names, letters in SPECIFIED
    for action in names.split()
    for cell, letter in zip(CELLS, letters, strict=True)
]


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_is_recognised(cell: Cell) -> None:
    user, workspace = PEOPLE[cell]
    assert cell_of(user, workspace, OWNERS) == cell


@pytest.mark.parametrize(("action", "cell", "letter"), CASES)
def test_every_cell_of_the_table(action: str, cell: Cell, letter: str) -> None:
    user, workspace = PEOPLE[cell]
    expected = {
        # root is connected elsewhere here, where it is told what others are told
        "o": Verdict({a: c for a, k, c in CASES if k == "other"}[action]),
        "-": Verdict.PERMISSION,
    }.get(letter) or Verdict(letter)
    assert verdict(user, action, workspace, OWNERS) is expected
    if expected in {Verdict.YES, Verdict.PUBLIC_ONLY}:
        assert check(user, action, workspace, OWNERS) is expected
    else:
        with pytest.raises((PermissionError, ValueError)):
            check(user, action, workspace, OWNERS)


def test_the_table_has_no_other_rows() -> None:
    assert set(ACTIONS) == {action for action, _, _ in CASES}
    assert all(tuple(row) == CELLS for row in ACTIONS.values())


def test_root_may_where_it_is_connected() -> None:
    user = connected(root_user(), LAB)
    for action in ("subscribe", "unsubscribe", "list_services.unlisted", "frame.other", "broadcast"):
        assert verdict(user, action, LAB) is Verdict.YES


# ------------------------------------------------------------------------ texts


@pytest.mark.parametrize(
    ("cell", "action", "subject", "error", "text"),
    [
        ("r", "echo", "", PermissionError, "Permission denied for workspace lab-ws"),
        ("other", "list_clients", "", PermissionError, "Permission denied for workspace lab-ws"),
        (
            "other",
            "get_service.protected",
            "",
            PermissionError,
            "Permission denied for non-public service in workspace lab-ws",
        ),
        ("rw", "generate_token", "", PermissionError, "Only admin can generate token."),
        ("other", "generate_token", "", PermissionError, "You do not have any permission for workspace: lab-ws"),
        ("r", "create_workspace", "", PermissionError, "Only registered user can create workspace."),
        (
            "a",
            "create_workspace.over",
            "old-ws",
            PermissionError,
            "Permission denied: user kid cannot overwrite workspace old-ws",
        ),
        (
            "other",
            "register_service",
            "lab-ws",
            PermissionError,
            "Service ID workspace prefix 'lab-ws' does not match the current workspace 'ws-user-eve'. "
            "Cannot register services in other workspaces.",
        ),
        (
            "other",
            "list_services.unlisted",
            "",
            PermissionError,
            "Cannot include unlisted services without read permission for workspace lab-ws.",
        ),
        ("other", "connect", "", PermissionError, "Permission denied for workspace: lab-ws"),
        (
            "r",
            "broadcast",
            "",
            PermissionError,
            "Read-only client lab-ws/c1 cannot broadcast messages. "
            "Only point-to-point messages are allowed for read-only clients.",
        ),
        ("other", "parse_token", "", PermissionError, "403: Token is not authorized for workspace 'lab-ws'"),
    ],
)
def test_refusal_has_the_exact_text(cell: Cell, action: str, subject: str, error: type[Exception], text: str) -> None:
    user, workspace = PEOPLE[cell]
    with pytest.raises(error) as caught:
        check(user, action, workspace, OWNERS, subject=subject)
    assert str(caught.value) == text


def test_foreign_event_is_a_value_error() -> None:
    user, workspace = PEOPLE["other"]
    with pytest.raises(ValueError, match=r"^Subscription to event 'lab-ws/x' is forbidden"):
        check(user, "subscribe", workspace, OWNERS, subject="lab-ws/x")


def test_own_text_replaces_that_of_the_table() -> None:
    with pytest.raises(PermissionError, match=r"^No\.$"):
        check(child("r"), "echo", LAB, text="No.")


# ----------------------------------------------------------------------- rights


def test_right_is_the_stronger_of_word_and_star() -> None:
    user = User("x", scope=Scope({LAB: "rw", "*": "r"}), parent="alice")
    assert right(user, LAB) == "rw"
    assert right(user, "any-ws") == "r"
    assert has_right(user, LAB, "r")
    assert not has_right(user, LAB, "a")
    assert right(child(None), "any-ws") is None
    assert not has_right(child(None), "any-ws", "r")


def test_owner_by_id_by_home_and_by_verified_email_only() -> None:
    unverified = User("bob", email="alice@example.com")
    verified = User("bob", email="alice@example.com", email_verified=True)
    owners = ["alice@example.com"]
    assert right(User("alice"), LAB, ["alice"]) == "a"
    assert right(User("alice"), "ws-user-alice") == "a"
    assert right(verified, LAB, owners) == "a"
    assert right(unverified, LAB, owners) is None


def test_child_does_not_rise_by_its_parents_ownership() -> None:
    kid = User("kid", email="alice@example.com", email_verified=True, parent="alice", scope=Scope({LAB: "r"}))
    owners = ["alice", "alice@example.com", "kid"]
    assert right(kid, LAB, owners) == "r"
    assert right(kid, "ws-user-alice") is None
    assert right(kid, "ws-user-kid") is None
    assert cell_of(kid, LAB, owners) == "r"


def test_child_with_all_workspaces_is_not_root() -> None:
    assert cell_of(child("a", "*"), LAB) == "a"
    assert verdict(child("a", "*"), "admin-utils", "ws-user-root") is Verdict.NON_PUBLIC


def test_administrator_role_is_root_and_its_child_is_not(tokens: TokenService, foreign: ForeignToken) -> None:
    assert cell_of(tokens.parse(foreign("adm", roles=["admin"])), LAB) == "root"
    assert cell_of(tokens.parse(foreign("kid", "ws:lab-ws#a", roles=["admin"], parent="adm")), LAB) == "a"


def test_anonymous_people_elsewhere_are_others() -> None:
    assert cell_of(ANON, LAB) == "other"
    assert cell_of(anonymous_http_user(), LAB) == "other"
    assert cell_of(anonymous_http_user(), "ws-anonymous") == "r"


def test_administrating_child_of_an_anonymous_user_is_not_registered() -> None:
    kid = User("kid", roles=("anonymous",), parent=ANON.id, scope=Scope({HOME: "a"}, HOME))
    assert cell_of(kid, HOME) == "a"
    assert verdict(kid, "create_workspace", HOME) is Verdict.UNREGISTERED


@pytest.mark.parametrize("workspace", sorted(SYSTEM_WORKSPACES))
def test_nobody_deletes_a_system_workspace(workspace: str) -> None:
    with pytest.raises(PermissionError, match=f"Permission denied for workspace {workspace}"):
        check(root_user(), "delete_workspace", workspace)


@pytest.mark.parametrize(
    ("newcomer", "former", "allowed"),
    [
        (child("rw"), child("rw"), True),
        (child("rw"), child("r"), True),
        (child("r"), child("rw"), False),
        (child("a"), User("alice"), True),
        (User("alice"), child("a"), True),
        (User("x", parent="bob", scope=Scope({LAB: "a"})), child("rw"), True),
        (User("x", parent="bob", scope=Scope({LAB: "rw"})), child("rw"), False),
        (child(None), child("r"), False),
        (User("eve"), child("r"), False),
    ],
)
def test_who_may_take_over_a_client_id(newcomer: User, former: User, allowed: bool) -> None:
    assert may_take_over(newcomer, former, LAB, OWNERS) is allowed


# --------------------------------------------------------------------- services


@pytest.mark.parametrize("visibility", ["public", "unlisted"])
def test_public_and_unlisted_services_are_for_everybody(visibility: str) -> None:
    check_service(PEOPLE["other"][0], LAB, OWNERS, visibility=visibility)
    check_service(anonymous_http_user(), LAB, OWNERS, visibility=visibility)


@pytest.mark.parametrize("authorized", [None, [], ["ws-user-bob"]])
def test_protected_service_is_refused_to_others(authorized: list[str] | None) -> None:
    with pytest.raises(PermissionError) as caught:
        check_service(PEOPLE["other"][0], LAB, OWNERS, visibility="protected", authorized_workspaces=authorized)
    assert str(caught.value) == "Permission denied for non-public service in workspace lab-ws"


def test_protected_service_is_for_readers_and_listed_workspaces() -> None:
    check_service(child("r"), LAB, OWNERS, visibility="protected")
    check_service(PEOPLE["other"][0], LAB, OWNERS, visibility="protected", authorized_workspaces=["ws-user-eve"])
