"""Exceptions: text and traceback for everybody, type and fields for our own peers.

``_rvalue`` and ``_rtrace`` are what public peers read (protocol §3.3); ``_rerr``
lets our peers raise the same type again (extensions §2). Types come from an
allow-list of builtins and of this package's call errors; nothing is imported or
constructed by a name from the wire (security S45).
"""

from __future__ import annotations

import re
import traceback
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgpack

from hypha_rpc import errors
from hypha_rpc.wire.values import DecodingError, is_plain

if TYPE_CHECKING:
    from hypha_rpc.wire.values import Decoder, Encoder, FormTable

__all__ = ["encode_error", "register", "remote_error"]

_MAX_ARGS: Final = 4096
_MAX_TEXT: Final = 64 * 1024
_TRACEBACK: Final = "Traceback (most recent call last)"
_OURS: Final = re.compile(r"^(?P<message>.*)\n(?P<name>[A-Za-z_]\w*): (?P=message)", re.DOTALL)
_LAST_LINE: Final = re.compile(r"^((?:\w+\.)*[A-Z]\w*)(?::\s*(.*))?$", re.DOTALL)


class RemotePeerGone(errors.RemoteException, errors.PeerGone):
    """The server or the callee reports that the target is not there."""

    __str__ = errors.RemoteException.__str__


class RemoteCancelled(errors.RemoteException, errors.CallCancelled):
    """The callee reports that it gave the call up."""


_OWN: Final[dict[str, type[errors.CallError]]] = {
    "CallCancelled": RemoteCancelled,
    "CallbackExpired": errors.CallbackExpired,
    "MethodNotFound": errors.MethodNotFound,
    "PeerGone": RemotePeerGone,
    "PermissionDenied": errors.PermissionDenied,
    "ServiceNotFound": errors.ServiceNotFound,
}
"""Our own errors that mean the same wherever they were raised."""

_AS_BUILTIN: Final[dict[str, str]] = {
    "AuthenticationFailed": "PermissionError",
    "CallTimeout": "TimeoutError",
    "ConnectionFailed": "ConnectionError",
    "ConnectionLost": "ConnectionError",
    "DeadlineExceeded": "TimeoutError",
    "DecodingError": "ValueError",
    "ForeignReferenceError": "PermissionError",
    "FrameError": "ValueError",
    "MessageTooLarge": "ValueError",
    "OutOfRangeError": "OverflowError",
    "SerializationError": "TypeError",
    "SlowConsumer": "RuntimeError",
    "TooManyPending": "RuntimeError",
    "UnsupportedTypeError": "TypeError",
}
"""Our own errors that a caller must not mistake for its own (a peer's lost connection): only the builtin remains."""

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
        # Passed on: it stays what it was where it was raised. Whether *that* method ran says nothing about this one.
        name, message, module = error.remote_type, error.remote_message, error.remote_module
        trace = error.remote_traceback or f"{name}: {message}"
        arguments = _plain_arguments(error.remote_args)
    else:
        name, message, module = type(error).__name__, _text(error), type(error).__module__
        trace = "".join(traceback.format_exception(error)) if with_trace else f"{name}: {message}"
        arguments = _plain_arguments(error.args)
    details: dict[str, Any] = {"type": name, "module": module, "args": arguments}
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


def _plain_arguments(arguments: tuple[Any, ...]) -> list[Any]:
    """The leading *arguments* that are plain and, together, at most 4 KiB."""
    kept: list[Any] = []
    size = 0
    for argument in arguments:
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
    if details is not None and isinstance(details.get("type"), str):
        return _typed_error(text, trace, details)
    inner, relayed = _unwrapped(text)
    name, message = _relayed_parts(inner) if relayed else _name_and_message(text, trace)
    kind = _meant(message)
    # Said by the machinery itself, without a stack, it is about this very call; raised by a function it is not.
    certain = kind is not None and not relayed and trace.strip() in ("", f"Exception: {text.strip()}")
    told = _Told(name, message, trace or text, may_have_run=not certain)
    return _build(kind or errors.remote_exception_class(name), told)


def _meant(message: str) -> type[errors.CallError] | None:
    """The class for a text of the protocol, or None."""
    return next((known for pattern, known in _BY_TEXT if pattern.match(message)), None)


class _Told(NamedTuple):
    """What a peer tells about an error."""

    name: str
    message: str
    trace: str
    module: str = ""
    arguments: tuple[Any, ...] = ()
    may_have_run: bool = True


def _typed_error(text: str, trace: str, details: dict[str, Any]) -> errors.CallError:
    """The exception for an error of a peer that tells its type (extensions §2)."""
    name, module, arguments = details["type"][:200], details.get("module"), details.get("args")
    told = _Told(
        name,
        text,
        trace or text,
        module[:200] if isinstance(module, str) else "",
        tuple(arguments) if isinstance(arguments, list) and is_plain(arguments, 4) else (),
        details.get("may_have_run") is not False,
    )
    kind = None
    if told.module.partition(".")[0] in ("", "builtins", "hypha_rpc", "hypha"):
        kind = _OWN.get(name) or _meant(text)
        name = _AS_BUILTIN.get(name, name)
    return _build(kind or errors.remote_exception_class(name), told)


def _build(kind: type[errors.CallError], told: _Told) -> errors.CallError:
    name, message = told.name, told.message
    shown = f"RemoteError:{message}\n{name}: {message}" if name else f"RemoteError:{message}"
    error = kind(shown, may_have_run=told.may_have_run)
    if isinstance(error, errors.RemoteException):
        error.remote_type, error.remote_message, error.remote_traceback = name or "Exception", message, told.trace
        error.remote_module, error.remote_args = told.module, told.arguments
    if isinstance(error, OSError) and len(told.arguments) > 1 and type(told.arguments[0]) is int:
        error.errno, error.strerror = told.arguments[0], str(told.arguments[1])
    if "\n" in told.trace.strip():
        error.add_note(f"Remote traceback:\n{told.trace.rstrip()}")
    return error


def _unwrapped(text: str) -> tuple[str, bool]:
    """*text* without the prefixes that public peers add at every hop (X28), and whether there were any."""
    start = text.find("RemoteError:")
    if start > 0 and (_TRACEBACK in text[:start] or text[:start] == "Error: "):
        # An asynchronous function of a public peer tells its own stack first; JavaScript the class.
        text = text[start:]
    relayed = False
    while text.startswith("RemoteError:"):
        text, relayed = text.removeprefix("RemoteError:").lstrip(), True
    return text, relayed


def _relayed_parts(text: str) -> tuple[str, str]:
    """Class name and message in the text of a `RemoteException`, theirs or ours."""
    message, found, trace = text.partition(f"\n{_TRACEBACK}")
    if found:
        return _last_line(f"{_TRACEBACK}{trace}")[0], message
    match = _OURS.match(text)
    return (match["name"], match["message"]) if match else _name_and_message(text, "")


def _name_and_message(text: str, trace: str) -> tuple[str, str]:
    """Class name and message as a public peer's texts tell them.

    Python callees send the message and a traceback whose last line is
    ``<Class>: <message>``, or (async methods) the traceback in both places;
    JavaScript sends ``<Class>: <message>``.
    """
    if text.lstrip().startswith(_TRACEBACK):
        return _last_line(text)
    if trace.lstrip().startswith(_TRACEBACK):
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
