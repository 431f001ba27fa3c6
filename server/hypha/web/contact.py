"""``/.well-known/security.txt``: whom to tell about a vulnerability of this server (RFC 9116, security S53)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["contact_routes"]

_LIFE: Final = timedelta(days=180)


class _SecurityText:
    def __init__(self, contact: str) -> None:
        # A contact is a URI; of an address alone it is clear which.
        scheme = "" if ":" in contact else "mailto:"
        self._contact = f"{scheme}{''.join(contact.split())}"

    async def text(self, request: Request) -> Response:
        """The file. Whoever reads it later asks again."""
        expires = (datetime.now(UTC) + _LIFE).strftime("%Y-%m-%dT%H:%M:%SZ")
        return PlainTextResponse(f"Contact: {self._contact}\nExpires: {expires}\n")


def contact_routes(contact: str | None) -> list[Route]:
    """The route, where the operator named a contact."""
    if not contact:
        return []
    return [Route("/.well-known/security.txt", _SecurityText(contact).text, methods=["GET"])]
