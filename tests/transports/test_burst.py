"""Small frames in a burst: framed and masked as the protocol wants, in order, none held back for long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Opcode
from websockets.server import ServerProtocol

from hypha_rpc.transports.burst import masked_messages


@given(st.lists(st.binary(max_size=700), max_size=20))
def test_a_server_reads_the_messages_of_a_burst(messages: list[bytes]) -> None:
    protocol = ServerProtocol()
    protocol.state = type(protocol.state).OPEN
    protocol.parser = protocol.parse()
    next(protocol.parser)
    protocol.receive_data(masked_messages(messages))
    frames = protocol.events_received()
    assert [frame.data for frame in frames] == messages
    assert all(frame.opcode is Opcode.BINARY and frame.fin for frame in frames)


def test_every_message_has_a_mask_of_its_own() -> None:
    burst = masked_messages([bytes(100)] * 3)
    size = len(burst) // 3
    assert len({burst[at * size + 2 : at * size + 6] for at in range(3)}) == 3
