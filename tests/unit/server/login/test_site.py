"""The login page: headers, frames, sessions, clicks (server §4.6, security S25, S29-S32)."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from hypha.login.requests import PageRequest
from hypha.login.site import own_redirect

from .conftest import GOOD, Desk

WEB_FAR = "ws-anonymous/client-2"


class Page(HTMLParser):
    """What a page refers to, and what stands between its tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[str] = []
        self.inline: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.inside.pop()

    def handle_data(self, data: str) -> None:
        if self.inside and self.inside[-1] in ("script", "style") and data.strip():
            self.inline.append(data)


class TestPages:
    def test_headers(self, desk: Desk) -> None:
        headers = desk.get("index", "/?key=x")["headers"]
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'self'" in policy and "base-uri 'none'" in policy
        assert "unsafe" not in policy and "*" not in policy
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Strict-Transport-Security" not in headers

    def test_https_stays_https(self, public_desk: Desk) -> None:
        assert "max-age" in public_desk.get("index")["headers"]["Strict-Transport-Security"]

    @pytest.mark.parametrize("function", ["index", "profile"])
    def test_the_page_is_self_contained_and_says_what_it_is(self, desk: Desk, function: str) -> None:
        text = desk.get(function)["body"].decode()
        page = Page(text)
        assert "Hypha Account" in text
        assert "{{" not in text and "{%" not in text
        assert page.inline == []
        for tag, attributes in page.tags:
            assert not any(name.startswith("on") or name == "style" for name in attributes), tag
            for name in ("src", "href", "action"):
                if (target := attributes.get(name)) is not None:
                    assert re.fullmatch(r"[a-z]+\.(js|css|svg)", target)
                    assert desk.get("default", f"/{target}")["status"] == 200

    def test_every_field_has_a_label(self, desk: Desk) -> None:
        page = Page(desk.get("index")["body"].decode())
        labelled = {attributes.get("for") for tag, attributes in page.tags if tag == "label"}
        fields = {a.get("id") for tag, a in page.tags if tag == "input" and "hidden" not in a}
        assert fields <= labelled

    @pytest.mark.parametrize("name", ["login.js", "stub.js"])
    def test_scripts_make_no_markup_and_keep_no_token(self, desk: Desk, name: str) -> None:
        answer = desk.get("default", f"/{name}")
        assert answer["headers"]["Content-Type"].startswith("text/javascript")
        text = answer["body"].decode()
        for bad in (
            "innerHTML",
            "outerHTML",
            "document.write",
            "eval(",
            "Storage",
            "document.cookie",
            "http:",
            "https:",
        ):
            assert bad not in text

    @pytest.mark.parametrize("path", ["/", "/../service.py", "/login.html", "/page/index.html", "/service.py"])
    def test_nothing_else_is_served(self, desk: Desk, path: str) -> None:
        assert desk.get("default", path)["status"] == 404

    def test_a_key_is_never_put_into_the_page(self, desk: Desk) -> None:
        assert desk.get("index", "/?key=%22%3E%3Cscript%3E")["body"] == desk.get("index")["body"]

    def test_logout_leads_to_the_page(self, desk: Desk) -> None:
        assert desk.call("logout") == {"logout_url": "http://127.0.0.1:9527/public/apps/hypha-login/?logout=true"}
        assert desk.call("logout", {}) == desk.call("logout")
        answer = desk.get("logout")
        assert (answer["status"], answer["headers"]["Location"]) == (303, desk.call("logout")["logout_url"])
        assert desk.call("profile")["profile_url"].endswith("/public/apps/hypha-login/profile")


class TestFrames:
    @pytest.mark.parametrize("site", ["cross-site", "same-site", None])
    def test_in_a_frame_of_another_site_there_is_only_a_button(self, desk: Desk, site: str | None) -> None:
        headers = {"sec_fetch_dest": "iframe"} | ({"sec_fetch_site": site} if site else {})
        answer = desk.get("index", **headers)
        assert b"stub.js" in answer["body"] and b"<input" not in answer["body"]
        assert "frame-ancestors *" in answer["headers"]["Content-Security-Policy"]

    def test_in_a_frame_of_this_site_there_is_the_page(self, desk: Desk) -> None:
        answer = desk.get("index", sec_fetch_dest="iframe", sec_fetch_site="same-origin")
        assert b"login.js" in answer["body"]

    def test_listed_sites_may_frame_the_page(self) -> None:
        desk = Desk(login_frame_ancestors=("https://notebook.example",))
        headers = {"sec_fetch_dest": "iframe", "sec_fetch_site": "cross-site"}
        answer = desk.get("index", referer="https://notebook.example/x", **headers)
        assert b"login.js" in answer["body"]
        assert "frame-ancestors 'self' https://notebook.example" in answer["headers"]["Content-Security-Policy"]
        assert b"stub.js" in desk.get("index", referer="https://evil.example/", **headers)["body"]


