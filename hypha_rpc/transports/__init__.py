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
