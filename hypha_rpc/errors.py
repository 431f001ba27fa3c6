"""Every error this package raises on its own account.

::

    HyphaError
      ConnectionFailed(ConnectionError)            could not establish; ``.retryable``
        AuthenticationFailed(ConnectionAbortedError, PermissionError)   the server said no, for good
      ConnectionLost(ConnectionError)              was up, is gone
      CallError                                    ``.peer .service .method .call_id .may_have_run``
        CallTimeout(TimeoutError)                  nothing was heard in time
          DeadlineExceeded                         the call's own time limit has passed
        CallCancelled                              the callee gave the call up
        AnswerLost                                 it ran; what came of it is gone
        PeerGone(ConnectionError)                  the callee (or our link to it) is gone
        RemoteException                            the remote function raised;
                                                   ``.remote_type .remote_message .remote_traceback``,
                                                   ``.remote_module .remote_args`` from our own peers
          ServiceNotFound(KeyError)
          MethodNotFound(AttributeError)
          PermissionDenied(PermissionError)
          CallbackExpired(ReferenceError)
      SerializationError(TypeError)                a value has no wire form; ``.path`` such as ``args[0]['b'][1]``
      LimitExceeded
        MessageTooLarge(ValueError)
        TooManyPending(RuntimeError)
        SlowConsumer(RuntimeError)
      ProtocolError
        LocalProtocolError                         we broke the protocol
        RemoteProtocolError                        the peer did

A remote error of a builtin class is raised as a class that is both
`RemoteException` and that builtin (`remote_exception_class`), so that
``except KeyError`` and ``except RemoteException`` both catch it.

Texts that programs of the ecosystem match on (spec server §2.11, python-client
§3.5 and §7.5) stay inside the messages.
"""

from __future__ import annotations

import builtins
from functools import lru_cache
from typing import Any

__all__ = [
    "AnswerLost",
    "AuthenticationFailed",
    "CallCancelled",
    "CallError",
    "CallTimeout",
    "CallbackExpired",
    "ConnectionFailed",
    "ConnectionLost",
    "DeadlineExceeded",
    "HyphaError",
    "LimitExceeded",
    "LocalProtocolError",
    "MessageTooLarge",
    "MethodNotFound",
    "PeerGone",
    "PermissionDenied",
    "ProtocolError",
    "RemoteException",
    "RemoteProtocolError",
    "SerializationError",
    "ServiceNotFound",
    "SlowConsumer",
    "TooManyPending",
    "remote_exception_class",
]


class HyphaError(Exception):
    """Base of every error raised by `hypha_rpc` itself."""


class ConnectionFailed(HyphaError, ConnectionError):
    """A connection could not be established.

    Attributes:
        retryable: True when trying again later can succeed.
    """

    retryable = True


class AuthenticationFailed(ConnectionFailed, ConnectionAbortedError, PermissionError):
    """The server refused this client for good (an ``error`` frame in the handshake, protocol §1.5)."""

    retryable = False


class ConnectionLost(HyphaError, ConnectionError):
    """The connection was up and is gone, or was closed by us."""


class CallError(HyphaError):
    """A call did not give a result.

    Attributes:
        peer: address of the callee (``workspace/client``), or None.
        method: method id called, or None.
        call_id: id of the call on the wire, or None.
        may_have_run: False only when the method certainly was not started.
    """

    def __init__(
        self,
        *args: object,
        peer: str | None = None,
        method: str | None = None,
        call_id: str | None = None,
        may_have_run: bool = True,
    ) -> None:
        super().__init__(*args)
        self.peer = peer
        self.method = method
        self.call_id = call_id
        self.may_have_run = may_have_run

    @property
    def service(self) -> str | None:
        """Local id of the service that was called; None for callbacks and functions of results."""
        head, _, rest = (self.method or "").partition(".")
        return rest.partition(".")[0] if head == "services" and rest else None


class CallTimeout(CallError, TimeoutError):
    """Nothing was heard from the callee within the time limit."""


class DeadlineExceeded(CallTimeout):
    """The time limit of the call itself has passed; between our own peers the callee stops, too."""


class CallCancelled(CallError):
    """The callee reports that the call was cancelled there."""


class AnswerLost(CallError):
    """The callee reports that the call had ended and its answer is gone (extensions §3)."""


class PeerGone(CallError, ConnectionError):
    """The callee, or the connection that carried the call, is gone."""


