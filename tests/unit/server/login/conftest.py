"""A login room without a server: real tokens and accounts, callers made up by the test."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from hypha.auth.accounts import Accounts
from hypha.auth.admission import Workspaces
from hypha.auth.passwords import Passwords
from hypha.auth.secret import Secrets
from hypha.auth.tokens import TokenService
from hypha.login.callers import Callers
from hypha.login.room import LoginRoom, Surroundings
from hypha.settings import Limits, Settings
from hypha.store import MemoryStore

NOW = 1_800_000_000.0
GOOD = "correct horse"
#: Senders, and the network address behind each; HTTP callers of one identity share a sender.
SOCKETS = {"ws-1/a": "203.0.113.7", "ws-1/b": "203.0.113.99", "ws-1/far": "198.51.100.1", "ws-1/inside": ""}
WEB = {"ws-anonymous/client-1": "203.0.113.7", "ws-anonymous/client-2": "198.51.100.1"}
BROWSER = "ws-anonymous/client-1"


class FastPasswords(Passwords):
    """Hashes that cost nothing."""

    async def hash(self, password: str) -> str:
        return f"hash of {password}"

    async def matches(self, password: str, kept: str | None) -> bool:
        return kept == f"hash of {password}"


class Desk:
    """The room, and short ways to use it."""

    def __init__(self, **settings: Any) -> None:
        self.now = 0.0
        limits = {"limits": Limits(**settings.pop("limits", {}))}
        self.settings = Settings(in_memory=True, **settings, **limits)
        self.tokens = TokenService(Secrets(b"0123456789abcdef0123456789abcdef"), clock=lambda: NOW + self.now)
        self.owned = {"team-x": ["bob"], "public": ["root"]}
        around = Surroundings(
            public_url=self.settings.public_url(),
            tokens=self.tokens,
            workspaces=Workspaces(lambda name: name in self.owned, lambda name: self.owned.get(name, ())),
            store=MemoryStore(),
            callers=Callers(SOCKETS.get, WEB.get),
            clock=lambda: self.now,
            now=lambda: NOW + self.now,
        )
        self.room = LoginRoom(self.settings, around)
        self.room.close()
        self.accounts: Accounts = self.room.accounts
        self.accounts._passwords = FastPasswords()
        self.service = self.room.service()
        self.cookies: dict[str, str] = {}
        self.last: dict[str, Any] = {}

    def call(self, function: str, *args: Any, sender: str = "ws-1/a", **kwargs: Any) -> Any:
        """Call a function as the client *sender*."""
        return self.service[function](*args, **kwargs, context={"from": sender})

    def event(self, path: str = "/", *, method: str = "GET", headers: Mapping[str, str] | None = None) -> Any:
        parts = urlsplit(path)
        sent = {"host": "127.0.0.1:9527", **(headers or {})}
        if self.cookies:
            sent.setdefault("cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))
        return {"type": "http", "method": method, "path": parts.path, "query_string": parts.query, "headers": sent}

    def get(self, function: str, path: str = "/", *, sender: str = BROWSER, **headers: str) -> dict[str, Any]:
        """Open a page."""
        event = self.event(path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        event["function_path"] = path.strip("/")
        answer: dict[str, Any] = self.service[function](event, context={"from": sender})
        return answer

    async def post(
        self, step: str, fields: Any = None, *, sender: str = BROWSER, headers: Mapping[str, str] | None = None
    ) -> Any:
        """What the page's script does; keeps cookies, returns the fields of the answer and sets `last`."""
        sent = {"content-type": "application/json", "sec-fetch-site": "same-origin", **(headers or {})}
        event = self.event(f"/page/{step}", method="POST", headers=sent)
        event["body"] = json.dumps(fields or {}).encode()
        self.last = await self.service["page"][step](event, context={"from": sender})
        cookie = self.last["headers"].get("Set-Cookie")
        if cookie is not None:
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies = {name: value} if value else {}
        return json.loads(self.last["body"])

    async def ada(self) -> dict[str, Any]:
        """Sign up in the browser."""
        answer = await self.post("signup", {"name": "Ada", "email": "ada@example.org", "password": GOOD})
        account: dict[str, Any] = answer["account"]
        return account

    def token(self, user_id: str = "alice", scope: str = "", **claims: Any) -> str:
        """A token of somebody who logged in elsewhere."""
        from hypha.auth.scopes import parse_scope
        from hypha.auth.tokens import Grant

        return self.tokens.mint(Grant(user_id=user_id, scope=parse_scope(scope), expires_in=60, **claims))


def query_of(url: str) -> dict[str, str]:
    """The query of *url*."""
    return dict(parse_qsl(urlsplit(url).query))


@pytest.fixture
def desk() -> Desk:
    """On one person's own machine."""
    return Desk()


@pytest.fixture
def public_desk() -> Desk:
    """Behind a public address."""
    return Desk(host="0.0.0.0", public_base_url="https://hypha.example", base_path="/h")
