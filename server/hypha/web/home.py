"""``/``: that the server runs and its version, for people and for programs (server §1.5)."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Final

from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from hypha.web.context import WebContext
from hypha.web.pages import PAGE_HEADERS, page

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["home_routes"]

_BODY: Final = """
<header class="hero">
  <h1>Hypha server</h1>
  <p class="lead">This server is running. <span class="badge">version {version}</span></p>
  <p class="address"><code>{url}</code></p>
  <nav class="actions">
    <a class="button" href="{base}/api-docs">API description</a>
    <a class="button quiet" href="{base}/login">Log in</a>
    <a class="button quiet" href="{base}/public/services/">Public services</a>
  </nav>
</header>
<section>
  <h2>Offer a function from Python</h2>
  <pre><code>import asyncio
from hypha_rpc import connect_to_server

async def main():
    async with connect_to_server({{"server_url": "{url}"}}) as server:
        await server.register_service({{
            "id": "hello-world",
            "config": {{"visibility": "public"}},
            "hello": lambda name: f"Hello {{name}}",
        }})
        print("workspace:", server.config.workspace)
        await server.serve()

asyncio.run(main())</code></pre>
</section>
<section>
  <h2>Call it from a shell</h2>
  <pre class="wrap"><code>curl '{url}/WORKSPACE/services/hello-world/hello?name=John'</code></pre>
  <p>WORKSPACE is the one that the program prints.</p>
</section>
<footer>
  <a href="{base}/health/readiness">readiness</a>
  <a href="{base}/assets/config.json">server info</a>
  <a href="{base}/openapi.json">openapi.json</a>
</footer>
"""


class _Home:
    def __init__(self, context: WebContext) -> None:
        self._info = {
            "name": "Hypha",
            "version": context.version,
            "server_id": context.info.get("server_id"),
            "public_base_url": context.public_url,
        }
        self._base = context.base_path
        body = _BODY.format(
            version=html.escape(context.version), url=html.escape(context.public_url), base=html.escape(self._base)
        )
        self._page = page(f"Hypha server {context.version}", body, base=self._base)

    async def index(self, request: Request) -> Response:
        """A page for browsers, JSON for programs."""
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(self._page, headers=PAGE_HEADERS)
        return JSONResponse(self._info, headers={"Vary": "Accept"})

    async def login(self, request: Request) -> Response:
        """To the login page, with what was asked for."""
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"{self._base}/public/apps/hypha-login/{query}", status_code=307)


def home_routes(context: WebContext) -> list[Route]:
    """``/`` and ``/login``."""
    home = _Home(context)
    return [
        Route("/", home.index, methods=["GET"]),
        Route("/login", home.login, methods=["GET"]),
    ]
