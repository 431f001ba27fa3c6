"""Directories of the operator as web sites: ``--static-mounts /tools:./webtools/`` (server §1.7, security S39)."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from hypha.settings import SettingsError
from hypha.settings.mounts import StaticMount

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["cached", "find_file", "mount_routes"]

_MOUNT: Final = re.compile(r"/[A-Za-z0-9_.~-]+")
_FORBIDDEN: Final = re.compile(r"[\\\x00-\x1f\x7f]")
_INDEX: Final = "index.html"


class _Mount:
    def __init__(self, directory: Path) -> None:
        self._root = directory.resolve(strict=True)

    async def root(self, request: Request) -> Response:
        """To the directory's own page, whose relative links need the slash."""
        if await self._find("") is None:
            raise HTTPException(404)
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"{request.url.path}/{query}", status_code=307)

    async def file(self, request: Request) -> Response:
        """A file, or the page of a directory."""
        path: str = request.path_params["path"]
        found = await self._find(path)
        if found is None:
            raise HTTPException(404)
        if found.name == _INDEX and path and not path.endswith(("/", _INDEX)):
            return RedirectResponse(f"{request.url.path}/", status_code=307)
        headers = cached(request, found)
        if headers is None:
            return Response(status_code=304)
        return FileResponse(found, headers=headers)

    async def _find(self, path: str) -> Path | None:
        return await asyncio.to_thread(find_file, self._root, path)


def find_file(root: Path, path: str) -> Path | None:
    """The file below *root* that *path* means; None when there is none that may be shown.

    Args:
        root: resolved.
        path: decoded once, relative.
    """
    if _FORBIDDEN.search(path) or any(part.startswith(".") for part in path.split("/")):
        return None
    if any(":" in part for part in path.split("/")) and os.name == "nt":
        return None
    try:
        real = (root / path.lstrip("/")).resolve(strict=True)
        if not real.is_relative_to(root):
            return None
        if real.is_dir():
            real = (real / _INDEX).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        return None
    return real if real.is_file() and real.is_relative_to(root) else None


def cached(request: Request, path: Path) -> dict[str, str] | None:
    """Headers for the file *path*, or None when the client has it already."""
    status = path.stat()
    tag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
    asked = request.headers.get("if-none-match", "")
    if tag in [part.strip().removeprefix("W/") for part in asked.split(",")]:
        return None
    return {"etag": tag, "cache-control": "no-cache"}


def mount_routes(mounts: Iterable[StaticMount], taken: Iterable[str]) -> list[BaseRoute]:
    """The routes of all mounts.

    Args:
        mounts: what the operator named.
        taken: first segments of other routes.

    Raises:
        SettingsError: a mount is not possible; the text says why.
    """
    used = set(taken)
    routes: list[BaseRoute] = []
    for mount in mounts:
        if mount.path in used:
            raise SettingsError(f"--static-mounts: The route '{mount.path}' collides with an existing route.")
        if not _MOUNT.fullmatch(mount.path):
            raise SettingsError(f"--static-mounts: '{mount.path}' cannot be a route")
        mount.check()
        used.add(mount.path)
        site = _Mount(mount.directory)
        routes.append(Route(mount.path, site.root, methods=["GET"]))
        routes.append(Route(f"{mount.path}/{{path:path}}", site.file, methods=["GET"]))
    return routes
