"""A world whose links break: one queue a pair of peers, a switch with mailboxes, drivers that keep frames.

What the server and the drivers promise is modelled as in protocol §2.6 and extensions §3, §5: order between two
peers, a reject for a call to somebody absent, answers kept for a client that resumes, everybody told who left.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Any

from hypha_rpc.endpoint import EndpointOptions
from hypha_rpc.errors import ConnectionLost
from hypha_rpc.wire.frame import FrameWriter, pack_pairs, read_header, restamp
from tests.unit.endpoint.world import Peer, World

Pair = tuple[str, str]


def is_answer(header: dict[str, Any]) -> bool:
    """Whether a mailbox keeps such a frame (extensions §5)."""
    method = str(header.get("method"))
    answers = method.endswith((".resolve", ".reject")) and not method.startswith("services.")
    return header["type"] == "method" and answers and "session" not in header


def is_request(header: dict[str, Any]) -> bool:
    """Whether a second copy of such a frame could run something again."""
    method = str(header.get("method"))
    return header["type"] == "method" and not method.endswith((".resolve", ".reject", ".heartbeat"))


class FaultyWorld(World):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.queues: dict[Pair, deque[bytes]] = defaultdict(deque)
        self.down: set[str] = set()
        self.kept: dict[str, list[bytes]] = defaultdict(list)
        self.mailbox: dict[str, list[tuple[str, bytes]]] = defaultdict(list)
        self._born = 0
        self._writer = FrameWriter()

    def born(self, address: str, **options: Any) -> Peer:
        """A new life of *address*."""
        peer = Peer(self, address, EndpointOptions(**options))
        self._born += 1
        peer.endpoint.core.id_prefix = f"{self._born:024d}x"
        return peer

    # -- sending and delivering

    def post(self, sender: str, frame: bytes) -> None:
        if sender in self.down:
            self.kept[sender].append(frame)
        else:
            self._route(sender, frame)

    def _route(self, sender: str, frame: bytes) -> None:
        header, _ = read_header(frame)
        target = header["to"]
        if target not in self.down:
            self.queues[sender, target].append(frame)
        elif is_answer(header):
            self.mailbox[target].append((sender, frame))
        elif "session" in header and header["type"] == "method":
            error = {"_rtype": "error", "_rvalue": f"Target peer {target} is not connected", "_rtrace": ""}
            answer = {"type": "method", "to": sender, "method": f"{header['session']}.reject"}
            self.queues[target, sender].append(self._writer.write(answer, {"args": [error]}))

    def busy(self) -> list[Pair]:
        """The pairs that have frames under way."""
        return sorted(pair for pair, queue in self.queues.items() if queue)

    def deliver(self, pair: Pair) -> None:
        """Deliver the oldest frame of *pair*."""
        self._hand_over(pair[0], pair[1], self.queues[pair].popleft())

    def _hand_over(self, sender: str, target: str, frame: bytes) -> None:
        header, offset = read_header(frame)
        for name in ("from", "ws", "user", "ctx"):
            header.pop(name, None)
        stamp = pack_pairs({"from": sender, "ws": sender.partition("/")[0], "user": {"id": sender}})
        self.peers[target].endpoint.receive(restamp(header, stamp) + frame[offset:], self.now)

    def run(self, limit: int = 100_000) -> None:
        for _ in range(limit):
            busy = self.busy()
            if not busy:
                return
            self.deliver(busy[0])
        raise AssertionError("the world does not become quiet")

    def tick(self, seconds: float) -> None:
        """Let time pass; everybody notices."""
        self.now += seconds
        for peer in list(self.peers.values()):
            peer.endpoint.tick(self.now)

    # -- faults

    def lose(self, pair: Pair) -> None:
        """The oldest frame of *pair* vanishes."""
        self.queues[pair].popleft()

    def repeat(self, pair: Pair) -> bool:
        """The oldest frame of *pair* arrives twice, unless that could run something again."""
        frame = self.queues[pair][0]
        if is_request(read_header(frame)[0]):
            return False
        self.queues[pair].appendleft(frame)
        return True

    def break_link(self, address: str, *, survive: int, written: bool) -> None:
        """The connection of *address* is lost.

        Args:
            address: whose.
            survive: how many of its frames to each peer had reached the server.
            written: what was under way to it had been written into the dead socket, and is lost.
        """
        for (sender, target), queue in self.queues.items():
            if sender == address:
                while len(queue) > survive:
                    queue.pop()
            elif target == address:
                for frame in () if written else tuple(queue):
                    if is_answer(read_header(frame)[0]):
                        self.mailbox[address].append((sender, frame))
                queue.clear()
        self.down.add(address)
        self.peers[address].endpoint.link_down(self.now)
        for peer in self.others(address):
            peer.endpoint.peer_gone(address, self.now)

    def restore_link(self, address: str, *, resumed: bool) -> None:
        """The connection of *address* is back."""
        self.down.discard(address)
        endpoint = self.peers[address].endpoint
        for sender, frame in self.mailbox.pop(address, []):
            if resumed:
                self._hand_over(sender, address, frame)
        endpoint.link_up(self.now, resumed=resumed)
        for frame in self.kept.pop(address, []):
            self._route(address, frame)
        if resumed:
            for peer in self.others(address):
                peer.endpoint.peer_resumed(address)

    def end_life(self, address: str) -> None:
        """The process of *address* ends; nothing of it is left in the switch."""
        for pair, queue in self.queues.items():
            if address in pair:
                queue.clear()
        for book in (self.kept, self.mailbox):
            book.pop(address, None)
        self.down.discard(address)
        self.peers.pop(address).endpoint.close(ConnectionLost("the process ended"))
        for peer in self.peers.values():
            peer.endpoint.peer_gone(address, self.now)

    def others(self, address: str) -> list[Peer]:
        return [peer for peer in self.peers.values() if peer.address != address]
