"""The blocking functions under the names they have in `hypha_rpc` itself."""

from __future__ import annotations

from hypha_rpc.sync.api import connect_to_server as connect_to_server_sync
from hypha_rpc.sync.api import get_remote_service as get_remote_service_sync
from hypha_rpc.sync.api import get_rtc_service as get_rtc_service_sync
from hypha_rpc.sync.api import login as login_sync
from hypha_rpc.sync.api import logout as logout_sync
from hypha_rpc.sync.api import register_rtc_service as register_rtc_service_sync

__all__ = [
    "connect_to_server_sync",
    "get_remote_service_sync",
    "get_rtc_service_sync",
    "login_sync",
    "logout_sync",
    "register_rtc_service_sync",
]
