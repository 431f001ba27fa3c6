"""A world with a consumer and a provider."""

from __future__ import annotations

import pytest

from tests.unit.endpoint.world import Later, Peer, World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def cons(world: World) -> Peer:
    return world.peer("ws/cons")


@pytest.fixture
def prov(world: World) -> Peer:
    """Offers ``demo``: add, boom, later, echo, take."""
    peer = world.peer("ws/prov")
    peer.offer("demo", {"add": add, "boom": boom, "later": Later, "echo": echo, "list": [echo, {"deep": add}]})
    return peer


def add(a: int, b: int = 0) -> int:
    return a + b


def boom(text: str = "bad") -> None:
    raise ValueError(text)


def echo(value: object = None) -> object:
    return value
