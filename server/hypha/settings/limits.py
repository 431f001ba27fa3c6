"""Limits and times, each with its environment variable.

Figures only; they are enforced at the door where data enters. Specs: security
§8 and server §1.2; where the two name different figures, security holds.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, cast

from hypha.settings.environment import SettingsError, read_environment

__all__ = ["Limits"]

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30


def _named(default: float, variable: str) -> float:
    # A variable that existing deployments set without the usual prefix.
    return dataclasses.field(default=default, metadata={"env": variable})


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of everything a peer can make the server hold or do.

    Every field is read from ``HYPHA_<FIELD>`` (exceptions are marked where they
    stand). Sizes are bytes, times seconds.

    Raises:
        SettingsError: a figure is negative; the text names the variable.
    """

    # handshake
    first_frame_bytes: int = 64 * _KIB
    first_frame_timeout: float = 5.0
    max_concurrent_connections: int = 10_000
    max_concurrent_connections_per_address: int = 1_000
    failed_logins_per_minute: int = 100
    failed_login_delay: float = 0.3
    failed_login_delay_excess: float = 2.0

    # frames
    max_frame_bytes: int = 16 * _MIB
    max_text_bytes: int = 64 * _KIB
    max_frame_bytes_public: int = 512 * _KIB
    max_routing_text: int = 4 * _KIB
    max_method_header: int = 64 * _KIB
    ws_msg_rate_limit: int = 100_000
    ws_msg_burst_limit: int = 100_000
    ws_byte_rate_limit: int = _GIB
    invalid_frames_burst: int = 200
    invalid_frames_per_second: int = 10

    # liveness
    ws_ping_interval: float = 15.0
    ws_pong_timeout: float = 35.0
    ws_unacknowledged: float = 7.0
    ws_idle_timeout: float = 600.0
    replace_ping_timeout: float = 3.0
    recently_gone: float = 120.0
    hold_client_id: float = 120.0
    hold_client_id_lesser: float = 3600.0

    # send queues, mailbox
    send_queue_bytes: int = 48 * _MIB
    send_pause: float = 0.5
    send_stall: float = 30.0
    stop_grace: float = 2.0
    mailbox_seconds: float = 15.0
    mailbox_frames: int = 256
    mailbox_bytes: int = 4 * _MIB
    mailbox_total_bytes: int = 64 * _MIB

    # messages in pieces
    partial_bytes_abroad: int = _GIB
    partial_bytes_own: int = 4 * _GIB
    partial_bytes_manager: int = 128 * _MIB
    partial_per_sender: int = 64
    partial_idle: float = 60.0

    # per caller, client, user, workspace
    max_pending_calls: int = 10_000
    max_subscriptions: int = 1_000
    max_services_per_client: int = 1_000
    max_service_record: int = 256 * _KIB
    max_env_variables: int = 100
    max_env_value: int = 4 * _KIB
    max_events: int = 10_000
    max_connections_per_user: int = 200
    max_clients_per_workspace: int = 1_000
    max_workspaces_per_user: int = 100
    max_mints_per_minute: int = 600
    max_revoked_tokens: int = 1_000_000

    # HTTP
    http_rate_limit: int = 100
    http_burst_limit: int = 500
    http_authenticated_rate_limit: int = 1_000
    http_authenticated_burst_limit: int = 5_000
    http_head_bytes: int = 16 * _KIB
    http_head_timeout: float = 20.0
    http_body_bytes: int = 100 * _MIB
    http_inflate_ratio: int = 200
    rpc_post_bytes: int = 16 * _MIB
    stream_idle_threshold: float = 60.0
    stream_sweep_interval: float = 30.0
    stream_ping_timeout: float = 5.0
    stream_max_ping_misses: int = 3
    stream_max_queue_drops: int = 200

    # login
    login_starts_per_minute: int = 30
    max_login_keys: int = 10_000
    maximum_login_time: float = _named(180.0, "MAXIMUM_LOGIN_TIME")
    login_ping_timeout: float = 3.0
    login_guard_interval: float = 30.0
    reconnection_token_life_time: float = _named(172_800.0, "RECONNECTION_TOKEN_LIFE_TIME")

    # housekeeping
    activity_check_interval: float = _named(10.0, "ACTIVITY_CHECK_INTERVAL")
    workspace_unload_grace_period: float = 0.0
    orphan_reap_initial_delay: float = 5.0
    orphan_reap_interval: float = 300.0
    orphan_reap_ping_timeout: float = 3.0
    orphan_reap_concurrency: int = 50
    server_check_timeout: float = 2.0
    server_check_concurrency: int = 50
    server_check_deadline: float = 60.0
    eventbus_max_failures: int = 5
    redis_max_connections: int = 2_000
    redis_health_check_interval: float = 30.0

    def __post_init__(self) -> None:
        for name, variable in _variables().items():
            if getattr(self, name) < 0:
                raise SettingsError(f"{variable}: must not be negative, got {getattr(self, name)}")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the limits from *environ*, by default the process's own.

        Raises:
            SettingsError: a variable is not a number, or negative.
        """
        names = {name: (variable,) for name, variable in _variables().items()}
        values = read_environment(cls, names, os.environ if environ is None else environ)
        return dataclasses.replace(cls(), **values)  # type: ignore[arg-type]  # types checked while reading


def _variables() -> dict[str, str]:
    return {
        field.name: cast("str", field.metadata.get("env", f"HYPHA_{field.name.upper()}"))
        for field in dataclasses.fields(Limits)
    }
