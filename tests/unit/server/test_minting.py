from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from hypha.auth.errors import AuthenticationError, TokenRevoked, ValidationError
from hypha.auth.identity import User, anonymous_user, root_user
from hypha.auth.minting import child_token, revoke_token
from hypha.auth.tokens import TokenService

if TYPE_CHECKING:
    from conftest import ForeignToken

NOW = 1_800_000_000.0


def nobody(_workspace: str) -> tuple[str, ...]:
    return ()


def child_of_alice(tokens: TokenService, foreign: ForeignToken, letter: str, workspace: str = "lab-ws") -> User:
    token = foreign(
        "kid", f"ws:{workspace}#{letter} wid:{workspace}", roles=["user"], parent="alice", jti=f"kid-{letter}"
    )
    user = tokens.parse(token)
    return user.admitted("c1", workspace, user.scope.workspaces[workspace])


def test_default_child_writes_in_the_current_workspace_for_an_hour(tokens: TokenService, alice: User) -> None:
    child = tokens.parse(child_token(tokens, alice))
    assert child.scope.workspaces == {"ws-user-alice": "rw"}
    assert (child.parent, child.roles, child.email) == ("alice", ("user",), "alice@example.com")
    assert (child.current_workspace, child.expires_at) == ("ws-user-alice", NOW + 3600)
    assert child.id != "alice"
    assert child.token_ids[:-1] == alice.token_ids
    assert tokens.parse(child_token(tokens, alice)).id != child.id


def test_configuration_is_followed(tokens: TokenService, alice: User) -> None:
    config = {"expires_in": 5, "permission": "read", "client_id": "c9", "extra_scopes": ["file:download"], "x": None}
    child = tokens.parse(child_token(tokens, alice, config))
    assert child.scope.workspaces == {"ws-user-alice": "r"}
    assert (child.scope.client_id, child.scope.extra_scopes) == ("c9", ("file:download",))
    assert child.expires_at == NOW + 5


def test_owner_may_name_a_workspace_of_its_own(tokens: TokenService, alice: User) -> None:
    child = tokens.parse(child_token(tokens, alice, {"workspace": "lab-ws"}, owners=["alice"]))
    assert (dict(child.scope.workspaces), child.current_workspace) == ({"lab-ws": "rw"}, "lab-ws")


def test_anonymous_user_may_mint_for_its_home(tokens: TokenService) -> None:
    user = anonymous_user(NOW)
    home = f"ws-user-{user.id}"
    child = tokens.parse(child_token(tokens, user.admitted("c1", home, "a"), {"permission": "admin"}))
    assert (child.parent, child.is_anonymous, dict(child.scope.workspaces)) == (user.id, True, {home: "a"})


def test_grandchild_names_the_original_user(tokens: TokenService, foreign: ForeignToken) -> None:
    grandchild = tokens.parse(child_token(tokens, child_of_alice(tokens, foreign, "a")))
    assert (grandchild.parent, grandchild.token_ids[0]) == ("alice", "kid-a")


def test_role_admin_is_not_inherited_so_a_read_child_of_root_only_reads(tokens: TokenService) -> None:
    child = tokens.parse(child_token(tokens, root_user(), {"workspace": "public", "permission": "read"}))
    assert child.roles == ()
    assert child.scope.workspaces == {"public": "r"}
    with pytest.raises(PermissionError, match=r"Only admin can generate token\."):
        child_token(tokens, child.admitted("c1", "public", "r"))


@pytest.mark.parametrize("letter", ["r", "rw"])
def test_lesser_child_may_not_mint(tokens: TokenService, foreign: ForeignToken, letter: str) -> None:
    with pytest.raises(PermissionError) as caught:
        child_token(tokens, child_of_alice(tokens, foreign, letter), {"permission": "read"})
    assert str(caught.value) == "Only admin can generate token."


def test_owners_writing_child_passes_on_at_most_what_it_has(tokens: TokenService, foreign: ForeignToken) -> None:
    user = child_of_alice(tokens, foreign, "rw")
    assert tokens.parse(child_token(tokens, user, owners=["alice"])).scope.workspaces == {"lab-ws": "rw"}
    with pytest.raises(PermissionError, match="Only admin"):
        child_token(tokens, user, {"permission": "admin"}, owners=["alice"])
    with pytest.raises(PermissionError, match="Only admin"):
        child_token(tokens, child_of_alice(tokens, foreign, "r"), {"permission": "read"}, owners=["alice"])


def test_writing_child_of_a_home_passes_on_what_it_has(tokens: TokenService, foreign: ForeignToken) -> None:
    user = child_of_alice(tokens, foreign, "rw", "ws-user-alice")
    assert tokens.parse(child_token(tokens, user)).scope.workspaces == {"ws-user-alice": "rw"}


def test_workspace_without_a_right(tokens: TokenService, alice: User) -> None:
    with pytest.raises(PermissionError) as caught:
        child_token(tokens, alice, {"workspace": "ws-user-bob"}, owners=["bob"])
    assert str(caught.value) == "You do not have any permission for workspace: ws-user-bob"


def test_all_workspaces_only_for_root(tokens: TokenService, alice: User) -> None:
    with pytest.raises(PermissionError) as caught:
        child_token(tokens, alice, {"workspace": "*"})
    assert str(caught.value) == "You do not have any permission for workspace: *"
    child = tokens.parse(child_token(tokens, root_user(), {"workspace": "*", "permission": "read"}))
    assert (dict(child.scope.workspaces), child.current_workspace) == ({"*": "r"}, None)


