"""OpenAPI descriptions: of the server, and of one service (server §1.4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from hypha.web.context import WebContext

__all__ = ["server_document", "service_document"]

_VERSION: Final = "3.1.0"
_DEPTH: Final = 16


def server_document(context: WebContext) -> dict[str, Any]:
    """The description of the routes that every server has."""
    paths: dict[str, Any] = {}
    for method, path, operation in _operations():
        paths.setdefault(path, {})[method] = operation
    return {
        **_head(context, "Hypha server", "Every registered service is a web API."),
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Failure": {
                    "type": "object",
                    "properties": {"success": {"const": False}, "detail": {"type": "string"}},
                    "required": ["detail"],
                }
            },
        },
        "security": [{}, {"token": []}],
    }


def service_document(context: WebContext, workspace: str, service: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """The description of one service, made from the schemas of its functions.

    Args:
        context: the server.
        workspace: as in the path.
        service: as in the path.
        record: as the caller may see it.
    """
    paths: dict[str, Any] = {}
    for path, function in _functions(record.get("service_schema"), "", 0):
        paths[f"/{workspace}/services/{service}/{path}"] = {
            "post": _by_body(path, function),
            "get": _by_query(path, function),
        }
    title = record.get("name") or service
    return {
        **_head(context, str(title), str(record.get("description") or "")),
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"token": []}],
    }


def _head(context: WebContext, title: str, description: str) -> dict[str, Any]:
    return {
        "openapi": _VERSION,
        "info": {"title": title, "version": context.version, "description": description},
        "servers": [{"url": context.public_url}],
    }


# ------------------------------------------------------------------- one service


def _functions(node: Any, path: str, depth: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not isinstance(node, (dict, list)) or depth > _DEPTH:
        return
    if isinstance(node, dict) and node.get("type") == "function" and isinstance(node.get("function"), dict):
        yield path, node["function"]
        return
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield from _functions(value, f"{path}.{key}" if path else str(key), depth + 1)


def _by_body(path: str, function: Mapping[str, Any]) -> dict[str, Any]:
    parameters = function.get("parameters")
    schema = parameters if isinstance(parameters, dict) else {"type": "object"}
    kinds = {kind: {"schema": schema} for kind in ("application/json", "application/msgpack")}
    required = bool(schema.get("required"))
    return {**_described(path, function, "post"), "requestBody": {"content": kinds, "required": required}}


def _by_query(path: str, function: Mapping[str, Any]) -> dict[str, Any]:
    schema = function.get("parameters")
    schema = schema if isinstance(schema, dict) else {}
    properties, required = schema.get("properties"), schema.get("required")
    parameters: list[dict[str, Any]] = []
    for name, described in (properties if isinstance(properties, dict) else {}).items():
        entry = described if isinstance(described, dict) else {}
        parameters.append(
            {
                "name": name,
                "in": "query",
                "required": isinstance(required, list) and name in required,
                "description": str(entry.get("description") or ""),
                "schema": {key: value for key, value in entry.items() if key != "description"},
            }
        )
    return {**_described(path, function, "get"), "parameters": parameters}


def _described(path: str, function: Mapping[str, Any], method: str) -> dict[str, Any]:
    text = str(function.get("description") or "")
    return {
        "operationId": f"{method}_{path}",
        "summary": text.partition("\n")[0][:120] or path,
        "description": text,
        "responses": _answers("The result"),
    }


# -------------------------------------------------------------------- the server


def _operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    ws, service = _path("workspace", "A workspace"), _path("service", "name, client:name or *:name")
    key = _path("function", "Name of a function; dots descend")
    mode = _query("_mode", "How to choose among several: random, first, last, exact, min_load")
    yield "get", "/", _operation("server", "Version and address of this server", [])
    yield "get", "/health", _operation("server", "Diagnostics, for private addresses", [])
    yield "get", "/health/liveness", _operation("server", "Is the process alive", [])
    yield "get", "/health/readiness", _operation("server", "Is the server ready", [])
    yield "get", "/assets/config.json", _operation("server", "Server info, and who asks", [])
    yield "get", "/{workspace}/info", _operation("workspaces", "What is known about a workspace", [ws])
    yield "get", "/{workspace}/services/", _operation("services", "List the services of a workspace", [ws])
    one = "/{workspace}/services/{service}"
    yield "get", one, _operation("services", "The record of a service", [ws, service, mode])
    text = "The OpenAPI description of a service"
    yield "get", f"{one}/openapi.json", _operation("services", text, [ws, service, mode])
    arguments = _query("arguments", "Each query item is an argument by name")
    arguments.update(style="form", explode=True, schema={"type": "object", "additionalProperties": {"type": "string"}})
    call = _operation("services", "Call a function; query items are its arguments", [ws, service, key, mode, arguments])
    yield "get", f"{one}/{{function}}", call
    yield "post", f"{one}/{{function}}", _call_by_body([ws, service, key, mode])
    app = [ws, service, _path("path", "A path of the app")]
    for method in ("get", "post"):
        described = _operation("apps", "Pages and routes of services of type functions or asgi", app, method)
        yield method, "/{workspace}/apps/{service}/{path}", described


def _call_by_body(parameters: list[dict[str, Any]]) -> dict[str, Any]:
    example = {"name": "John"}
    kinds = {
        "application/json": {"schema": {}, "example": example},
        "application/msgpack": {"schema": {"type": "string", "format": "binary"}},
    }
    text = "Call a function; a map names the arguments, a list gives them in order"
    body = {"content": kinds, "required": False}
    return {**_operation("services", text, parameters, "post"), "requestBody": body}


def _operation(tag: str, summary: str, parameters: list[dict[str, Any]], method: str = "get") -> dict[str, Any]:
    name = "_".join(part.lower() for part in summary.replace(",", "").replace(";", "").split()[:7])
    return {
        "tags": [tag],
        "operationId": f"{method}_{name}",
        "summary": summary,
        "parameters": parameters,
        "responses": _answers("OK"),
    }


def _answers(text: str) -> dict[str, Any]:
    failures = {
        "400": "The arguments do not fit, or there are several services",
        "401": "The token is not accepted",
        "403": "Not allowed",
        "404": "Not found",
    }
    described = {
        status: {
            "description": meaning,
            "content": {"application/json": {"schema": {"type": "object", "required": ["detail"]}}},
        }
        for status, meaning in failures.items()
    }
    return {"200": {"description": text}, **described}


def _path(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": {"type": "string"}}


def _query(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": {"type": "string"}}
