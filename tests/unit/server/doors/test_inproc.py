from __future__ import annotations

from types import SimpleNamespace

from hypha.broker.connections import Connection
from hypha.broker.presence import Presence
from hypha.broker.router import Router
from hypha.doors.inproc import InprocDoor
from hypha.settings import Limits
from hypha_rpc.transports.memory import memory_pair


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Ears:
    """The client's end, which is told of the end of its connection."""

    closed = None

    def on_frame(self, data):
        raise AssertionError("nothing is sent to it")

    on_control = on_frame

    def on_writable(self):
        raise AssertionError("nothing is sent to it")

    def on_closed(self, closed):
        self.closed = closed


async def test_a_client_of_this_process_that_is_quiet_stays_connected():
    clock, limits = Clock(), Limits()
    router = Router(limits, clock, lambda waiting, full: None)
    presence = Presence(router, limits, clock, lambda gone: None)
    context = SimpleNamespace(presence=presence, router=router, clock=clock, info={})
    near, far = memory_pair()
    await InprocDoor(context).accept(far, {"client_id": "built-in"})
    ears = Ears()
    near.start(ears)
    (connection,) = router.connections.values()
    assert isinstance(connection, Connection)
    for _ in range(4):
        clock.now += limits.ws_ping_interval + 1
        presence.sweep()
    assert not connection.closing
    assert connection.heard == clock.now
    assert ears.closed is None
    near.close()
    await near.wait_closed()
    await far.wait_closed()
