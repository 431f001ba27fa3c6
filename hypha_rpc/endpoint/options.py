"""What an endpoint must be told once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypha_rpc.endpoint.storage import AreaFactory, byte_area
from hypha_rpc.endpoint.streams import ProducerFactory, plain_producer
from hypha_rpc.wire.limits import WireLimits

__all__ = ["EndpointOptions"]

CHUNK_SIZE = 262144
LEVEL = 1


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """Identity, limits and hooks of an `Endpoint`.

    Attributes:
        method_timeout_s: longest silence before a call fails; its heartbeats are asked for at half of it.
        rintf_timeout_s: the same for calls to ``_rintf_`` callbacks.
        chunk_size: bytes of a piece of a big frame (protocol §5).
        session_life_s: how long functions of a result live without a call.
        orphan_grace_s: how long a running call outlives its lost caller (extensions §3).
        max_pending: calls that may be unanswered at once (security §8).
        max_partial_own, max_partial_abroad: bytes of one incomplete message, by where the sender is (security §8).
        max_partial_per_sender: incomplete messages of one sender.
        partial_idle_s: an incomplete message without progress is dropped after this time.
        areas: makes room for incomplete messages (security S47).
        producer: makes the producing end of a generator.
        share_traces: send stack traces with errors; a server does not (security S50).
        connection_type: shown in contexts (protocol §4.6).
        mapping: class of received maps.
        wire: bounds on decoding.
    """

    method_timeout_s: float = 30.0
    rintf_timeout_s: float = 10.0
    chunk_size: int = CHUNK_SIZE
    session_life_s: float = 600.0
    orphan_grace_s: float = 3.0
    max_pending: int = 10_000
    max_partial_own: int = 4 * 1024**3
    max_partial_abroad: int = 1024**3
    max_partial_per_sender: int = 64
    partial_idle_s: float = 60.0
    areas: AreaFactory = byte_area
    producer: ProducerFactory = plain_producer
    share_traces: bool = True
    connection_type: str = "websocket"
    mapping: Callable[[dict[Any, Any]], Any] = dict
    wire: WireLimits = field(default_factory=WireLimits)
