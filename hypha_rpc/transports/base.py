"""The contract between a link and the pipe that carries its frames.

A transport moves whole frames in order and holds no policy: it does not
reconnect, authenticate again, or look inside a frame. `tests/transports` is the
conformance suite that every transport passes.

Opening
    ``await connector.open(options, credentials)`` connects, sends the credentials
    as the first frame (protocol §1.2) and returns once the server's
    ``connection_info`` arrived. It raises `Refused` when the server said no (an
    ``error`` frame: final) and `Unavailable` for everything that may pass
    (unreachable, HTTP status at the upgrade, closed in the handshake, time out);
    where python-client §3.5 names a builtin class the error is that, too.
    Options that can never work (no URL, an unknown scheme) are a `ValueError`.
    A failed or cancelled ``open`` leaves no socket, task or timer behind.

Receiving
    Nothing is delivered before ``transport.start(receiver)``: what arrives earlier
    is kept and handed over, in order, by ``start``. From then on the receiver's
    methods are called from the event loop, never re-entrantly from ``send``.
    The buffer given to ``on_frame`` is valid during that call only: who keeps it
    copies it. A receiver that raises does not harm the transport: the error is
    logged, the next frame is delivered.

Sending
    ``send`` never blocks, never raises for a closed transport (the frame is
    dropped; ``on_closed`` tells) and copies what it cannot write at once.
    ``writable`` turns False when more than `HIGH_WATER` bytes wait, ``on_writable``
    is called when they have fallen below `LOW_WATER`. Senders that can wait look
    at it (pieces of big frames wait, so that small frames meet a short queue); small
    calls need not. A frame above the receiver's ``max_frame`` ends the
    connection (1009): cutting is the sender's business.

Closing
    ``on_closed`` is called exactly once after ``start``, whoever closes and however it
    ends, with the code and reason; nothing is delivered after it. ``close`` is
    idempotent and starts the closing handshake; from then on nothing but
    ``on_closed`` is delivered. ``wait_closed`` returns within `CLOSE_TIMEOUT_S`
    seconds, when the socket is gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from hypha_rpc.errors import AuthenticationFailed, ConnectionFailed

HIGH_WATER = 256 * 1024
LOW_WATER = 128 * 1024
FLOODED = 4 * 1024 * 1024
CLOSE_TIMEOUT_S = 3.0
MAX_EARLY_FRAMES = 1024
MAX_EARLY_BYTES = 32 * 1024 * 1024

Buffer = bytes | bytearray | memoryview


class Refused(AuthenticationFailed):
    """The server refused this client in the handshake; asking again gives the same answer."""


class Unavailable(ConnectionFailed):
    """No connection for now; asking again later can succeed.

    Attributes:
        status: HTTP status of a refused upgrade, else None.
    """

    def __init__(self, *args: object, status: int | None = None) -> None:
        super().__init__(*args)
        self.status = status


class OpenTimeout(Unavailable, TimeoutError):
    """The connection was not open within ``OpenOptions.timeout_s``."""


class OpenRefused(Unavailable, ConnectionRefusedError):
    """Nothing listens at the address."""


class OpenAborted(Unavailable, ConnectionAbortedError):
    """The first message was neither ``connection_info`` nor ``error``: no server of ours, for now."""


class Closed(NamedTuple):
    """How a transport ended: WebSocket close code (1006: cut without a word) and reason."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What one pipe carries.

    Attributes:
        max_frame: largest frame in bytes it takes.
        chunk: piece size in bytes for frames that must be cut.
        ordered: frames arrive in the order sent.
    """

    max_frame: int = 16 * 1024 * 1024
    chunk: int = 262144
    ordered: bool = True


@dataclass(frozen=True, slots=True)
class Credentials:
    """The first frame (protocol §1.2, extensions §1)."""

    client_id: str
    workspace: str | None = None
    token: str | None = field(default=None, repr=False)
    reconnection_token: str | None = field(default=None, repr=False)
    life: str | None = None

    def as_message(self) -> dict[str, Any]:
        """The JSON object to send; carries our extension level and `life`."""
        message: dict[str, Any] = {
            "client_id": self.client_id,
            "workspace": self.workspace,
            "token": self.token,
            "reconnection_token": self.reconnection_token,
            "x": 1,
        }
        if self.life is not None:
            message["life"] = self.life
        return message


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """Where and how to open.

    Attributes:
        url: what the user gave as ``server_url``.
        timeout_s: limit for connecting plus handshake.
        ssl: ``None``/``True`` default checks, ``False`` none, or an ``ssl.SSLContext``;
            ignored for plain URLs (python-client X03).
        headers: extra HTTP headers of the upgrade request.
    """

    url: str
    timeout_s: float = 30.0
    ssl: Any = None
    headers: Sequence[tuple[str, str]] = ()


class Receiver(Protocol):
    """Who gets what a transport receives."""

    def on_frame(self, data: Buffer) -> None:
        """One binary frame; *data* is valid during the call only."""

    def on_control(self, message: Mapping[str, Any]) -> None:
        """One text message that is a JSON object; anything else is dropped by the transport."""

    def on_writable(self) -> None:
        """The send queue has drained below `LOW_WATER` after ``writable`` was False."""

    def on_closed(self, closed: Closed) -> None:
        """The transport has ended; called exactly once."""


class Transport(Protocol):
    """An open pipe."""

    @property
    def limits(self) -> Limits:
        """What this pipe carries."""

    @property
    def writable(self) -> bool:
        """Whether less than `HIGH_WATER` bytes wait to be written."""

    def start(self, receiver: Receiver) -> None:
        """Begin delivering to *receiver*; call once."""

    def send(self, parts: Sequence[Buffer]) -> None:
        """Send the concatenation of *parts* as one frame."""

    def send_control(self, message: Mapping[str, Any]) -> None:
        """Send *message* as one text frame of JSON."""

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start closing; idempotent. *reason* is cut to 123 bytes."""

    async def wait_closed(self) -> None:
        """Return when the pipe is gone, at most `CLOSE_TIMEOUT_S` after ``close``."""


class Connector(Protocol):
    """Opens transports of one kind."""

    async def open(self, options: OpenOptions, credentials: Credentials) -> tuple[Transport, dict[str, Any]]:
        """Connect and authenticate.

        Returns:
            The open transport, not started, and the server's ``connection_info``.

        Raises:
            Refused: the server said no; final.
            Unavailable: may pass; try again.
        """
