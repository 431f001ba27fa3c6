"""``/{workspace}/apps/{service}/...``: services of type ``functions`` and ``asgi`` as web sites (server §5.6-5.7)."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from hypha.gateway import GatewayCall, GatewayStream, Speaker
from hypha.manager.directory import Record
from hypha.web.addresses import header_of
from hypha.web.bodies import Disconnected, read_body
from hypha.web.context import Receive, Scope, Send, WebContext
from hypha.web.exchange import Exchange, _octets
from hypha.web.failures import HttpFailure, describe, status_of, to_response
from hypha.web.identity import HttpCaller, Identities
from hypha.web.members import Function, Members, described
from hypha.web.provider_answers import SANDBOX, BadAnswer, Headers, answer_headers, checked_status, request_headers
from hypha.web.results import left_alone
from hypha.web.services import Finder, attended
from hypha_rpc.errors import PeerGone, RemoteException

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["PROVIDED", "app_routes"]

_log = logging.getLogger("hypha.web")

PROVIDED: Final = "hypha.provided"
"""Key of a scope whose answer is a provider's."""

_TRUSTED: Final = "public"
_CONTENT: Final = (b"content-type", b"content-encoding")


@dataclass(frozen=True, slots=True)
class _Visit:
    """A request to an app."""

    scope: Scope
    receive: Receive
    send: Send
    caller: HttpCaller
    record: Record
    service: str
    path: str

    @property
    def workspace(self) -> str:
        return self.record.workspace

    @property
    def prefix(self) -> str:
        """Path of the app on this site."""
        return f"{self.scope.get('root_path', '')}/{self.workspace}/apps/{self.service}"

    @property
    def trusted(self) -> bool:
        """Whether the provider is the server's own (security S33, S36)."""
        return self.workspace == _TRUSTED


