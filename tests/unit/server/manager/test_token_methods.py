from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hypha.auth.errors import AuthenticationError, TokenRevoked

from .conftest import Client, World


@pytest.fixture
async def alice(world: World) -> Client:
    return await world.join_as("alice", email="alice@example.com")


async def test_a_token_makes_a_child_with_what_was_asked_for(alice: Client, world: World) -> None:
    config = {"permission": "read", "expires_in": 60, "client_id": "cid1", "extra_scopes": ["x"]}
    user = world.tokens.parse(await alice.call("generate_token", config))
    assert (user.parent, user.current_workspace, user.email) == ("alice", "ws-user-alice", "alice@example.com")
    assert user.scope.workspaces == {"ws-user-alice": "r"}
    assert (user.scope.client_id, user.scope.extra_scopes) == ("cid1", ("x",))


async def test_without_a_config_a_token_is_for_writing_here(alice: Client, world: World) -> None:
    user = world.tokens.parse(await alice.call("generate_token"))
    assert user.scope.workspaces == {"ws-user-alice": "rw"}
    assert user.expires_at == pytest.approx(world.clock() + 3600)


async def test_a_token_for_an_unknown_workspace_is_refused(world: World) -> None:
    root = await world.join_root()
    with pytest.raises(KeyError, match=r"Workspace \(nosuch-ws\) not found"):
        await root.call("generate_token", {"workspace": "nosuch-ws"})


async def test_a_user_generates_so_many_tokens_a_minute(make_world: Callable[..., World]) -> None:
    world = make_world(max_mints_per_minute=2)
    alice, bob = await world.join_as("alice"), await world.join_as("bob")
    child = await world.join_child("alice", "a")
    await alice.call("generate_token")
    await child.call("generate_token")
    for client in (alice, child):
        with pytest.raises(RuntimeError, match="^Too many tokens: user alice may generate 2 a minute"):
            await client.call("generate_token")
    await bob.call("generate_token")
    world.clock.now += 31.0
    await alice.call("generate_token")


# ------------------------------------------------------------------ parsing


async def test_a_token_is_parsed_to_the_user_it_makes(alice: Client, world: World) -> None:
    token = await alice.call("generate_token")
    info = await alice.call("parse_token", token)
    assert info == world.tokens.parse(token).to_wire()


async def test_a_token_of_another_workspace_is_not_parsed(alice: Client, world: World) -> None:
    bob = await world.join_as("bob")
    token = await bob.call("generate_token")
    with pytest.raises(PermissionError, match="^403: Token is not authorized for workspace 'ws-user-bob'$"):
        await alice.call("parse_token", token)


async def test_a_withdrawn_token_is_not_parsed(alice: Client) -> None:
    token = await alice.call("generate_token")
    await alice.call("revoke_token", token)
    with pytest.raises(TokenRevoked, match="Token has been revoked"):
        await alice.call("parse_token", token)


@pytest.mark.parametrize("token", ["", "nonsense", None, 3])
async def test_what_is_no_token_is_not_parsed(alice: Client, token: Any) -> None:
    with pytest.raises(AuthenticationError):
        await alice.call("parse_token", token)


# ------------------------------------------------------------------ withdrawing


async def test_who_is_connected_with_a_withdrawn_token_is_disconnected(alice: Client, world: World) -> None:
    token = await alice.call("generate_token", {"permission": "admin"})
    holder = await world.join(world.tokens.parse(token), "ws-user-alice")
    grandchild = world.tokens.parse(await holder.call("generate_token"))
    second = await world.join(grandchild, "ws-user-alice", right="rw")
    other = await world.join(world.tokens.parse(await alice.call("generate_token")), "ws-user-alice", right="rw")
    assert await alice.call("revoke_token", token) is None
    await asyncio.sleep(0)
    for client in (holder, second):
        assert client.outlet.closed == (1008, "Token has been revoked")
        assert client.outlet.controls == [{"type": "error", "message": "Token has been revoked"}]
    for client in (alice, other):
        assert client.outlet.closed is None


async def test_who_withdraws_its_own_token_gets_the_answer_first(alice: Client, world: World) -> None:
    token = await alice.call("generate_token", {"permission": "read"})
    reader = await world.join(world.tokens.parse(token), "ws-user-alice", right="r")
    await reader.call("revoke_token", token)
    assert reader.outlet.closed is None
    await asyncio.sleep(0)
    assert reader.outlet.closed == (1008, "Token has been revoked")


async def test_strangers_withdraw_nothing(alice: Client, world: World) -> None:
    token = await alice.call("generate_token")
    bob = await world.join_as("bob")
    with pytest.raises(PermissionError, match="^Permission denied for workspace ws-user-alice$"):
        await bob.call("revoke_token", token)
    assert world.tokens.parse(token).parent == "alice"


async def test_tokens_that_are_none_or_over_are_told_apart(alice: Client, world: World) -> None:
    with pytest.raises(ValueError, match="^Invalid token: 401: "):
        await alice.call("revoke_token", "nonsense")
    token = await alice.call("generate_token", {"expires_in": 60})
    world.clock.now += 3600
    with pytest.raises(ValueError, match="^Token has already expired$"):
        await alice.call("revoke_token", token)
