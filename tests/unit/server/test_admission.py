from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from hypha.auth.admission import (
    LEGACY_QUERY_REASON,
    Admission,
    Refusal,
    Workspaces,
    admit,
    client_exists,
    parse_first_frame,
    payload_timeout,
    too_many_clients,
    too_many_connections,
    undecodable,
)
from hypha.auth.minting import child_token
from hypha.auth.secret import Secrets
from hypha.auth.tokens import TokenService

if TYPE_CHECKING:
    from conftest import Clock, ForeignToken

    from hypha.auth.identity import User

NOW = 1_800_000_000.0
SETUP = "Failed to establish connection: "
USER = SETUP + "Failed to authenticate user: "
ROOT_TOKEN = "kQ9vX2mB7nL4wR8zT5yU1pH6jF3dS0gV"

OWNERS = {
    "public": ["root"],
    "ws-user-root": ["root"],
    "ws-anonymous": ["root"],
    "ws-user-alice": ["alice"],
    "lab-ws": ["bob", "carol@x.org"],
}
KNOWN = Workspaces(exists=OWNERS.__contains__, owners=lambda workspace: OWNERS.get(workspace, []))
NOTHING = Workspaces(exists=lambda _: False, owners=lambda _: ())


def enter(tokens: TokenService, workspaces: Workspaces = KNOWN, **frame: Any) -> Admission:
    return admit({"client_id": "prov"} | frame, tokens, workspaces, now=NOW)


def refused(tokens: TokenService, workspaces: Workspaces = KNOWN, **frame: Any) -> tuple[str, int]:
    with pytest.raises(Refusal) as caught:
        enter(tokens, workspaces, **frame)
    return caught.value.message, caught.value.close_code


# ------------------------------------------------------------------ first frame


@pytest.mark.parametrize(
    "data", ["", "{", "nonsense", "[]", "5", "null", '"x"', b"\xff\xfe", "[" * 100_000, "9" * 5000]
)
def test_first_frame_that_is_no_json_object(data: str | bytes) -> None:
    with pytest.raises(Refusal) as caught:
        parse_first_frame(data)
    assert (caught.value.message, caught.value.close_code) == ("Failed to decode authentication information", 1003)


def test_first_frame_is_a_json_object() -> None:
    frame = {"client_id": "c", "workspace": None, "token": None, "reconnection_token": None, "x": 1}
    assert parse_first_frame(json.dumps(frame)) == frame
    assert parse_first_frame(b'{"client_id": "c"}') == {"client_id": "c"}


# -------------------------------------------------------------------- admission


def test_newcomer_without_credentials_gets_a_workspace_of_its_own(tokens: TokenService) -> None:
    admission = enter(tokens)
    user = admission.user
    assert admission.workspace == f"ws-user-{user.id}"
    assert admission.creates_for == user.id
    assert (admission.level, admission.life, admission.resumes) == (0, None, False)
    wire = user.to_wire()
    assert wire["scope"] == {
        "current_workspace": admission.workspace,
        "workspaces": {admission.workspace: "a"},
        "client_id": "prov",
        "extra_scopes": None,
    }
    assert (wire["expires_at"], wire["current_workspace"]) == (NOW + 600, None)


@pytest.mark.parametrize("nothing", [None, ""])
def test_absent_null_and_empty_members_are_the_same(tokens: TokenService, nothing: str | None) -> None:
    admission = enter(tokens, workspace=nothing, token=nothing, reconnection_token=nothing)
    assert admission.user.is_anonymous


def test_login_token_leads_home(tokens: TokenService, foreign: ForeignToken) -> None:
    admission = enter(tokens, token=foreign("alice"))
    assert (admission.workspace, admission.creates_for) == ("ws-user-alice", None)
    assert admission.user.scope.extra_scopes == ()
    assert enter(tokens, token=foreign("dave")).creates_for == "dave"


