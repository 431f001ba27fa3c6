"""What both halves of an endpoint share: identity, time, packing, and who may call what."""

from __future__ import annotations

from typing import Any, Final

from hypha_rpc.addresses import workspace_of
from hypha_rpc.endpoint.exports import ExportTable, Target
from hypha_rpc.endpoint.leases import Holdings
from hypha_rpc.endpoint.options import LEVEL, EndpointOptions
from hypha_rpc.endpoint.ports import Port, Sealer
from hypha_rpc.endpoint.references import Incoming, Outgoing
from hypha_rpc.endpoint.storage import Storage
from hypha_rpc.errors import SerializationError
from hypha_rpc.wire.bulk import Frame
from hypha_rpc.wire.frame import FrameWriter
from hypha_rpc.wire.values import Decoder, Encoder, FormTable, default_forms, is_plain

__all__ = ["Core"]

_MAX_LEVELS: Final = 10_000


class Core:
    """State that callers and callees of one endpoint have in common.

    Attributes:
        now: time of the current input.
        began: when the message at hand began to arrive, if it came in pieces.
        storage: room for messages that are not complete yet.
        server_level: extension level of the server between us and our peers.
        levels: extension level of peers that have shown one (extensions §1).
        closed: why the conversation has ended, or None.
    """

    def __init__(
        self,
        port: Port,
        address: str,
        id_prefix: str,
        *,
        forms: FormTable | None = None,
        options: EndpointOptions | None = None,
        server_url: str | None = None,
        sealer: Sealer | None = None,
    ) -> None:
        self.port = port
        self.address = address
        self.id_prefix = id_prefix
        self.forms = forms or default_forms()
        self.options = options or EndpointOptions()
        self.server_url = server_url
        self.sealer = sealer
        self.exports = ExportTable()
        self.holdings = Holdings(self)
        self.storage = Storage(self.options)
        self.server_level = LEVEL
        self.levels: dict[str, int] = {}
        self.closed: BaseException | None = None
        self.now = 0.0
        self.began: float | None = None
        self._counter = 0
        self._writer = FrameWriter()

    def new_id(self) -> str:
        """A fresh session or message id: unguessable and unique on this connection (security S3)."""
        self._counter += 1
        return f"{self.id_prefix}{self._counter:x}"

    def is_own(self, sender: str) -> bool:
        """Whether *sender* is of the own workspace; for a server's own peers all are abroad (security S47)."""
        return workspace_of(sender) == workspace_of(self.address)

    def forget_levels(self) -> None:
        """Keep the table of levels small: peers of other workspaces leave without a word, and show theirs again."""
        if len(self.levels) > _MAX_LEVELS:
            self.levels.clear()

    def encode(self, values: list[Any], exporter: Outgoing | None, root: str) -> list[Any]:
        """Encode *values* for the wire.

        Raises:
            SerializationError: one has no wire form; its path starts with *root*.
        """
        return Encoder(self.forms, exporter, self.options.wire, bulk=True).encode_arguments(values, root)

    def decoder(self, sender: str, parent: str | None, key: bytes | None = None) -> Decoder:
        """A decoder for one message of *sender*, which was encrypted by the owner of *key*, if given."""
        return Decoder(self.forms, Incoming(self, sender, parent, key), self.options.wire, self.options.mapping)

    def write(self, header: dict[str, Any], extra: dict[str, Any], values: list[Any], root: str = "args") -> bytes:
        """Pack a frame; *values* are the raw values in it, to find the culprit when that fails.

        Raises:
            SerializationError: a value cannot be packed.
        """
        frame = self.compose(header, extra, values, root)
        return frame if isinstance(frame, bytes) else frame.join()

    def compose(self, header: dict[str, Any], extra: dict[str, Any], values: list[Any], root: str = "args") -> Frame:
        """`write`, without copying the big binaries among *values*."""
        try:
            return self._writer.compose(header, extra)
        except (OverflowError, ValueError, TypeError) as error:
            if is_plain(values):
                self.encode(values, None, root)
            raise SerializationError(f"cannot be packed: {error}", root) from error

    def send(self, header: dict[str, Any], extra: dict[str, Any] | None = None) -> None:
        """Pack natives and send them."""
        self.port.send(self._writer.write(header, extra))

    def lookup(self, method: str, caller: str, key: bytes | None = None) -> tuple[Target | None, str | None]:
        """Find *method* and decide whether *caller* may call it (protocol §4.5, §4.7, §9).

        Args:
            method: its id.
            caller: stamped address of the caller.
            key: public key of who encrypted the call, or None.

        Returns:
            The target, or None; and the text of a refusal, or None.
        """
        target = self.exports.find_service_method(method)
        if target is not None and target.service is not None and target.service.open:
            return target, None
        head, _, rest = method.partition(".")
        if not rest:
            return None, f"Method not found: {caller}:{method} at {self.address.partition('/')[2]}"
        if head == "services":
            return self._service_method(method, caller, key)
        session = self.exports.sessions.get(head)
        if session is None:
            # The first words are matched by programs.
            advice = "a callback in an argument ends with its call; send keep(function) to let it live on"
            return None, f"Session not found: {caller}:{method} ({advice})"
        target = session.objects.get(rest)
        if target is None:
            return None, f"Method expired or not found: {caller}:{method}"
        if session.peer != caller:
            return target, f"Access denied for method call ({caller}:{method}) from {caller} to target {session.peer}"
        if session.key is not None and session.key != key:
            return target, f"Encryption required for method {caller}:{method} (it was sent encrypted)"
        session.used = self.now
        return target, None

    def _service_method(self, method: str, caller: str, key: bytes | None) -> tuple[Target | None, str | None]:
        target = self.exports.find_service_method(method)
        if target is None or target.service is None:
            advice = "it was unregistered, or registered anew without it; get_service() finds what is there now"
            return None, f"Method expired or not found: {caller}:{method} ({advice})"
        service = target.service
        service.used = self.now
        verb = f"invoking protected method {caller}:{method}"
        refusal = service.refusal(caller, workspace_of(self.address), verb)
        if refusal is not None and service.allowed_caller is not None:
            refusal = f"Permission denied for _rintf callback {caller}:{method}, {refusal}"
        return target, refusal or service.distrust(key, f"{caller}:{method}")
