"""The functions of ``public/hypha-login`` for programs (server §4.6, §4.7, security S23, S24)."""

from __future__ import annotations

from typing import Any

import pytest

from hypha.auth.errors import AuthenticationError
from hypha.login.keys import TooManyRequests

from .conftest import GOOD, Desk, query_of


class TestStart:
    def test_it_gives_a_key_and_absolute_urls(self, desk: Desk) -> None:
        context = desk.call("start")
        key = context["key"]
        base = "http://127.0.0.1:9527/public"
        assert context == {
            "login_url": f"{base}/apps/hypha-login/?key={key}",
            "key": key,
            "report_url": f"{base}/services/hypha-login/report",
            "check_url": f"{base}/services/hypha-login/check",
        }

    def test_the_urls_are_those_of_the_public_base_url(self, public_desk: Desk) -> None:
        context = public_desk.call("start")
        assert context["login_url"].startswith("https://hypha.example/public/apps/hypha-login/?key=")

    def test_what_is_wanted_stands_in_the_url_encoded(self, desk: Desk) -> None:
        context = desk.call("start", workspace="ws-user-a@b.c", expires_in=3600)
        assert query_of(context["login_url"]) == {
            "key": context["key"],
            "workspace": "ws-user-a@b.c",
            "expires_in": "3600",
        }

    @pytest.mark.parametrize("workspace", ["x&redirect=//evil", "a b", "a/b", "*", 7, "x" * 129])
    def test_what_is_no_workspace_is_refused(self, desk: Desk, workspace: Any) -> None:
        with pytest.raises(ValueError, match="Invalid workspace name"):
            desk.call("start", workspace=workspace)

    def test_an_ampersand_in_a_workspace_is_encoded(self, desk: Desk) -> None:
        context = desk.call("start", workspace="x&redirect=evil")
        assert set(query_of(context["login_url"])) == {"key", "workspace"}

    @pytest.mark.parametrize("life", [0, -1, float("nan"), True, "soon", [1]])
    def test_what_is_no_life_is_refused(self, desk: Desk, life: Any) -> None:
        with pytest.raises(ValueError, match="expires_in should be greater than 0"):
            desk.call("start", expires_in=life)

    def test_too_many(self, desk: Desk) -> None:
        for _ in range(30):
            desk.call("start")
        with pytest.raises(TooManyRequests):
            desk.call("start")


