from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hypha.manager.core import Caller
from hypha.manager.directory import Query
from hypha_rpc.errors import PeerGone

from .conftest import Client, World, login


async def find(client: Client, service: Any, **config: Any) -> str:
    """Id of what a query finds."""
    info = await client.call("get_service_info", service, config or None)
    return str(info["id"])


def serve(world: World, provider: Client, **service: Any) -> None:
    """Let a provider answer the manager that asks for its service."""
    world.peer.answers[f"{provider.address} services.built-in.get_service"] = lambda wanted: {"id": wanted, **service}


# ------------------------------------------------------------------ what a query means


async def test_every_form_of_an_id_finds_a_service(world: World) -> None:
    alice = await world.join_as("alice", "prov")
    await alice.register("svc")
    for query in ("svc", "prov:svc", "*:svc", "ws-user-alice/svc", "ws-user-alice/prov:svc", "svc@*"):
        assert await find(alice, query) == "ws-user-alice/prov:svc"


async def test_nothing_found_names_the_completed_query(world: World) -> None:
    alice = await world.join_as("alice")
    with pytest.raises(KeyError, match=r"Service not found: ws-user-alice/\*:nosuch@\*"):
        await find(alice, "nosuch")
    with pytest.raises(KeyError, match=r"Service not found: ws-user-bob/c:nosuch@app"):
        await find(alice, "ws-user-bob/c:nosuch@app")


@pytest.mark.parametrize("query", ["*", "", None, 3, "ws-user-alice/*"])
async def test_a_wildcard_is_no_service(world: World, query: Any) -> None:
    alice = await world.join_as("alice")
    with pytest.raises(AssertionError, match="it cannot be a wildcard"):
        await find(alice, query)


async def test_the_own_workspace_comes_before_public_and_that_before_others(world: World) -> None:
    alice, bob = await world.join_as("alice", "a"), await world.join_as("bob", "b")
    root = await world.join_root("public", "r")
    await bob.register("svc", visibility="public")
    assert await find(alice, "svc") == "ws-user-bob/b:svc"
    await root.register("svc", visibility="public")
    assert await find(alice, "svc") == "public/r:svc"
    await alice.register("svc")
    assert await find(alice, "svc") == "ws-user-alice/a:svc"


async def test_elsewhere_the_public_service_registered_last_is_found(world: World) -> None:
    alice = await world.join_as("alice")
    for name in ("bob", "carol", "dave"):
        await (await world.join_as(name, "p")).register("svc", visibility="public")
    assert await find(alice, "svc") == "ws-user-dave/p:svc"
    assert await find(alice, "*/svc") == "ws-user-dave/p:svc"
    assert await find(alice, "*/p:svc") == "ws-user-dave/p:svc"
    assert await find(alice, "svc", mode="first") == "ws-user-bob/p:svc"
    with pytest.raises(AssertionError, match="Multiple services found for "):
        await find(alice, "svc", mode="exact")


@pytest.mark.parametrize("visibility", ["protected", "unlisted"])
async def test_elsewhere_only_public_services_are_found_by_name(world: World, visibility: str) -> None:
    alice, bob = await world.join_as("alice"), await world.join_as("bob")
    await bob.register("svc", visibility=visibility)
    for query in ("svc", "*/svc"):
        with pytest.raises(KeyError, match="Service not found"):
            await find(alice, query)


async def test_elsewhere_services_of_lost_clients_are_not_found(world: World) -> None:
    alice, bob, carol = await world.join_as("alice"), await world.join_as("bob"), await world.join_as("carol", "c")
    await carol.register("svc", visibility="public")
    await bob.register("svc", visibility="public")
    del world.router.connections[bob.address]
    assert await find(alice, "svc") == "ws-user-carol/c:svc"


async def test_a_query_with_a_client_part_stays_at_home(world: World) -> None:
    alice, bob = await world.join_as("alice"), await world.join_as("bob", "b")
    await bob.register("svc", visibility="public")
    with pytest.raises(KeyError, match="Service not found"):
        await find(alice, "b:svc")


