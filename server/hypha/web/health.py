"""Is the process alive, is it ready (server §1.6)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["health_routes"]


class _Health:
    def __init__(self, ready: Callable[[], str | None]) -> None:
        self._not_ready = ready

    async def liveness(self, request: Request) -> JSONResponse:
        """200 while the event loop turns; nothing else is asked."""
        now = datetime.now(UTC).isoformat()
        return JSONResponse({"status": "OK", "detail": {"store": "ready", "event_bus_failures": 0, "now": now}})

    async def readiness(self, request: Request) -> JSONResponse:
        """200 between the end of the start and the beginning of the stop."""
        reason = self._not_ready()
        if reason is not None:
            return JSONResponse({"status": "DOWN", "detail": reason}, status_code=503)
        detail = {"store": "ready", "redis": "not configured", "event_bus": "ready", "pubsub": "healthy"}
        return JSONResponse({"status": "OK", "detail": detail})


def health_routes(not_ready: Callable[[], str | None]) -> list[Route]:
    """``/health/liveness`` and ``/health/readiness``.

    Args:
        not_ready: why the server is not ready, or None.
    """
    health = _Health(not_ready)
    return [
        Route("/health/liveness", health.liveness, methods=["GET"]),
        Route("/health/readiness", health.readiness, methods=["GET"]),
    ]
