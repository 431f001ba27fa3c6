"""``/``: the version, for people and for programs (server §1.5)."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["home_routes"]

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Hypha server {version}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.6 system-ui, sans-serif; max-width: 44rem; margin: 10vh auto; padding: 0 1.25rem }}
h1 {{ font-size: 1.75rem; margin-bottom: 0 }}
p.version {{ color: GrayText; margin-top: .25rem }}
pre {{ background: color-mix(in srgb, CanvasText 8%, Canvas); padding: .9rem 1rem;
  border-radius: .5rem; overflow-x: auto }}
</style></head>
<body><h1>Hypha server</h1><p class="version">version {version}, at <code>{url}</code></p>
<p>This server is running. Connect from Python:</p>
<pre>from hypha_rpc import connect_to_server

async with connect_to_server({{"server_url": "{url}"}}) as server:
    service = await server.get_service("hello-world")</pre>
<p><a href="health/readiness">readiness</a></p></body></html>
"""

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Vary": "Accept",
}


class _Home:
    def __init__(self, info: dict[str, Any]) -> None:
        self._info = info
        self._page = _PAGE.format(version=html.escape(info["version"]), url=html.escape(info["public_base_url"]))

    async def index(self, request: Request) -> Response:
        """A page for browsers, JSON for programs."""
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(self._page, headers=_HEADERS)
        return JSONResponse(self._info, headers={"Vary": "Accept"})


def home_routes(version: str, server_id: str, public_url: str) -> list[Route]:
    """``/``."""
    info = {"name": "Hypha", "version": version, "server_id": server_id, "public_base_url": public_url}
    return [Route("/", _Home(info).index, methods=["GET"])]