class Apps:
    """The ASGI endpoint of all apps.

    Args:
        context: the server.
        identities: tells who asks.
    """

    def __init__(self, context: WebContext, identities: Identities) -> None:
        self._context = context
        self._identities = identities
        self._finder = Finder(context)
        self._members = Members(context.core)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            answer = await self._serve(scope, receive, send)
        except Disconnected:
            return
        except Exception as error:  # noqa: BLE001 - supervision boundary: whatever a provider does becomes an HTTP answer
            answer = _failed(error)
        if answer is not None:
            await answer(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> Response | None:
        params: dict[str, str] = scope["path_params"]
        workspace, service = params["workspace"], params["service"]
        caller = await self._identities.caller(scope, workspace)
        if not self._context.core.workspaces.exists(workspace):
            raise HttpFailure(404, f"Workspace {workspace} does not exist or is not accessible")
        record = await self._finder.find(workspace, service, caller, None)
        visit = _Visit(scope, receive, send, caller, record, service, params["path"])
        if (elsewhere := self._elsewhere(visit)) is not None:
            return elsewhere
        if header_of(scope, b"service-worker") == "script" and self._is_sandboxed(visit):
            raise HttpFailure(403, "Service workers are not allowed here")
        scope[PROVIDED] = True
        kind = str(record.info.get("type")).lower()
        if kind == "functions":
            return await self._function(visit)
        if kind == "asgi":
            return await self._asgi(visit)
        raise HttpFailure(500, f"Invalid service type: {record.info.get('type')}")

    # -- where provider content may run (security S33) -------------------------------------

    def _is_sandboxed(self, visit: _Visit) -> bool:
        settings = self._context.settings
        return not (visit.trusted or settings.trust_apps or self._context.on_loopback or settings.apps_origin)

    def _elsewhere(self, visit: _Visit) -> Response | None:
        """To the host that providers' pages have for themselves, if there is one and this is not it."""
        origin = self._context.settings.apps_origin
        if origin is None or visit.trusted or self._context.settings.trust_apps:
            return None
        host = origin.rstrip("/").rpartition("://")[2]
        if header_of(visit.scope, b"host") == host:
            return None
        query = visit.scope["query_string"].decode("latin-1")
        raw = visit.scope.get("raw_path") or visit.scope["path"].encode()
        target = origin.rstrip("/") + raw.decode("latin-1").partition("?")[0] + (f"?{query}" if query else "")
        return RedirectResponse(target, status_code=307)

    def _answer_headers(self, visit: _Visit, given: Any) -> Headers:
        headers = answer_headers(given, prefix=visit.prefix, trusted=visit.trusted)
        if self._is_sandboxed(visit):
            headers.append((b"content-security-policy", SANDBOX.encode()))
        return headers

    # -- common -----------------------------------------------------------------------------

    def _speaker(self, visit: _Visit) -> Speaker:
        caller = visit.caller
        shown = None if caller.verified else visit.workspace
        # The server's own services tell callers apart by their network (security S22, S23).
        remote = caller.address if visit.trusted else None
        return self._context.gateway.speaker(caller.user, caller.workspace, shown=shown, remote=remote)

    def _call(self, visit: _Visit, path: str, argument: dict[str, Any]) -> GatewayCall:
        target = (visit.record.address, f"services.{visit.record.name}.{path}")
        return self._context.gateway.call(self._speaker(visit), target, [argument])

    def _request(self, visit: _Visit) -> dict[str, Any]:
        """What a provider is told about the request, in simple values."""
        scope = visit.scope
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        skipped = 4 + self._context.base_path.count("/")
        relative = b"/" + b"/".join(raw.partition(b"?")[0].split(b"/")[skipped:])
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": scope["http_version"],
            "method": scope["method"],
            "scheme": scope["scheme"],
            "path": f"/{visit.path}",
            "raw_path": relative,
            "query_string": scope["query_string"],
            "root_path": visit.prefix,
            "headers": [
                [name, value]
                for name, value in request_headers(
                    scope["headers"], verified=visit.caller.verified, trusted=visit.trusted
                )
            ],
            "server": list(scope["server"]) if scope.get("server") else None,
            "client": list(scope["client"]) if scope.get("client") else None,
            "workspace": visit.workspace,
            "service_id": visit.service,
        }

    # -- functions --------------------------------------------------------------------------

    async def _function(self, visit: _Visit) -> Response:
        function, remaining = await self._find_function(visit)
        limits = self._context.limits
        body = await read_body(visit.scope, visit.receive, most=limits.http_body_bytes, ratio=limits.http_inflate_ratio)
        event = self._event(visit, body)
        if remaining is not None:
            event["function_path"] = remaining
        result = await attended(self._call(visit, function, event), visit.receive)
        if not isinstance(result, dict):
            raise TypeError(f"a function must return a map with status, headers and body, not {type(result).__name__}")
        return self._returned(visit, result)

    def _event(self, visit: _Visit, body: bytes) -> dict[str, Any]:
        request = self._request(visit)
        user = visit.caller.user.narrowed(visit.caller.workspace, visit.workspace).to_wire()
        headers: dict[str, str] = {}
        for name, value in request["headers"]:
            text = value.decode("latin-1")
            key = name.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        if body and headers.pop("content-encoding", None) is not None:
            # It is inflated already.
            headers["content-length"] = str(len(body))
        event = {
            **request,
            "raw_path": request["raw_path"].decode("latin-1"),
            "query_string": request["query_string"].decode("latin-1"),
            "headers": headers,
            "state": {},
            "body": body or None,
            "user": user,
        }
        if visit.record.config.get("require_context"):
            event["context"] = {
                "user": user,
                "ws": visit.caller.workspace if visit.caller.verified else visit.workspace,
                "from": self._speaker(visit).origin.address,
                "to": visit.record.address,
            }
        return event

    async def _find_function(self, visit: _Visit) -> tuple[str, str | None]:
        """The function for a path, and what of the path a ``default`` is told.

        Raises:
            HttpFailure: there is none.
        """
        parts = [part for part in visit.path.split("/") if part]
        wanted = [[*parts, "index"]] if not parts or visit.path.endswith("/") else []
        if parts:
            wanted.append(parts)
        for path in (*wanted, ["default"]):
            if (function := await self._function_at(visit.record, path)) is not None:
                return function.path, "/".join(parts) if path == ["default"] else None
        raise HttpFailure(404, f"Function not found: {visit.path}")

    async def _function_at(self, record: Record, path: list[str]) -> Function | None:
        if any("." in part or part.startswith("_") for part in path):
            return None
        if record.info.get("service_schema"):
            return described(record, path)
        try:
            found = await self._members.at(record, path)
        except KeyError:
            return None
        return found if isinstance(found, Function) else None

    def _returned(self, visit: _Visit, result: dict[str, Any]) -> Response:
        given = result.get("status")
        status = checked_status(200 if given is None else given)
        headers = self._answer_headers(visit, result.get("headers"))
        body = result.get("body")
        if isinstance(body, GatewayStream):
            return _Streamed(body, status, headers)
        response = Response(_octets(body), status_code=status)
        names = {name.lower() for name, _ in headers}
        if isinstance(body, str) and b"content-type" not in names:
            headers.append((b"content-type", b"text/plain; charset=utf-8"))
        kept = [(name, value) for name, value in headers if name.lower() != b"content-length"]
        response.raw_headers = [*response.raw_headers, *kept]
        return response

    # -- asgi -------------------------------------------------------------------------------

    async def _asgi(self, visit: _Visit) -> Response | None:
        connection = (visit.scope, visit.receive, visit.send)
        headers = functools.partial(self._answer_headers, visit)
        exchange = Exchange(connection, headers, most=self._context.limits.http_body_bytes)
        try:
            await exchange.run(functools.partial(self._call, visit, "serve"), self._request(visit))
        except Exception:
            # Once it has begun, an answer can only be cut off.
            if not exchange.started and exchange.problem is None:
                raise
        if exchange.started:
            return None
        status, text = exchange.problem or (502, "The service ended without an answer")
        return PlainTextResponse(text, status_code=status)


