"""``/metrics`` for Prometheus (server §7.3).

Label values come from fixed sets, so that no caller can make the list grow. The
library is loaded at the first request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from hypha.web.context import WebContext

if TYPE_CHECKING:
    from prometheus_client.core import Metric

__all__ = ["Metrics"]

_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_ABSENT_GAUGES: Final = (
    ("client_load_current", "Frames a minute of measured clients"),
    ("redis_eventbus_active_pubsub_connections", "Connections of the shared event bus"),
    ("redis_eventbus_local_clients", "Clients of the shared event bus"),
    ("redis_eventbus_active_patterns", "Patterns of the shared event bus"),
    ("redis_pubsub_latency_seconds", "Latency of the shared event bus"),
)
_ABSENT_COUNTERS: Final = (
    ("websocket_rate_limited_disconnects", "Sockets closed for sending too much"),
    ("redis_eventbus_messages_processed", "Messages of the shared event bus"),
    ("redis_eventbus_reconnect_attempts", "Reconnections to the shared event bus"),
)


class Metrics:
    """Collects the figures of this process when it is asked.

    Args:
        context: the server.
    """

    def __init__(self, context: WebContext) -> None:
        self._context = context
        self._answers: Counter[tuple[str, str]] = Counter()
        self._registry: Any = None

    def answered(self, method: str, status: int) -> None:
        """Count an answer."""
        self._answers[method if method in _METHODS else "other", f"{status // 100}xx"] += 1

    def response(self, accept: str) -> Response:
        """The answer to ``GET /metrics``."""
        from prometheus_client.exposition import choose_encoder

        encoder, content_type = choose_encoder(accept)
        body: bytes = encoder(self._collectors())
        return Response(body, headers={"content-type": content_type, "cache-control": "no-store"})

    def _collectors(self) -> Any:
        if self._registry is None:
            from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
            from prometheus_client.registry import CollectorRegistry

            registry = self._registry = CollectorRegistry()
            ProcessCollector(registry=registry)
            PlatformCollector(registry=registry)
            GCCollector(registry=registry)
            registry.register(self)
        return self._registry

    def collect(self) -> Iterator[Metric]:
        """The figures, as the library wants them."""
        from prometheus_client.core import CounterMetricFamily as Count
        from prometheus_client.core import GaugeMetricFamily as Gauge

        context = self._context
        router, counters = context.core.router, context.counters
        active = len(router.connections)
        frames = counters.frames + sum(connection.frames for connection in router.connections.values())
        yield Gauge("websocket_connections", "Connections that are up", active)
        yield Count("websocket_connections_established", "Connections made", counters.connected)
        yield Count("redis_rpc_connections_created", "Connections made", counters.connected)
        yield Count("redis_rpc_connections_closed", "Connections ended", counters.left)
        yield Gauge("redis_rpc_active_connections", "Connections that are up", active)
        yield Count("client_requests", "Frames that clients have sent", frames)
        yield Count("rpc_call", "Frames that clients have sent", frames)
        yield Count("frames_dropped", "Frames for receivers that did not read", router.dropped)
        yield Gauge("services_registered", "Registered services", len(context.core.directory))
        for name, size in context.gateway.stats().items():
            yield Gauge(f"http_gateway_{name}", "Size of a table of the HTTP gateway", size)
        bus = Count("event_bus", "Events by outcome", labels=["event", "status"])
        bus.add_metric(["all", "ok"], 0)
        yield bus
        answers = Count("http_requests", "Answers by method and class of status", labels=["method", "status"])
        for (method, status), count in sorted(self._answers.items()):
            answers.add_metric([method, status], count)
        yield answers
        for name, text in _ABSENT_GAUGES:
            yield Gauge(name, text, 0)
        for name, text in _ABSENT_COUNTERS:
            yield Count(name, text, 0)
