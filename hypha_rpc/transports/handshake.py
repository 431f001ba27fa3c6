"""The opening conversation of every socket transport: credentials out, ``connection_info`` in.

Knows protocol §1.1-1.3 and what a failure of each step means; does not know how a
connection is made, nor whether anybody will try again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hypha_rpc.transports.base import Credentials, OpenAborted, Refused, Unavailable

if TYPE_CHECKING:
    from hypha_rpc.transports.pipe import Pipe

__all__ = ["authenticate", "normalize_server_url"]

MAX_MESSAGE = 2000


def normalize_server_url(server_url: str | None) -> str:
    """Return the WebSocket address of *server_url* (python-client §3.3, protocol §1.1).

    Args:
        server_url: ``http(s)://host[:port][/prefix][/]``, which becomes
            ``ws(s)://host[:port][/prefix]/ws``, or a complete ``ws(s)://`` URL,
            which is used as it is.

    Raises:
        ValueError: the URL is missing or empty.
    """
    if not server_url:
        raise ValueError("server_url is required")
    scheme, separator, rest = server_url.partition("://")
    secure = {"http": "ws", "https": "wss"}.get(scheme.lower())
    if not separator or secure is None:
        return server_url
    return f"{secure}://{rest.rstrip('/')}/ws"


async def authenticate(pipe: Pipe, credentials: Credentials) -> dict[str, Any]:
    """Send the credentials as the first frame and return the server's ``connection_info``.

    Args:
        pipe: an open pipe, not started; binary frames that come early stay in it.
        credentials: what the first frame carries.

    Raises:
        Refused: the server sent an ``error`` message.
        OpenAborted: the first message was something else.
        Unavailable: the connection ended before any message.

    Cancellation:
        The pipe is left open; its owner discards it.
    """
    pipe.send_control(credentials.as_message())
    message = await pipe.first_message()
    return read_answer(message, pipe)


def read_answer(message: Mapping[str, Any] | None, pipe: Pipe) -> dict[str, Any]:
    """Return *message* if it is a ``connection_info``, else raise what it means (protocol §1.3, §1.5)."""
    if message is None and pipe.closed is not None:
        code, reason = pipe.closed
        detail = f"code {code}: {reason}" if reason else f"code {code}"
        raise Unavailable(f"The server closed the connection before it was open ({detail})")
    kind = message.get("type") if message is not None else None
    if message is not None and kind == "connection_info":
        return dict(message)
    if message is not None and kind == "error":
        raise Refused(str(message.get("message") or "The server refused the connection")[:MAX_MESSAGE])
    raise OpenAborted("Unexpected message received from the server")
