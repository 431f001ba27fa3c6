"""The blocking face, for scripts and notebooks: everything of the async API, without ``await``.

::

    from hypha_rpc.sync import connect_to_server

    with connect_to_server({"server_url": url}) as server:
        service = server.get_service("hello-world")
        print(service.hello("John"))

One event loop in a thread of its own serves all connections; functions that others call
run in threads made on demand. A program that has registered services goes on after its
main thread has ended, until it is disconnected or interrupted.
"""

from __future__ import annotations

from hypha_rpc.sync.api import (
    connect_to_server,
    get_remote_service,
    get_rtc_service,
    login,
    logout,
    register_rtc_service,
)
from hypha_rpc.sync.proxies import BlockingFile, BlockingFunction, BlockingGenerator, SyncHyphaServer, SyncService

__all__ = [
    "BlockingFile",
    "BlockingFunction",
    "BlockingGenerator",
    "SyncHyphaServer",
    "SyncService",
    "connect_to_server",
    "get_remote_service",
    "get_rtc_service",
    "login",
    "logout",
    "register_rtc_service",
]
