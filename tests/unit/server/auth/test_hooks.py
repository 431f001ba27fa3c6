"""An operator's own authentication (server §4.6)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from hypha.auth.errors import AuthenticationError, TokenRevoked
from hypha.auth.scopes import ParsedScope
from hypha.auth.tokens import Grant, TokenService
from hypha.auth.userinfo import UserInfo, UserPermission, create_scope, from_user, to_user
from tests.unit.server.conftest import NOW


def parse(token: str) -> UserInfo:
    """What an operator would write."""
    if not token.startswith("corp-"):
        raise ValueError("not ours")
    name = token.removeprefix("corp-")
    scope = create_scope({f"ws-user-{name}": UserPermission.admin})
    return UserInfo(id=name, email=f"{name}@corp.example", roles=["user"], scope=scope, expires_at=NOW + 1000)


@pytest.fixture
def elsewhere() -> Iterator[asyncio.AbstractEventLoop]:
    """Another loop on another thread, as start-up functions have."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def register(tokens: TokenService, loop: asyncio.AbstractEventLoop, **given: Any) -> None:
    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(tokens.hooks.register(**given), loop))


class TestParse:
    async def test_a_token_of_others_is_known_for_a_minute_once_it_was_learnt(
        self, tokens: TokenService, clock: Any, elsewhere: asyncio.AbstractEventLoop
    ) -> None:
        await register(tokens, elsewhere, parse_token=parse)
        with pytest.raises(AuthenticationError):
            tokens.authenticate("corp-eve")
        await tokens.learn("corp-eve")
        user = tokens.authenticate("corp-eve")
        assert (user.id, user.email, user.roles) == ("eve", "eve@corp.example", ("user",))
        assert dict(user.scope.workspaces) == {"ws-user-eve": "a"}
        clock.now += 61
        with pytest.raises(AuthenticationError):
            tokens.authenticate("corp-eve")

    async def test_what_nobody_knows_is_refused_with_our_text(
        self, tokens: TokenService, elsewhere: asyncio.AbstractEventLoop
    ) -> None:
        await register(tokens, elsewhere, parse_token=parse)
        for token in ("nonsense", "", None, 7):
            await tokens.learn(token)
        with pytest.raises(AuthenticationError, match="Error decoding token headers"):
            tokens.authenticate("nonsense")

    async def test_our_own_tokens_are_not_shown_to_it(
        self, tokens: TokenService, elsewhere: asyncio.AbstractEventLoop
    ) -> None:
        shown: list[str] = []
        await register(tokens, elsewhere, parse_token=shown.append)
        ours = tokens.mint(Grant(user_id="ada", scope=ParsedScope({}), expires_in=60))
        await tokens.learn(ours)
        assert tokens.authenticate(ours).id == "ada"
        tokens.revoke(tokens.inspect(ours))
        await tokens.learn(ours)
        with pytest.raises(TokenRevoked):
            tokens.authenticate(ours)
        assert shown == []

    async def test_it_runs_where_it_was_given_and_may_be_async(
        self, tokens: TokenService, elsewhere: asyncio.AbstractEventLoop
    ) -> None:
        threads: list[int] = []

        async def parse_later(token: str) -> UserInfo:
            threads.append(threading.get_ident())
            await asyncio.sleep(0)
            return parse(token)

        await register(tokens, elsewhere, parse_token=parse_later)
        await tokens.learn("corp-eve")
        assert tokens.authenticate("corp-eve").id == "eve"
        assert threads != [threading.get_ident()]

    async def test_one_that_hangs_is_not_waited_for(
        self, tokens: TokenService, elsewhere: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hypha.auth.hooks._PATIENCE_S", 0.01)

        async def hang(token: str) -> UserInfo:
            await asyncio.sleep(60)
            return parse(token)

        await register(tokens, elsewhere, parse_token=hang)
        await tokens.learn("corp-eve")
        with pytest.raises(AuthenticationError):
            tokens.authenticate("corp-eve")

    async def test_a_learnt_token_can_be_revoked(
        self, tokens: TokenService, elsewhere: asyncio.AbstractEventLoop
    ) -> None:
        await register(tokens, elsewhere, parse_token=parse)
        await tokens.learn("corp-eve")
        tokens.revocations.revoke(tokens.authenticate("corp-eve").token_ids[-1])
        with pytest.raises(TokenRevoked):
            tokens.authenticate("corp-eve")

    async def test_what_is_learnt_is_bounded(
        self, tokens: TokenService, elsewhere: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hypha.auth.tokens._MAX_LEARNT", 3)
        await register(tokens, elsewhere, parse_token=parse)
        for number in range(5):
            await tokens.learn(f"corp-u{number}")
        assert len(tokens._learnt) == 3


async def test_tokens_are_signed_elsewhere(tokens: TokenService, elsewhere: asyncio.AbstractEventLoop) -> None:
    def sign(user: UserInfo, expires_in: float) -> str:
        assert user.scope is not None
        return f"corp-{user.id}-{user.parent}-{expires_in:g}-{user.scope.workspaces['w-1'].name}"

    await register(tokens, elsewhere, generate_token=sign)
    grant = Grant(user_id="kid", scope=ParsedScope({"w-1": "rw"}), expires_in=60, parent="ada")
    assert await tokens.issue(grant) == "corp-kid-ada-60-read_write"


async def test_the_token_of_a_request_is_found_or_looked_for_in_the_usual_places(
    tokens: TokenService, elsewhere: asyncio.AbstractEventLoop
) -> None:
    assert await tokens.hooks.find_token({}) is None
    await register(tokens, elsewhere, get_token=lambda scope: scope.get("found"))
    assert await tokens.hooks.find_token({"found": "t"}) == "t"
    assert await tokens.hooks.find_token({}) is None


async def test_handlers_get_the_context_if_they_have_a_place_for_it(
    tokens: TokenService, elsewhere: asyncio.AbstractEventLoop
) -> None:
    await register(
        tokens,
        elsewhere,
        start_handler=lambda workspace=None: ["start", workspace],
        login_service={"id": "x", "check": lambda key, context=None: [key, context], "start": None},
        whoami=lambda event, **rest: [event, rest],
    )
    handlers = tokens.hooks.handlers
    assert await handlers["start"]("w", context=1) == ["start", "w"]
    assert await handlers["check"]("k", context=1) == ["k", 1]
    assert await handlers["whoami"]("e", context=1) == ["e", {"context": 1}]
    assert set(handlers) == {"start", "check", "whoami"}


async def test_what_is_no_function_is_refused(tokens: TokenService) -> None:
    with pytest.raises(TypeError, match="index_handler|index"):
        await tokens.hooks.register(index_handler=7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="hello"):
        await tokens.hooks.register(hello="there")


class TestUserInfo:
    def test_a_scope_in_every_spelling(self) -> None:
        wanted = {"a-1": "r", "b-2": "a"}
        for spelling in (wanted, "a-1#r b-2#a", "a-1#r,b-2#a", ["a-1#r", "b-2#a"]):
            assert create_scope(spelling).workspaces == wanted
        assert create_scope("a-1").workspaces == {"a-1": "r"}
        assert create_scope().workspaces == {}

    def test_there_and_back(self, tokens: TokenService) -> None:
        info = parse("corp-eve")
        again = from_user(to_user(info, "t"))
        assert (again.id, again.email, again.roles, again.expires_at) == ("eve", info.email, ["user"], NOW + 1000)
        assert again.model_dump()["scope"]["workspaces"] == {"ws-user-eve": "a"}

    def test_a_map_will_do(self) -> None:
        at = datetime.fromtimestamp(NOW, UTC)
        user = to_user({"id": "eve", "is_anonymous": True, "expires_at": at, "scope": {"workspaces": {"w": "rw"}}}, "t")
        assert (user.id, user.is_anonymous, user.expires_at, user.token_ids) == ("eve", True, NOW, ("t",))
        assert dict(user.scope.workspaces) == {"w": "rw"}

    @pytest.mark.parametrize("info", [None, {}, {"id": "a b"}, {"id": "eve", "scope": {"workspaces": {"w": "all"}}}])
    def test_what_describes_nobody(self, info: Any) -> None:
        with pytest.raises(AuthenticationError):
            to_user(info, "t")
