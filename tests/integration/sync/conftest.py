"""Blocking clients of the real server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from hypha_rpc.sync import connect_to_server


@dataclass
class BlockingPair:
    """Two blocking clients of one workspace."""

    provider: Any
    consumer: Any
    workspace: str
    token: str
    url: str


@pytest.fixture
def blocking(server_url):
    """A provider and a consumer in one workspace."""
    with connect_to_server(server_url=server_url, client_id="provider") as provider:
        token = provider.generate_token()
        with connect_to_server({"server_url": server_url, "token": token, "client_id": "consumer"}) as consumer:
            yield BlockingPair(provider, consumer, provider.config.workspace, token, server_url)


@pytest.fixture
def until() -> Callable[..., None]:
    """``until(lambda: done, what="...")``: return as soon as it is true."""
    return _until


def _until(condition: Callable[[], object], *, timeout_s: float = 10.0, what: str = "the condition") -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come true within {timeout_s} s")
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    """Every test here leaves as many threads as it found."""
    before = threading.active_count()
    yield
    _until(lambda: threading.active_count() <= before, what=f"the end of {threading.enumerate()}")
