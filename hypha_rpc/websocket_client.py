"""Import path of existing programs."""

from hypha_rpc.client.connect import ServerContext as ServerContextManager
from hypha_rpc.client.connect import connect_to_server, get_remote_service
from hypha_rpc.client.login import login, logout
from hypha_rpc.transports.handshake import normalize_server_url

__all__ = [
    "ServerContextManager",
    "connect_to_server",
    "get_remote_service",
    "login",
    "logout",
    "normalize_server_url",
]