async def test_the_operator_can_turn_the_search_elsewhere_off(world: World) -> None:
    world.reconfigure(global_name_lookup=False)
    alice, bob = await world.join_as("alice"), await world.join_as("bob")
    root = await world.join_root("public", "r")
    await bob.register("svc", visibility="public")
    await root.register("other", visibility="public")
    with pytest.raises(KeyError, match="Service not found"):
        await find(alice, "svc")
    assert await find(alice, "other") == "public/r:other"


async def test_the_built_in_service_is_not_found_elsewhere(world: World) -> None:
    alice = await world.join_as("alice", "a")
    await world.join_as("bob")
    await world.join_root("public")
    assert await find(alice, "built-in") == "ws-user-alice/a:built-in"
    world.core.directory.remove_client(alice.address)
    with pytest.raises(KeyError, match="Service not found"):
        await find(alice, "built-in")


@pytest.mark.parametrize("name", ["hypha-login", "queue", "server-apps"])
async def test_names_of_the_servers_own_services_are_answered_by_the_server(world: World, name: str) -> None:
    alice, bob = await world.join_as("alice", "a"), await world.join_as("bob")
    await bob.register(name, visibility="public")
    with pytest.raises(KeyError, match="Service not found"):
        await find(alice, name)
    root = await world.join_root("public", "r")
    await alice.register(name)
    await root.register(name, visibility="public")
    assert await find(alice, name) == f"public/r:{name}"
    assert await find(alice, f"ws-user-alice/{name}") == f"ws-user-alice/a:{name}"


@pytest.mark.parametrize("query", ["~", "ws-user-alice/~"])
async def test_the_tilde_is_the_manager(world: World, query: str) -> None:
    alice = await world.join_as("alice")
    service = await alice.call("get_service", query)
    assert (service["id"], service["echo"]) == ("default", "a function")
    assert (await alice.call("get_service_info", query))["id"] == "~"
    assert "listServices" in await alice.call("get_service", query, {"case_conversion": "camel"})


async def test_an_application_limits_the_search(world: World) -> None:
    one, two = await world.join_as("alice", "one"), await world.join_as("alice", "two")
    await one.register("svc", app_id="app1")
    await two.register("svc")
    assert await find(one, "svc@app1") == "ws-user-alice/one:svc"
    with pytest.raises(KeyError, match="Service not found"):
        await find(one, "svc@app2")


# ------------------------------------------------------------------ who may have it


async def test_protected_services_are_for_the_workspace_and_those_it_names(world: World) -> None:
    alice, bob, carol = await world.join_as("alice", "a"), await world.join_as("bob"), await world.join_as("carol")
    reader = await world.join_child("alice", "r")
    await alice.register("svc", authorized_workspaces=["ws-user-bob"])
    for client in (alice, reader, bob):
        assert await find(client, "ws-user-alice/svc") == "ws-user-alice/a:svc"
    with pytest.raises(PermissionError, match="^Permission denied for non-public service in workspace ws-user-alice$"):
        await find(carol, "ws-user-alice/svc")
    with pytest.raises(KeyError, match="Service not found"):
        await find(carol, "svc")


async def test_unlisted_services_are_for_everybody_who_knows_them(world: World) -> None:
    alice, bob = await world.join_as("alice", "a"), await world.join_as("bob")
    await alice.register("svc", visibility="unlisted")
    assert await find(bob, "ws-user-alice/svc") == "ws-user-alice/a:svc"


async def test_protected_namesakes_are_left_out_before_they_are_counted(world: World) -> None:
    one, two, bob = await world.join_as("alice", "1"), await world.join_as("alice", "2"), await world.join_as("bob")
    await one.register("svc")
    await two.register("svc", visibility="public")
    assert await find(bob, "ws-user-alice/svc") == "ws-user-alice/2:svc"
    with pytest.raises(AssertionError, match="Multiple services found for ws-user-alice"):
        await find(one, "svc")


