"""One hostile connection after another against a server's WebSocket door."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.integration.raw_peers import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, RawSocket, socket_at
from tests.security.mutations import Mutator

SEND_S = 10.0
OPCODES = (CONTINUATION, TEXT, BINARY, 3, 7, CLOSE, PING, PONG, 11, 15)
PATHS = ("/ws", "/ws?token=x", "/ws/", "/wss", "/ws?" + "a" * 4000, "/ws?%00%ff", "/%2e%2e/ws")


@dataclass(frozen=True)
class Target:
    """Whom the connections attack.

    Attributes:
        url: the server.
        token: lets them into the workspace of the bystanders; the others come anonymously.
    """

    url: str
    token: str


class Attack:
    """Many connections, a few at a time.

    Args:
        target: the server.
        mutator: what they send; the order of everything is decided by its random numbers.
    """

    def __init__(self, target: Target, mutator: Mutator) -> None:
        self._target = target
        self._mutator = mutator
        self._random = mutator.random
        self._number = 0
        self.sent = 0
        self.ended = 0

    async def run(self, *, connections: int, frames: int, at_once: int = 6) -> None:
        """Make *connections*, of which most send *frames*."""
        # What each one does is decided before anything runs, so that the same seed means the same.
        scripts = [self._script(frames) for _ in range(connections)]
        for start in range(0, connections, at_once):
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                for script in scripts[start : start + at_once]:
                    group.create_task(self._connection(*script))

    def _script(self, frames: int) -> tuple[str | None, str | None, list[bytes]]:
        """Path of the upgrade, id to be let in with, and what is sent then."""
        chance = self._random.random()
        self._number += 1
        if chance < 0.1:
            return None, None, [self._no_upgrade()]
        if chance < 0.2:
            return self._random.choice(PATHS), None, [self._oddity() for _ in range(3)]
        if chance < 0.35:
            return "/ws", None, [RawSocket.frame(TEXT, self._mutator.text())]
        sent = [self._message() for _ in range(frames)]
        return "/ws", f"evil-{self._number}", [*sent, self._oddity()]

    async def _connection(self, path: str | None, client_id: str | None, sent: Sequence[bytes]) -> None:
        async with socket_at(self._target.url) as socket:
            with contextlib.suppress(ConnectionError, TimeoutError, asyncio.IncompleteReadError):
                await self._speak(socket, path, client_id, sent)
        self.ended += 1

    async def _speak(self, socket: RawSocket, path: str | None, client_id: str | None, sent: Sequence[bytes]) -> None:
        if path is not None and await socket.upgrade(path) != 101:
            return
        if client_id is not None:
            token = {"token": self._target.token} if len(client_id) % 2 else {}
            level = {"x": 1} if self._number % 3 else {}
            await socket.hello(client_id, **token, **level)
        reader = asyncio.create_task(_discard(socket))
        try:
            for data in sent:
                socket.writer.write(data)
                self.sent += 1
                await asyncio.wait_for(socket.writer.drain(), SEND_S)
            # The answers to what was sent last, or the end: whatever comes first.
            await asyncio.wait([reader], timeout=0.05)
        finally:
            reader.cancel()
            await asyncio.wait([reader])

    def _message(self) -> bytes:
        """One message as a WebSocket client may send it, in one frame or in many."""
        chance = self._random.random()
        if chance < 0.03:
            return RawSocket.frame(TEXT, self._mutator.text())
        data = self._mutator.frame()
        if chance < 0.1:
            return self._fragmented(data)
        if chance < 0.12:
            return RawSocket.frame(BINARY, data[:40]) * 300
        return RawSocket.frame(BINARY, data)

    def _fragmented(self, data: bytes) -> bytes:
        size = self._random.choice((1, 7, 100, 4000))
        pieces = [data[at : at + size] for at in range(0, min(len(data), 500 * size), size)] or [b""]
        frames = [
            RawSocket.frame(BINARY if not number else CONTINUATION, piece, fin=number == len(pieces) - 1)
            for number, piece in enumerate(pieces)
        ]
        if len(frames) > 1 and self._random.random() < 0.5:
            frames.insert(1, RawSocket.frame(PING, b"between"))
        return b"".join(frames)

    def _oddity(self) -> bytes:
        """Something that RFC 6455 forbids, or nearly."""
        makers: tuple[Callable[[], bytes], ...] = (
            lambda: RawSocket.frame(
                self._random.choice(OPCODES), b"x", rsv=self._random.choice((0x10, 0x20, 0x40, 0x70))
            ),
            lambda: RawSocket.frame(self._random.choice(OPCODES), b"x", masked=False),
            lambda: RawSocket.frame(self._random.choice((3, 5, 11, 15)), b"x"),
            lambda: RawSocket.frame(self._random.choice((PING, PONG, CLOSE)), b"x" * 200),
            lambda: RawSocket.frame(self._random.choice((PING, PONG, CLOSE)), b"", fin=False),
            lambda: RawSocket.frame(CLOSE, self._random.choice((b"\x03", b"\0\0", b"\x03\xed", b"\x03\xe8\xff\xfe"))),
            lambda: RawSocket.frame(CONTINUATION, b"no beginning"),
            lambda: RawSocket.frame(TEXT, b"a", fin=False) + RawSocket.frame(BINARY, b"b"),
            lambda: RawSocket.frame(BINARY, b"a", fin=False) + RawSocket.frame(CONTINUATION, b"", fin=False) * 5000,
            lambda: RawSocket.frame(TEXT, b"\xff\xfe\xc3\x28"),
            lambda: RawSocket.frame(TEXT, b"[" * 65_000),
            lambda: RawSocket.frame(PING, b"x" * 100) * 2000,
            lambda: b"\x82\xff" + struct.pack("!Q", self._random.choice((2**63, 2**62, 2**40, 2**24 + 1))) + bytes(4),
            lambda: b"\x82\xfe\x00\x05" + bytes(9),
            lambda: b"\x82\xff" + struct.pack("!Q", 5) + bytes(9),
            lambda: b"\x82\xfe\xff\xff" + bytes(4) + b"cut off",
            lambda: self._random.randbytes(2000),
        )
        return self._random.choice(makers)()

    def _no_upgrade(self) -> bytes:
        """A request that asks for no WebSocket, or not in a way it can be given."""
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n"
        whole = f"GET /ws HTTP/1.1\r\nHost: x\r\n{upgrade}Sec-WebSocket-Version: 13\r\n{key}"
        body = f"Host: x\r\n{upgrade}Sec-WebSocket-Version: 13\r\n{key}Content-Length: 5\r\n\r\nhello"
        heads = (
            f"GET /ws HTTP/1.1\r\nHost: x\r\n{upgrade}Sec-WebSocket-Version: 12\r\n{key}\r\n",
            f"GET /ws HTTP/1.1\r\nHost: x\r\n{upgrade}Sec-WebSocket-Version: 13\r\n\r\n",
            f"GET /ws HTTP/1.1\r\nHost: x\r\n{upgrade}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n\r\n",
            f"POST /ws HTTP/1.1\r\n{body}",
            f"GET /ws HTTP/1.0\r\n{upgrade}Sec-WebSocket-Version: 13\r\n{key}\r\n",
            f"{whole}X: {'y' * 40_000}\r\n\r\n",
            f"{whole}Sec-WebSocket-Protocol: \xff\r\n\r\n",
            "GET /ws HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /ws HTT",
            "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        )
        head = bytearray(self._random.choice(heads).encode("latin-1"))
        if self._random.random() < 0.5:
            head[self._random.randrange(len(head))] ^= 1 << self._random.randrange(8)
        # Something right behind it, as a client in a hurry would send it.
        return bytes(head) + (RawSocket.frame(TEXT, b"{}") if self._random.random() < 0.5 else b"")


async def _discard(socket: RawSocket) -> None:
    """Read until the end: who does not read is slowed, and this attack is to be quick."""
    try:
        while await socket.reader.read(65_536):
            pass
    except ConnectionError:
        return


async def latencies(call: Callable[[], Any], stop: asyncio.Event) -> list[float]:
    """How long each of many calls takes until *stop* is set."""
    loop = asyncio.get_running_loop()
    found: list[float] = []
    while not stop.is_set():
        started = loop.time()
        await call()
        found.append(loop.time() - started)
        await asyncio.sleep(0.005)
    return found
