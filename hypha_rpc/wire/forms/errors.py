"""Exceptions: text and traceback for everybody, type and fields for our own peers.

``_rvalue`` and ``_rtrace`` are what public peers read (protocol §3.3); ``_rerr``
lets our peers raise the same type again (extensions §2). Types come from an
allow-list of builtins and of this package's call errors; nothing is imported or
constructed by a name from the wire (security S45).
"""

from __future__ import annotations

import re
import traceback
from typing import TYPE_CHECKING, Any, Final

import msgpack

from hypha_rpc import errors
from hypha_rpc.wire.values import DecodingError, is_plain

if TYPE_CHECKING:
    from hypha_rpc.wire.values import Decoder, Encoder, FormTable

__all__ = ["encode_error", "register", "remote_error"]

_MAX_ARGS: Final = 4096
_MAX_TEXT: Final = 64 * 1024
_LAST_LINE: Final = re.compile(r"^((?:\w+\.)*[A-Z]\w*)(?::\s*(.*))?$", re.DOTALL)

_OWN: Final[dict[str, type[errors.CallError]]] = {
    "CallCancelled": errors.CallCancelled,
    "ServiceNotFound": errors.ServiceNotFound,
    "MethodNotFound": errors.MethodNotFound,
    "PermissionDenied": errors.PermissionDenied,
    "CallbackExpired": errors.CallbackExpired,
}


class RemotePeerGone(errors.RemoteException, errors.PeerGone):
    """The server or the callee reports that the target is not there."""

    __str__ = errors.RemoteException.__str__


class RemoteCancelled(errors.RemoteException, errors.CallCancelled):
    """The callee reports that it gave the call up."""


_OWN["PeerGone"] = RemotePeerGone
_OWN["CallCancelled"] = RemoteCancelled

# What public peers and servers say, in the words their clients match on (protocol §4.7).
_BY_TEXT: Final[tuple[tuple[re.Pattern[str], type[errors.CallError]], ...]] = (
    (re.compile(r"^Target peer \S+ is not connected"), RemotePeerGone),
    (re.compile(r"^'?Service not found: "), errors.ServiceNotFound),
    (re.compile(r"^(Method expired or not found|Method not found|Invalid method): "), errors.MethodNotFound),
    (re.compile(r"^(Session not found|Parent session was closed): "), errors.CallbackExpired),
    (re.compile(r"^Permission denied for "), errors.PermissionDenied),
)


def register(table: FormTable) -> None:
    """Register the forms of this module."""
    table.encode(BaseException, _encode_exception)
    table.decode("error", _decode_error)


def _encode_exception(value: BaseException, encoder: Encoder) -> Any:
    return encode_error(value)


def encode_error(error: BaseException, *, with_trace: bool = True, may_have_run: bool = True) -> dict[str, Any]:
    """The ``_rtype: error`` map for *error*.

    Args:
        error: the exception; one that came from a peer keeps its original type and text.
        with_trace: include the stack (a client's services), or only the line
            ``<Class>: <message>`` (a server, which shows no paths: security S50).
        may_have_run: whether the method may have been started.

    Returns:
        A map of msgpack natives.
    """
    if isinstance(error, errors.RemoteException) and "remote_type" in vars(error):
        name, message, module = error.remote_type, error.remote_message, "builtins"
        trace = error.remote_traceback or f"{name}: {message}"
        may_have_run = may_have_run and error.may_have_run
    else:
        name, message, module = type(error).__name__, _text(error), type(error).__module__
        trace = "".join(traceback.format_exception(error)) if with_trace else f"{name}: {message}"
    details: dict[str, Any] = {"type": name, "module": module, "args": _plain_arguments(error)}
    if not may_have_run:
        details["may_have_run"] = False
    return {"_rtype": "error", "_rvalue": _sendable(message), "_rtrace": _sendable(trace.rstrip()), "_rerr": details}


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a user's broken __str__ must not replace the error it describes
        return f"<unprintable {type(error).__name__}>"


def _sendable(text: str) -> str:
    return text[:_MAX_TEXT].encode("utf-8", "backslashreplace").decode()


def _plain_arguments(error: BaseException) -> list[Any]:
    """The leading arguments that are plain and, together, at most 4 KiB."""
    kept: list[Any] = []
    size = 0
    for argument in error.args:
        if not is_plain(argument, 4):
            break
        try:
            size += len(msgpack.packb(argument))
        except (OverflowError, ValueError):
            break
        if size > _MAX_ARGS:
            break
        kept.append(argument)
    return kept


def _decode_error(value: dict[str, Any], decoder: Decoder) -> Any:
    text, trace, details = value.get("_rvalue"), value.get("_rtrace"), value.get("_rerr")
    if not isinstance(text, str):
        raise DecodingError("the value of an error must be text")
    return remote_error(text, trace if isinstance(trace, str) else "", details if isinstance(details, dict) else None)


def remote_error(text: str, trace: str = "", details: dict[str, Any] | None = None) -> errors.CallError:
    """Build the exception for an error map.

    Args:
        text: ``_rvalue``: the message, or a whole traceback (public Python, async methods).
        trace: ``_rtrace``.
        details: ``_rerr``, from our own peers.

    Returns:
        A `RemoteException`, of the matching class where it is on the allow-list.
    """
    name, message = _name_and_message(text, trace)
    may_have_run = True
    kind: type[errors.CallError] | None = None
    if details is not None and isinstance(details.get("type"), str):
        name, message = details["type"][:200], text
        may_have_run = details.get("may_have_run") is not False
        kind = _OWN.get(name)
    if kind is None:
        kind = next((known for pattern, known in _BY_TEXT if pattern.match(message)), None)
        may_have_run = may_have_run and kind is not RemotePeerGone
    return _build(kind or errors.remote_exception_class(name), name, message, trace or text, may_have_run)


def _build(kind: type[errors.CallError], name: str, message: str, trace: str, may_have_run: bool) -> errors.CallError:
    shown = f"RemoteError:{message}\n{name}: {message}" if name else f"RemoteError:{message}"
    error = kind(shown, may_have_run=may_have_run)
    if isinstance(error, errors.RemoteException):
        error.remote_type, error.remote_message, error.remote_traceback = name or "Exception", message, trace
    if "\n" in trace.strip():
        error.add_note(f"Remote traceback:\n{trace.rstrip()}")
    return error


def _name_and_message(text: str, trace: str) -> tuple[str, str]:
    """Class name and message as a public peer's texts tell them.

    Python callees send the message and a traceback whose last line is
    ``<Class>: <message>``, or (async methods) the traceback in both places;
    JavaScript sends ``<Class>: <message>``.
    """
    if text.lstrip().startswith("Traceback (most recent call last)"):
        return _last_line(text)
    if trace.lstrip().startswith("Traceback (most recent call last)"):
        return _last_line(trace)[0], text
    match = re.match(r"^((?:[A-Z]\w*)?(?:Error|Exception)): (.*)$", text, re.DOTALL)
    return (match[1], match[2]) if match else ("", text)


def _last_line(trace: str) -> tuple[str, str]:
    lines = trace.rstrip().splitlines()
    start = next((at for at in range(len(lines) - 1, 0, -1) if not lines[at].startswith((" ", "\t"))), len(lines) - 1)
    # A message of several lines follows the last indented source line.
    while start > 1 and lines[start - 1] and not lines[start - 1].startswith((" ", "\t")):
        start -= 1
    match = _LAST_LINE.match("\n".join(lines[start:]))
    if match is None:
        return "", lines[-1]
    return match[1].rpartition(".")[2], match[2] or ""
