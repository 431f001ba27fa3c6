"""A start-up function of a server: lets tests look at its process."""

from __future__ import annotations

from typing import Any

from tests.integration.leaks.picture import picture


async def start(server: Any) -> None:
    """Offer the picture to everybody."""
    await server.register_service({"id": "window", "config": {"visibility": "public"}, "look": picture})
