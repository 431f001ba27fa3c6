"""A world of endpoints in one thread: a switch that stamps senders, a virtual clock, faults on demand."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable
from typing import Any

from hypha_rpc.endpoint import Endpoint, EndpointOptions, Reference, Running, Service
from hypha_rpc.endpoint.leases import LeaseKey
from hypha_rpc.wire.frame import FrameError, FrameWriter, pack_pairs, read_extra, read_header, restamp


class Outcome:
    """A waiter that remembers everything it was told."""

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.errors: list[BaseException] = []

    def done(self) -> bool:
        return bool(self.results or self.errors)

    def set_result(self, result: Any, /) -> None:
        self.results.append(result)

    def set_exception(self, exception: BaseException, /) -> None:
        self.errors.append(exception)

    @property
    def settled(self) -> int:
        return len(self.results) + len(self.errors)

    def value(self) -> Any:
        """The result; raises the error."""
        assert self.settled == 1, f"settled {self.settled} times"
        if self.errors:
            raise self.errors[0]
        return self.results[0]


class Proxy:
    """What `Port.proxy` makes here: calling it makes a call in the world."""

    def __init__(self, peer: Peer, reference: Reference) -> None:
        self.peer = peer
        self.reference = reference
        self.__rpc_object__ = dict(reference.wire)

    def __call__(self, *args: Any, **kwargs: Any) -> Outcome:
        outcome = Outcome()
        self.peer.endpoint.call(self.reference, args, kwargs, outcome, self.peer.world.now)
        return outcome


class Later:
    """Returned by a function under test that answers later."""

    def __init__(self) -> None:
        self.job: Running | None = None
        self.peer: Peer | None = None
        self.cancelled = False

    def answer(self, value: Any) -> None:
        assert self.job is not None and self.peer is not None
        self.peer.endpoint.reply(self.job, value, self.peer.world.now)

    def fail(self, error: BaseException) -> None:
        assert self.job is not None and self.peer is not None
        self.peer.endpoint.fail(self.job, error, self.peer.world.now)


class Peer:
    """One endpoint and its port."""

    def __init__(self, world: World, address: str, options: EndpointOptions | None = None) -> None:
        self.world = world
        self.address = address
        self.events: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.drops: list[str] = []
        self.later: list[Later] = []
        self.gone: list[LeaseKey] = []
        self.wishes: list[float] = []
        self.endpoint = Endpoint(self, address, f"{len(world.peers):024x}", options=options)
        world.peers[address] = self

    # -- Port

    def send(self, frame: bytes) -> None:
        self.world.post(self.address, bytes(frame))

    def start(self, job: Running, args: list[Any], kwargs: dict[str, Any]) -> None:
        try:
            result = job.target.function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - whatever a function raises is answered
            self.endpoint.fail(job, error, self.world.now)
            return
        if isinstance(result, Later):
            result.job, result.peer = job, self
            job.handle = result
            self.later.append(result)
            self.endpoint.track(job, self.world.now)
        else:
            self.endpoint.reply(job, result, self.world.now)

    def cancel(self, job: Running) -> None:
        if job.handle is not None:
            job.handle.cancelled = True

    def wake(self, at: float) -> None:
        self.wishes.append(at)

    def event(self, header: dict[str, Any], extra: dict[str, Any]) -> None:
        self.events.append((header, extra))

    def proxy(self, reference: Reference) -> Callable[..., Any]:
        return Proxy(self, reference)

    def stream(self, pull: Reference, close: Reference | None) -> Any:
        return Proxy(self, pull)

    def unused(self, key: LeaseKey) -> None:
        self.gone.append(key)

    def dropped(self, reason: str) -> None:
        self.drops.append(reason)

    def let_go(self) -> None:
        """Tell owners what is no longer referred to, as a driver does soon after `unused`."""
        gone, self.gone = self.gone, []
        self.endpoint.release(gone, self.world.now)

    # -- for tests

    def offer(self, service_id: str, members: dict[str, Any], **config: Any) -> None:
        self.endpoint.exports.add(Service(service_id, members, {"visibility": "public", **config}))

    def call(self, target: str, method: str, *args: Any, promise: Any = "*", **kwargs: Any) -> Outcome:
        outcome = Outcome()
        reference = Reference(target, method, promise)
        self.endpoint.call(reference, args, kwargs, outcome, self.world.now)
        return outcome

    def ask(self, target: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call, let the world run, return the value."""
        outcome = self.call(target, method, *args, **kwargs)
        self.world.run()
        return outcome.value()

    def stats(self) -> dict[str, int]:
        stats = self.endpoint.stats()
        del stats["services"]
        return stats


