"""Pipes that carry frames between a client and the server.

Every module here keeps the contract of `base`; nothing outside says which library
moves the bytes. Importing this package imports no WebSocket library.
"""

from __future__ import annotations

import sys

from hypha_rpc.transports.base import (
    CLOSE_TIMEOUT_S,
    HIGH_WATER,
    LOW_WATER,
    Buffer,
    Closed,
    Connector,
    Credentials,
    Limits,
    OpenAborted,
    OpenOptions,
    OpenRefused,
    OpenTimeout,
    Receiver,
    Refused,
    Transport,
    Unavailable,
)

__all__ = [
    "CLOSE_TIMEOUT_S",
    "HIGH_WATER",
    "LOW_WATER",
    "Buffer",
    "Closed",
    "Connector",
    "Credentials",
    "Limits",
    "OpenAborted",
    "OpenOptions",
    "OpenRefused",
    "OpenTimeout",
    "Receiver",
    "Refused",
    "Transport",
    "Unavailable",
    "connector_for",
    "default_connector",
]


def default_connector() -> Connector:
    """Return the connector for WebSocket on this platform.

    Pyodide is known by ``sys.platform`` (browser.md §3), never by trying an import.
    """
    if sys.platform == "emscripten":
        from hypha_rpc.transports.pyodide import PyodideConnector

        return PyodideConnector()
    from hypha_rpc.transports.websocket import WebSocketConnector

    return WebSocketConnector()


def connector_for(transport: str) -> Connector | None:
    """Return the connector for the option ``transport`` (python-client §3.2).

    Args:
        transport: ``"websocket"``, ``"http"`` or ``"auto"``.

    Returns:
        None for any other text.
    """
    if transport == "websocket":
        return default_connector()
    if transport not in ("http", "auto"):
        return None
    if sys.platform == "emscripten":
        # There is no HTTP library; the page's own WebSocket goes where its requests go.
        return default_connector()
    from hypha_rpc.transports.http import HttpConnector

    if transport == "http":
        return HttpConnector()
    from hypha_rpc.transports.auto import AutoConnector

    return AutoConnector(default_connector(), HttpConnector())
