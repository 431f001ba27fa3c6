"""``/{workspace}/services/...``: services as a web API (server §5.1-5.5)."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from hypha.gateway import GatewayCall
from hypha.manager.directory import Query, Record
from hypha.manager.visibility import BUILT_IN
from hypha.web.arguments import Arguments, body_arguments, query_arguments, wants_msgpack
from hypha.web.bodies import Disconnected, read_body
from hypha.web.context import Receive, WebContext
from hypha.web.failures import HttpFailure, failure, of_lookup, to_response
from hypha.web.identity import HttpCaller, Identities
from hypha.web.members import Function, Members, described
from hypha.web.openapi import service_document
from hypha.web.results import render
from hypha_rpc.errors import RemoteException

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["MANAGER_NAMES", "Endpoint", "Finder", "attended", "service_routes"]

MANAGER_NAMES: Final = frozenset({"ws", "~"})
"""What stands for the manager in a path."""

_log = logging.getLogger("hypha.web")

Endpoint = Callable[["Request"], Awaitable[Response]]

_DESCRIPTION: Final = "openapi.json"
_INTERFACE: Final = "_rintf_"
_LOOK_AFTER_S: Final = 0.25


@functools.lru_cache(maxsize=4096)
def _parsed(workspace: str, service: str) -> Query:
    return Query.parse(f"{workspace}/{service}", workspace)


class Finder:
    """Finds the service that a path means, for a caller.

    Args:
        context: the server.
    """

    def __init__(self, context: WebContext) -> None:
        self._lookup = context.manager.lookup
        self._core = context.core

    async def find(self, workspace: str, service: str, caller: HttpCaller, mode: str | None) -> Record:
        """The record.

        Args:
            workspace: from the path.
            service: ``name``, ``client:name``, ``*:name``, each with optional ``@app``.
            caller: who asks.
            mode: one of several (server §2.7).

        Raises:
            HttpFailure: it is not there, not for this caller, or there are several.
        """
        try:
            query = _parsed(workspace, service)
            if "*" in query.workspace or query.name == BUILT_IN or query.name.startswith(_INTERFACE):
                raise KeyError(f"Service not found: {query}")
            return await self._lookup.choose(query, {"mode": mode}, caller.as_manager_caller())
        except (KeyError, PermissionError, AssertionError, ValueError, TypeError) as error:
            raise of_lookup(error) from error

    def visible(self, record: Record, caller: HttpCaller) -> dict[str, Any]:
        """The record as *caller* may see it, its id without the workspace."""
        shown = self._lookup.visible(record, caller.as_manager_caller())
        return {**shown, "id": f"{record.client}:{record.name}"}


class _Services:
    def __init__(self, context: WebContext, identities: Identities) -> None:
        self._context = context
        self._manager = context.manager
        self._gateway = context.gateway
        self._identities = identities
        self._finder = Finder(context)
        self._members = Members(context.core)
        self._max_body = context.limits.http_body_bytes
        self._ratio = context.limits.http_inflate_ratio

    # -- listing and info ----------------------------------------------------------

    async def to_list(self, request: Request) -> Response:
        """To the list, which has a trailing slash."""
        return RedirectResponse(f"{request.url.path}/", status_code=307)

    async def listing(self, request: Request) -> Response:
        """What the caller may see of a workspace."""
        workspace = request.path_params["workspace"]
        caller = await self._identities.caller(request.scope, workspace)
        if not self._context.core.workspaces.exists(workspace):
            return failure(404, f"'Workspace {workspace} does not exist or is not accessible'")
        found = await self._managed(caller, "list_services", [{"workspace": workspace}], {})
        return JSONResponse([{**record, "id": record["id"].partition("/")[2]} for record in found])

    async def info(self, request: Request) -> Response:
        """The record of one service; of the manager, its methods."""
        workspace, service = request.path_params["workspace"], request.path_params["service"]
        caller = await self._identities.caller(request.scope, workspace)
        if service in MANAGER_NAMES:
            return JSONResponse(self._manager_record(service))
        record = await self._finder.find(workspace, service, caller, request.query_params.get("_mode"))
        return JSONResponse(self._finder.visible(record, caller))

    def _manager_record(self, service: str) -> dict[str, Any]:
        methods = self._manager.methods
        return {
            "id": service,
            "name": "Default workspace management service",
            "type": "generic",
            "description": "Services of this server",
            "config": {"visibility": "public", "require_context": True},
            "service_schema": {
                name: {"type": "function", "function": method.__schema__} for name, method in methods.items()
            },
        }

    async def workspace(self, request: Request) -> Response:
        """What is known about a workspace."""
        workspace = request.path_params["workspace"]
        caller = await self._identities.caller(request.scope, workspace)
        core = self._context.core
        if not core.workspaces.exists(workspace):
            return failure(404, f"Workspace '{workspace}' not found")
        if not core.may_read(caller.as_manager_caller(), workspace):
            return failure(403, f"{caller.user.id} has no permission to access {workspace}")
        return JSONResponse(await self._managed(caller, "get_workspace_info", [workspace], {}))

    async def apps(self, request: Request) -> Response:
        """Installed applications: this server runs none."""
        await self._identities.caller(request.scope, request.path_params["workspace"])
        return failure(404, "'Service not found: server-apps'")

    # -- calling -------------------------------------------------------------------

    async def call(self, request: Request) -> Response:
        """Call a function and answer with its result, or answer with a value."""
        workspace, service = request.path_params["workspace"], request.path_params["service"]
        key: str = request.path_params["key"]
        caller = await self._identities.caller(request.scope, workspace)
        if service in MANAGER_NAMES:
            return await self._call_manager(request, caller, key)
        items = _query(request)
        mode = next((text for name, text in items if name == "_mode"), None) if items else None
        record = await self._finder.find(workspace, service, caller, mode)
        path = key.split(".")
        member = described(record, path)
        if member is None:
            if key == _DESCRIPTION:
                return JSONResponse(self._document(workspace, service, record, caller))
            member = await self._other_member(record, path)
            if not isinstance(member, Function):
                return self._render(request, member)
        args, kwargs = await self._arguments(request, member)
        if record.config.get("require_context"):
            # It comes from the server only (security S38).
            kwargs.pop("context", None)
        target = (record.address, f"services.{record.name}.{member.path}")
        # The server's own services tell callers apart by their network (security S22, S23).
        remote = caller.address if record.workspace == "public" else None
        speaker = self._gateway.speaker(caller.user, caller.workspace, remote=remote)
        call = self._gateway.call(speaker, target, args, kwargs)
        answer = self._render(request, await attended(call, request.receive))
        if record.workspace == "public" and record.name == "hypha-login":
            # Some of these answers are tokens (security S24).
            answer.headers["cache-control"] = "no-store"
        return answer

    async def _other_member(self, record: Record, path: list[str]) -> Any:
        try:
            return await self._members.at(record, path)
        except KeyError as error:
            raise HttpFailure(404, str(error.args[0])) from error

    async def _call_manager(self, request: Request, caller: HttpCaller, key: str) -> Response:
        if key == _DESCRIPTION:
            workspace, service = request.path_params["workspace"], request.path_params["service"]
            return JSONResponse(service_document(self._context, workspace, service, self._manager_record(service)))
        method = self._manager.methods.get(key)
        if method is None:
            raise HttpFailure(404, f"{key} not found.")
        args, kwargs = await self._arguments(request, Function(key, method.__schema__["parameters"]))
        return self._render(request, await self._managed(caller, key, args, kwargs))

    async def _managed(self, caller: HttpCaller, method: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """A method of the manager; what it raises is told as a remote error is."""
        try:
            return await self._manager.call(caller.as_manager_caller(), method, args, kwargs)
        except Exception as error:  # supervision boundary: whatever a method raises becomes the caller's error
            raise of_lookup(error) from error

    async def _arguments(self, request: Request, function: Function) -> Arguments:
        if request.method != "POST":
            return [], query_arguments(_query(request), function.schema)
        body = await read_body(request.scope, request.receive, most=self._max_body, ratio=self._ratio)
        return body_arguments(body, request.headers.get("content-type"))

    def _render(self, request: Request, value: Any) -> Response:
        headers = request.headers
        accept = headers.get("accept")
        return render(value, packed=wants_msgpack(headers.get("content-type"), accept), accept=accept)

    # -- descriptions ----------------------------------------------------------------

    def _document(self, workspace: str, service: str, record: Record, caller: HttpCaller) -> dict[str, Any]:
        return service_document(self._context, workspace, service, self._finder.visible(record, caller))


def _query(request: Request) -> list[tuple[str, str]]:
    """The decoded items of the query."""
    text: bytes = request.scope["query_string"]
    return parse_qsl(text.decode("latin-1"), keep_blank_values=True) if text else []


async def attended(call: GatewayCall, receive: Receive) -> Any:
    """The outcome of *call*; if the client leaves before, the call is cancelled.

    Raises:
        Disconnected: the client has gone.
    """
    watch = _Watch(call, receive)
    # A quick call is not worth a look at the socket.
    timer = asyncio.get_running_loop().call_later(_LOOK_AFTER_S, watch.start)
    try:
        return await call
    except asyncio.CancelledError:
        if watch.gone:
            raise Disconnected from None
        raise
    finally:
        timer.cancel()
        if watch.task is not None:
            watch.task.cancel()
            await asyncio.wait([watch.task])


class _Watch:
    """Waits for the client to leave, and cancels a call then."""

    __slots__ = ("_call", "_receive", "gone", "task")

    def __init__(self, call: GatewayCall, receive: Receive) -> None:
        self._call = call
        self._receive = receive
        self.gone = False
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.task = asyncio.get_running_loop().create_task(self._wait(), name="hypha-client-watch")

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self._call.cancel()


def service_routes(context: WebContext, identities: Identities) -> tuple[Endpoint, list[Route]]:
    """The routes below ``/{workspace}/services``, and what is known about a workspace.

    Returns:
        The endpoint that calls functions, and all routes.
    """
    services = _Services(context, identities)
    one = "/{workspace}/services/{service}"
    call = _guarded(services.call)
    return call, [
        Route(f"{one}/{{key}}", call, methods=["GET", "POST"]),
        Route(f"{one}/", _guarded(services.info), methods=["GET"]),
        Route("/{workspace}/services/", _guarded(services.listing), methods=["GET"]),
        Route("/{workspace}/services", services.to_list, methods=["GET"]),
        Route(one, _guarded(services.info), methods=["GET"]),
        Route("/{workspace}/info", _guarded(services.workspace), methods=["GET"]),
        Route("/{workspace}/apps", _guarded(services.apps), methods=["GET"]),
    ]


class _Guarded:
    """An endpoint whose errors become answers."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def answer(self, request: Request) -> Response:
        try:
            return await self._endpoint(request)
        except Disconnected:
            return Response(status_code=499)
        except Exception as error:  # noqa: BLE001 - supervision boundary: a provider's errors become answers
            response = to_response(error)
            if response.status_code == 500 and not isinstance(error, (RemoteException, HttpFailure)):
                _log.exception("a request failed")
            return response


def _guarded(endpoint: Endpoint) -> Endpoint:
    return _Guarded(endpoint).answer
