"""Import path of existing programs."""

from hypha_rpc.client.connect import connect_to_server_http, get_remote_service_http
from hypha_rpc.transports.http import normalize_server_url
from hypha_rpc.transports.token import workspace_of_token as _extract_workspace_from_token

__all__ = [
    "_extract_workspace_from_token",
    "connect_to_server_http",
    "get_remote_service_http",
    "normalize_server_url",
]
