"""``GET|POST /{workspace}/services/{service}/{function}``: services as a web API (server §5.2-5.5)."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hypha.auth.errors import AuthenticationError
from hypha.auth.identity import User, anonymous_http_user
from hypha.auth.tokens import refuse_specialised
from hypha.gateway import Gateway
from hypha.manager.core import Caller, ManagerCore
from hypha.manager.directory import Query
from hypha.manager.lookup import LookupMethods
from hypha_rpc.errors import RemoteException

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["service_routes"]

_INTEGER: Final = re.compile(r"\d{1,18}")
_NUMBER: Final = re.compile(r"[+-]?\d[\d_]*(\.\d*)?([eE][+-]?\d+)?")
_CLASSES: Final = (
    (404, ("KeyError", "ServiceNotFound", "MethodNotFound")),
    (403, ("PermissionError", "PermissionDenied")),
    (400, ("ValueError", "TypeError", "AssertionError")),
)


class _Services:
    def __init__(self, core: ManagerCore, lookup: LookupMethods, gateway: Gateway, max_body: int) -> None:
        self._core = core
        self._lookup = lookup
        self._gateway = gateway
        self._max_body = max_body

    async def call(self, request: Request) -> Response:
        """Call one function and answer with its result."""
        try:
            user = self._user(request)
        except AuthenticationError as error:
            return JSONResponse({"detail": str(error)}, status_code=401)
        except PermissionError as error:
            return JSONResponse({"detail": str(error)}, status_code=403)
        try:
            args, kwargs = await self._arguments(request)
        except ValueError as error:
            return _failure(400, f"Invalid request body: {error}")
        try:
            result = await self._call(request, user, args, kwargs)
            return _result(result)
        except Exception as error:  # noqa: BLE001 - supervision boundary: whatever a provider does becomes an HTTP answer
            return _error(error)

    def _user(self, request: Request) -> User:
        header = request.headers.get("authorization")
        if header is None:
            return anonymous_http_user()
        kind, _, rest = header.partition(" ")
        user = self._core.tokens.authenticate(rest.strip() if kind.lower() == "bearer" else header.strip())
        refuse_specialised(user)
        return user

    async def _call(self, request: Request, user: User, args: list[Any], kwargs: dict[str, Any]) -> Any:
        workspace, service_id = request.path_params["workspace"], request.path_params["service"]
        home = self._home(user, workspace)
        caller = Caller(f"{home}/http", home, user, None)
        query = Query.parse(f"{workspace}/{service_id}", workspace)
        options = {"mode": request.query_params.get("_mode")}
        record = await self._lookup.choose(query, options, caller)
        if record.name == "built-in" or record.name.startswith("_rintf_"):
            raise KeyError(f"Service not found: {query}")
        method = f"services.{record.name}.{request.path_params['function']}"
        return await self._gateway.call(user, home, (record.address, method), args, kwargs)

    def _home(self, user: User, workspace: str) -> str:
        """The workspace the provider sees the caller in (server §5.2)."""
        if user.current_workspace is not None:
            return user.current_workspace
        if user.is_anonymous and user.id == anonymous_http_user().id:
            return "ws-anonymous"
        caller = Caller(f"{workspace}/http", workspace, user, None)
        return workspace if self._core.may_read(caller, workspace) else f"ws-user-{user.id}"

    async def _arguments(self, request: Request) -> tuple[list[Any], dict[str, Any]]:
        if request.method != "POST":
            return [], {key: _coerce(value) for key, value in request.query_params.items() if key != "_mode"}
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > self._max_body:
                raise ValueError(f"larger than {self._max_body} bytes")
        if not body:
            return [], {}
        value = json.loads(bytes(body), parse_constant=_no_constant)
        if isinstance(value, dict):
            return [], value
        return (value if isinstance(value, list) else [value]), {}


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _coerce(text: str) -> Any:
    """Query values as the ecosystem knows them (server §5.3)."""
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        number = float(text.replace("_", ""))
        return number if math.isfinite(number) else text
    if text[:1] in "{[" and text:
        return json.loads(text, parse_constant=_no_constant)
    return text


def _result(value: Any) -> Response:
    if isinstance(value, bytes):
        return Response(value, media_type="application/octet-stream")
    text = json.dumps(_jsonable(value), ensure_ascii=False, separators=(",", ":"))
    return Response(text, media_type="application/json")


def _jsonable(value: Any) -> Any:  # noqa: PLR0911 - one line a kind of value
    """*value* for JSON: bytes as base64 objects, functions by their schema, NaN as null (server §5.4)."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_jsonable(item) for item in value]
    if isinstance(value, (bytes, memoryview)):
        return {"_rtype": "bytes", "_rvalue": base64.b64encode(value).decode()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int, bool)):
        return value
    reference = getattr(value, "__rpc_object__", None)
    if isinstance(reference, dict):
        return {"type": "function", "function": reference.get("_rschema")}
    if hasattr(value, "tolist"):
        return _jsonable(value.tolist())
    if hasattr(value, "model_dump"):
        return _jsonable(value.model_dump())
    return str(value)


def _failure(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"success": False, "detail": detail}, status_code=status)


def _error(error: Exception) -> JSONResponse:
    """The status and text of server §5.5."""
    if isinstance(error, RemoteException):
        name, message = error.remote_type, error.remote_message
        detail = f"RemoteException: {name}: {message}"
    else:
        name, message = type(error).__name__, str(error)
        detail = f"{name}: {message}"
    if isinstance(error, TimeoutError):
        return _failure(504, f"TimeoutError: {message}")
    status = next((status for status, names in _CLASSES if name in names), 500)
    if status == 500 and "not found" in message:
        status = 404
    if status == 500 and "Permission denied" in message:
        status = 403
    return _failure(status, detail)


def service_routes(core: ManagerCore, lookup: LookupMethods, gateway: Gateway, *, max_body: int) -> list[Route]:
    """The routes below ``/{workspace}/services``."""
    services = _Services(core, lookup, gateway, max_body)
    return [
        Route("/{workspace}/services/{service}/{function}", services.call, methods=["GET", "POST"]),
    ]
