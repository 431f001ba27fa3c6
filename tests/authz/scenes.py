"""A workspace with a provider in it, and one caller of each kind that acts on it (security §3)."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx2

from hypha.testing import RunningServer
from hypha_rpc import connect_to_server

ROOT_TOKEN = "r" * 64
CELLS = ("anon", "r", "rw", "a", "owner", "other", "root")

_numbers = itertools.count()


class Denied(Exception):
    """A refusal, however it came.

    Attributes:
        status: by HTTP.
    """

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


@dataclass
class Scene:
    """What a caller acts on.

    Attributes:
        workspace: the workspace.
        owner: who owns it.
        host: a client in it, with one service of each visibility.
        token: for the workspace, minted by its owner.
        stack: ends everything that was connected.
    """

    server: RunningServer
    workspace: str
    owner: str
    host: Any
    token: str
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    stranger: str = "bob"


def hello(name: str = "you") -> str:
    """What callers call."""
    return f"Hello {name}"


async def set_scene(server: RunningServer, *, anonymous: bool) -> Scene:
    """A workspace of an anonymous client, or of a registered user."""
    stack = AsyncExitStack()
    number = next(_numbers)
    options: dict[str, Any] = {"server_url": server.url, "client_id": "host"}
    if not anonymous:
        options["token"] = server.token(f"alice-{number}")
    host = await stack.enter_async_context(connect_to_server(options))
    workspace = host.config.workspace
    stranger = f"bob-{number}"
    visibilities: dict[str, dict[str, Any]] = {
        "public": {"visibility": "public"},
        "unlisted": {"visibility": "unlisted"},
        "protected": {"visibility": "protected"},
        "authorized": {"visibility": "protected", "authorized_workspaces": [f"ws-user-{stranger}", "ws-anonymous"]},
    }
    for name, config in visibilities.items():
        await host.register_service({"id": name, "config": config, "hello": hello})
    for name, config in (("public-type", {"visibility": "public"}), ("own-type", {})):
        await host["register_service_type"]({"id": name, "name": name, "definition": {}, "config": config})
    token = await host.generate_token()
    return Scene(server, workspace, f"alice-{number}", host, token, stack, stranger)


def credentials(scene: Scene, cell: str, *, of_owner: bool = False) -> str | None:
    """The token of the caller *cell*; None for one without.

    Args:
        scene: where it acts.
        cell: column of the table.
        of_owner: a child of the owner instead of somebody else's.
    """
    server, workspace = scene.server, scene.workspace
    if cell in {"r", "rw", "a"}:
        parent = scene.owner if of_owner else "carol"
        return server.token(f"child-{next(_numbers)}", workspace=workspace, workspaces={workspace: cell}, parent=parent)
    if cell == "owner":
        return server.token(scene.owner)
    if cell == "other":
        return server.token(scene.stranger)
    return ROOT_TOKEN if cell == "root" else None


class Actor:
    """A caller of the manager and of services, over one transport."""

    workspace: str
    client_id: str
    token: str | None = None

    async def manager(self, method: str, *args: Any) -> Any:
        """Call a method of the manager."""
        raise NotImplementedError

    async def hello(self, scene: Scene, service: str) -> Any:
        """Call the function of a service of the scene's host."""
        raise NotImplementedError

    async def get(self, scene: Scene, service: str) -> Any:
        """Get a service of the scene's host."""
        raise NotImplementedError


class ClientActor(Actor):
    """A client of this package."""

    def __init__(self, client: Any, token: str | None = None) -> None:
        self._client = client
        self.token = token
        self.workspace = client.config.workspace
        self.client_id = client.config.client_id

    async def manager(self, method: str, *args: Any) -> Any:
        """Call a method of the manager."""
        service = await self._client.get_service("~")
        try:
            return await service[method](*args)
        except Exception as error:
            raise Denied(str(error)) from error

    async def hello(self, scene: Scene, service: str) -> Any:
        """Call the function of a service of the scene's host."""
        try:
            found = await self._client.get_service(f"{scene.workspace}/host:{service}")
            return await found.hello("John")
        except Exception as error:
            raise Denied(str(error)) from error

    async def get(self, scene: Scene, service: str) -> Any:
        """Get a service of the scene's host."""
        try:
            return await self._client.get_service(f"{scene.workspace}/host:{service}")
        except Exception as error:
            raise Denied(str(error)) from error


class HttpActor(Actor):
    """A program that speaks HTTP only."""

    client_id = "http"

    def __init__(self, scene: Scene, token: str | None, workspace: str, stack: AsyncExitStack) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._http = httpx2.AsyncClient(base_url=scene.server.url, headers=headers, timeout=15)
        stack.push_async_callback(self._http.aclose)
        self.token = token
        self._scene = scene
        self.workspace = workspace

    async def manager(self, method: str, *args: Any) -> Any:
        """Call a method of the manager."""
        path = f"/{self._scene.workspace}/services/ws/{method}"
        return _taken(await self._http.post(path, json=list(args)))

    async def hello(self, scene: Scene, service: str) -> Any:
        """Call the function of a service of the scene's host."""
        path = f"/{scene.workspace}/services/host:{service}/hello"
        return _taken(await self._http.get(path, params={"name": "John"}))

    async def get(self, scene: Scene, service: str) -> Any:
        """Get a service of the scene's host."""
        return await self.manager("get_service", f"{scene.workspace}/host:{service}")

    async def record(self, service: str) -> Any:
        """The record of a service of the scene's host."""
        return _taken(await self._http.get(f"/{self._scene.workspace}/services/host:{service}"))

    async def listed(self) -> Any:
        """What is listed of the scene's workspace."""
        return _taken(await self._http.get(f"/{self._scene.workspace}/services/"))


def _taken(response: Any) -> Any:
    if response.status_code == 200:
        return response.json()
    raise Denied(str(response.json().get("detail")), response.status_code)


async def _client(scene: Scene, cell: str, transport: str, of_owner: bool, stack: AsyncExitStack) -> Actor:
    token = scene.token if cell == "anon" else credentials(scene, cell, of_owner=of_owner)
    options: dict[str, Any] = {"server_url": scene.server.url, "token": token, "transport": transport}
    if cell in {"anon", "r", "rw", "a", "owner"}:
        options["workspace"] = scene.workspace
    if cell == "anon":
        # The anonymous client itself is the host: nobody else has its identity.
        return ClientActor(scene.host)
    return ClientActor(await stack.enter_async_context(connect_to_server(options)), token)


async def socket_actor(scene: Scene, cell: str, stack: AsyncExitStack, *, of_owner: bool = False) -> Actor:
    """A client over a WebSocket."""
    return await _client(scene, cell, "websocket", of_owner, stack)


async def rpc_actor(scene: Scene, cell: str, stack: AsyncExitStack, *, of_owner: bool = False) -> Actor:
    """A client over ``/rpc``."""
    return await _client(scene, cell, "http", of_owner, stack)


async def http_actor(scene: Scene, cell: str, stack: AsyncExitStack, *, of_owner: bool = False) -> Actor:
    """A program with the token of *cell*; ``anon`` has none, and so is in ``ws-anonymous``."""
    token = credentials(scene, cell, of_owner=of_owner)
    # Root is at home wherever it calls.
    homes = {"anon": "ws-anonymous", "other": f"ws-user-{scene.stranger}"}
    return HttpActor(scene, token, homes.get(cell, scene.workspace), stack)


TRANSPORTS: dict[str, Callable[..., Awaitable[Actor]]] = {
    "socket": socket_actor,
    "http": http_actor,
    "rpc": rpc_actor,
}
"""How a caller may come; a new way is one more line."""
