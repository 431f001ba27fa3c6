"""Sealed calls: frames whose second segment only their receiver can read (protocol §9, security S48).

A payload is bound to the frame it was made for, so that nobody on the way can put it
into another one. The cipher and its keys are behind the port `Sealer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from hypha_rpc.endpoint.calls import Call
from hypha_rpc.endpoint.running import Running
from hypha_rpc.wire.frame import read_extra
from hypha_rpc.wire.sealing import KEY_BYTES, SealingError, binding

if TYPE_CHECKING:
    from hypha_rpc.endpoint.core import Core
    from hypha_rpc.endpoint.exports import Target

__all__ = ["ENVELOPE", "SealedCall", "SealedRunning", "announced_key", "open_payload", "sealed_frame"]

ENVELOPE: Final = "_enc"
_BIND: Final = "_bind"


class SealedCall(Call):
    """A call whose request was sealed: its result must be, too.

    Attributes:
        key: public key of the callee.
    """

    __slots__ = ("key",)

    def __init__(self, call: Call, key: bytes) -> None:
        super().__init__(call.id, call.target, call.method, call.waiter, call.limit, call.heard)
        self.key = key


class SealedRunning(Running):
    """A call being served whose request was sealed: it is answered sealed.

    Attributes:
        key: public key of the caller.
    """

    __slots__ = ("key",)

    def __init__(self, job: Running, target: Target, key: bytes) -> None:
        super().__init__(job.caller, job.me, job.session, target, job.promise, job.asked)
        self.key = key


def sealed_frame(core: Core, header: dict[str, Any], extra: dict[str, Any], key: bytes, root: str = "args") -> bytes:
    """Pack a frame whose *extra* only the owner of public key *key* can read.

    Raises:
        SerializationError: a value cannot be packed.
        SealingError: *key* is none, or this client has encryption off.
    """
    if core.sealer is None:
        raise SealingError("this client was connected without encryption")
    bound = binding(header.get("from", core.address), header["to"], header["method"], header.get("session"))
    # Without the empty header, which is one byte.
    payload = core.write({}, {**extra, _BIND: bound}, extra.get("args") or [], root)[1:]
    return core.write(header, core.sealer.seal(payload, key), [])


def open_payload(core: Core, header: Mapping[str, Any], extra: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Open the second segment of a frame.

    Args:
        core: who received it.
        header: ``from`` as stamped, ``to``, ``method`` and ``session`` of the frame.
        extra: what is sealed.

    Returns:
        What was sealed, and the public key of who sealed it.

    Raises:
        SealingError: it cannot be opened, came a second time, or was made for another frame.
        FrameError: what is inside is no payload.
    """
    if core.sealer is None:
        raise SealingError("this client was connected without encryption")
    payload, key = core.sealer.open(extra)
    opened = dict(read_extra(payload, 0))
    session = header.get("session")
    expected = binding(
        header["from"], header.get("to") or core.address, header["method"], session if type(session) is str else None
    )
    # Public peers bind nothing.
    if opened.pop(_BIND, expected) != expected:
        raise SealingError("the encrypted payload belongs to another message")
    return opened, key


def announced_key(reference: Mapping[str, Any]) -> bytes | None:
    """The public key with which calls of *reference* are to be encrypted, or None."""
    key = reference.get("_renc_pub")
    return key if isinstance(key, bytes) and len(key) == KEY_BYTES else None
