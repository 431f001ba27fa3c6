"""Call Python functions from anywhere.

Register a service (a dictionary of functions) in one program, find and call it
from another::

    from hypha_rpc import connect_to_server

    async with connect_to_server({"server_url": url}) as server:
        service = await server.get_service("hello-world")
        print(await service.hello("John"))

Importing this package is cheap: names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
import logging
import os
from typing import TYPE_CHECKING, Any

from hypha_rpc._version import __version__

if TYPE_CHECKING:
    from hypha_rpc.client.connect import connect_to_server, get_remote_service
    from hypha_rpc.client.login import login, logout
    from hypha_rpc.client.rpc import RPC
    from hypha_rpc.endpoint.leases import keep
    from hypha_rpc.exporting import api
    from hypha_rpc.sync.names import (
        connect_to_server_sync,
        get_remote_service_sync,
        get_rtc_service_sync,
        login_sync,
        logout_sync,
        register_rtc_service_sync,
    )
    from hypha_rpc.utils import run_in_executor

__all__ = [
    "RPC",
    "__version__",
    "api",
    "connect_to_server",
    "connect_to_server_sync",
    "get_remote_service",
    "get_remote_service_sync",
    "get_rtc_service_sync",
    "keep",
    "login",
    "login_sync",
    "logout",
    "logout_sync",
    "register_rtc_service_sync",
    "run_in_executor",
]

_HOMES = {
    "RPC": "hypha_rpc.client.rpc",
    "api": "hypha_rpc.exporting",
    "connect_to_server": "hypha_rpc.client.connect",
    "connect_to_server_sync": "hypha_rpc.sync.names",
    "get_remote_service": "hypha_rpc.client.connect",
    "get_remote_service_sync": "hypha_rpc.sync.names",
    "get_rtc_service_sync": "hypha_rpc.sync.names",
    "keep": "hypha_rpc.endpoint.leases",
    "login": "hypha_rpc.client.login",
    "login_sync": "hypha_rpc.sync.names",
    "logout": "hypha_rpc.client.login",
    "logout_sync": "hypha_rpc.sync.names",
    "register_rtc_service_sync": "hypha_rpc.sync.names",
    "run_in_executor": "hypha_rpc.utils",
}

_log = logging.getLogger("hypha_rpc")
_log.addHandler(logging.NullHandler())
if _level := os.environ.get("HYPHA_LOGLEVEL"):
    # Never the root logger: what a program prints is its own business (X21).
    _log.addHandler(logging.StreamHandler())
    _log.setLevel(_level.upper() if _level.upper() in logging.getLevelNamesMapping() else logging.WARNING)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
