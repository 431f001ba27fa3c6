"""Messages in pieces from strangers, by the steps that every client offers (protocol §5, security S47)."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from hypha.testing import RunningServer, ServerProcess, run_server
from hypha_rpc import connect_to_server
from hypha_rpc.endpoint import EndpointOptions
from hypha_rpc.endpoint.storage import Storage
from hypha_rpc.endpoint.transfers import MessageStore
from hypha_rpc.errors import LimitExceeded
from hypha_rpc.wire.chunks import MAX_INDEX
from tests.conftest import Eventually
from tests.integration.raw_peers import RawPeer, Rejected, peer_at
from tests.unit.endpoint.world import Peer, World

CACHE = "services.built-in.message_cache"
MIB = 1024 * 1024
PIECE, AT_ONCE = 500_000, 8


def call_of(method: str, **header: Any) -> bytes:
    packed: bytes = msgpack.packb({"type": "method", "method": method, "session": "big", **header})
    return packed


# -- one endpoint ----------------------------------------------------------------------------


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def prov(world: World) -> Peer:
    peer = world.peer("ws/prov")
    peer.offer("open", {"echo": lambda value=None: value})
    peer.offer("closed", {"echo": lambda value=None: value}, visibility="protected")
    return peer


@pytest.fixture
def evil(world: World) -> Peer:
    return world.peer("abroad/evil")


def begun(evil: Peer, first: bytes, key: str = "k") -> Any:
    """Open a message and send its first piece; what that is answered."""
    evil.ask("ws/prov", f"{CACHE}.create", key)
    return evil.ask("ws/prov", f"{CACHE}.set", key, 0, first)


@pytest.mark.parametrize("rest", [b"", b"\x81\xa4args\x91\xc6"], ids=["header", "more"])
def test_what_would_be_refused_is_refused_at_the_first_piece(prov: Peer, evil: Peer, rest: bytes) -> None:
    with pytest.raises(PermissionError, match="Permission denied"):
        begun(evil, call_of("services.closed.echo") + rest)
    assert prov.stats()["partial_messages"] == 0
    with pytest.raises(Exception, match="does not exist"):
        evil.ask("ws/prov", f"{CACHE}.set", "k", 1, b"more")


def test_an_answer_that_nobody_waits_for_is_refused_at_the_first_piece(prov: Peer, evil: Peer) -> None:
    session = prov.endpoint.core.id_prefix + "7"
    with pytest.raises(Exception, match="Nobody waits"):
        begun(evil, call_of(f"{session}.resolve"))
    assert prov.stats()["partial_messages"] == 0


def test_what_may_be_called_arrives_whatever_the_order_of_pieces(prov: Peer, evil: Peer, world: World) -> None:
    frame = call_of("services.open.echo") + msgpack.packb({"args": [b"x" * 100], "promise": "*"})
    evil.ask("ws/prov", f"{CACHE}.create", "k")
    for index in (2, 1, 0):
        evil.ask("ws/prov", f"{CACHE}.set", "k", index, frame[index * 50 : None if index == 2 else (index + 1) * 50])
    called: list[Any] = []
    prov.endpoint.exports.services["open"].members["echo"] = called.append
    assert evil.ask("ws/prov", f"{CACHE}.process", "k") is None
    assert prov.stats()["partial_messages"] == 0


@pytest.mark.parametrize(
    "first", [None, b"\xc1 no frame", call_of("services.nothing.echo"), call_of("services.open.echo.__globals__")]
)
def test_what_is_not_known_to_be_wanted_is_kept_up_to_a_little(prov: Peer, evil: Peer, first: bytes | None) -> None:
    evil.ask("ws/prov", f"{CACHE}.create", "k")
    if first is not None:
        evil.ask("ws/prov", f"{CACHE}.set", "k", 0, first)
    for index in range(1, 9):
        evil.ask("ws/prov", f"{CACHE}.set", "k", index, bytes(MIB - 100))
    with pytest.raises(Exception, match="the first piece has to come"):
        evil.ask("ws/prov", f"{CACHE}.set", "k", 9, bytes(MIB))
    assert prov.stats()["partial_messages"] == 0


def test_a_first_piece_that_is_replaced_is_looked_at_again(prov: Peer, evil: Peer) -> None:
    begun(evil, call_of("services.open.echo"))
    with pytest.raises(PermissionError):
        evil.ask("ws/prov", f"{CACHE}.set", "k", 0, call_of("services.closed.echo"))
    assert prov.stats()["partial_messages"] == 0


@pytest.mark.parametrize("index", [-1, MAX_INDEX, 2**40])
def test_an_index_has_bounds(prov: Peer, evil: Peer, index: int) -> None:
    begun(evil, call_of("services.open.echo"))
    with pytest.raises(ValueError, match="index of a piece"):
        evil.ask("ws/prov", f"{CACHE}.set", "k", index, b"x")


class Growing:
    """An area outside that tells how far it grew."""

    def __init__(self) -> None:
        self.end = 0
        self.data: dict[int, bytes] = {}

    def write(self, at: int, piece: bytes | bytearray | memoryview) -> None:
        self.end = max(self.end, at + len(piece))
        self.data[at] = bytes(piece)

    def read(self, at: int, size: int) -> bytes:
        return self.data[at][:size]

    def view(self) -> memoryview:
        return memoryview(b"")

    def close(self) -> None:
        self.data.clear()


def put_all(store: MessageStore, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        store.put("abroad/evil", "k", 1, piece, 0.0)


def test_replacing_a_piece_again_and_again_does_not_fill_the_disk() -> None:
    area, limit = Growing(), 60 * MIB
    options = EndpointOptions(max_partial_abroad=limit, areas=lambda size, in_file: area)
    store = MessageStore(options, Storage(options))
    store.create("abroad/evil", "k", overwrite=False, own=False, now=0.0)
    for _ in range(60):
        store.put("abroad/evil", "k", 1, bytes(4 * MIB), 0.0)
    assert 0 < area.end <= 4 * MIB
    longer_and_longer = (bytes(4 * MIB + size) for size in range(60))
    with pytest.raises(LimitExceeded, match="replaced too often"):
        put_all(store, longer_and_longer)
    assert area.end <= 2 * limit
    assert len(store) == 0


# -- whole clients and servers ---------------------------------------------------------------


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with run_server() as running:
        yield running


async def upload(peer: RawPeer, to: str, key: str, first: bytes, size: int) -> None:
    """Send pieces, a few at a time, until one is refused or *size* is reached."""
    await peer.call(to, f"{CACHE}.create", key)
    await peer.call(to, f"{CACHE}.set", key, 0, first)
    count = -(-size // PIECE)
    for start in range(1, count + 1, AT_ONCE):
        indexes = range(start, min(start + AT_ONCE, count + 1))
        steps = [await peer.start_call(to, f"{CACHE}.set", key, index, bytes(PIECE)) for index in indexes]
        answers = await asyncio.wait_for(asyncio.gather(*steps, return_exceptions=True), 10)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer


async def test_a_stranger_uploads_nothing_to_a_service_it_may_not_call(server: RunningServer) -> None:
    async with connect_to_server(
        {"server_url": server.url, "token": server.token("alice"), "client_id": "prov"}
    ) as client:
        await client.register_service({"id": "mine", "echo": lambda value=None: value})
        async with peer_at(server.ws_url, "evil", token=server.token("mallory")) as peer:
            with pytest.raises(Rejected, match="Permission denied"):
                await upload(peer, "ws-user-alice/prov", "k", call_of("services.mine.echo"), 3 * PIECE)
            assert client.rpc.endpoint.stats()["partial_messages"] == 0


def memory_of(pid: int) -> float:
    """Resident MB of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


@pytest.mark.timeout(60)
async def test_the_manager_holds_little_of_what_is_never_finished(eventually: Eventually) -> None:
    env = {"HYPHA_PARTIAL_BYTES_MANAGER": str(80 * MIB)}
    async with ServerProcess("--in-memory", env=env) as process:
        asyncio.get_running_loop().set_debug(False)
        async with peer_at(process.ws_url, "evil") as peer:
            before = memory_of(process.pid)
            await upload(peer, peer.manager, "a", call_of("services.default.echo"), 75 * MIB)
            await upload(peer, peer.manager, "b", call_of("services.default.echo"), 75 * MIB)
            assert memory_of(process.pid) - before < 70
            with pytest.raises(Rejected, match="exceeds"):
                await upload(peer, peer.manager, "c", call_of("services.default.echo"), 100 * MIB)
        # What it held is free with its sender, again and again.
        for name in ("evil2", "evil3"):
            async with peer_at(process.ws_url, name) as peer:
                await upload(peer, peer.manager, "a", call_of("services.default.echo"), 40 * MIB)
        await eventually(lambda: memory_of(process.pid) - before < 30, what="the memory of those who left")