async def test_a_caller_without_a_connection_looks_up_as_itself(world: World) -> None:
    alice = await world.join_as("alice", "a")
    await alice.register("svc")
    await alice.register("open", visibility="public")
    bob = Caller("ws-user-bob/http", "ws-user-bob", login("bob"), None)
    found = await world.manager.lookup.choose(Query.parse("ws-user-alice/open", ""), {}, bob)
    assert found.id == "ws-user-alice/a:open"
    with pytest.raises(PermissionError, match="Permission denied for non-public service"):
        await world.manager.lookup.choose(Query.parse("ws-user-alice/svc", ""), {}, bob)


async def test_abroad_a_record_does_not_tell_who_made_it(world: World) -> None:
    alice, bob = await world.join_as("alice"), await world.join_as("bob")
    await alice.register("svc", visibility="public")
    config = (await bob.call("get_service_info", "ws-user-alice/svc"))["config"]
    assert config.keys().isdisjoint({"created_by", "authorized_workspaces"})
    config = (await alice.call("get_service_info", "svc"))["config"]
    assert config["created_by"] == {"id": "alice"}


async def test_only_administrators_see_who_exactly_a_client_is(world: World) -> None:
    alice = await world.join_as("alice", "a", email="alice@example.com")
    writer = await world.join_child("alice", "rw")
    info = await alice.call("get_service_info", "a:built-in")
    assert info["config"]["created_by"]["email"] == "alice@example.com"
    info = await writer.call("get_service_info", "a:built-in")
    assert info["config"]["created_by"] == {"id": "alice"}


# ------------------------------------------------------------------ getting the service itself


async def test_the_service_is_asked_of_its_provider_and_completed(world: World) -> None:
    alice, bob = await world.join_as("alice", "prov"), await world.join_as("bob")
    await alice.register("svc", visibility="public")
    serve(world, alice, name="S", config={"visibility": "public", "authorized_workspaces": ["x"]}, f=1)
    url = world.core.public_url
    assert await bob.call("get_service", "svc") == {
        "id": "ws-user-alice/prov:svc",
        "name": "S",
        "config": {
            "visibility": "public",
            "workspace": "ws-user-alice",
            "url": f"{url}/ws-user-alice/services/prov:svc",
        },
        "f": 1,
    }
    assert world.peer.asked == [("ws-user-alice/prov services.built-in.get_service", ("svc",))]
    config = (await alice.call("get_service", "svc"))["config"]
    assert config["authorized_workspaces"] == ["x"]


@pytest.mark.parametrize("config", [None, {}, "odd"])
async def test_a_service_without_a_config_gets_one(world: World, config: Any) -> None:
    alice = await world.join_as("alice", "prov")
    await alice.register("svc")
    serve(world, alice, config=config)
    service = await alice.call("get_service", "svc")
    assert set(service["config"]) == {"workspace", "url"}


@pytest.mark.parametrize(
    ("case", "names"),
    [("camel", {"doIt"}), ("snake", {"do_it"}), ("camel+snake", {"doIt", "do_it"}), (None, {"do_it"})],
)
async def test_names_are_converted_on_request(world: World, case: str | None, names: set[str]) -> None:
    alice = await world.join_as("alice", "prov")
    await alice.register("svc")
    serve(world, alice, do_it=1)
    service = await alice.call("get_service", "svc", {"case_conversion": case})
    assert {name for name in service if name.lower().startswith("do")} == names


async def test_an_unknown_case_is_refused(world: World) -> None:
    alice = await world.join_as("alice", "prov")
    await alice.register("svc")
    serve(world, alice, do_it=1)
    with pytest.raises(ValueError, match="Unsupported case type: kebab"):
        await alice.call("get_service", "svc", {"case_conversion": "kebab"})


async def test_a_provider_that_does_not_answer_is_a_timeout(world: World) -> None:
    alice = await world.join_as("alice", "prov")
    await alice.register("svc")
    with pytest.raises(TimeoutError, match="^Method call timed out: ws-user-alice/prov did not return svc$"):
        await alice.call("get_service", "svc", {"timeout": 0.01})


