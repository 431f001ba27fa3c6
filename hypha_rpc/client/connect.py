"""`connect_to_server` and `get_remote_service` (python-client §3)."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Generator, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

from hypha_rpc.client.link import Link
from hypha_rpc.client.options import ConnectOptions
from hypha_rpc.client.proxies import RemoteService
from hypha_rpc.client.rpc import RPC
from hypha_rpc.client.workspace import build_server
from hypha_rpc.transports import default_connector

__all__ = ["RemoteServiceContext", "ServerContext", "connect_to_server", "get_remote_service", "parse_service_url"]

_log = logging.getLogger("hypha_rpc.client")


class ServerContext:
    """What `connect_to_server` returns: awaitable, and an async context manager that disconnects."""

    def __init__(self, options: ConnectOptions, config: Mapping[str, Any]) -> None:
        self._options = options
        self.config = dict(config)
        self.wm: RemoteService | None = None

    def __await__(self) -> Generator[Any, None, RemoteService]:
        return self._connect().__await__()

    async def __aenter__(self) -> RemoteService:
        return await self._connect()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.wm is not None:
            await self.wm.rpc.disconnect()

    async def _connect(self) -> RemoteService:
        self.wm = await open_server(self._options)
        return self.wm


async def open_server(options: ConnectOptions) -> RemoteService:
    """Connect and build the connected object; failing leaves nothing behind."""
    rpc = RPC(
        None,
        options.client_id,
        name=options.name,
        method_timeout=options.method_timeout,
        rintf_timeout=options.rintf_timeout,
        silent=options.silent,
        app_id=options.app_id,
        long_message_chunk_size=options.long_message_chunk_size,
    )
    if options.transport != "websocket":
        _log.warning(
            "transport %r is not available here (known: 'websocket', 'http', 'auto'); using websocket",
            options.transport,
        )
    await rpc.open(Link(default_connector(), options, secrets.token_hex(12), rpc))
    announcement = rpc.connection_info.get("announcement")
    if isinstance(announcement, str):
        _log.info("announcement of the server: %.500s", announcement)
    return build_server(rpc, description=options.description)


def connect_to_server(config: Mapping[str, Any] | None = None, **options: Any) -> ServerContext:
    """Connect to a server.

    ``server = await connect_to_server({"server_url": url})``, or
    ``async with connect_to_server(server_url=url) as server:``. Nothing happens on
    the network before that.

    Args:
        config: options as a dictionary (python-client §3.2); it is not changed.
        **options: the same as keywords; they win.

    Returns:
        An awaitable and async context manager of the connected object.

    Raises:
        ValueError: no ``server_url`` (with nothing given the environment variables
            ``HYPHA_SERVER_URL``, ``HYPHA_TOKEN``, ``HYPHA_WORKSPACE``, ``HYPHA_CLIENT_ID`` are asked).
    """
    return ServerContext(ConnectOptions.parse(config, options), {**(config or {}), **options})


_SERVICE_URL = re.compile(
    r"^(?P<server>https?://[^/]+(?:/[^?#]*?)?)/(?P<workspace>[^/]+)/services/"
    r"(?:(?P<client>[^/:@]+):)?(?P<service>[^/:@?#]+)(?:@(?P<app>[^/?#]+))?(?:[/?#].*)?$"
)


def parse_service_url(url: str) -> tuple[str, str, str, str, str]:
    """Split ``<server>/<workspace>/services/[client:]service[@app]``.

    Returns:
        Server URL, workspace, client id or ``"*"``, service id, app id or ``"*"``.

    Raises:
        ValueError: *url* has another shape.
    """
    match = _SERVICE_URL.match(url)
    if match is None or not urlsplit(url).netloc:
        raise ValueError("URL does not match the expected pattern")
    server, workspace, client, service, app = match.groups()
    return server, unquote(workspace), unquote(client or "*"), unquote(service), unquote(app or "*")


class RemoteServiceContext:
    """What `get_remote_service` returns: awaitable, and an async context manager that disconnects."""

    def __init__(self, url: str, config: Mapping[str, Any] | None, options: Mapping[str, Any]) -> None:
        server, workspace, client, service, app = parse_service_url(url)
        given = {**(config or {}), **options}
        if given.get("server_url", server) != server:
            raise ValueError(f"server_url {given['server_url']!r} is not the one in the service URL ({server})")
        given["server_url"] = server
        self._case = given.pop("case_conversion", None)
        name = service if client == "*" else f"{client}:{service}"
        self._query = f"{workspace}/{name}" + ("" if app == "*" else f"@{app}")
        self._connection = connect_to_server(given)

    def __await__(self) -> Generator[Any, None, RemoteService]:
        return self._fetch().__await__()

    async def __aenter__(self) -> RemoteService:
        return await self._fetch()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.__aexit__(kind, error, trace)

    async def _fetch(self) -> RemoteService:
        server = await self._connection
        try:
            options = {"case_conversion": self._case} if self._case else {}
            service: RemoteService = await server.get_service(self._query, options)
        except BaseException:
            await server.rpc.disconnect()
            raise
        if "disconnect" not in service:
            service["disconnect"] = server.disconnect
        return service


def get_remote_service(
    service_uri: str, config: Mapping[str, Any] | None = None, **options: Any
) -> RemoteServiceContext:
    """Connect and fetch one service by its URL (python-client §3.7).

    Args:
        service_uri: ``<server>/<workspace>/services/[client:]service[@app]``.
        config: options of `connect_to_server`, and ``case_conversion``.
        **options: the same as keywords.

    Returns:
        An awaitable and async context manager of the service.

    Raises:
        ValueError: the URL has another shape, or contradicts ``server_url``.
    """
    return RemoteServiceContext(service_uri, config, options)
