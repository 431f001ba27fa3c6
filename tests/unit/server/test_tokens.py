from __future__ import annotations

import base64
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from hypha.auth.errors import AuthenticationError, TokenRevoked
from hypha.auth.identity import Scope, User, anonymous_user, root_user
from hypha.auth.scopes import ParsedScope
from hypha.auth.secret import Secrets
from hypha.auth.tokens import Grant, TokenService, refuse_specialised

if TYPE_CHECKING:
    from conftest import Clock, ForeignToken

SECRET = b"0123456789abcdef0123456789abcdef"
NOW = 1_800_000_000.0
ROOT_TOKEN = "kQ9vX2mB7nL4wR8zT5yU1pH6jF3dS0gV"
BAD_FORM = "Error decoding token headers."


def claims_of(token: str) -> dict[str, Any]:
    return jwt.decode(token, OctKey.import_key(SECRET), algorithms=["HS256"]).claims


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


# ---------------------------------------------------------------------- parse


def test_token_of_the_public_server_parses(tokens: TokenService, foreign: ForeignToken) -> None:
    scope = "ws:ws-user-alice#r cid:c1 wid:ws-user-alice"
    token = foreign("kid-1", scope, roles=["user"], email="a@x.org", parent="alice")
    user = tokens.parse(token)
    assert user.to_wire() == {
        "id": "kid-1",
        "roles": ["user"],
        "is_anonymous": False,
        "scope": {
            "current_workspace": "ws-user-alice",
            "workspaces": {"ws-user-alice": "r"},
            "client_id": "c1",
            "extra_scopes": [],
        },
        "email": "a@x.org",
        "parent": "alice",
        "expires_at": NOW + 3600,
        "current_workspace": "ws-user-alice",
    }


def test_login_token_is_administrator_of_its_home(tokens: TokenService, foreign: ForeignToken) -> None:
    assert tokens.parse(foreign("alice")).scope.workspaces == {"ws-user-alice": "a"}


def test_role_admin_means_everywhere_but_not_for_a_child(tokens: TokenService, foreign: ForeignToken) -> None:
    assert tokens.parse(foreign("adm", roles=["admin"])).scope.workspaces["*"] == "a"
    child = tokens.parse(foreign("kid", "ws:lab-ws#r", roles=["admin"], parent="adm"))
    assert child.scope.workspaces == {"lab-ws": "r"}


def test_child_holds_exactly_its_words(tokens: TokenService, foreign: ForeignToken) -> None:
    assert tokens.parse(foreign("kid", "ws:lab-ws#rw", parent="alice")).scope.workspaces == {"lab-ws": "rw"}


def test_minted_token_parses_back(tokens: TokenService) -> None:
    scope = ParsedScope({"lab-ws": "rw"}, "c1", "lab-ws", ("file:download",))
    grant = Grant(
        user_id="kid",
        scope=scope,
        expires_in=60,
        roles=["user"],
        email="a@x.org",
        parent="alice",
        ancestors=["t0"],
    )
    token = tokens.mint(grant)
    user = tokens.parse(token)
    claims = claims_of(token)
    assert claims["gty"] == "client-credentials"
    assert (claims["iat"], claims["exp"]) == (NOW, NOW + 60)
    assert user.token_ids == ("t0", claims["jti"])
    assert not user.email_verified
    assert (user.roles, user.email, user.parent, user.expires_at) == (("user",), "a@x.org", "alice", NOW + 60)
    assert user.scope == Scope({"lab-ws": "rw"}, "lab-ws", "c1", ("file:download",))


@pytest.mark.parametrize(
    "token",
    ["", "abc", "a.b.c", "....", "é.b.c", "x" * 9000, "\ud800", f"{encoded({'alg': 'HS256'})}.{encoded({})}"],
)
def test_malformed_token(tokens: TokenService, token: str) -> None:
    with pytest.raises(AuthenticationError) as caught:
        tokens.parse(token)
    assert str(caught.value) == BAD_FORM


def test_every_cut_of_a_token_is_refused(tokens: TokenService, foreign: ForeignToken) -> None:
    token = foreign()
    for length in range(0, len(token), 7):
        with pytest.raises(AuthenticationError):
            tokens.parse(token[:length])


def test_wrong_signature(tokens: TokenService, foreign: ForeignToken) -> None:
    head, payload, signature = foreign().split(".")
    forged = encoded({"sub": "bob"})
    for token in (foreign(key=b"y" * 32), f"{head}.{forged}.{signature}", f"{head}.{payload}.{signature[:-4]}AAAA"):
        with pytest.raises(AuthenticationError) as caught:
            tokens.parse(token)
        assert str(caught.value) == "Signature verification failed."