@pytest.mark.parametrize("timeout", [0, -1, "5", True, float("nan")])
async def test_a_timeout_is_a_number_above_zero(world: World, timeout: Any) -> None:
    alice = await world.join_as("alice", "prov")
    await alice.register("svc")
    with pytest.raises(ValueError, match="a timeout must be a number above 0"):
        await alice.call("get_service", "svc", {"timeout": timeout})


async def test_a_provider_that_is_gone_is_told_at_once(world: World) -> None:
    alice, bob = await world.join_as("alice", "a"), await world.join_as("alice", "b")
    await bob.register("svc")
    del world.router.connections[bob.address]
    with pytest.raises(PeerGone, match="Target peer ws-user-alice/b is not connected"):
        await alice.call("get_service", "svc")


async def test_a_provider_that_returns_no_service_is_an_error(world: World) -> None:
    alice = await world.join_as("alice", "prov")
    await alice.register("svc")
    world.peer.answers["ws-user-alice/prov services.built-in.get_service"] = 3
    with pytest.raises(TypeError, match="did not return a service"):
        await alice.call("get_service", "svc")


@pytest.mark.parametrize(("config", "text"), [("exact", "config must be a map"), ({"mode": 3}, "mode must be text")])
async def test_options_are_checked(world: World, config: Any, text: str) -> None:
    alice = await world.join_as("alice")
    with pytest.raises(TypeError, match=text):
        await alice.call("get_service", "svc", config)


async def test_a_caller_whose_connection_is_gone_gets_nothing(world: World) -> None:
    alice = await world.join_as("alice", "a")
    alice.leave()
    with pytest.raises(RuntimeError, match=r"Connection has already been closed \(client: ws-user-alice/a\)"):
        await alice.call("get_service", "svc")


# ------------------------------------------------------------------ modes


@pytest.fixture
def three(world: World) -> Callable[..., Any]:
    """Three providers of ``svc`` in one workspace, and their ids."""

    async def make(suffix: str = "") -> list[Client]:
        clients = [await world.join_as("alice", f"w{index}{suffix}") for index in range(3)]
        for client in clients:
            await client.register("svc", visibility="public")
        return clients

    return make


async def test_exact_is_the_rule_and_names_the_candidates(three: Callable[..., Any]) -> None:
    w0, *_ = await three()
    text = (
        r"^Multiple services found for ws-user-alice/\*:svc, e.g. "
        r"\['services:public\|generic:ws-user-alice/w0:svc@\*', .*\]. "
        "You can either specify the mode as 'random', 'first', 'last', 'native:random', "
        "or use 'select:criteria:function' format.$"
    )
    for config in ({}, {"mode": "exact"}, {"mode": None}):
        with pytest.raises(AssertionError, match=text):
            await find(w0, "svc", **config)


async def test_in_public_any_of_several_will_do(world: World) -> None:
    alice = await world.join_as("alice")
    for name in ("r1", "r2"):
        await (await world.join_root("public", name)).register("svc", visibility="public")
    found = {await find(alice, query) for query in ("svc", "public/svc") for _ in range(50)}
    assert found == {"public/r1:svc", "public/r2:svc"}


async def test_first_and_last_go_by_registration(three: Callable[..., Any]) -> None:
    w0, w1, _ = await three()
    assert await find(w0, "svc", mode="first") == "ws-user-alice/w0:svc"
    assert await find(w0, "svc", mode="last") == "ws-user-alice/w2:svc"
    await w1.register("svc")
    assert await find(w0, "svc", mode="last") == "ws-user-alice/w1:svc"


async def test_random_chooses_among_all(three: Callable[..., Any]) -> None:
    w0, *_ = await three()
    assert {await find(w0, "svc", mode="random") for _ in range(100)} == {
        f"ws-user-alice/w{index}:svc" for index in range(3)
    }