def test_token_leads_where_it_says_or_where_it_may(tokens: TokenService, foreign: ForeignToken) -> None:
    scoped = foreign("kid", "ws:lab-ws#r wid:lab-ws", parent="bob")
    assert enter(tokens, token=scoped).workspace == "lab-ws"
    assert enter(tokens, token=scoped, workspace="lab-ws").user.scope.workspaces == {"lab-ws": "r"}
    assert enter(tokens, token=foreign("kid", "ws:lab-ws#rw"), workspace="lab-ws").workspace == "lab-ws"


def test_owner_by_id_and_by_email_may_enter(tokens: TokenService, foreign: ForeignToken) -> None:
    admission = enter(tokens, token=foreign("bob"), workspace="lab-ws")
    assert admission.user.scope.workspaces == {"ws-user-bob": "a", "lab-ws": "a"}
    assert enter(tokens, token=foreign("carol", email="carol@x.org"), workspace="lab-ws").workspace == "lab-ws"


def test_child_of_root_for_public_enters_public(tokens: TokenService, foreign: ForeignToken) -> None:
    token = foreign("kid", "ws:public#rw wid:public", parent="root")
    assert enter(tokens, token=token, workspace="public").workspace == "public"


def test_root_token_leads_to_the_workspace_of_root(clock: Clock) -> None:
    tokens = TokenService(Secrets.random(), clock=clock, root_token=ROOT_TOKEN)
    admission = enter(tokens, token=ROOT_TOKEN)
    assert (admission.user.id, admission.workspace) == ("root", "ws-user-root")
    message, _ = refused(tokens, token=ROOT_TOKEN, workspace="lab-ws")
    assert message.startswith(USER + "Current workspace encoded in the token (ws-user-root)")


def test_child_bound_to_a_client_admits_that_client(tokens: TokenService, alice: User) -> None:
    token = child_token(tokens, alice, {"client_id": "prov"})
    assert enter(tokens, token=token).workspace == "ws-user-alice"


def test_home_of_the_parent_is_made_again_for_its_child(tokens: TokenService, foreign: ForeignToken) -> None:
    token = foreign("kid", "ws:ws-user-zed#rw wid:ws-user-zed", parent="zed")
    admission = enter(tokens, NOTHING, token=token)
    assert (admission.workspace, admission.creates_for) == ("ws-user-zed", "zed")


def test_level_and_life_are_announced(tokens: TokenService) -> None:
    admission = enter(tokens, x=1, life="L1")
    assert (admission.level, admission.life) == (1, "L1")


@pytest.mark.parametrize(
    ("x", "life"), [("1", 5), (True, ""), (-1, None), (1.0, ["x"]), (None, "x" * 129), ({"a": 1}, {"b": 2})]
)
def test_nonsense_in_level_and_life_makes_a_public_peer(tokens: TokenService, x: object, life: object) -> None:
    admission = enter(tokens, x=x, life=life)
    assert (admission.level, admission.life) == (0, None)


def test_members_we_do_not_know_are_ignored(tokens: TokenService) -> None:
    assert enter(tokens, future={"a": 1}).user.is_anonymous


# ----------------------------------------------------------------------- resume


def test_reconnection_token_resumes_and_wins_over_the_token(
    tokens: TokenService, foreign: ForeignToken, clock: Clock
) -> None:
    first = enter(tokens, token=foreign("alice", exp=int(NOW) + 1))
    reconnect = tokens.reconnection_token(first.user, first.workspace, "prov")
    clock.now += 3600
    again = enter(tokens, token=foreign("bob"), reconnection_token=reconnect, workspace=None)
    assert (again.user.id, again.workspace, again.resumes) == ("alice", "ws-user-alice", True)
    assert again.user.to_wire()["scope"] == first.user.to_wire()["scope"]


def test_anonymous_client_resumes_into_a_server_that_forgot_it(tokens: TokenService) -> None:
    first = enter(tokens)
    reconnect = tokens.reconnection_token(first.user, first.workspace, "prov")
    again = enter(tokens, NOTHING, reconnection_token=reconnect)
    assert (again.workspace, again.user.id) == (first.workspace, first.user.id)
    assert (again.creates_for, again.resumes) == (first.user.id, True)