@pytest.mark.parametrize("algorithm", ["none", "None", "HS512", "RS256", "", None, ["HS256"]])
def test_other_algorithms_are_refused(tokens: TokenService, foreign: ForeignToken, algorithm: object) -> None:
    _, payload, signature = foreign().split(".")
    for tail in (signature, ""):
        with pytest.raises(AuthenticationError):
            tokens.parse(f"{encoded({'alg': algorithm, 'typ': 'JWT'})}.{payload}.{tail}")


def test_token_signed_with_hs512_and_the_right_key_is_refused(tokens: TokenService) -> None:
    token = jwt.encode({"alg": "HS512"}, {"sub": "alice"}, OctKey.import_key(SECRET), algorithms=["HS512"])
    with pytest.raises(AuthenticationError, match="Invalid algorithm"):
        tokens.parse(token)


@pytest.mark.parametrize(
    "header",
    [
        {"jku": "https://evil/"},
        {"jwk": {"kty": "oct", "k": "eHh4"}},
        {"x5u": "https://evil/"},
        {"x5c": ["eHh4"]},
        {"crit": ["exp"], "exp": 1},
    ],
    ids=lambda header: next(iter(header)),
)
def test_headers_that_bring_a_key_are_refused(tokens: TokenService, header: dict[str, Any]) -> None:
    # Signed by hand: the library refuses to write some of them.
    import hashlib
    import hmac

    claims = {"iss": "https://amun.ai/", "sub": "alice", "aud": "https://amun-ai.eu.auth0.com/api/v2/"}
    signed = f"{encoded({'alg': 'HS256'} | header)}.{encoded(claims | {'iat': NOW, 'exp': NOW + 60})}"
    signature = base64.urlsafe_b64encode(hmac.digest(SECRET, signed.encode(), hashlib.sha256)).rstrip(b"=").decode()
    with pytest.raises(AuthenticationError) as caught:
        tokens.parse(f"{signed}.{signature}")
    assert str(caught.value) == BAD_FORM


def test_expiry_with_ten_seconds_of_grace(tokens: TokenService, foreign: ForeignToken, clock: Clock) -> None:
    token = foreign(exp=int(NOW) + 1)
    clock.now += 10.5
    assert tokens.parse(token).id == "alice"
    clock.now += 1
    with pytest.raises(AuthenticationError) as caught:
        tokens.parse(token)
    assert str(caught.value) == "The token has expired. Please fetch a new one"


@pytest.mark.parametrize("name", ["iat", "nbf"])
def test_token_from_the_future_is_refused(tokens: TokenService, foreign: ForeignToken, name: str) -> None:
    assert tokens.parse(foreign(**{name: int(NOW) + 9})).id == "alice"
    with pytest.raises(AuthenticationError, match="not valid yet"):
        tokens.parse(foreign(**{name: int(NOW) + 11}))


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": ...},
        {"iss": "https://evil/"},
        {"aud": ...},
        {"aud": "other"},
        {"aud": ["other"]},
        {"sub": ...},
        {"sub": ""},
        {"sub": "a b"},
        {"sub": 5},
        {"exp": ...},
        {"exp": "soon"},
        {"exp": True},
        {"exp": float("inf")},
        {"iat": ...},
        {"iat": None},
        {"scope": 5},
        {"scope": "ws:a#x"},
        {"roles": "admin"},
        {"roles": [1]},
        {"email": 5},
        {"parent": 5},
        {"jti": 5},
        {"jti": ""},
        {"anc": "x"},
        {"anc": ["x"] * 9},
        {"use": "reconnect"},
    ],
    ids=str,
)
def test_claims_that_are_missing_or_wrong_are_refused(
    tokens: TokenService, foreign: ForeignToken, claims: dict[str, Any]
) -> None:
    with pytest.raises(AuthenticationError):
        tokens.parse(foreign(**claims))


def test_audience_may_be_one_of_several(tokens: TokenService, foreign: ForeignToken) -> None:
    assert tokens.parse(foreign(aud=["x", "https://amun-ai.eu.auth0.com/api/v2/"])).id == "alice"


def test_previous_key_verifies_and_does_not_sign(clock: Clock, foreign: ForeignToken) -> None:
    rotated = TokenService(Secrets(b"n" * 32, SECRET), clock=clock)
    assert rotated.parse(foreign()).id == "alice"
    fresh = rotated.mint(Grant(user_id="bob", scope=ParsedScope({}), expires_in=60))
    assert TokenService(Secrets(b"n" * 32), clock=clock).parse(fresh).id == "bob"
    with pytest.raises(AuthenticationError):
        TokenService(Secrets(SECRET), clock=clock).parse(fresh)


