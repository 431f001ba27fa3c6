"""Looks at a server from outside, without any client: raw sockets and what the system says of a process."""

from __future__ import annotations

import os
import resource
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager

_UPGRADE = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
_KEY = "AAAAAAAAAAAAAAAAAAAAAA=="


def status_of(port: int, path: str, *, upgrade: bool = False, timeout_s: float = 2.0) -> int:
    """The HTTP status of a GET request; 0 when there is no answer.

    Args:
        port: of the server.
        path: of the request.
        upgrade: ask for a WebSocket.
        timeout_s: how long to wait.
    """
    more = _UPGRADE.format(key=_KEY) if upgrade else "Connection: close\r\n"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode())
            words = connection.recv(1024).split()
    except OSError:
        return 0
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def seconds_until_told(port: int, timeout_s: float) -> float | None:
    """How long a newcomer waits for an answer, or for the end of its connection; None: it was told nothing."""
    begin = time.monotonic()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
            connection.sendall(b"GET /health/liveness HTTP/1.1\r\nHost: localhost\r\n\r\n")
            connection.recv(1024)
    except TimeoutError:
        return None
    except OSError:
        return time.monotonic() - begin
    return time.monotonic() - begin


def open_files(pid: int) -> int:
    """How many handles a process has."""
    return len(os.listdir(f"/proc/{pid}/fd"))


@contextmanager
def limited(pid: int, kind: int, most: int) -> Generator[None, None, None]:
    """Bound a resource of a process, for a while."""
    before = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (most, before[1]))
    try:
        yield
    finally:
        if os.path.exists(f"/proc/{pid}"):
            resource.prlimit(pid, kind, before)