def test_workspace_that_is_not_a_home_is_not_made_again(tokens: TokenService, foreign: ForeignToken) -> None:
    first = enter(tokens, token=foreign("bob"), workspace="lab-ws")
    reconnect = tokens.reconnection_token(first.user, "lab-ws", "prov")
    assert enter(tokens, reconnection_token=reconnect).workspace == "lab-ws"
    message, _ = refused(tokens, NOTHING, reconnection_token=reconnect)
    assert message == SETUP + "'Workspace lab-ws does not exist or is not accessible'"


def test_former_owner_does_not_resume(tokens: TokenService, foreign: ForeignToken) -> None:
    first = enter(tokens, token=foreign("bob"), workspace="lab-ws")
    reconnect = tokens.reconnection_token(first.user, "lab-ws", "prov")
    others = Workspaces(exists=OWNERS.__contains__, owners=lambda _: ["carol"])
    message, _ = refused(tokens, others, reconnection_token=reconnect)
    assert message == SETUP + "Permission denied for workspace: lab-ws"


# ------------------------------------------------- refusals (server §4.3, ours: 1008)


def test_no_client_id(tokens: TokenService, foreign: ForeignToken) -> None:
    text = SETUP + "Failed to authenticate user to workspace: ws-user-alice"
    for nothing in (None, ""):
        assert refused(tokens, client_id=nothing, token=foreign("alice")) == (text, 1008)


@pytest.mark.parametrize("client_id", ["a/b", "a:b", "a@b", "a#b", "*", ".x", "a b", "é", "a\n", "x" * 129])
def test_bad_client_id(tokens: TokenService, client_id: str) -> None:
    assert refused(tokens, client_id=client_id) == (f"{SETUP}Invalid client id: {client_id[:128]}", 1008)


@pytest.mark.parametrize("name", ["client_id", "workspace", "token", "reconnection_token"])
@pytest.mark.parametrize("value", [5, True, ["x"], {"a": 1}, 0])
def test_member_that_is_no_text(tokens: TokenService, name: str, value: object) -> None:
    assert refused(tokens, **{name: value}) == (f"{SETUP}Invalid {name}: it must be a string or null", 1008)


def test_bad_token(tokens: TokenService) -> None:
    text = "Authentication error: Error decoding token headers."
    assert refused(tokens, token="junk") == (text, 1008)
    assert refused(tokens, reconnection_token="junk") == (text, 1008)


def test_bad_signature(tokens: TokenService, foreign: ForeignToken) -> None:
    text = "Authentication error: Signature verification failed."
    assert refused(tokens, token=foreign(key=b"y" * 32)) == (text, 1008)
    assert refused(tokens, reconnection_token=foreign(key=b"y" * 32)) == (text, 1008)


def test_expired_token(tokens: TokenService, foreign: ForeignToken) -> None:
    text = "Authentication error: The token has expired. Please fetch a new one"
    assert refused(tokens, token=foreign(exp=int(NOW) - 60)) == (text, 1008)


def test_revoked_token(tokens: TokenService, foreign: ForeignToken) -> None:
    token = foreign("alice")
    reconnect = tokens.reconnection_token(tokens.parse(token), "ws-user-alice", "prov")
    tokens.revoke(tokens.inspect(token))
    text = USER + "Token has been revoked"
    assert refused(tokens, token=token) == (text, 1008)
    assert refused(tokens, reconnection_token=reconnect) == (text, 1008)


@pytest.mark.parametrize("asked", ["ws-user-bob", "public"])
def test_token_for_another_workspace(tokens: TokenService, foreign: ForeignToken, asked: str) -> None:
    token = foreign("alice", "wid:ws-user-alice")
    text = f"Current workspace encoded in the token (ws-user-alice) does not match the specified workspace ({asked})"
    assert refused(tokens, token=token, workspace=asked) == (USER + text, 1008)


def test_token_bound_to_another_client(tokens: TokenService, foreign: ForeignToken) -> None:
    text = "Client id mismatch: this token is restricted to client with client_id='cid1'"
    assert refused(tokens, token=foreign("alice", "cid:cid1")) == (USER + text, 1008)