class TestReportAndCheck:
    async def test_check_returns_the_very_token_that_was_reported(self, desk: Desk) -> None:
        token = desk.token()
        key = desk.call("start")["key"]
        assert await desk.call("report", key=key, token=token, sender="ws-1/far") is None
        assert await desk.call("check", key, timeout=1) == token

    async def test_the_profile_has_the_token_in_it(self, desk: Desk) -> None:
        token = desk.token()
        key = desk.call("start")["key"]
        await desk.call(
            "report", key, token, email="a@b.c", email_verified=True, name="A", nickname="a", user_id="alice"
        )
        assert await desk.call("check", key, 1, profile=True) == {
            "token": token,
            "workspace": None,
            "expires_in": None,
            "email": "a@b.c",
            "email_verified": True,
            "name": "A",
            "nickname": "a",
            "user_id": "alice",
            "picture": None,
        }

    @pytest.mark.parametrize("token", ["nonsense", "", None, 7, {"a": 1}])
    async def test_a_bad_token_is_refused_and_the_key_stays(self, desk: Desk, token: Any) -> None:
        key = desk.call("start")["key"]
        with pytest.raises(ValueError, match="^Invalid token provided to report_login: 401: .*must be a valid JWT"):
            await desk.call("report", key, token)
        assert await desk.call("check", key, 0) is None

    async def test_a_reconnection_token_is_none(self, desk: Desk) -> None:
        user = desk.tokens.parse(desk.token()).admitted("c1", "ws-user-alice", "a")
        key = desk.call("start")["key"]
        with pytest.raises(ValueError, match="reconnection token"):
            await desk.call("report", key, desk.tokens.reconnection_token(user, "ws-user-alice", "c1"))

    async def test_the_root_token_is_none(self) -> None:
        desk = Desk(root_token="q" * 64)
        desk.tokens._root_token = b"q" * 64
        assert desk.tokens.authenticate("q" * 64).id == "root"
        key = desk.call("start")["key"]
        with pytest.raises(ValueError, match="Invalid token provided"):
            await desk.call("report", key, "q" * 64)

    async def test_a_token_for_one_purpose_is_refused(self, desk: Desk) -> None:
        key = desk.call("start")["key"]
        with pytest.raises(PermissionError, match="Specialized token"):
            await desk.call("report", key, desk.token(scope="file:download"))

    async def test_a_bad_key(self, desk: Desk) -> None:
        with pytest.raises(AssertionError, match="^Invalid key, key does not exist or expired$"):
            await desk.call("report", "nope", desk.token())

    async def test_with_a_workspace_a_child_for_it_takes_the_tokens_place(self, desk: Desk) -> None:
        desk.owned["team-x"] = ["alice"]
        parent = desk.token()
        key = desk.call("start")["key"]
        await desk.call("report", key, parent, workspace="team-x", expires_in=100)
        token = await desk.call("check", key, 0)
        child = desk.tokens.parse(token)
        assert child.parent == "alice"
        assert dict(child.scope.workspaces) == {"team-x": "a"}
        assert child.current_workspace == "team-x"
        desk.tokens.revoke(desk.tokens.inspect(parent))
        with pytest.raises(AuthenticationError, match="revoked"):
            desk.tokens.parse(token)

    async def test_a_child_has_no_more_than_its_parent(self, desk: Desk) -> None:
        key = desk.call("start")["key"]
        await desk.call("report", key, desk.token(scope="ws:team-x#r"), workspace="team-x")
        child = desk.tokens.parse(await desk.call("check", key, 0))
        assert dict(child.scope.workspaces) == {"team-x": "r"}

    @pytest.mark.parametrize(("workspace", "error"), [("team-x", PermissionError), ("nobody-knows", KeyError)])
    async def test_a_workspace_of_others(self, desk: Desk, workspace: str, error: type[Exception]) -> None:
        key = desk.call("start")["key"]
        with pytest.raises(error):
            await desk.call("report", key, desk.token(), workspace=workspace)

    async def test_a_wait_is_bounded(self) -> None:
        desk = Desk(limits={"maximum_login_time": 0.01})
        key = desk.call("start")["key"]
        with pytest.raises(TimeoutError, match="waited for 0.01 seconds"):
            await desk.call("check", key, timeout=1e9)
        assert await desk.call("check", key, timeout=0) is None

    @pytest.mark.parametrize("timeout", ["long", True, float("nan"), [1]])
    async def test_what_is_no_time(self, desk: Desk, timeout: Any) -> None:
        with pytest.raises(ValueError, match="timeout"):
            await desk.call("check", desk.call("start")["key"], timeout=timeout)

    @pytest.mark.parametrize("name", [["x"], "x" * 3000])
    async def test_a_profile_is_made_of_short_texts(self, desk: Desk, name: Any) -> None:
        with pytest.raises(ValueError, match="profile"):
            await desk.call("report", desk.call("start")["key"], desk.token(), name=name)


