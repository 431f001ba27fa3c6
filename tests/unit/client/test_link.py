"""A connection that breaks while it is made: noticed at once, tried again (under a clock that jumps)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any

import pytest

from hypha_rpc.client.link import REDIAL_S, Link
from hypha_rpc.client.options import ConnectOptions
from hypha_rpc.errors import ConnectionLost
from hypha_rpc.transports.base import Buffer, Closed, Credentials, Limits, OpenOptions, OpenTimeout, Receiver
from tests.sim.loop import VirtualLoop

INFO = {"workspace": "ws", "manager_id": "manager-1"}
Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture
def play() -> Iterator[Run]:
    """Run a coroutine under a clock that jumps."""
    loop = VirtualLoop()
    yield loop.run_until_complete
    loop.close()


class FakePipe:
    """A transport that remembers, and is broken by the test."""

    def __init__(self) -> None:
        self.receiver: Receiver | None = None
        self.closed: Closed | None = None
        self.answers_pings = True
        self.limits = Limits()
        self.writable = True

    def start(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def send(self, parts: Sequence[Buffer]) -> None:
        raise AssertionError("nobody sends here")

    def send_control(self, message: Mapping[str, Any]) -> None:
        if self.answers_pings and self.receiver is not None:
            self.receiver.on_control({"type": "pong"})

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.end(Closed(code, reason))

    async def wait_closed(self) -> None:
        assert self.closed is not None

    def end(self, closed: Closed) -> None:
        if self.closed is None:
            self.closed = closed
            if self.receiver is not None:
                self.receiver.on_closed(closed)


class FakeConnector:
    """Opens pipes; each may be refused by an error."""

    def __init__(self) -> None:
        self.pipes: list[FakePipe] = []
        self.patience: list[float] = []
        self.dialled: list[float] = []
        self.silent = False

    async def open(self, options: OpenOptions, credentials: Credentials) -> tuple[FakePipe, dict[str, Any]]:
        self.patience.append(options.timeout_s)
        self.dialled.append(asyncio.get_running_loop().time())
        if self.silent:
            await asyncio.sleep(options.timeout_s)
            raise OpenTimeout("no answer")
        pipe = FakePipe()
        self.pipes.append(pipe)
        return pipe, dict(INFO)


class FakeListener:
    """Sets up as long as the test wants."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.ready.set()
        self.ups = 0
        self.cancelled = 0
        self.downs: list[Closed] = []

    def receive(self, data: Buffer, now: float) -> None:
        raise AssertionError("nobody sends here")

    async def link_up(self, info: dict[str, Any]) -> None:
        try:
            await self.ready.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.ups += 1

    def link_writable(self) -> None:
        raise AssertionError("nothing was ever full")

    def link_down(self, closed: Closed) -> None:
        self.downs.append(closed)

    def link_gave_up(self, error: BaseException) -> None:
        raise AssertionError("nobody refused")


def parts(**options: Any) -> tuple[FakeConnector, FakeListener, Link]:
    connector, listener = FakeConnector(), FakeListener()
    chosen = ConnectOptions.parse({"server_url": "http://there", "client_id": "c", **options}, {})
    return connector, listener, Link(connector, chosen, "life", listener)  # type: ignore[arg-type]


async def turns(seconds: float = 0.0) -> None:
    """Let *seconds* pass, and everything that is due then happen."""
    await asyncio.sleep(seconds)
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_line_that_breaks_while_it_is_set_up_again_is_dialled_anew_at_once(play: Run) -> None:
    async def scene() -> None:
        connector, listener, link = parts()
        await link.open()
        listener.ready.clear()
        connector.pipes[0].end(Closed(1006, ""))
        await turns(1.0)
        assert len(connector.pipes) == 2, "the second is being set up"
        broken_at = asyncio.get_running_loop().time()
        connector.pipes[1].end(Closed(1006, ""))
        await turns()
        listener.ready.set()
        await turns(2.0)
        assert listener.ups == 2
        assert listener.cancelled == 1
        assert connector.dialled[2] - broken_at < 1.5
        assert len(listener.downs) == 2, "what was begun over the second line is told its end, too"
        await link.close()

    play(scene())


def test_a_line_that_falls_silent_while_it_is_set_up_is_noticed_by_the_pings(play: Run) -> None:
    async def scene() -> None:
        connector, listener, link = parts(ping_interval=5.0, ping_timeout=8.0)
        await link.open()
        listener.ready.clear()
        connector.pipes[0].end(Closed(1006, ""))
        await turns(1.0)
        connector.pipes[1].answers_pings = False
        await turns(14.5)
        assert len(connector.pipes) == 3, "noticed after 13 s, dialled again about a second later"
        listener.ready.set()
        await turns()
        assert listener.ups == 2
        await link.close()

    play(scene())


def test_a_first_connection_that_breaks_while_it_is_set_up_fails_at_once(play: Run) -> None:
    async def scene() -> None:
        connector, listener, link = parts()
        listener.ready.clear()
        opening = asyncio.get_running_loop().create_task(link.open())
        await turns()
        connector.pipes[0].end(Closed(1006, ""))
        with pytest.raises(ConnectionLost, match="broke while it was set up"):
            await opening
        assert asyncio.get_running_loop().time() < 1001.0
        assert listener.cancelled == 1
        assert listener.downs == [], "nobody was told that it was up"

    play(scene())


def test_a_set_up_that_fails_does_not_say_good_bye(play: Run) -> None:
    async def scene() -> None:
        connector, listener, link = parts(method_timeout=3.0, ping_interval=0)
        await link.open()
        listener.ready.clear()
        connector.pipes[0].end(Closed(1006, ""))
        await turns(4.0)
        closed = connector.pipes[1].closed
        assert closed is not None and closed.code != 1000, "1000 would end what runs for this client"
        await link.close()

    play(scene())


def test_an_attempt_where_nothing_gets_through_is_given_up_for_the_next(play: Run) -> None:
    async def scene() -> None:
        connector, _, link = parts()
        await link.open()
        connector.silent = True
        connector.pipes[0].end(Closed(1006, ""))
        await turns(60.0)
        assert connector.patience[:5] == [30.0, REDIAL_S, REDIAL_S, 2 * REDIAL_S, REDIAL_S]
        await link.close()

    play(scene())


def test_closing_while_a_line_is_set_up_leaves_nothing(play: Run) -> None:
    async def scene() -> None:
        connector, listener, link = parts()
        await link.open()
        listener.ready.clear()
        connector.pipes[0].end(Closed(1006, ""))
        await turns(1.0)
        await link.close()
        assert listener.cancelled == 1
        assert connector.pipes[1].closed is not None
        assert len(listener.downs) == 1, "who is closed hears of no loss"
        assert asyncio.all_tasks() == {asyncio.current_task()}

    play(scene())
