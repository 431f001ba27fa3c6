"""Is the process alive, is it ready, how is it (server §1.6)."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hypha.web.addresses import ClientAddress, is_private
from hypha.web.context import WebContext
from hypha.web.failures import failure
from hypha.web.metrics import Metrics

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["Diagnostics", "health_routes"]


class Diagnostics:
    """``/health``: figures for the operator, for private addresses only.

    Args:
        context: the server.
        addresses: tells where a request comes from.
    """

    def __init__(self, context: WebContext, addresses: ClientAddress) -> None:
        self._context = context
        self._addresses = addresses
        self._started = time.monotonic()

    def allows(self, request: Request) -> bool:
        """Whether who asks may know."""
        # Behind a proxy that is not trusted everybody would have its private address.
        return is_private(self._addresses.of(request.scope)) and not self._addresses.is_relayed(request.scope)

    def report(self) -> dict[str, Any]:
        """The figures. They are sizes of tables; nothing is searched for them."""
        context = self._context
        router, counters, gateway = context.core.router, context.counters, context.gateway.stats()
        reason = context.not_ready()
        issues = [] if reason is None else [reason]
        active = len(router.connections)
        return {
            "timestamp": datetime.now(UTC).isoformat(),
            "status": "HEALTHY" if not issues else "WARNING",
            "health_score": 100 if not issues else 50,
            "issues": issues,
            "memory": {"rss_mb": _resident_mb()},
            "connections": {
                "active": active,
                "total_created": counters.connected,
                "total_closed": counters.left,
                "lost": len(router.mailboxes),
            },
            "objects": {
                "rpc_objects": 2 + len(router.locals),
                "connection_objects": active,
                "services": len(context.core.directory),
                "http_calls": gateway["calls"],
                "http_callers": gateway["callers"],
                "gc_pending": sum(gc.get_count()),
            },
            "event_bus": {"failures": 0, "dropped": router.dropped},
            "system": {"pid": os.getpid(), "cpu_count": os.cpu_count()},
            "tasks": {"active": len(asyncio.all_tasks())},
            "leak_monitor": {},
            "potential_leaks": [],
            "uptime_seconds": time.monotonic() - self._started,
        }


class _Health:
    def __init__(self, not_ready: Callable[[], str | None], diagnostics: Diagnostics, metrics: Metrics) -> None:
        self._not_ready = not_ready
        self._diagnostics = diagnostics
        self._metrics = metrics

    async def liveness(self, request: Request) -> Response:
        """200 while the event loop turns; nothing else is asked."""
        now = datetime.now(UTC).replace(tzinfo=None).isoformat()
        detail = {
            "store": "ready",
            "event_bus_failures": 0,
            "circuit_breaker": "closed",
            "pubsub": "healthy",
            "last_successful_connection": now,
        }
        return JSONResponse({"status": "OK", "detail": detail})

    async def readiness(self, request: Request) -> Response:
        """200 between the end of the start and the beginning of the stop."""
        reason = self._not_ready()
        if reason is not None:
            return JSONResponse({"status": "DOWN", "detail": reason}, status_code=503)
        detail = {"store": "ready", "redis": "not configured", "event_bus": "ready", "pubsub": "healthy"}
        return JSONResponse({"status": "OK", "detail": detail})

    async def diagnostics(self, request: Request) -> Response:
        """The figures of this process."""
        if not self._diagnostics.allows(request):
            return failure(403, "Only for private addresses")
        return JSONResponse(self._diagnostics.report(), headers={"cache-control": "no-store"})

    async def metrics(self, request: Request) -> Response:
        """The same for Prometheus."""
        if not self._diagnostics.allows(request):
            return failure(403, "Only for private addresses")
        return self._metrics.response(request.headers.get("accept", ""))


def _resident_mb() -> float:
    """Resident memory of this process."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, ValueError):
        # Where there is no /proc nothing else tells it.
        return 0.0


def health_routes(not_ready: Callable[[], str | None], diagnostics: Diagnostics, metrics: Metrics) -> list[Route]:
    """``/health``, ``/health/liveness``, ``/health/readiness``, ``/metrics``.

    Args:
        not_ready: why the server is not ready, or None.
        diagnostics: the figures.
        metrics: the same for Prometheus.
    """
    health = _Health(not_ready, diagnostics, metrics)
    return [
        Route("/health/liveness", health.liveness, methods=["GET"]),
        Route("/health/readiness", health.readiness, methods=["GET"]),
        Route("/health", health.diagnostics, methods=["GET"]),
        Route("/metrics", health.metrics, methods=["GET"]),
    ]