class TestAccounts:
    async def test_on_ones_own_machine_the_code_is_shown(self, desk: Desk) -> None:
        answer = await desk.call("signup", "Ada", "ada@example.org", GOOD)
        code = answer.pop("dev_code")
        assert answer == {"success": True, "verification_required": True, "email": "ada@example.org"}
        verified = await desk.call("verify_email", "ada@example.org", int(code))
        assert verified["success"] and verified["email_verified"]
        answer = await desk.call("login", "ada@example.org", GOOD)
        user = desk.tokens.parse(answer["token"])
        assert (user.id, user.email, user.email_verified, user.roles) == (
            verified["user_id"],
            "ada@example.org",
            True,
            ("user",),
        )
        assert answer["workspace"] == f"ws-user-{user.id}"
        assert user.expires_at == pytest.approx(1_800_000_000 + 86_400)

    async def test_elsewhere_no_code_is_shown_and_the_address_stays_out_of_the_token(self, public_desk: Desk) -> None:
        answer = await public_desk.call("signup", "Ada", "ada@example.org", GOOD)
        assert answer == {"success": True, "verification_required": False, "email": "ada@example.org"}
        user = public_desk.tokens.parse((await public_desk.call("login", "ada@example.org", GOOD))["token"])
        assert (user.email, user.email_verified) == (None, False)

    @pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
    async def test_half_a_loopback_is_none(self, host: str) -> None:
        desk = Desk(host=host, public_base_url="https://hypha.example" if host == "127.0.0.1" else "http://localhost:1")
        assert "dev_code" not in await desk.call("signup", "Ada", "ada@example.org", GOOD)

    async def test_what_went_wrong_is_told_in_the_answer(self, desk: Desk) -> None:
        assert await desk.call("signup") == {"success": False, "error": "Name, email and password are required"}
        assert await desk.call("login", "x@y.z", "w") == {"success": False, "error": "Invalid email or password"}
        assert not (await desk.call("verify_email", "x@y.z", "1"))["success"]
        assert not desk.call("resend_code", "x@y.z")["success"]

    async def test_a_login_with_a_key_serves_the_waiting_program(self, desk: Desk) -> None:
        await desk.ada()
        key = desk.call("start", sender="ws-1/far")["key"]
        answer = await desk.call("login", "ada@example.org", GOOD, key=key)
        assert await desk.call("check", key, 0, sender="ws-1/far") == answer["token"]

    async def test_a_login_for_a_workspace(self, desk: Desk) -> None:
        account = await desk.ada()
        desk.owned["team-x"] = [account["id"]]
        answer = await desk.call("login", "ada@example.org", GOOD, workspace="team-x")
        user = desk.tokens.parse(answer["token"])
        assert (user.parent, user.current_workspace) == (account["id"], "team-x")
        assert answer["workspace"] == "team-x"

    async def test_a_profile_is_changed_by_its_token_only(self, desk: Desk) -> None:
        account = await desk.ada()
        token = (await desk.call("login", "ada@example.org", GOOD))["token"]
        assert (await desk.call("update_profile", token, name="Countess"))["name"] == "Countess"
        child = desk.room._service._context.tokens.child(desk.tokens.parse(token), f"ws-user-{account['id']}", 60)
        for other in (None, "nonsense", desk.token("bob"), child):
            assert not (await desk.call("update_profile", other, name="Eve"))["success"]
        found = await desk.accounts.of_user(account["id"])
        assert found is not None and found.name == "Countess"

    async def test_a_new_password_needs_the_current_one(self, desk: Desk) -> None:
        await desk.ada()
        token = (await desk.call("login", "ada@example.org", GOOD))["token"]
        refused = await desk.call("update_profile", token, password="another horse", current_password="wrong")
        assert refused == {"success": False, "error": "Invalid email or password"}
        assert (await desk.call("update_profile", token, password="another horse", current_password=GOOD))["success"]
        assert (await desk.call("login", "ada@example.org", "another horse"))["success"]

    async def test_one_address_guesses_twenty_times_a_minute(self, desk: Desk) -> None:
        texts = [(await desk.call("login", f"u{n}@y.z", "guess"))["error"] for n in range(25)]
        assert texts[:20] == ["Invalid email or password"] * 20
        assert all(text.startswith("Too many attempts") for text in texts[20:])


def test_every_function_takes_the_context_it_is_given(desk: Desk) -> None:
    import inspect

    functions = [*(value for value in desk.service.values() if callable(value)), *desk.service["page"].values()]
    assert len(functions) == 18
    for function in functions:
        assert inspect.signature(function).parameters["context"].kind is inspect.Parameter.KEYWORD_ONLY
