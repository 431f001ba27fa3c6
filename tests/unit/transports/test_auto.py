"""Which of two connectors is tried, in which order (python-client §3.2)."""

from __future__ import annotations

from typing import Any

import pytest

from hypha_rpc.transports import Credentials, OpenOptions, OpenRefused, Refused, Unavailable, connector_for
from hypha_rpc.transports.auto import FAILURES, AutoConnector

OPTIONS = OpenOptions("http://127.0.0.1:1", timeout_s=8)
WHO = Credentials("client")


class Scripted:
    """A connector that does what it is told, and notes the time it was given."""

    def __init__(self, name: str, *outcomes: Exception | None) -> None:
        self.name = name
        self.outcomes = list(outcomes)
        self.limits: list[float] = []

    async def open(self, options: OpenOptions, credentials: Credentials) -> Any:
        assert credentials is WHO
        self.limits.append(options.timeout_s)
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if outcome is not None:
            raise outcome
        return self.name, {}


async def opened(connector: AutoConnector) -> str:
    return (await connector.open(OPTIONS, WHO))[0]  # type: ignore[return-value]


async def test_the_first_one_is_enough() -> None:
    first, second = Scripted("first"), Scripted("second")
    assert await opened(AutoConnector(first, second)) == "first"
    assert (len(first.limits), second.limits) == (1, [])


async def test_a_blocked_first_one_leaves_time_for_the_second() -> None:
    first, second = Scripted("first", Unavailable("blocked")), Scripted("second")
    connector = AutoConnector(first, second)
    assert await opened(connector) == "second"
    assert first.limits == [4.0]
    assert second.limits[0] == pytest.approx(8.0, abs=0.5)
    assert await opened(connector) == "second"
    assert len(first.limits) == 1


@pytest.mark.parametrize("final", [Refused("no"), OpenRefused("nothing listens")])
async def test_what_the_other_way_cannot_change_is_final(final: Exception) -> None:
    second = Scripted("second")
    with pytest.raises(type(final)):
        await opened(AutoConnector(Scripted("first", final), second))
    assert second.limits == []


async def test_a_refusal_over_the_second_way_is_told() -> None:
    with pytest.raises(Refused, match="no"):
        await opened(AutoConnector(Scripted("first", Unavailable("blocked")), Scripted("second", Refused("no"))))


async def test_where_neither_works_the_first_failure_is_raised_with_a_note_of_the_second() -> None:
    connector = AutoConnector(Scripted("first", Unavailable("one")), Scripted("second", Unavailable("two")))
    with pytest.raises(Unavailable, match="one") as caught:
        await opened(connector)
    assert "two" in caught.value.__notes__[0]


async def test_a_missing_library_does_not_hide_the_first_failure() -> None:
    connector = AutoConnector(Scripted("first", Unavailable("one")), Scripted("second", ImportError("httpx2")))
    with pytest.raises(Unavailable, match="one"):
        await opened(connector)


async def test_a_first_way_that_has_worked_must_fail_several_times() -> None:
    failures = [Unavailable("restarting") for _ in range(FAILURES)]
    first, second = Scripted("first", None, *failures), Scripted("second")
    connector = AutoConnector(first, second)
    assert await opened(connector) == "first"
    for _ in range(FAILURES - 1):
        with pytest.raises(Unavailable):
            await opened(connector)
    assert second.limits == []
    assert await opened(connector) == "second"


async def test_a_second_way_that_fails_is_not_held_to() -> None:
    first = Scripted("first", Unavailable("blocked"))
    connector = AutoConnector(first, Scripted("second", None, Unavailable("moved")))
    assert await opened(connector) == "second"
    with pytest.raises(Unavailable, match="moved"):
        await opened(connector)
    assert await opened(connector) == "first"


def test_the_option_names_the_connector() -> None:
    names = {name: type(connector_for(name)).__name__ for name in ("websocket", "http", "auto", "pigeon")}
    assert names == {
        "websocket": "WebSocketConnector",
        "http": "HttpConnector",
        "auto": "AutoConnector",
        "pigeon": "NoneType",
    }