class _Streamed(Response):
    """The answer of a function whose body is a generator."""

    def __init__(self, stream: GatewayStream, status: int, headers: Headers) -> None:
        super().__init__(status_code=status)
        self._stream = stream
        self.raw_headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write it piece by piece."""
        async with left_alone(self._stream, receive):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            try:
                async for item in self._stream:
                    await send({"type": "http.response.body", "body": _octets(item), "more_body": True})
            except Exception as error:  # noqa: BLE001 - supervision boundary: the answer has begun and is cut off
                _log.info("the body of an app ended early: %s", type(error).__name__)
                return
        await send({"type": "http.response.body", "body": b""})


def _failed(error: Exception) -> Response:
    """The answer for what went wrong, in plain text."""
    if isinstance(error, HttpFailure):
        return to_response(error) if error.plain else PlainTextResponse(error.detail, status_code=error.status)
    if isinstance(error, BadAnswer):
        return PlainTextResponse(f"Bad answer of the service: {error}", status_code=502)
    if isinstance(error, RemoteException) and not isinstance(error, PeerGone):
        text = f"Internal Server Error: {error.remote_type}: {error.remote_message}"
        return PlainTextResponse(text, status_code=500)
    return PlainTextResponse(describe(error), status_code=max(status_of(error), 500))


def app_routes(context: WebContext, identities: Identities) -> list[Route]:
    """The routes below ``/{workspace}/apps/{service}``."""
    return [
        Route("/{workspace}/apps/{service}", _to_app, methods=["GET"]),
        Route("/{workspace}/apps/{service}/{path:path}", Apps(context, identities)),
    ]


async def _to_app(request: Request) -> Response:
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"{request.url.path}/{query}", status_code=307)