def test_life_is_clamped_to_a_year_with_a_warning(tokens: TokenService, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "hypha.auth"):
        token = tokens.mint(Grant(user_id="bob", scope=ParsedScope({}), expires_in=float("inf")))
    assert claims_of(token)["exp"] == NOW + 365 * 86400
    assert "365 days" in caplog.text
    assert token not in caplog.text


def test_token_too_long_to_be_accepted_back_is_not_minted(tokens: TokenService) -> None:
    scope = ParsedScope({f"workspace-{index:0100d}": "r" for index in range(80)})
    with pytest.raises(ValueError, match="too long"):
        tokens.mint(Grant(user_id="bob", scope=scope, expires_in=60))


# ------------------------------------------------------------------------ root


def test_root_token_admits_as_root(clock: Clock) -> None:
    service = TokenService(Secrets(SECRET), clock=clock, root_token=ROOT_TOKEN)
    assert service.authenticate(ROOT_TOKEN).id == "root"
    for wrong in (ROOT_TOKEN[:-1], ROOT_TOKEN + "x", "é" * 32, "\ud800"):
        with pytest.raises(AuthenticationError):
            service.authenticate(wrong)


def test_without_a_root_token_nothing_admits_as_root(tokens: TokenService) -> None:
    for text in ("", "None", ROOT_TOKEN):
        with pytest.raises(AuthenticationError):
            tokens.authenticate(text)


def test_changing_the_root_token_ends_what_descends_from_it(clock: Clock) -> None:
    service = TokenService(Secrets(SECRET), clock=clock, root_token=ROOT_TOKEN)
    token = service.reconnection_token(service.authenticate(ROOT_TOKEN), "ws-user-root", "c1")
    assert service.parse_reconnection(token, "c1", None).id == "root"
    for other in (None, ROOT_TOKEN[::-1]):
        with pytest.raises(TokenRevoked):
            TokenService(Secrets(SECRET), clock=clock, root_token=other).parse_reconnection(token, "c1", None)


# ---------------------------------------------------------------- reconnection


def test_reconnection_token_restores_user_and_place(tokens: TokenService, alice: User) -> None:
    token = tokens.reconnection_token(alice, "ws-user-alice", "prov")
    user = tokens.parse_reconnection(token, "prov", None)
    assert (user.id, user.roles, user.email) == ("alice", ("user",), "alice@example.com")
    assert (user.current_workspace, user.scope.client_id) == ("ws-user-alice", "prov")
    assert user.token_ids == alice.token_ids
    assert claims_of(token)["scope"] == "ws:ws-user-alice#a cid:prov wid:ws-user-alice"
    assert claims_of(token)["exp"] == NOW + 172_800


def test_reconnection_outlives_the_token_it_rests_on(tokens: TokenService, foreign: ForeignToken, clock: Clock) -> None:
    user = tokens.parse(foreign(exp=int(NOW) + 1))
    token = tokens.reconnection_token(user, "ws-user-alice", "c1")
    clock.now += 86400
    assert tokens.parse_reconnection(token, "c1", "ws-user-alice").id == "alice"


def test_anonymous_user_and_child_resume_as_they_were(tokens: TokenService, foreign: ForeignToken) -> None:
    anonymous = anonymous_user(NOW)
    home = f"ws-user-{anonymous.id}"
    resumed = tokens.parse_reconnection(tokens.reconnection_token(anonymous, home, "c1"), "c1", None)
    assert (resumed.id, resumed.is_anonymous, dict(resumed.scope.workspaces)) == (anonymous.id, True, {home: "a"})
    child = tokens.parse(foreign("kid", "ws:lab-ws#r wid:lab-ws", parent="alice"))
    resumed = tokens.parse_reconnection(tokens.reconnection_token(child, "lab-ws", "c1"), "c1", None)
    assert (resumed.parent, dict(resumed.scope.workspaces)) == ("alice", {"lab-ws": "r"})


def test_ownership_is_not_put_into_a_reconnection_token(tokens: TokenService, foreign: ForeignToken) -> None:
    user = tokens.parse(foreign("alice")).admitted("c1", "lab-ws", "a")
    resumed = tokens.parse_reconnection(tokens.reconnection_token(user, "lab-ws", "c1"), "c1", None)
    assert resumed.scope.workspaces == {"ws-user-alice": "a"}
    assert resumed.current_workspace == "lab-ws"