class TestSessions:
    async def test_signing_up_begins_a_session_in_a_cookie_that_scripts_cannot_read(self, desk: Desk) -> None:
        account = await desk.ada()
        cookie = desk.last["headers"]["Set-Cookie"]
        assert re.fullmatch(r"access_token=[\w.-]+; Max-Age=86400; Path=/; HttpOnly; SameSite=Strict", cookie)
        assert desk.cookies["access_token"] not in desk.last["body"]
        assert desk.last["headers"]["Cache-Control"] == "no-store"
        state = await desk.post("state")
        assert state["account"] == account

    async def test_over_https_the_cookie_is_secure_and_below_the_base_path(self, public_desk: Desk) -> None:
        await public_desk.ada()
        assert public_desk.last["headers"]["Set-Cookie"].endswith("Path=/h; HttpOnly; SameSite=Strict; Secure")

    async def test_logging_out_ends_it_for_whoever_copied_the_cookie(self, desk: Desk) -> None:
        await desk.ada()
        copied = dict(desk.cookies)
        await desk.post("logout")
        assert desk.last["headers"]["Set-Cookie"].startswith("access_token=; Max-Age=0")
        desk.cookies = copied
        assert (await desk.post("state"))["account"] is None

    async def test_logging_out_leaves_the_programs_alone(self, desk: Desk) -> None:
        key = desk.call("start")["key"]
        await desk.post("signup", {"name": "Ada", "email": "a@b.c", "password": GOOD, "key": key})
        await desk.post("logout")
        assert desk.tokens.parse(await desk.call("check", key, 0)).email == "a@b.c"

    @pytest.mark.parametrize("cookie", ["access_token=nonsense", "access_token=", "; ;=", "access_token"])
    async def test_a_bad_cookie_is_no_session(self, desk: Desk, cookie: str) -> None:
        assert (await desk.post("state", headers={"cookie": cookie}))["account"] is None

    async def test_a_childs_token_is_no_session(self, desk: Desk) -> None:
        account = await desk.ada()
        user = desk.tokens.parse(desk.cookies["access_token"])
        child = desk.room._service._context.tokens.child(user, f"ws-user-{account['id']}", 60)
        desk.cookies["access_token"] = child
        assert (await desk.post("state"))["account"] is None

    @pytest.mark.parametrize(
        "headers",
        [
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
        ],
    )
    async def test_other_sites_may_not_click(self, desk: Desk, headers: dict[str, str]) -> None:
        await desk.ada()
        key = desk.call("start")["key"]
        answer = await desk.post("approve", {"key": key}, headers=headers)
        assert (desk.last["status"], answer) == (403, {"error": "This request comes from another site"})
        assert await desk.call("check", key, 0) is None

    @pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
    async def test_forms_may_not_click(self, desk: Desk, kind: str) -> None:
        await desk.ada()
        await desk.post("approve", {"key": "x"}, headers={"content-type": kind})
        assert desk.last["status"] == 415

    @pytest.mark.parametrize(
        ("headers", "own"),
        [
            ({}, True),
            ({"origin": "http://127.0.0.1:9527"}, True),
            ({"origin": "http://localhost:9527", "host": "localhost:9527"}, True),
            ({"origin": "https://evil.example", "host": "127.0.0.1:9527"}, False),
            ({"origin": "null"}, False),
            ({"sec-fetch-site": "none", "origin": "https://evil.example"}, True),
            ({"sec-fetch-site": "cross-site"}, False),
        ],
    )
    def test_whose_request_it_is(self, headers: dict[str, str], own: bool) -> None:
        request = PageRequest.parse({"type": "http", "headers": headers})
        assert request.is_own("http://127.0.0.1:9527") is own

    @pytest.mark.parametrize("step", ["state", "login", "signup", "approve", "change", "logout"])
    @pytest.mark.parametrize("event", [None, 7, {}, {"type": "websocket"}, {"type": "http", "body": b"x" * 20_000}])
    async def test_what_is_no_request_is_refused(self, desk: Desk, step: str, event: Any) -> None:
        answer = await desk.service["page"][step](event, context={"from": "ws-1/a"})
        assert answer["status"] in (400, 405, 413)


