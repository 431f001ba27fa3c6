"""`hypha_rpc.api`: offer an object without a word about connecting (python-client §24).

Knows the environment as the source of where to connect, through `connect_to_server`;
how a connection works is none of its business. In workers of the browser the page
puts a handler of its own in place.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["API", "api"]

_OF_THE_SERVICE = ("name", "description", "type", "docs")


class API:
    """What a program that only offers something needs."""

    def __init__(self) -> None:
        self._registry: dict[str, Any] = {}
        self._handler: Callable[..., Any] = self._default_export_handler
        self._serving: set[asyncio.Task[None]] = set()

    def export(self, obj: Any, config: Mapping[str, Any] | None = None, **kwargs: Any) -> Any:
        """Offer an object or dictionary of functions as the service ``default``.

        Where to connect is read from the environment (python-client §3.1). In a running event loop this happens in the
        background; elsewhere this call serves until the connection has ended.

        Args:
            obj: what to export.
            config: ``name``, ``description``, ``type`` and ``docs`` of the service; everything else is its ``config``.
            **kwargs: ``skip_wait=True`` returns as soon as the service is registered; the rest is for the handler.

        Returns:
            What the handler returns: the task in a running loop, the server with ``skip_wait``, else None.

        Raises:
            ValueError: the environment does not say where the server is.
        """
        return self._handler(obj, config=config, **kwargs)

    def set_export_handler(self, handler: Callable[..., Any]) -> None:
        """Let *handler* do what `export` is asked for.

        Args:
            handler: called as ``handler(obj, config=config, **kwargs)``.
        """
        self._handler = handler

    def get_registry(self) -> dict[str, Any]:
        """What was exported, by its name."""
        return self._registry

    def _default_export_handler(
        self, obj: Any, config: Mapping[str, Any] | None = None, *, skip_wait: bool = False
    ) -> Any:
        """Remember *obj*, connect and register it."""
        given = dict(config or {})
        self._registry[str(given.get("name") or secrets.token_urlsafe(8))] = obj
        service = _service(obj, given)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return _serve_blocking(service, skip_wait=skip_wait)
        return self._serve_in_background(service)

    def _serve_in_background(self, service: dict[str, Any]) -> asyncio.Task[None]:
        from hypha_rpc.client.connect import connect_to_server

        # What is wrong with the environment is told at once.
        connecting = connect_to_server()
        task = asyncio.get_running_loop().create_task(_serve(connecting, service), name="hypha-export")
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        return task


def _service(obj: Any, config: dict[str, Any]) -> dict[str, Any]:
    """*obj* as the description of a service."""
    if isinstance(obj, Mapping):
        members = dict(obj)
    else:
        instance = obj() if isinstance(obj, type) else obj
        members = {name: getattr(instance, name) for name in dir(instance) if not name.startswith("_")}
    for name in _OF_THE_SERVICE:
        if name in config:
            members[name] = config.pop(name)
    return {**members, "id": "default", "config": {**members.get("config", {}), **config}}


async def _serve(connecting: Any, service: dict[str, Any]) -> None:
    async with connecting as server:
        await server.register_service(service, overwrite=True)
        await server.serve()


def _serve_blocking(service: dict[str, Any], *, skip_wait: bool) -> Any:
    from hypha_rpc.sync.api import connect_to_server

    server: Any = connect_to_server()
    server.register_service(service, overwrite=True)
    if skip_wait:
        return server
    with server:
        server.serve()
    return None


api = API()
