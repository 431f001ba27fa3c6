"""`connect_to_server` and `get_remote_service` (python-client §3)."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

from hypha_rpc.client.link import Link
from hypha_rpc.client.options import ABSENT, ConnectOptions, from_environment
from hypha_rpc.client.proxies import RemoteService
from hypha_rpc.client.rpc import RPC
from hypha_rpc.client.server import Server
from hypha_rpc.client.workspace import build_server
from hypha_rpc.endpoint.ports import Sealer
from hypha_rpc.transports import connector_for, default_connector

__all__ = [
    "RemoteServiceContext",
    "ServerContext",
    "connect_to_server",
    "connect_to_server_http",
    "get_remote_service",
    "get_remote_service_http",
    "parse_service_url",
]


class ServerContext:
    """What `connect_to_server` returns: awaitable, and an async context manager that disconnects."""

    def __init__(self, options: ConnectOptions, config: Mapping[str, Any]) -> None:
        self._options = options
        self.config = dict(config)
        self.wm: Server | None = None

    def __await__(self) -> Generator[Any, None, Server]:
        return self._connect().__await__()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"not connected yet, there is no {name!r}: write `server = await connect_to_server(...)`, "
            "or `async with connect_to_server(...) as server:`"
        )

    async def __aenter__(self) -> Server:
        return await self._connect()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.wm is not None:
            await self.wm.rpc.disconnect()

    async def _connect(self) -> Server:
        self.wm = await open_server(self._options)
        return self.wm


async def open_server(options: ConnectOptions) -> Server:
    """Connect and build the connected object; failing leaves nothing behind."""
    rpc = RPC(
        None,
        options.client_id,
        name=options.name,
        method_timeout=options.method_timeout,
        rintf_timeout=options.rintf_timeout,
        silent=options.silent,
        # Silent means announcing nothing, and saying nothing but to a logger that was given.
        logger=None if options.silent and options.logger is ABSENT else options.logger,
        app_id=options.app_id,
        long_message_chunk_size=options.long_message_chunk_size,
        writable_arrays=options.writable_arrays,
        sealer=_sealer(options),
    )
    connector = connector_for(options.transport)
    if connector is None:
        rpc.log.warning("transport %r is unknown ('websocket', 'http', 'auto'); using websocket", options.transport)
        connector = default_connector()
    await rpc.open(Link(connector, options, os.urandom(12).hex(), rpc))
    announcement = rpc.connection_info.get("announcement")
    if isinstance(announcement, str):
        rpc.log.info("announcement of the server: %.500s", announcement)
    return build_server(rpc, description=options.description)


def _sealer(options: ConnectOptions) -> Sealer | None:
    if not options.encryption:
        return None
    from hypha_rpc.client.encryption import make_sealer

    return make_sealer(options.encryption_private_key, options.encryption_public_key)


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
        raise ValueError("URL does not match the expected pattern http(s)://HOST/WORKSPACE/services/[CLIENT:]SERVICE")
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
            service = await server.get_service(self._query, options)
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


def connect_to_server_http(config: Mapping[str, Any] | None = None, **options: Any) -> ServerContext:
    """Connect over HTTP: `connect_to_server` with ``transport="http"``.

    Args:
        config: options as a dictionary; it is not changed.
        **options: the same as keywords.

    Returns:
        An awaitable and async context manager of the connected object.

    Raises:
        ValueError: no ``server_url``.
    """
    # With nothing given the environment says where the server is.
    given = {**(config or {}), **options} or from_environment()
    return connect_to_server({**given, "transport": "http"})


def get_remote_service_http(
    service_uri: str, config: Mapping[str, Any] | None = None, **options: Any
) -> RemoteServiceContext:
    """Connect over HTTP and fetch one service by its URL: `get_remote_service` with ``transport="http"``.

    Args:
        service_uri: ``<server>/<workspace>/services/[client:]service[@app]``.
        config: options as a dictionary; it is not changed.
        **options: the same as keywords.

    Returns:
        An awaitable and async context manager of the service.

    Raises:
        ValueError: the URL has another shape, or contradicts ``server_url``.
    """
    return RemoteServiceContext(service_uri, config, {**options, "transport": "http"})
