"""`connect_to_server`, `get_remote_service`, `login`, `logout` that block (python-client §16)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypha_rpc.client import connect as client
from hypha_rpc.client import login as client_login
from hypha_rpc.client.proxies import RemoteService
from hypha_rpc.client.rpc import RPC
from hypha_rpc.sync.connection import Connection, run_once
from hypha_rpc.sync.proxies import SyncHyphaServer, SyncService

__all__ = ["connect_to_server", "get_remote_service", "get_rtc_service", "login", "logout", "register_rtc_service"]


def connect_to_server(config: Mapping[str, Any] | None = None, **options: Any) -> SyncHyphaServer:
    """Connect to a server and wait until connected.

    ``server = connect_to_server({"server_url": url})``, or
    ``with connect_to_server(server_url=url) as server:``.

    Args:
        config: options as a dictionary (python-client §3.2); it is not changed. Here also
            ``sync_max_workers``: how many functions of services of this client may run at once.
        **options: the same as keywords; they win.

    Returns:
        The connected object; all its functions block.

    Raises:
        ValueError: an option is missing or wrong.
        ConnectionError, TimeoutError: not reachable or refused; nothing is left behind.
        RuntimeError: Python in the browser has no threads.
    """
    context = client.connect_to_server(config, **options)
    connection = Connection(context.config.get("sync_max_workers"))
    found = connection.open(_Connecting(context))
    return SyncHyphaServer._of(connection, connection.members(found))


class _Connecting:
    """Connects, in the loop."""

    def __init__(self, context: client.ServerContext) -> None:
        self._context = context

    async def __call__(self) -> tuple[RPC, RemoteService]:
        server = await self._context
        return dict.__getitem__(server, "rpc"), server


def get_remote_service(service_uri: str, config: Mapping[str, Any] | None = None, **options: Any) -> SyncService:
    """Connect and fetch one service by its URL (python-client §3.7).

    Args:
        service_uri: ``<server>/<workspace>/services/[client:]service[@app]``.
        config: options of `connect_to_server`, and ``case_conversion``.
        **options: the same as keywords.

    Returns:
        The service, all of whose functions block; ``with`` and ``disconnect()`` end its connection.

    Raises:
        ValueError: the URL has another shape, or contradicts ``server_url``.
        ServiceNotFound: there is no such service.
    """
    context = client.get_remote_service(service_uri, config, **options)
    connection = Connection({**(config or {}), **options}.get("sync_max_workers"))
    found = connection.open(_Fetching(context))
    return SyncService._of(connection, connection.members(found))


class _Fetching:
    """Connects and fetches, in the loop."""

    def __init__(self, context: client.RemoteServiceContext) -> None:
        self._context = context

    async def __call__(self) -> tuple[RPC, RemoteService]:
        service = await self._context
        server = self._context._connection.wm
        if server is None:
            raise ConnectionError("Connection is closed")
        return dict.__getitem__(server, "rpc"), service


def login(config: Mapping[str, Any]) -> Any:
    """Ask a person to log in in a browser, wait, and return the token; see `hypha_rpc.login`.

    Args:
        config: ``server_url``, ``login_callback`` (a plain function) and so on.

    Returns:
        The token, or with ``profile`` the profile.
    """
    return run_once(client_login.login, config)


def logout(config: Mapping[str, Any]) -> Any:
    """Ask a person to log out in a browser; see `hypha_rpc.logout`.

    Args:
        config: ``server_url``, ``logout_callback`` and so on.

    Returns:
        The context, with ``logout_url``.
    """
    return run_once(client_login.logout, config)


def register_rtc_service(server: Any, service_id: str, config: Mapping[str, Any] | None = None) -> Any:
    """Offer peer-to-peer connections (python-client §18.1).

    Args:
        server: what `hypha_rpc.sync.connect_to_server` returned.
        service_id: id of the signalling service.
        config: ``ice_servers``, ``on_init``, and service config.

    Raises:
        AssertionError: *server* is not a blocking one.
        NotImplementedError: peer-to-peer connections do not exist yet.
    """
    _only_blocking(server)
    raise NotImplementedError("peer-to-peer connections (WebRTC) are not available in this version")


def get_rtc_service(server: Any, service_id: str, config: Mapping[str, Any] | None = None) -> Any:
    """Open a peer-to-peer connection (python-client §18.2).

    Args:
        server: what `hypha_rpc.sync.connect_to_server` returned.
        service_id: id of the signalling service.
        config: ``ice_servers``, ``on_init``, ``peer_id`` and so on.

    Raises:
        AssertionError: *server* is not a blocking one.
        NotImplementedError: peer-to-peer connections do not exist yet.
    """
    _only_blocking(server)
    raise NotImplementedError("peer-to-peer connections (WebRTC) are not available in this version")


def _only_blocking(server: Any) -> None:
    if not isinstance(server, SyncHyphaServer):
        raise AssertionError(
            "server must come from the blocking connect_to_server: `from hypha_rpc.sync import connect_to_server`"
        )
