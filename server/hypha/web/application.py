"""The web application: every route in its order, and the front before them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from hypha.web.addresses import ClientAddress
from hypha.web.apps import app_routes
from hypha.web.contact import contact_routes
from hypha.web.context import App, Receive, Scope, Send, WebContext
from hypha.web.docs import docs_routes
from hypha.web.failures import HttpFailure, to_response
from hypha.web.files import file_routes
from hypha.web.front import Front
from hypha.web.health import Diagnostics, health_routes
from hypha.web.home import home_routes
from hypha.web.identity import Identities
from hypha.web.metrics import Metrics
from hypha.web.mounts import mount_routes
from hypha.web.rates import Buckets
from hypha.web.services import Endpoint, service_routes

__all__ = ["web_application"]

_CALLING: Final = frozenset({"GET", "HEAD", "POST"})


def web_application(context: WebContext, more: Sequence[BaseRoute] = ()) -> App:
    """Build it.

    Args:
        context: the server.
        more: routes of other rooms below the base path, such as ``/rpc``; they come before those with a
            workspace in their path.

    Raises:
        SettingsError: a static mount is not possible.
    """
    limits = context.limits
    addresses = ClientAddress(context.settings.trusted_proxies)
    clock = context.core.clock
    by_address = Buckets(limits.http_rate_limit, limits.http_burst_limit, clock)
    by_user = Buckets(limits.http_authenticated_rate_limit, limits.http_authenticated_burst_limit, clock)
    identities = Identities(context, addresses, by_user=by_user, by_address=by_address)
    metrics = Metrics(context)
    own: list[BaseRoute] = [
        *health_routes(context.not_ready, Diagnostics(context, addresses), metrics),
        *home_routes(context),
        *docs_routes(context),
        *contact_routes(context.settings.security_contact),
        *file_routes(context, identities),
        Route("/ws", _no_socket, methods=["GET"]),
        *more,
    ]
    taken = {_first_segment(route) for route in own}
    own += mount_routes(context.settings.mounts(), taken)
    call, services = service_routes(context, identities)
    application = _Switch(
        base=context.base_path,
        taken={segment[1:] for segment in taken | {_first_segment(route) for route in own}},
        own=_starlette(own),
        workspaces=_starlette([*services, *app_routes(context, identities)]),
        call=call,
    )
    return Front(context, application, addresses, buckets=by_address, seen=metrics.answered)


class _Switch:
    """Tells routes of the server from those below a workspace, by the first segment of the path.

    With all of them in one list every call of a service would be matched against all others first.
    """

    def __init__(self, *, base: str, taken: Collection[str], own: App, workspaces: App, call: Endpoint) -> None:
        self._base = base
        self._taken = taken
        self._own = own
        self._workspaces = workspaces
        self._call = call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path: str = scope["path"]
        if self._base:
            if path != self._base and not path.startswith(f"{self._base}/"):
                await to_response(HttpFailure(404, f"File not found: {path[:1000]}"))(scope, receive, send)
                return
            scope["root_path"] = f"{scope.get('root_path', '')}{self._base}"
            path = path[len(self._base) :]
            if not path:
                path, scope["path"] = "/", f"{self._base}/"
        parts = path.split("/", 5)
        if parts[1] in self._taken:
            await self._own(scope, receive, send)
        elif len(parts) == 5 and parts[2] == "services" and all(parts[1:]) and scope["method"] in _CALLING:
            # What servers are asked most: no need to try one route after the other.
            scope["path_params"] = {"workspace": parts[1], "service": parts[3], "key": parts[4]}
            response = await self._call(Request(scope, receive, send))
            await response(scope, receive, send)
        else:
            await self._workspaces(scope, receive, send)


def _starlette(routes: list[BaseRoute]) -> Starlette:
    application = Starlette(routes=routes, exception_handlers={HTTPException: _http_error, HttpFailure: _failed})
    application.router.redirect_slashes = False
    return application


def _first_segment(route: BaseRoute) -> str:
    return "/" + str(getattr(route, "path", "/")).split("/")[1]


async def _http_error(request: Request, error: Exception) -> Response:
    """What no route answers."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    if status == 404:
        path = request.url.path[:1000]
        return JSONResponse({"success": False, "detail": f"File not found: {path}"}, status_code=404)
    detail = error.detail if isinstance(error, HTTPException) else "Internal Server Error"
    return JSONResponse({"detail": detail}, status_code=status, headers=headers)


async def _no_socket(request: Request) -> Response:
    """The door for sockets, asked without one."""
    detail = "This is the address of the WebSocket transport"
    return JSONResponse({"success": False, "detail": detail}, status_code=426, headers={"Upgrade": "websocket"})


async def _failed(request: Request, error: Exception) -> Response:
    """What a route refuses."""
    return to_response(error)