class RemoteException(CallError):
    """The remote function raised.

    ``str()`` is ``RemoteError:`` followed by the message and the line
    ``<Class>: <message>`` (python-client §7.5, B064); the whole remote traceback
    is an attribute and a note of the exception.

    Attributes:
        remote_type: class name of the original exception, e.g. ``"KeyError"``.
        remote_message: its message.
        remote_traceback: its formatted traceback, or ``""``.
        remote_module: module of its class, ``""`` if the peer does not tell.
        remote_args: its leading arguments that are plain values; empty if the peer does not tell.
    """

    remote_type: str = "Exception"
    remote_message: str = ""
    remote_traceback: str = ""
    remote_module: str = ""
    remote_args: tuple[Any, ...] = ()

    _builtin: str = ""
    """Name of the builtin that this class is made of, for those that no module holds."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self._builtin or type(self), self.args, dict(vars(self)))


def _restored(kind: str | type[RemoteException], args: tuple[Any, ...], state: dict[str, Any]) -> RemoteException:
    """An error that was pickled."""
    made = remote_exception_class(kind)(*args) if isinstance(kind, str) else kind(*args)
    vars(made).update(state)
    return made


class ServiceNotFound(RemoteException, KeyError):
    """No such service."""

    __str__ = RemoteException.__str__


class MethodNotFound(RemoteException, AttributeError):
    """The service has no such method."""


class PermissionDenied(RemoteException, PermissionError):
    """The callee or the server does not let this caller in."""

    __str__ = RemoteException.__str__


class CallbackExpired(RemoteException, ReferenceError):
    """The callback belonged to a call that has ended."""


_LONGEST_PATH = 200


class SerializationError(HyphaError, TypeError):
    """A value has no wire form.

    Attributes:
        path: where the value stands, e.g. ``args[0]['b'][1]``.
    """

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.path = path

    def __str__(self) -> str:
        path = self.path
        if len(path) > _LONGEST_PATH:
            path = f"{path[: _LONGEST_PATH // 2]}...{path[-_LONGEST_PATH // 4 :]}"
        return f"{self.message} (at {path})" if path else self.message


class LimitExceeded(HyphaError):
    """A bound of this library was reached."""


class MessageTooLarge(LimitExceeded, ValueError):
    """A message is larger than its receiver takes."""


class TooManyPending(LimitExceeded, RuntimeError):
    """Too many calls of one caller are unanswered."""


class SlowConsumer(LimitExceeded, RuntimeError):
    """A reader does not keep up and its queue is full."""


class ProtocolError(HyphaError):
    """The wire protocol was violated."""


class LocalProtocolError(ProtocolError):
    """This side was about to violate the protocol."""


class RemoteProtocolError(ProtocolError):
    """The peer violated the protocol."""


@lru_cache(maxsize=256)
def remote_exception_class(name: str) -> type[RemoteException]:
    """Return the class for a remote error of builtin class *name*.

    Only exceptions of the `builtins` module qualify; everything else is a plain
    `RemoteException`. One that cannot have a second parent (`UnicodeDecodeError`
    wants five arguments) is what its nearest base is. Exceptions that stop an
    interpreter or a generator never travel as themselves.

    Args:
        name: class name as the callee reports it.

    Returns:
        A subclass of `RemoteException` that also is the builtin, or
        `RemoteException`.
    """
    builtin = getattr(builtins, name, None)
    if not (isinstance(builtin, type) and issubclass(builtin, Exception)):
        return RemoteException
    if issubclass(builtin, (StopIteration, StopAsyncIteration)):
        return RemoteException
    for base in builtin.__mro__:
        if base is Exception:
            break
        mixed = _mixed(base)
        if mixed is not None:
            return mixed
    return RemoteException


@lru_cache(maxsize=128)
def _mixed(builtin: type) -> type[RemoteException] | None:
    """The class that is both `RemoteException` and *builtin*, or None when there can be none."""
    namespace = {
        "__module__": __name__,
        "__doc__": f"A remote {builtin.__name__}.",
        "__str__": RemoteException.__str__,
        "__reduce__": RemoteException.__reduce__,
        "_builtin": builtin.__name__,
    }
    try:
        mixed: type[RemoteException] = type(f"Remote{builtin.__name__}", (RemoteException, builtin), namespace)
        mixed("probe")
    except TypeError:
        # Builtins with another memory layout, or that want several arguments, cannot be mixed in.
        return None
    return mixed
