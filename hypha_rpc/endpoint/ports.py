"""What a driver provides to an endpoint, and what the two name together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from hypha_rpc.endpoint.leases import Lease, LeaseKey
    from hypha_rpc.endpoint.running import Running

__all__ = ["Port", "Reference", "Sealer", "Waiter"]


class Waiter(Protocol):
    """Someone who waits for one outcome; ``asyncio.Future`` fits, a list with these methods fits in a test."""

    def done(self) -> bool:
        """Whether an outcome was given, or nobody waits any more."""

    def set_result(self, result: Any, /) -> None:
        """Give the result."""

    def set_exception(self, exception: BaseException, /) -> None:
        """Give the error."""


class Reference(NamedTuple):
    """A function of a peer.

    Attributes:
        target: absolute address of its owner.
        method: its method id there.
        promise: ``"*"`` compact, True explicit, False fire and forget (protocol §3.4).
        parent: the owner's session under which it must be called, or None.
        level: extension level of the owner (0: public).
        wire: the ``_rtype: method`` map, with absolute target, to pass it on.
        lease: what keeps it alive at its owner, or None.
        key: public key of its owner if calls are to be encrypted, or None.
    """

    target: str
    method: str
    promise: Any = "*"
    parent: str | None = None
    level: int = 0
    wire: Mapping[str, Any] = {}
    lease: Lease | None = None
    key: bytes | None = None


class Sealer(Protocol):
    """The keys of an endpoint that encrypts; `hypha_rpc.wire.sealing.Sealer` is one (protocol §9)."""

    public_key: bytes

    def seal(self, payload: bytes, key: bytes) -> dict[str, Any]:
        """Segment 2 of a frame that only the owner of public key *key* can read."""

    def open(self, extra: dict[str, Any]) -> tuple[bytes, bytes]:
        """The payload in segment 2 and the public key of who sealed it; raises `SealingError`."""


class Port(Protocol):
    """The world outside an endpoint. No method may block or raise."""

    def send(self, frame: bytes) -> None:
        """Hand one frame to the transport, or keep it until there is one."""

    def start(self, job: Running, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Run ``job.target.function``.

        Ends with `Endpoint.reply` or `Endpoint.fail`, at once for a plain function;
        one that goes on later calls `Endpoint.track` first.
        """

    def cancel(self, job: Running) -> None:
        """Stop a tracked job; its outcome is still reported, and ignored."""

    def wake(self, at: float) -> None:
        """Call `Endpoint.tick` not much later than *at*; a later wish does not replace an earlier one."""

    def event(self, header: dict[str, Any], extra: dict[str, Any]) -> None:
        """A frame that is no call arrived; ``from`` in *header* is the stamped sender, absent for the server's own."""

    def proxy(self, reference: Reference) -> Callable[..., Any]:
        """Make the callable that stands for *reference*."""

    def stream(self, pull: Reference, close: Reference | None) -> Any:
        """Make the async iterator whose items *pull* gives; *close* ends it early."""

    def unused(self, key: LeaseKey) -> None:
        """A reference to something held has gone: call `Endpoint.release` soon. Called in any thread, at any moment."""

    def dropped(self, reason: str) -> None:
        """A received frame was refused without an answer; *reason* carries no payload."""
