"""What is done for each row of the table, and what a refusal of each letter says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from .scenes import Actor, Denied, HttpActor, Scene

Step = Callable[[Actor, Scene], Awaitable[Any]]


@dataclass(frozen=True)
class Action:
    """One row.

    Attributes:
        step: does it.
        destroys: the scene cannot be used afterwards.
        needs_connection: callers by HTTP have none, so it means nothing for them.
        of_owner: the children among the callers are the owner's.
    """

    step: Step
    destroys: bool = False
    needs_connection: bool = False
    of_owner: bool = False


@dataclass(frozen=True)
class Method:
    """A method of the manager; in its arguments ``{W}`` is the workspace, ``{C}`` the client, ``{T}`` the token."""

    name: str
    args: tuple[Any, ...] = ()

    async def __call__(self, actor: Actor, scene: Scene) -> Any:
        return await actor.manager(self.name, *(_filled(one, actor, scene) for one in self.args))


def _filled(argument: Any, actor: Actor, scene: Scene) -> Any:
    if isinstance(argument, dict):
        return {key: _filled(value, actor, scene) for key, value in argument.items()}
    if isinstance(argument, str):
        own = f"{actor.workspace.removeprefix('ws-user-')}-{actor.client_id}".lower().replace("_", "-")
        replaced = {"{W}": scene.workspace, "{C}": actor.client_id, "{T}": scene.token, "{N}": f"new-{own}"}
        for mark, text in replaced.items():
            argument = argument.replace(mark, text)
    return argument


def _call(service: str) -> Action:
    async def step(actor: Actor, scene: Scene) -> Any:
        assert await actor.hello(scene, service) == "Hello John"

    return Action(step)


def _get(service: str) -> Action:
    async def step(actor: Actor, scene: Scene) -> Any:
        await actor.get(scene, service)

    return Action(step)


def _info(service: str) -> Action:
    method = Method("get_service_info", (f"{{W}}/host:{service}",))

    async def step(actor: Actor, scene: Scene) -> Any:
        if isinstance(actor, HttpActor):
            assert (await actor.record(service))["id"] == f"host:{service}"
        assert (await method(actor, scene))["id"] == f"{scene.workspace}/host:{service}"

    return Action(step)


async def _ping(actor: Actor, scene: Scene) -> None:
    answer = await actor.manager("ping", f"{scene.workspace}/host")
    if answer != "pong":
        raise Denied(answer, 403)


async def _list(actor: Actor, scene: Scene) -> set[str]:
    found = await actor.manager("list_services", scene.workspace)
    names = {record["id"].rpartition(":")[2] for record in found}
    if isinstance(actor, HttpActor):
        assert {record["id"].rpartition(":")[2] for record in await actor.listed()} == names
    return names


async def _list_unlisted(actor: Actor, scene: Scene) -> None:
    # Root acts on the workspace it is connected to: all others are not for it.
    workspace = actor.workspace if actor.workspace == "ws-user-root" else scene.workspace
    found = await actor.manager("list_services", workspace, True)
    assert workspace != scene.workspace or f"{workspace}/host:unlisted" in [record["id"] for record in found]


def _event(method: str) -> Action:
    async def step(actor: Actor, scene: Scene) -> None:
        event = "x" if actor.workspace == "ws-user-root" else f"{scene.workspace}/x"
        await actor.manager(method, event)

    return Action(step, needs_connection=True)


async def _search(actor: Actor, scene: Scene) -> None:
    try:
        await actor.manager("search_services", "x")
    except Denied as error:
        # It was let in; there is nothing behind it.
        if "not enabled" not in str(error):
            raise


async def _list_types(actor: Actor, scene: Scene) -> set[str]:
    found = await actor.manager("list_service_types", scene.workspace)
    return {one["id"].rpartition("/")[2] for one in found}


def _own(actor: Actor, scene: Scene) -> str:
    return actor.workspace if actor.workspace == "ws-user-root" else scene.workspace


async def _register(actor: Actor, scene: Scene) -> None:
    await actor.manager("register_service", {"id": f"{_own(actor, scene)}/{actor.client_id}:svc"})


async def _revoke_own(actor: Actor, scene: Scene) -> None:
    await actor.manager("revoke_token", actor.token or scene.token)


ACTIONS: dict[str, Action] = {
    "echo": Action(Method("echo", (1,))),
    "log": Action(Method("log", ("x",))),
    "log_event": Action(Method("log_event", ("x",))),
    "set_env": Action(Method("set_env", ("k", "v"))),
    "get_env": Action(Method("get_env")),
    "register_service_type": Action(
        Method("register_service_type", ({"id": "t-{C}", "name": "T", "definition": {}},)), destroys=True
    ),
    "get_events": Action(Method("get_events")),
    "get_event_stats": Action(Method("get_event_stats")),
    "check_status": Action(Method("check_status")),
    "get_summary": Action(Method("get_summary")),
    "search_services": Action(_search),
    "list_workspaces": Action(Method("list_workspaces")),
    **{f"get_service.{kind}": _get(kind) for kind in ("public", "unlisted", "protected", "authorized")},
    **{f"get_service_info.{kind}": _info(kind) for kind in ("public", "unlisted", "protected", "authorized")},
    **{f"call.{kind}": _call(kind) for kind in ("public", "unlisted", "protected", "authorized")},
    "get_service_type.own": Action(Method("get_service_type", ("{W}/own-type",))),
    "get_service_type.public": Action(Method("get_service_type", ("{W}/public-type",))),
    "list_service_types": Action(_list_types),
    "list_clients": Action(Method("list_clients", ("{W}",))),
    "get_workspace_info": Action(Method("get_workspace_info", ("{W}",))),
    "ping": Action(_ping),
    "subscribe": _event("subscribe"),
    "unsubscribe": _event("unsubscribe"),
    "register_service": Action(_register, needs_connection=True, destroys=True),
    "register_service.foreign": Action(Method("register_service", ({"id": "{W}/nobody:svc"},)), needs_connection=True),
    "unregister_service.other": Action(Method("unregister_service", ("{W}/host:public",)), destroys=True),
    "revoke_token": Action(Method("revoke_token", ("{T}",)), destroys=True),
    "revoke_token.own": Action(_revoke_own, destroys=True),
    "cleanup": Action(Method("cleanup", ("{W}", 1)), destroys=True),
    "delete_workspace": Action(Method("delete_workspace", ("{W}",)), destroys=True),
    "list_services": Action(_list),
    "list_services.unlisted": Action(_list_unlisted),
    "generate_token": Action(Method("generate_token", ({"workspace": "{W}", "permission": "read"},))),
    "generate_token.of_owners_child": Action(
        Method("generate_token", ({"workspace": "{W}", "permission": "read"},)), of_owner=True
    ),
    "generate_token.any": Action(Method("generate_token", ({"workspace": "*"},))),
    "parse_token": Action(Method("parse_token", ("{T}",))),
    "create_workspace": Action(Method("create_workspace", ({"id": "{N}"},)), destroys=True),
    "create_workspace.over": Action(
        Method("create_workspace", ({"id": "{W}", "description": "D"}, True)), destroys=True
    ),
}

REFUSALS: dict[str, tuple[int, str]] = {
    "P": (403, "Permission denied for workspace {where}"),
    "N": (403, "Permission denied for non-public service in workspace {W}"),
    "G": (403, "Only admin can generate token."),
    "H": (403, "You do not have any permission for workspace: "),
    "U": (403, "Only registered user can create workspace."),
    "O": (403, "cannot overwrite workspace {W}"),
    "4": (403, "403: Token is not authorized for workspace '"),
    "F": (400, "is forbidden. It belongs to another workspace"),
    "K": (403, "Permission denied for invoking protected method"),
}
"""Status by HTTP, and what the text contains."""

REFUSED_I = {
    "register_service": "Cannot register services in other workspaces.",
    "register_service.foreign": "Service ID ",
    "list_services.unlisted": "Cannot include unlisted services from workspace {W}",
}
"""The letter I says something else in every row."""
