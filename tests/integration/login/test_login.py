"""`login` and `logout` of the client against a real server, and the same by HTTP (python-client §3.8, B020-B024)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from hypha.testing import RunningServer, run_server
from hypha_rpc import connect_to_server, login, logout

ADA = {"name": "Ada", "email": "ada@example.org", "password": "correct horse"}
LOGIN = "/public/services/hypha-login"


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with run_server() as running:
        yield running


@pytest.fixture
async def http(server: RunningServer) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=server.url, timeout=10) as client:
        yield client


class Person:
    """Somebody who reports its token for every login it is shown."""

    def __init__(self, http: httpx2.AsyncClient, token: str) -> None:
        self._http = http
        self._token = token
        self.shown: list[Any] = []

    async def later(self, context: Any) -> None:
        self.shown.append(context)
        answer = await self._http.get(context["report_url"], params={"key": context["key"], "token": self._token})
        assert (answer.status_code, answer.json()) == (200, None)

    def plain(self, context: Any) -> None:
        self.shown.append(context)
        self.task = asyncio.get_running_loop().create_task(self.later(context))


@pytest.fixture
def person(server: RunningServer, http: httpx2.AsyncClient) -> Person:
    return Person(http, server.token("alice", email="alice@example.org"))


class TestLogin:
    async def test_the_callback_is_told_and_the_token_reported_comes_back(
        self, server: RunningServer, person: Person
    ) -> None:
        token = await login({"server_url": server.url, "login_callback": person.later})
        (context,) = person.shown
        assert {"login_url", "report_url", "key"} <= set(context)
        assert context["login_url"].startswith(f"{server.url}/public/apps/hypha-login/?key=")
        async with connect_to_server(server_url=server.url, token=token) as client:
            assert client.config.workspace == "ws-user-alice"

    async def test_the_callback_may_be_plain(self, server: RunningServer, person: Person) -> None:
        token = await login({"server_url": server.url, "login_callback": person.plain})
        await person.task
        assert server.user(token).id == "alice"

    async def test_without_a_callback_the_url_is_printed(
        self, server: RunningServer, person: Person, capsys: pytest.CaptureFixture[str]
    ) -> None:
        waiting = asyncio.ensure_future(login({"server_url": server.url, "login_timeout": 5}))
        printed = ""
        async with asyncio.timeout(5):
            while "\n" not in printed:
                await asyncio.sleep(0.01)
                printed += capsys.readouterr().out
        line, _, url = printed.strip().rpartition(" ")
        assert line == "Please open your browser and login at"
        key = url.rpartition("key=")[2]
        await person.later({"report_url": f"{server.url}{LOGIN}/report", "key": key})
        assert server.user(await waiting).id == "alice"

    async def test_the_profile_has_the_token_in_it(self, server: RunningServer, person: Person) -> None:
        profile = await login({"server_url": server.url, "login_callback": person.later, "profile": True})
        assert server.user(profile["token"]).id == "alice"
        assert {"workspace", "expires_in", "email", "email_verified", "name", "nickname", "user_id", "picture"} <= set(
            profile
        )

    async def test_workspace_and_life_are_asked_for(self, server: RunningServer, person: Person) -> None:
        options = {"workspace": "ws-user-alice", "expires_in": 60, "login_callback": person.later}
        await login({"server_url": server.url, **options})
        assert "workspace=ws-user-alice&expires_in=60" in person.shown[0]["login_url"]

    async def test_when_nobody_logs_in_it_fails_in_time_and_leaves_nothing(self, server: RunningServer) -> None:
        before = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError, match="Login timeout, waited for 0.3 seconds"):
            await login({"server_url": server.url, "login_callback": lambda _: None, "login_timeout": 0.3})
        assert asyncio.get_running_loop().time() - before < 3
        async with asyncio.timeout(5):
            while any(address.startswith("ws-user-anonymouz") for address in server.app.router.connections):
                await asyncio.sleep(0.01)

    async def test_a_callback_that_fails_ends_the_login(self, server: RunningServer) -> None:
        def fail(_: Any) -> None:
            raise LookupError("no browser")

        with pytest.raises(LookupError, match="no browser"):
            await login({"server_url": server.url, "login_callback": fail})

    @pytest.mark.parametrize("function", [login, logout])
    async def test_headers_reach_the_connection(self, function: Any) -> None:
        heads: list[bytes] = []

        async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(record, "127.0.0.1", 0) as listener:
            url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
            with pytest.raises(ConnectionError):
                await function({"server_url": url, "additional_headers": {"X-Tenant": "blue"}})
        assert b"x-tenant: blue" in heads[0].lower()

    async def test_another_login_service(self, server: RunningServer) -> None:
        async with connect_to_server(server_url=server.url, token=server.token("alice")) as provider:
            registered = await provider.register_service(
                {
                    "id": "my-login",
                    "config": {"visibility": "public"},
                    "start": lambda **wishes: {"login_url": "here", "key": "k", "report_url": "there"},
                    "check": lambda key, timeout, profile: f"token for {key}",
                }
            )
            options = {"login_service_id": registered.id, "login_callback": lambda _: None}
            assert await login({"server_url": server.url, **options}) == "token for k"
            with pytest.raises(RuntimeError, match=r"^Logout is not supported by this server."):
                await logout({"server_url": server.url, "login_service_id": registered.id})


class TestLogout:
    async def test_the_callback_is_told_where(self, server: RunningServer) -> None:
        shown: list[Any] = []
        context = await logout({"server_url": server.url, "logout_callback": shown.append})
        assert context["logout_url"] == f"{server.url}/public/apps/hypha-login/?logout=true"
        assert shown == [context]

    async def test_without_a_callback_it_is_printed(
        self, server: RunningServer, capsys: pytest.CaptureFixture[str]
    ) -> None:
        context = await logout({"server_url": server.url})
        assert capsys.readouterr().out == f"Please open your browser to logout at {context['logout_url']}\n"


class TestOverHttp:
    async def test_as_the_document_does_it(self, http: httpx2.AsyncClient, person: Person) -> None:
        started = await http.post(f"{LOGIN}/start", json={})
        context = started.json()
        assert {"login_url", "key", "report_url"} <= set(context)
        pending = await http.post(f"{LOGIN}/check", json={"key": context["key"], "timeout": 0})
        assert (pending.status_code, pending.json()) == (200, None)
        check = asyncio.ensure_future(http.post(f"{LOGIN}/check", json={"key": context["key"], "timeout": 10}))
        await person.later(context)
        token = (await check).json()
        again = await http.post(f"{LOGIN}/check", json={"key": context["key"], "timeout": 1})
        assert again.status_code == 400
        assert again.json()["detail"].endswith("AssertionError: Invalid key, key does not exist")
        answer = await http.get("/assets/config.json", headers={"Authorization": f"Bearer {token}"})
        assert answer.json()["user"]["id"] == "alice"

    async def test_nobody_logs_in(self, http: httpx2.AsyncClient) -> None:
        key = (await http.get(f"{LOGIN}/start")).json()["key"]
        answer = await http.post(f"{LOGIN}/check", json={"key": key, "timeout": 0.05})
        assert answer.status_code in (500, 504)
        assert "Login timeout, waited for 0.05 seconds" in answer.json()["detail"]

    async def test_a_workspace_reaches_the_service(self, http: httpx2.AsyncClient, server: RunningServer) -> None:
        context = (await http.post(f"{LOGIN}/start", json={"workspace": "ws-user-alice"})).json()
        assert "workspace=ws-user-alice" in context["login_url"]
        report = {"key": context["key"], "token": server.token("alice"), "workspace": "ws-user-alice"}
        assert (await http.post(f"{LOGIN}/report", json=report)).status_code == 200
        token = (await http.post(f"{LOGIN}/check", json={"key": context["key"]})).json()
        assert server.user(token).parent == "alice"

    async def test_a_report_with_nothing_but_a_cookie_is_refused(
        self, http: httpx2.AsyncClient, server: RunningServer
    ) -> None:
        key = (await http.get(f"{LOGIN}/start")).json()["key"]
        headers = {"Cookie": f"access_token={server.token('alice')}", "Sec-Fetch-Site": "none"}
        answer = await http.get(f"{LOGIN}/report", params={"key": key}, headers=headers)
        assert answer.status_code == 400
        assert (await http.post(f"{LOGIN}/check", json={"key": key, "timeout": 0})).json() is None

    async def test_guessing_meets_429(self, http: httpx2.AsyncClient) -> None:
        statuses = [
            (await http.get(f"{LOGIN}/check", params={"key": f"guess{n}", "timeout": 0})).status_code for n in range(32)
        ]
        assert statuses == [400] * 30 + [429] * 2

    async def test_an_account_from_sign_up_to_a_call(self, http: httpx2.AsyncClient, server: RunningServer) -> None:
        code = (await http.post(f"{LOGIN}/signup", json=ADA)).json()["dev_code"]
        verified = await http.get(f"{LOGIN}/verify_email", params={"email": ADA["email"], "code": code})
        assert verified.json()["success"], verified.text
        token = (await http.post(f"{LOGIN}/login", json=_credentials())).json()["token"]
        async with connect_to_server(server_url=server.url, token=token) as client:
            assert client.config.user["email"] == ADA["email"]


def _credentials() -> dict[str, str]:
    return {"email": ADA["email"], "password": ADA["password"]}


async def test_who_has_an_old_cookie_can_log_in_again(http: httpx2.AsyncClient) -> None:
    headers = {"Cookie": "access_token=nonsense", "Sec-Fetch-Site": "same-origin"}
    assert (await http.get("/public/apps/hypha-login/", headers=headers)).status_code == 200
    state = await http.post("/public/apps/hypha-login/page/state", headers=headers, json={})
    assert (state.status_code, state.json()["account"]) == (200, None)
    bearer = {"Authorization": "Bearer nonsense"}
    assert (await http.get("/public/apps/hypha-login/", headers=bearer)).status_code == 401
    assert (await http.get("/assets/config.json", headers=headers)).status_code == 401
