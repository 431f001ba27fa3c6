"""Every manager row of security §3, cell by cell.

The table is written down here as it stands in the document. What a cell says is
held against what happens when such a client really calls the method.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from .conftest import Client, World

CELLS = ("anon", "r", "rw", "a", "owner", "other", "root")

#: Row by row: the method, what it is called with, and a letter for each cell.
#: ``{W}`` in an argument is the workspace acted on. Rows that cannot name another workspace have ``-`` for "other".
ROWS: list[tuple[str, tuple[Any, ...], str]] = [
    ("echo", (1,), "yPyyy-y"),
    ("log", ("x",), "yPyyy-y"),
    ("log_event", ("x",), "yPyyy-y"),
    ("set_env", ("k", "v"), "yPyyy-y"),
    ("get_env", (), "yPyyy-y"),
    ("register_service_type", ({"id": "t", "name": "T", "definition": {}},), "yPyyy-y"),
    ("get_events", (), "yyyyy-y"),
    ("get_event_stats", (), "yyyyy-y"),
    ("check_status", (), "yyyyy-y"),
    ("get_summary", (), "yyyyy-y"),
    ("list_workspaces", (), "yyyyyyy"),
    ("get_service_info", ("{W}/open",), "yyyyyyy"),
    ("get_service_info", ("{W}/hidden",), "yyyyyyy"),
    ("get_service_type", ("{W}/public-type",), "yyyyyyy"),
    ("get_service_type", ("{W}/own-type",), "yyyyyPy"),
    ("list_clients", ("{W}",), "yyyyyPy"),
    ("get_workspace_info", ("{W}",), "yyyyyPy"),
    ("subscribe", ("{W}/x",), "yyyyyF-"),
    ("register_service", ({"id": "{C}:svc"},), "yPyyy-y"),
    ("register_service", ({"id": "{W}/{C}:svc"},), "yPyyyIy"),
    ("register_service", ({"id": "{W}/host:svc"},), "FPFFFIF"),
    ("register_service", ({"id": "{W}/host:built-in"},), "FPFFFIF"),
    ("unregister_service", ("{C}:mine",), "y-yyy-y"),
    ("unregister_service", ("{W}/host:open",), "yPPyyPy"),
    ("cleanup", ("{W}", 0.1), "yPPyyPy"),
    ("delete_workspace", ("{W}",), "yPPyyPy"),
    ("get_service_info", ("{W}/protected",), "yyyyyNy"),
    ("get_service_info", ("{W}/for-other",), "yyyyyyy"),
    ("list_services", ("{W}",), "yyyyyLy"),
    # The writer of these scenes is a child of the owner, which may pass on what it has.
    ("generate_token", ({"workspace": "{W}", "permission": "read_write"},), "yGyyyHy"),
    ("generate_token", ({"workspace": "{W}", "permission": "admin"},), "yGGyyHy"),
    ("generate_token", ({"workspace": "*"},), "HHHHHHy"),
    ("parse_token", ("{T}",), "yyyyy4y"),
    ("revoke_token", ("{T}",), "yPPyyPy"),
    ("create_workspace", ({"id": "new-one"},), "UUUyyyy"),
    ("create_workspace", ({"id": "{W}", "description": "D"}, True), "UOOOyOy"),
]
IDS = [f"{method}-{number}" for number, (method, *_) in enumerate(ROWS)]

#: A reader is refused before it is looked at whose the id is. No row of its own in security §3: registering
#: for another client is told by `belongs to another client`, which is what F stands for here.
FOREIGN = "belongs to another client. Permission denied for workspace {W}"


@dataclass
class Scene:
    """A workspace with a host in it, and the client that acts on it."""

    world: World
    workspace: str
    actor: Client
    token: str


async def _scene(world: World, cell: str) -> Scene:
    if cell == "anon":
        host = await world.join_anonymous("host")
        actor = await world.join(host.connection.user, host.workspace)  # type: ignore[arg-type]
    else:
        host = await world.join_as("alice", "host")
        actor = await ACTORS[cell](world)
    await host.register("open", visibility="public")
    await host.register("hidden", visibility="unlisted")
    await host.register("protected")
    await host.register("for-other", authorized_workspaces=["ws-user-bob"])
    for name, config in (("public-type", {"visibility": "public"}), ("own-type", {})):
        await host.call("register_service_type", {"id": name, "name": name, "definition": {}, "config": config})
    return Scene(world, host.workspace, actor, await host.call("generate_token"))


ACTORS: dict[str, Callable[[World], Awaitable[Client]]] = {
    "r": lambda world: world.join_child("alice", "r"),
    "rw": lambda world: world.join_child("alice", "rw"),
    "a": lambda world: world.join_child("alice", "a"),
    "owner": lambda world: world.join_as("alice"),
    "other": lambda world: world.join_as("bob"),
    "root": lambda world: world.join_root("ws-user-alice"),
}


def _filled(argument: Any, scene: Scene) -> Any:
    if isinstance(argument, dict):
        return {key: _filled(value, scene) for key, value in argument.items()}
    if isinstance(argument, str):
        text = argument.replace("{W}", scene.workspace).replace("{C}", scene.actor.id)
        return text.replace("{T}", scene.token)
    return argument


def _refusal(letter: str, scene: Scene, arguments: tuple[Any, ...]) -> tuple[type[Exception], str]:
    workspace, user = scene.workspace, scene.actor.connection.user
    if letter == "F" and isinstance(arguments[0], dict):
        return PermissionError, f"Service ID '{arguments[0]['id']}' {FOREIGN.format(W=workspace)}"
    named = "*" if letter == "H" and arguments[0]["workspace"] == "*" else workspace
    texts: dict[str, tuple[type[Exception], str]] = {
        "P": (PermissionError, f"Permission denied for workspace {workspace}"),
        "N": (PermissionError, f"Permission denied for non-public service in workspace {workspace}"),
        "G": (PermissionError, "Only admin can generate token."),
        "H": (PermissionError, f"You do not have any permission for workspace: {named}"),
        "U": (PermissionError, "Only registered user can create workspace."),
        "O": (PermissionError, f"Permission denied: user {user.id} cannot overwrite workspace {workspace}"),
        "I": (
            PermissionError,
            f"Service ID workspace prefix '{workspace}' does not match the current workspace "
            f"'{scene.actor.workspace}'. Cannot register services in other workspaces.",
        ),
        "F": (
            ValueError,
            f"Subscription to event '{workspace}/x' is forbidden. It belongs to another workspace.",
        ),
        "4": (PermissionError, f"403: Token is not authorized for workspace '{workspace}'"),
    }
    return texts[letter]


def _cases() -> list[Any]:
    return [
        pytest.param(method, arguments, cell, letter, id=f"{name}-{cell}-{letter}")
        for (method, arguments, letters), name in zip(ROWS, IDS, strict=True)
        for cell, letter in zip(CELLS, letters, strict=True)
        if letter != "-"
    ]


@pytest.mark.parametrize(("method", "arguments", "cell", "letter"), _cases())
async def test_the_cell(world: World, method: str, arguments: tuple[Any, ...], cell: str, letter: str) -> None:
    scene = await _scene(world, cell)
    given = tuple(_filled(argument, scene) for argument in arguments)
    if method == "unregister_service" and given[0].endswith(":mine"):
        await scene.actor.register("mine")
    for client in world.router.connections.values():
        world.peer.answers[f"{client.address} services.built-in.ping"] = "pong"
    if letter == "y":
        await scene.actor.call(method, *given)
    elif letter == "L":
        shown = {str(info["id"]).rpartition(":")[2] for info in await scene.actor.call(method, *given)}
        assert shown == {"open", "for-other"}
    else:
        kind, text = _refusal(letter, scene, given)
        with pytest.raises(kind) as caught:
            await scene.actor.call(method, *given)
        assert str(caught.value) == text


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell != "other"])
async def test_unlisted_services_are_shown_to_readers_of_the_own_workspace(world: World, cell: str) -> None:
    scene = await _scene(world, cell)
    found = await scene.actor.call("list_services", None, include_unlisted=True)
    assert f"{scene.workspace}/host:hidden" in [info["id"] for info in found]


@pytest.mark.parametrize(("cell", "allowed"), list(zip(CELLS, "yPyyyPy", strict=True)))
@pytest.mark.parametrize("method", ["bookmark", "unbookmark"])
async def test_bookmarks_are_written_by_writers_of_the_users_own_workspace(
    world: World, method: str, cell: str, allowed: str
) -> None:
    scene = await _scene(world, cell)
    item = {"bookmark_type": "service", "id": f"{scene.workspace}/host:open"}
    if allowed == "P" and cell != "other":
        with pytest.raises(PermissionError, match=f"^Permission denied for workspace {scene.workspace}$"):
            await scene.actor.call(method, item)
    else:
        # Everybody else, strangers as well, writes into a home of its own.
        assert await scene.actor.call(method, item) is None


@pytest.mark.parametrize(("cell", "letter"), list(zip(CELLS, "yyyyyPy", strict=True)))
async def test_ping_reports_what_it_may_not(world: World, cell: str, letter: str) -> None:
    scene = await _scene(world, cell)
    target = f"{scene.workspace}/host"
    world.peer.answers[f"{target} services.built-in.ping"] = "pong"
    denied = f"Failed to ping client {target}: Permission denied for workspace {scene.workspace}"
    assert await scene.actor.call("ping", target) == ("pong" if letter == "y" else denied)


async def test_a_writing_child_of_somebody_else_passes_nothing_on(world: World) -> None:
    root = await world.join_root("ws-user-root")
    await world.join_as("alice")
    token = await root.call("generate_token", {"workspace": "ws-user-alice", "permission": "read_write"})
    writer = await world.join(world.tokens.parse(token), "ws-user-alice", right="rw")
    for permission in ("read", "read_write", "admin"):
        with pytest.raises(PermissionError, match="^Only admin can generate token.$"):
            await writer.call("generate_token", {"permission": permission})