def test_specialised_token(tokens: TokenService, foreign: ForeignToken) -> None:
    text = (
        "Specialized token with scopes [file:download] cannot be used for general workspace access. "
        "This token can only be used for its intended purpose."
    )
    assert refused(tokens, token=foreign("alice", "file:download")) == (USER + text, 1008)
    special = foreign("alice", "cid:prov wid:ws-user-alice file:download")
    assert refused(tokens, reconnection_token=special) == (USER + text, 1008)


@pytest.mark.parametrize("workspace", ["ws-user-root", "public", "ws-anonymous", "ws-user-alice", "lab-ws"])
def test_no_right_on_the_workspace(tokens: TokenService, foreign: ForeignToken, workspace: str) -> None:
    refusal = (f"{SETUP}Permission denied for workspace: {workspace}", 1008)
    assert refused(tokens, token=foreign("eve"), workspace=workspace) == refusal
    assert refused(tokens, workspace=workspace) == refusal


def test_child_cannot_enter_as_its_parents_heir(tokens: TokenService, foreign: ForeignToken) -> None:
    token = foreign("kid", "ws:lab-ws#r", parent="alice", email="carol@x.org")
    refusal = (SETUP + "Permission denied for workspace: ws-user-alice", 1008)
    assert refused(tokens, token=token, workspace="ws-user-alice") == refusal


def test_unknown_workspace(tokens: TokenService, foreign: ForeignToken) -> None:
    refusal = (SETUP + "'Workspace nosuch-ws does not exist or is not accessible'", 1008)
    assert refused(tokens, token=foreign("alice"), workspace="nosuch-ws") == refusal
    assert refused(tokens, token=foreign("alice", "ws:nosuch-ws#a"), workspace="nosuch-ws") == refusal
    assert refused(tokens, workspace="nosuch-ws") == refusal


@pytest.mark.parametrize(
    ("scope", "workspace", "text"),
    [
        ("wid:ws-user-alice", None, "Invalid scope, client_id is required"),
        ("cid:prov", None, "Invalid scope, current_workspace is required"),
        ("cid:c9 wid:ws-user-alice", None, "Client id mismatch, disconnecting"),
        ("cid:prov wid:ws-user-alice", "ws-b", "Invalid scope, workspace mismatch: ws-b != ws-user-alice"),
    ],
)
def test_reconnection_token_that_does_not_fit(
    tokens: TokenService, foreign: ForeignToken, scope: str, workspace: str | None, text: str
) -> None:
    refusal = refused(tokens, reconnection_token=foreign("alice", scope), workspace=workspace)
    assert refusal == (USER + text, 1008)


def test_swapped_uses(tokens: TokenService, alice: User) -> None:
    reconnect = tokens.reconnection_token(alice, "ws-user-alice", "prov")
    text = "Authentication error: A reconnection token cannot be used as an access token"
    assert refused(tokens, token=reconnect) == (text, 1008)
    access = child_token(tokens, alice, {"client_id": "prov"})
    text = USER + "Invalid scope, an access token cannot be used to reconnect"
    assert refused(tokens, reconnection_token=access) == (text, 1008)


def test_refusals_decided_elsewhere_have_their_texts() -> None:
    assert payload_timeout().message == "Authentication payload timeout"
    assert payload_timeout().close_code == 1008
    assert undecodable().close_code == 1003
    assert client_exists("w", "c").message == SETUP + "Client already exists and is active: w/c"
    assert too_many_connections("u", 5, 5).message == "Connection limit exceeded: user u has 5/5 connections"
    assert too_many_clients("w", 5, 5).message == "Connection limit exceeded: workspace w has 5/5 clients"
    assert len(LEGACY_QUERY_REASON.encode()) <= 123


def test_close_reason_fits_a_close_frame_without_breaking_a_character() -> None:
    assert Refusal("short").reason == "short"
    assert Refusal("x" * 200).reason == "x" * 123
    assert Refusal("x" * 122 + "é" * 9).reason == "x" * 122


def test_a_refusal_never_shows_the_credential(tokens: TokenService, foreign: ForeignToken) -> None:
    token = foreign("alice", key=b"y" * 32)
    for member in ("token", "reconnection_token"):
        assert token not in refused(tokens, **{member: token})[0]