def test_refreshing_many_times_does_not_lengthen_the_token(tokens: TokenService, alice: User) -> None:
    token = tokens.reconnection_token(alice, "ws-user-alice", "prov")
    length = len(token)
    for _ in range(20):
        token = tokens.reconnection_token(tokens.parse_reconnection(token, "prov", None), "ws-user-alice", "prov")
    assert len(token) == length


@pytest.mark.parametrize(
    ("scope", "claims", "client_id", "workspace", "text"),
    [
        ("cid:c1", {}, "c1", None, "Invalid scope, current_workspace is required"),
        ("wid:lab-ws", {}, "c1", None, "Invalid scope, client_id is required"),
        ("cid:c1 wid:lab-ws", {}, "c2", None, "Client id mismatch, disconnecting"),
        ("cid:c1 wid:lab-ws", {}, "c1", "other-ws", "Invalid scope, workspace mismatch: other-ws != lab-ws"),
        ("cid:c1 wid:lab-ws", {"jti": "t1"}, "c1", None, "Invalid scope, an access token cannot be used to reconnect"),
        (
            "cid:c1 wid:lab-ws file:download",
            {},
            "c1",
            None,
            "Specialized token with scopes [file:download] cannot be used for general workspace access. "
            "This token can only be used for its intended purpose.",
        ),
    ],
)
def test_reconnection_refused(
    tokens: TokenService,
    foreign: ForeignToken,
    scope: str,
    claims: dict[str, Any],
    client_id: str,
    workspace: str | None,
    text: str,
) -> None:
    with pytest.raises(PermissionError) as caught:
        tokens.parse_reconnection(foreign("alice", scope, **claims), client_id, workspace)
    assert str(caught.value) == text


def test_reconnection_token_of_the_public_server_is_accepted(tokens: TokenService, foreign: ForeignToken) -> None:
    token = foreign("alice", "ws:ws-user-alice#a cid:c1 wid:ws-user-alice")
    user = tokens.parse_reconnection(token, "c1", "ws-user-alice")
    assert len(user.token_ids) == 1


def test_reconnection_token_is_no_access_token(tokens: TokenService, alice: User) -> None:
    token = tokens.reconnection_token(alice, "ws-user-alice", "prov")
    with pytest.raises(AuthenticationError, match="reconnection token"):
        tokens.parse(token)
    with pytest.raises(AuthenticationError):
        tokens.authenticate(token)


def test_specialised_token_is_known_by_a_colon() -> None:
    refuse_specialised(User("a", scope=Scope(extra_scopes=("openid",))))
    refuse_specialised(root_user())
    with pytest.raises(PermissionError, match="file:download, x:y"):
        refuse_specialised(User("a", scope=Scope(extra_scopes=("file:download", "openid", "x:y"))))


# ------------------------------------------------------------------ revocation


def test_revoked_token_and_all_that_descend_from_it_are_refused(tokens: TokenService, alice: User) -> None:
    child = tokens.mint(
        Grant(user_id="kid", scope=ParsedScope({}), expires_in=60, parent="alice", ancestors=alice.token_ids)
    )
    reconnect = tokens.reconnection_token(alice, "ws-user-alice", "prov")
    tokens.revoke(alice)
    with pytest.raises(TokenRevoked, match="Token has been revoked"):
        tokens.parse(child)
    with pytest.raises(TokenRevoked):
        tokens.parse_reconnection(reconnect, "prov", None)


def test_other_spellings_of_a_revoked_foreign_token_are_refused(tokens: TokenService, foreign: ForeignToken) -> None:
    token = foreign()
    tokens.revoke(tokens.inspect(token))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for last in alphabet:
        with pytest.raises(AuthenticationError) as caught:
            tokens.parse(token[:-1] + last)
        assert str(caught.value) in {"Token has been revoked", "Signature verification failed."}


def test_inspecting_a_reconnection_token_names_the_token_itself(tokens: TokenService, alice: User) -> None:
    token = tokens.reconnection_token(alice, "ws-user-alice", "prov")
    target = tokens.inspect(token)
    assert target.token_ids == (*alice.token_ids, claims_of(token)["jti"])
    tokens.revoke(target)
    with pytest.raises(TokenRevoked):
        tokens.parse_reconnection(token, "prov", None)
    other = tokens.reconnection_token(alice, "ws-user-alice", "prov")
    assert tokens.parse_reconnection(other, "prov", None).id == "alice"