async def test_native_random_prefers_clients_of_this_process(three: Callable[..., Any], world: World) -> None:
    w0, w1, w2 = await three()
    del world.router.connections[w1.address]
    assert {await find(w0, "svc", mode="native:random") for _ in range(100)} == {
        "ws-user-alice/w0:svc",
        "ws-user-alice/w2:svc",
    }
    bob = await world.join_as("bob")
    for gone in (w0, w2):
        del world.router.connections[gone.address]
    found = {await find(bob, "ws-user-alice/svc", mode="native:random") for _ in range(100)}
    assert len(found) == 3


async def test_min_load_chooses_who_sends_least(three: Callable[..., Any], world: World) -> None:
    w0, w1, w2 = await three("__rlb")
    for client, frames in ((w0, 50), (w1, 10), (w2, 30)):
        client.connection.frames += frames
    world.clock.now += 30.0
    assert await find(w0, "svc", mode="min_load") == "ws-user-alice/w1__rlb:svc"
    w1.connection.frames += 100
    assert await find(w0, "svc", mode="min_load") == "ws-user-alice/w2__rlb:svc"


async def test_min_load_takes_unmeasured_clients_for_idle(three: Callable[..., Any], world: World) -> None:
    busy = (await three("__rlb"))[0]
    plain = await world.join_as("alice", "plain")
    await plain.register("svc")
    for client in world.router.connections.values():
        client.frames += 1000
    world.clock.now += 30.0
    assert await find(busy, "svc", mode="min_load") == "ws-user-alice/plain:svc"


def answer(world: World, clients: list[Client], *answers: Any) -> None:
    for client, value in zip(clients, answers, strict=True):
        if value is not ...:
            world.peer.answers[f"{client.address} services.svc.load"] = value


@pytest.mark.parametrize(
    ("criteria", "answers", "chosen"),
    [
        ("min", (3, 1.5, 2), "w1"),
        ("max", (3, 1.5, 2), "w0"),
        ("min", (3, ValueError("x"), 2), "w2"),
        ("min", (3, "1", True), "w0"),
        ("min", (float("nan"), 7, None), "w1"),
        ("max", (..., 1, ...), "w1"),
        ("first_success", (ValueError("x"), "anything", ...), "w1"),
        ("first_success", (..., ..., None), "w2"),
    ],
)
async def test_select_asks_the_candidates(
    three: Callable[..., Any], world: World, criteria: str, answers: tuple[Any, ...], chosen: str
) -> None:
    clients = await three()
    answer(world, clients, *answers)
    found = await find(clients[0], "svc", mode=f"select:{criteria}:load", select_timeout=0.02)
    assert found == f"ws-user-alice/{chosen}:svc"
    assert {key for key, _ in world.peer.asked} == {f"{client.address} services.svc.load" for client in clients}


@pytest.mark.parametrize("criteria", ["min", "max", "first_success"])
async def test_select_takes_any_when_all_fail(three: Callable[..., Any], world: World, criteria: str) -> None:
    clients = await three()
    answer(world, clients, ValueError("a"), ValueError("b"), ValueError("c"))
    found = {await find(clients[0], "svc", mode=f"select:{criteria}:load") for _ in range(100)}
    assert len(found) == 3


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        (
            "odd",
            "Invalid mode: odd. Mode must be 'random', 'first', 'last', 'exact', 'min_load', 'native:random', or "
            r"'select:criteria:function' format \(e.g., 'select:min:get_load'\)",
        ),
        ("select:min", "Invalid select mode format: select:min. Expected 'select:criteria:function'"),
        ("select:min:", "Invalid select mode format: select:min:. Expected"),
        ("select:a:b:c", "Invalid select mode format: select:a:b:c. Expected"),
        ("select:mean:load", "Unknown selection criteria: mean"),
    ],
)
async def test_unknown_modes_are_refused(three: Callable[..., Any], mode: str, text: str) -> None:
    w0, *_ = await three()
    with pytest.raises(ValueError, match=f"^{text}"):
        await find(w0, "svc", mode=mode)