class Wire:
    """An intercept that writes down what passes, and loses what it is told to lose."""

    def __init__(self, world: World, *, lose: Callable[[dict[str, Any]], bool] = lambda header: False) -> None:
        self.frames: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
        self.lose = lose
        world.intercept = self

    def __call__(self, sender: str, frame: bytes) -> list[bytes]:
        header, offset = read_header(frame)
        try:
            extra = read_extra(frame, offset)
        except FrameError:
            extra = {}
        self.frames.append((sender, header, extra))
        return [] if self.lose(header) else [frame]

    def methods(self, sender: str | None = None) -> list[str]:
        """Method ids (or types) of the frames so far, without their session ids."""
        return [
            header.get("method", header["type"]).rpartition(".")[2]
            for by, header, _ in self.frames
            if sender in (None, by)
        ]


class World:
    """Peers, the frames between them, and the time.

    Attributes:
        intercept: decides what becomes of a frame: the frames to deliver in its place.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.peers: dict[str, Peer] = {}
        self.frames: deque[tuple[str, bytes]] = deque()
        self.delivered = 0
        self.intercept: Callable[[str, bytes], list[bytes]] = lambda sender, frame: [frame]

    def peer(self, address: str, **options: Any) -> Peer:
        return Peer(self, address, EndpointOptions(**options))

    def post(self, sender: str, frame: bytes) -> None:
        self.frames.append((sender, frame))

    def inject(self, sender: str, header: dict[str, Any], extra: dict[str, Any] | None = None) -> None:
        """Send a frame made by hand in the name of *sender* and let the world run."""
        self.post(sender, FrameWriter().write(header, extra))
        self.run()

    def inject_broken(self, sender: str, header: dict[str, Any], payload: bytes = b"\x81\xa4args\x91\xc1") -> None:
        """Send a frame whose second segment makes no sense."""
        self.post(sender, FrameWriter().write(header) + payload)
        self.run()

    def leave(self, address: str) -> None:
        """A peer goes away for good, and everybody is told."""
        gone = self.peers.pop(address)
        for peer in self.peers.values():
            peer.endpoint.peer_gone(address, self.now)
        gone.endpoint.close(ConnectionError("gone"))

    def deliver_one(self) -> None:
        """Stamp the oldest frame as a server would and hand it over."""
        sender, frame = self.frames.popleft()
        for copy in self.intercept(sender, frame):
            header, offset = read_header(copy)
            target = self.peers.get(header.get("to", ""))
            if target is None:
                continue
            for name in ("from", "ws", "user", "ctx"):
                header.pop(name, None)
            workspace = sender.partition("/")[0]
            stamp = pack_pairs({"from": sender, "ws": workspace, "user": {"id": sender}})
            self.delivered += 1
            target.endpoint.receive(restamp(header, stamp) + copy[offset:], self.now)

    def run(self, limit: int = 100_000) -> None:
        """Deliver until it is quiet."""
        for _ in range(limit):
            if not self.frames:
                return
            self.deliver_one()
        raise AssertionError("the world does not become quiet")

    def advance(self, seconds: float, step: float = 0.5) -> None:
        """Let time pass, ticking everybody, delivering what is sent."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + step, end)
            for peer in list(self.peers.values()):
                peer.endpoint.tick(self.now)
            self.run()


def is_proxy(value: Any) -> bool:
    """Whether *value* stands for a remote function."""
    return isinstance(value, Proxy) and not inspect.isfunction(value)
