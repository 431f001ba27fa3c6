"""What a check works with, and the list of checks.

Must not import ``hypha_rpc``: the test process reads the list of checks from here without having any client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Check = Callable[["World"], Awaitable[None]]
Connect = Callable[[Mapping[str, Any]], Awaitable[Any]]

CHECK_TIMEOUT_S = 60.0


@dataclass
class World:
    """One consumer connected by token to the workspace of one provider.

    Attributes:
        connect: ``connect_to_server`` of the client under test.
        url: Address of the server.
        ready: What the provider reported: workspace, client_id, user_id, token.
        server: The consumer's connection.
        service: The provider's main service, fetched by its absolute id.
    """

    connect: Connect
    url: str
    ready: Mapping[str, Any]
    server: Any
    service: Any = None
    opened: list[Any] = field(default_factory=list)

    @property
    def workspace(self) -> str:
        """The provider's workspace."""
        return str(self.ready["workspace"])

    @property
    def provider(self) -> str:
        """The provider's client id."""
        return str(self.ready["client_id"])

    async def another(self, **options: Any) -> Any:
        """Open one more connection; it is closed when the program ends."""
        server = await self.connect({"server_url": self.url, "method_timeout": 30, **options})
        self.opened.append(server)
        return server

    async def close(self) -> None:
        """Close whatever the checks opened."""
        for server in [*self.opened, self.server]:
            await asyncio.wait_for(server.disconnect(), 10)


CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    """Add a check to the list under its function's name."""
    name = getattr(function, "__name__", "")
    if name in CHECKS:
        raise ValueError(f"two checks are called {name}")
    CHECKS[name] = function
    return function


def same(got: Any, wanted: Any) -> None:
    """Fail with both values when they differ in type or in value."""
    if type(got) is not type(wanted) or got != wanted:
        raise AssertionError(f"got {got!r} ({type(got).__name__}), wanted {wanted!r} ({type(wanted).__name__})")


def holds(condition: object, text: str) -> None:
    """Fail with this text unless the condition holds (``assert`` would vanish under ``-O``)."""
    if not condition:
        raise AssertionError(text)


async def failure(awaitable: Awaitable[Any], timeout_s: float = 20.0) -> Exception:
    """Return the error of an awaitable that has to fail.

    Args:
        awaitable: What must fail.
        timeout_s: How long it may take to do so.

    Raises:
        AssertionError: It succeeded, or was not done in time.
    """
    task = asyncio.ensure_future(awaitable)
    done, _ = await asyncio.wait({task}, timeout=timeout_s)
    if not done:
        task.cancel()
        raise AssertionError(f"neither result nor error within {timeout_s} s")
    error = task.exception()
    if error is None:
        raise AssertionError(f"no error but the result {task.result()!r}")
    if not isinstance(error, Exception):
        raise error
    return error
