"""``/openapi.json`` and ``/api-docs``: the description of the API, for programs and as a page (server §1.4)."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from hypha.web.context import WebContext
from hypha.web.openapi import server_document
from hypha.web.pages import PAGE_HEADERS, page

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["docs_page", "docs_routes"]

_METHODS: Final = ("get", "post", "put", "patch", "delete")


class _Docs:
    def __init__(self, context: WebContext) -> None:
        self._base = context.base_path
        self._document = server_document(context)
        self._page = docs_page(self._document, base=self._base)

    async def document(self, request: Request) -> Response:
        """The description for programs."""
        return JSONResponse(self._document)

    async def index(self, request: Request) -> Response:
        """The description as a page."""
        return HTMLResponse(self._page, headers=PAGE_HEADERS)

    async def other(self, request: Request) -> Response:
        """There is one page only."""
        return RedirectResponse(f"{self._base}/api-docs", status_code=307)


def docs_page(document: Mapping[str, Any], *, base: str) -> str:
    """An OpenAPI description as a page.

    Args:
        document: the description.
        base: prefix of every route of this server.
    """
    info = document["info"]
    title = str(info["title"])
    groups: dict[str, list[str]] = {}
    for path, method, operation in _operations(document):
        tag = str((operation.get("tags") or [title])[0])
        groups.setdefault(tag, []).append(_operation(path, method, operation))
    sections = "".join(
        f"<section><h2>{html.escape(tag)}</h2>\n{''.join(operations)}</section>\n" for tag, operations in groups.items()
    )
    head = (
        f'<header><p class="crumbs"><a href="{html.escape(base)}/">Hypha server</a></p>\n'
        f'<h1>{html.escape(title)} <span class="badge">{html.escape(str(info["version"]))}</span></h1>\n'
        f"<p>{html.escape(str(info.get('description') or ''))}</p>\n"
        f'<p class="notes">Send a token as <code>Authorization: Bearer TOKEN</code>. Each service describes itself at '
        f"<code>{html.escape(base)}/WORKSPACE/services/SERVICE/openapi.json</code>; this page as data: "
        f'<a href="{html.escape(base)}/openapi.json">openapi.json</a>.</p></header>\n'
    )
    return page(f"{title}: API", head + sections, base=base)


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods:
                yield path, method, methods[method]


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    summary = html.escape(str(operation.get("summary") or ""))
    parts = [_parameters(operation.get("parameters") or []), _body(operation), _responses(operation)]
    breakable = html.escape(path).replace("/", "/<wbr>")
    return (
        f'<details class="operation {method}"><summary><span class="method">{method.upper()}</span>'
        f'<code class="path">{breakable}</code><span class="summary">{summary}</span></summary>\n'
        f'<div class="detail">{"".join(parts)}</div></details>\n'
    )


def _parameters(parameters: list[Mapping[str, Any]]) -> str:
    if not parameters:
        return ""
    rows = "".join(
        f"<tr><td><code>{html.escape(str(one['name']))}</code>{_required(one)}</td>"
        f"<td>{html.escape(str(one['in']))}</td><td>{html.escape(str(one.get('description') or ''))}</td></tr>"
        for one in parameters
    )
    return f'<h3>Parameters</h3><div class="scroll"><table>{rows}</table></div>'


def _required(parameter: Mapping[str, Any]) -> str:
    return ' <span class="required">required</span>' if parameter.get("required") else ""


def _body(operation: Mapping[str, Any]) -> str:
    content = (operation.get("requestBody") or {}).get("content") or {}
    if not content:
        return ""
    kinds = "".join(f"<li><code>{html.escape(kind)}</code></li>" for kind in content)
    example = next((value["example"] for value in content.values() if "example" in value), None)
    shown = "" if example is None else f"<pre><code>{html.escape(json.dumps(example))}</code></pre>"
    return f"<h3>Body</h3><ul>{kinds}</ul>{shown}"


def _responses(operation: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{html.escape(status)}</code></td><td>{html.escape(str(one.get('description') or ''))}</td></tr>"
        for status, one in operation["responses"].items()
    )
    return f'<h3>Answers</h3><div class="scroll"><table>{rows}</table></div>'


def docs_routes(context: WebContext) -> list[Route]:
    """The routes of the description of this server."""
    docs = _Docs(context)
    return [
        Route("/openapi.json", docs.document, methods=["GET"]),
        Route("/api-docs", docs.index, methods=["GET"]),
        Route("/api-redoc", docs.other, methods=["GET"]),
    ]