class TestTheClick:
    async def test_the_page_says_who_asks_for_what(self, desk: Desk) -> None:
        desk.now = 7.0
        key = desk.call("start", workspace="team-x", expires_in=100)["key"]
        state = await desk.post("state", {"key": key})
        assert state["login"] == {
            "address": "203.0.113.7",
            "same_network": True,
            "program": "a",
            "started_at": 1_800_000_007.0,
            "workspace": "team-x",
            "life": 100.0,
            "done": False,
        }

    async def test_another_network_is_told(self, desk: Desk) -> None:
        key = desk.call("start", sender="ws-1/far")["key"]
        assert (await desk.post("state", {"key": key}))["login"]["same_network"] is False

    async def test_opening_the_page_gives_nothing_away(self, desk: Desk) -> None:
        await desk.ada()
        key = desk.call("start")["key"]
        desk.get("index", f"/?key={key}")
        await desk.post("state", {"key": key})
        assert await desk.call("check", key, 0) is None

    async def test_one_click_of_somebody_logged_in_gives_one_token(self, desk: Desk) -> None:
        account = await desk.ada()
        key = desk.call("start", expires_in=100)["key"]
        assert (await desk.post("approve", {"key": key}))["approved"]
        profile = await desk.call("check", key, 0, profile=True)
        assert desk.tokens.parse(profile.pop("token")).expires_at == pytest.approx(1_800_000_100)
        assert profile == {
            "workspace": None,
            "expires_in": 100.0,
            "email": "ada@example.org",
            "email_verified": True,
            "name": "Ada",
            "nickname": "Ada",
            "user_id": account["id"],
            "picture": None,
        }
        assert (await desk.post("state", {"key": key}))["login"]["done"]
        await desk.post("approve", {"key": key})
        assert desk.last["status"] == 410

    async def test_who_is_not_logged_in_cannot_click(self, desk: Desk) -> None:
        key = desk.call("start")["key"]
        await desk.post("approve", {"key": key})
        assert desk.last["status"] == 401

    async def test_logging_in_is_the_click(self, desk: Desk) -> None:
        await desk.ada()
        await desk.post("logout")
        key = desk.call("start")["key"]
        wrong = await desk.post("login", {"email": "ada@example.org", "password": "wrong", "key": key})
        assert (desk.last["status"], wrong) == (400, {"error": "Invalid email or password"})
        assert await desk.call("check", key, 0) is None
        await desk.post("login", {"email": "ada@example.org", "password": GOOD, "key": key})
        assert await desk.call("check", key, 0)

    async def test_with_an_expired_key_nothing_happens(self, desk: Desk) -> None:
        key = desk.call("start")["key"]
        desk.now = 181.0
        assert (await desk.post("state", {"key": key}))["expired"]
        await desk.post("signup", {"name": "Ada", "email": "ada@example.org", "password": GOOD, "key": key})
        assert desk.last["status"] == 410
        assert desk.cookies == {}

    async def test_a_workspace_the_person_has_no_right_on(self, desk: Desk) -> None:
        await desk.ada()
        key = desk.call("start", workspace="team-x")["key"]
        answer = await desk.post("approve", {"key": key})
        assert (desk.last["status"], answer) == (403, {"error": "Permission denied for workspace team-x"})

    async def test_guessing_keys_meets_the_limit(self, desk: Desk) -> None:
        statuses = []
        for number in range(32):
            await desk.post("state", {"key": f"guess{number}"}, sender=WEB_FAR)
            statuses.append(desk.last["status"])
        assert statuses == [200] * 30 + [429] * 2

    async def test_a_full_disk_is_told(self, desk: Desk) -> None:
        from hypha.store import StoreError

        async def fail(*_: Any, **__: Any) -> Any:
            raise StoreError("The server's store cannot be used: database or disk is full")

        desk.accounts._add = fail  # type: ignore[method-assign]
        answer = await desk.post("signup", {"name": "Ada", "email": "ada@example.org", "password": GOOD})
        assert desk.last["status"] == 503
        assert "disk is full" in answer["error"]


class TestProfile:
    async def test_name_and_password_are_changed_by_whoever_is_logged_in(self, desk: Desk) -> None:
        await desk.ada()
        assert (await desk.post("change", {"name": "Countess"}))["account"]["name"] == "Countess"
        await desk.post("change", {"password": "another horse", "current_password": "wrong"})
        assert desk.last["status"] == 400
        await desk.post("change", {"password": "another horse", "current_password": GOOD})
        assert desk.last["status"] == 200

    async def test_nobody_else_can(self, desk: Desk) -> None:
        await desk.ada()
        desk.cookies = {}
        await desk.post("change", {"name": "Eve"})
        assert desk.last["status"] == 401


@pytest.mark.parametrize(
    ("target", "allowed"),
    [
        ("/", True),
        ("/team-x/apps/y/?a=b#c", True),
        ("https://app.example/done?x=1", True),
        ("//evil.example", False),
        ("/\\evil.example", False),
        ("/%5cevil.example", False),
        ("/%5Cevil.example", False),
        ("\\\\evil.example", False),
        ("https://evil.example", False),
        ("https://app.example.evil.example", False),
        ("https://app.example@evil.example", False),
        ("javascript:alert(1)", False),
        ("data:text/html,x", False),
        ("relative", False),
        ("/a\nb", False),
        ("/a\tb", False),
        (" /x", False),
        ("", False),
        (None, False),
        (7, False),
        ("/" + "x" * 3000, False),
    ],
)
def test_where_the_page_may_lead(target: Any, allowed: bool) -> None:
    found = own_redirect(target, frozenset({"https://app.example"}))
    assert found == (target if allowed else None)


async def test_the_page_leads_nowhere_else(desk: Desk) -> None:
    assert (await desk.post("state", {"redirect": "//evil"}))["redirect"] is None
    assert (await desk.post("state", {"redirect": "/x"}))["redirect"] == "/x"
    assert json.loads(desk.last["body"])["login"] is None
