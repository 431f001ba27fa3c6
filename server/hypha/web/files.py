"""``/static/*`` and ``/assets/*``: what the server itself brings along (server §1.4, §1.5)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from hypha.auth.identity import anonymous_http_user
from hypha.web.context import WebContext
from hypha.web.identity import Identities
from hypha.web.mounts import cached, find_file

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["STATIC", "file_routes"]

STATIC: Final = Path(__file__).parent / "static"
_BUNDLE: Final = "hypha-rpc-websocket."
_TYPES: Final = {".mjs": "application/javascript", ".js": "application/javascript", ".map": "application/json"}


class _Files:
    def __init__(self, context: WebContext, identities: Identities) -> None:
        self._context = context
        self._identities = identities
        self._folders = [STATIC.resolve()]
        # In a checkout the JavaScript client is where it was built.
        built = Path(__file__).parents[3] / "js" / "dist"
        if built.is_dir():
            self._folders.append(built.resolve())

    async def static(self, request: Request) -> Response:
        """A file by its name."""
        return await self._file(request, request.path_params["path"])

    async def bundle(self, request: Request) -> Response:
        """The JavaScript client."""
        return await self._file(request, _BUNDLE + request.path_params["rest"])

    async def _file(self, request: Request, name: str) -> Response:
        for folder in self._folders:
            found = await asyncio.to_thread(find_file, folder, name)
            if found is not None:
                media_type = _TYPES.get(found.suffix)
                headers = cached(request, found)
                if headers is None:
                    return Response(status_code=304)
                return FileResponse(found, headers=headers, media_type=media_type)
        raise HTTPException(404)

    async def config(self, request: Request) -> Response:
        """Server info, and who asks."""
        user = await self._identities.user(request.scope)
        body: dict[str, Any] = {"user": (user or anonymous_http_user()).to_wire(), **self._context.info}
        return JSONResponse(body, headers={"cache-control": "no-store", "vary": "Authorization, Cookie"})


def file_routes(context: WebContext, identities: Identities) -> list[Route]:
    """The routes of the server's own files."""
    files = _Files(context, identities)
    return [
        Route("/assets/config.json", files.config, methods=["GET"]),
        Route("/assets/hypha-rpc-websocket.{rest}", files.bundle, methods=["GET"]),
        Route("/static/{path:path}", files.static, methods=["GET"]),
        Route("/assets/{path:path}", files.static, methods=["GET"]),
    ]
