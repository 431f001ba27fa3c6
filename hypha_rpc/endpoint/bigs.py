"""The big frames of one endpoint: what its halves for chunks ask and tell (`chunks_in.Host`).

Knows how a frame begins; the pieces are the business of `chunks_in` and `chunks_out`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from hypha_rpc.endpoint.chunks_in import Admitted, ChunksIn
from hypha_rpc.errors import HyphaError, LimitExceeded, MethodNotFound
from hypha_rpc.wire.frame import FrameError, read_header

if TYPE_CHECKING:
    from hypha_rpc.endpoint.callee import Callee
    from hypha_rpc.endpoint.caller import Caller
    from hypha_rpc.endpoint.calls import Call
    from hypha_rpc.endpoint.core import Core

__all__ = ["BigFrames"]

Buffer = bytes | bytearray | memoryview

_ANSWERS = frozenset({"resolve", "reject"})
_SEALED = b"\xa4_enc"


class Assembler(Protocol):
    """The endpoint, as far as whole frames are concerned."""

    core: Core
    caller: Caller
    callee: Callee

    def receive_assembled(self, data: bytes | memoryview, context: Mapping[str, Any]) -> None:
        """Take a frame that came in pieces."""


class BigFrames:
    """Receives chunks and credits; decides at the first piece whether a message is wanted (security S47).

    Args:
        endpoint: whose frames these are.
    """

    def __init__(self, endpoint: Assembler) -> None:
        self._endpoint = endpoint
        self._core = endpoint.core
        self.incoming = ChunksIn(endpoint.core, self, endpoint.core.storage)
        self.outgoing = endpoint.caller.transfers.chunks

    def receive(self, header: dict[str, Any], data: Buffer, offset: int) -> None:
        """Take a ``chunk`` or ``credit`` frame."""
        sender = header.get("from")
        if header["type"] == "chunk":
            self.incoming.chunk(header, data, offset)
        elif isinstance(sender, str):
            self.outgoing.credit(sender, header.get("key"), header.get("upto"))

    # -- Host ----------------------------------------------------------------------

    def admit(self, piece: Buffer, context: Mapping[str, Any]) -> Admitted:
        """Look at the first piece of a message (`chunks_in.Host`)."""
        header, offset = read_header(piece)
        method, sender = header.get("method"), str(context.get("from"))
        if header.get("type") != "method" or not isinstance(method, str):
            raise FrameError("only calls and answers come in pieces")
        session, _, name = method.partition(".")
        if name in _ANSWERS:
            call = self._endpoint.caller.calls.get(session)
            if call is not None and call.target == sender:
                return Admitted(answers=call)
            if call is not None or session.startswith(self._core.id_prefix):
                raise LimitExceeded("Nobody waits for this answer")
        self._check(method, sender, context, sealed=_SEALED in bytes(piece[offset : offset + 16]))
        parent, own = header.get("parent"), header.get("session")
        under = self._endpoint.caller.calls.get(parent) if isinstance(parent, str) else None
        if under is not None and under.target != sender:
            under = None
        return Admitted(under=under, session=own if isinstance(own, str) else None)

    def check_first(self, piece: Buffer, context: Mapping[str, Any]) -> bool:
        """The same for the first piece of a message that comes by the steps of protocol §5.

        Returns:
            Whether it is wanted. It is not known where the header cannot be read, as the pieces of those who cut very
            short hold less than that, or names what is not there: that is told when the message is complete.

        Raises:
            PermissionError, LimitExceeded: the whole would be refused, or is an answer that nobody waits for.
        """
        try:
            header, _ = read_header(piece)
            # Nobody is asked whether an event may come.
            if header.get("type") == "method":
                self.admit(piece, context)
        except (FrameError, MethodNotFound):
            return False
        return True

    def _check(self, method: str, sender: str, context: Mapping[str, Any], *, sealed: bool) -> None:
        """Raise what the whole call would be refused with."""
        target, refusal = self._core.lookup(method, sender)
        if target is None:
            raise MethodNotFound(refusal or method)
        refusal = self._endpoint.callee.astray(context) or refusal
        # Whose key sealed a call is known only when it is complete.
        if refusal is not None and not (sealed and "trusted_keys" in refusal):
            raise PermissionError(refusal)

    def waits_for(self, call: Call) -> bool:
        """Whether *call* is pending (`chunks_in.Host`)."""
        return self._endpoint.caller.calls.get(call.id) is call

    def receive_assembled(self, data: Buffer, context: Mapping[str, Any]) -> None:
        """Take the whole message (`chunks_in.Host`)."""
        self._endpoint.receive_assembled(data if isinstance(data, (bytes, memoryview)) else memoryview(data), context)

    def cancelled(self, sender: str, session: str) -> None:
        """The call that a message made is cancelled (`chunks_in.Host`)."""
        self._endpoint.callee.cancel(sender, session)

    def answer_refused(self, call: Call, error: BaseException) -> None:
        """The answer to *call* cannot be received (`chunks_in.Host`)."""
        if self.waits_for(call) and isinstance(error, (HyphaError, PermissionError)):
            self._endpoint.caller.unreadable(call, call.target, error)