def test_unknown_workspace(tokens: TokenService) -> None:
    with pytest.raises(KeyError, match=r"Workspace \(no-ws\) not found"):
        child_token(tokens, root_user(), {"workspace": "no-ws"}, exists=False)


@pytest.mark.parametrize(
    "config",
    [
        {"permission": "all"},
        {"permission": "a"},
        {"permission": ["read"]},
        {"expires_in": "long"},
        {"expires_in": True},
        {"expires_in": float("nan")},
        {"workspace": 5},
        {"workspace": "lab ws:ws-user-bob#a"},
        {"workspace": "a/b"},
        {"client_id": "c1 ws:ws-user-bob#a"},
        {"client_id": "a:b"},
        {"extra_scopes": ["ws:ws-user-bob#a"]},
        {"extra_scopes": ["x ws:ws-user-bob#a"]},
        {"email": 5},
        "config",
    ],
)
def test_malformed_configuration(tokens: TokenService, alice: User, config: Any) -> None:
    with pytest.raises(ValidationError):
        child_token(tokens, alice, config)


def test_wrong_permission_names_the_pattern(tokens: TokenService, alice: User) -> None:
    with pytest.raises(ValidationError) as caught:
        child_token(tokens, alice, {"permission": "write"})
    assert "^(read|read_write|admin)$" in str(caught.value)


@pytest.mark.parametrize("life", [0, -1, -0.5])
def test_life_must_be_positive(tokens: TokenService, alice: User, life: float) -> None:
    with pytest.raises(AssertionError) as caught:
        child_token(tokens, alice, {"expires_in": life})
    assert str(caught.value) == "expires_in should be greater than 0"


def test_email_is_set_by_administrators_only(tokens: TokenService, alice: User) -> None:
    with pytest.raises(PermissionError) as caught:
        child_token(tokens, alice, {"email": "boss@x.org"})
    assert str(caught.value) == "Only callers with the 'admin' role may set TokenConfig.email"
    config = {"email": "boss@x.org", "workspace": "lab-ws"}
    assert tokens.parse(child_token(tokens, root_user(), config)).email == "boss@x.org"


def test_chain_of_tokens_ends(tokens: TokenService, alice: User) -> None:
    user = alice
    for _ in range(7):
        user = tokens.parse(child_token(tokens, user, {"permission": "admin"}))
        user = user.admitted("c1", "ws-user-alice", "a")
    assert len(user.token_ids) == 8
    assert tokens.parse_reconnection(tokens.reconnection_token(user, "ws-user-alice", "c1"), "c1", None).id == user.id
    with pytest.raises(RuntimeError, match="ancestors"):
        child_token(tokens, user)


# ---------------------------------------------------------------- revoke_token


def test_own_child_is_revoked_with_its_children(tokens: TokenService, alice: User) -> None:
    token = child_token(tokens, alice, {"permission": "admin"})
    grandchild = child_token(tokens, tokens.parse(token).admitted("c", "ws-user-alice", "a"))
    revoke_token(tokens, alice, token, nobody)
    for dead in (token, grandchild):
        with pytest.raises(TokenRevoked):
            tokens.parse(dead)
    assert tokens.parse(child_token(tokens, alice)).parent == "alice"


def test_stranger_may_not_revoke(tokens: TokenService, foreign: ForeignToken, alice: User) -> None:
    token = child_token(tokens, alice)
    eve = tokens.parse(foreign("eve")).admitted("c1", "ws-user-eve", "a")
    with pytest.raises(PermissionError, match="Permission denied for workspace ws-user-alice"):
        revoke_token(tokens, eve, token, nobody)
    assert tokens.parse(token).parent == "alice"


def test_administrator_of_the_workspace_may_revoke(tokens: TokenService, foreign: ForeignToken, alice: User) -> None:
    token = child_token(tokens, alice)
    bob = tokens.parse(foreign("bob")).admitted("c1", "ws-user-bob", "a")
    revoke_token(tokens, bob, token, lambda workspace: ["bob"] if workspace == "ws-user-alice" else [])
    with pytest.raises(TokenRevoked):
        tokens.parse(token)


def test_writer_may_not_revoke_tokens_of_the_workspace(tokens: TokenService, foreign: ForeignToken) -> None:
    owner = tokens.parse(foreign("alice")).admitted("c1", "lab-ws", "a")
    token = child_token(tokens, owner, {"workspace": "lab-ws"}, owners=["alice"])
    with pytest.raises(PermissionError):
        revoke_token(tokens, child_of_alice(tokens, foreign, "rw"), token, nobody)


def test_revoking_what_is_no_living_token(tokens: TokenService, alice: User, foreign: ForeignToken) -> None:
    with pytest.raises(ValueError, match=r"^Invalid token: 401: Error decoding token headers\.$"):
        revoke_token(tokens, alice, "junk", nobody)
    with pytest.raises(ValueError, match=r"^Token has already expired$"):
        revoke_token(tokens, alice, foreign("alice", exp=int(NOW) - 60), nobody)


def test_revoked_child_cannot_be_used_as_reconnection_either(tokens: TokenService, alice: User) -> None:
    child = tokens.parse(child_token(tokens, alice))
    reconnect = tokens.reconnection_token(child, "ws-user-alice", "c2")
    tokens.revoke(child)
    with pytest.raises(AuthenticationError):
        tokens.parse_reconnection(reconnect, "c2", None)
