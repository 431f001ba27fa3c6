"""What a driver provides to an endpoint, and what the two name together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from hypha_rpc.endpoint.running import Running

__all__ = ["Port", "Reference", "Waiter"]


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
    """

    target: str
    method: str
    promise: Any = "*"
    parent: str | None = None
    level: int = 0
    wire: Mapping[str, Any] = {}


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

    def dropped(self, reason: str) -> None:
        """A received frame was refused without an answer; *reason* carries no payload."""
