"""Errors as HTTP answers: which status, which text (server §5.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.responses import JSONResponse

from hypha.auth.errors import AuthenticationError
from hypha_rpc.errors import ConnectionLost, LimitExceeded, PeerGone, RemoteException, SerializationError

__all__ = ["HttpFailure", "describe", "failure", "of_lookup", "status_of", "to_response"]

_CLASSES: Final[Mapping[str, int]] = {
    "KeyError": 404,
    "ServiceNotFound": 404,
    "MethodNotFound": 404,
    "PermissionError": 403,
    "PermissionDenied": 403,
    "ValueError": 400,
    "TypeError": 400,
    "AssertionError": 400,
    "SerializationError": 400,
    "TooManyRequests": 429,
}


class HttpFailure(Exception):
    """A request that gets an error of a known status.

    Attributes:
        status: the HTTP status.
        detail: what the caller is told.
        plain: the body has ``detail`` only (authentication, limits).
        headers: further headers of the answer.
    """

    def __init__(
        self, status: int, detail: str, *, plain: bool = False, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.plain = plain
        self.headers = dict(headers or {})


def failure(status: int, detail: str) -> JSONResponse:
    """The usual body of an error."""
    return JSONResponse({"success": False, "detail": detail}, status_code=status)


def of_lookup(error: Exception) -> HttpFailure:
    """A service that was not found or not given, told as if the manager had been called (server §5.5)."""
    return HttpFailure(status_of(error), f"RemoteException: {_named(error)}")


def status_of(error: BaseException) -> int:
    """The HTTP status for *error*."""
    if isinstance(error, HttpFailure):
        return error.status
    if isinstance(error, AuthenticationError):
        return 401
    if isinstance(error, TimeoutError):
        return 504
    if isinstance(error, (LimitExceeded, ConnectionLost)) and not isinstance(error, RemoteException):
        return 503
    name, message = _name_and_message(error)
    if isinstance(error, PeerGone):
        return 404 if "not found" in message else 502
    if isinstance(error, SerializationError):
        return 400
    status = _CLASSES.get(name, 500)
    if status == 500 and "Permission denied" in message:
        return 403
    return 404 if status == 500 and "not found" in message else status


def describe(error: BaseException) -> str:
    """The text of ``detail`` for *error*: its type and message, never a path or a line of source."""
    if isinstance(error, RemoteException):
        return f"RemoteException: {_named(error)}"
    if isinstance(error, TimeoutError):
        return f"TimeoutError: {error}"
    return _named(error)


def to_response(error: BaseException) -> JSONResponse:
    """The answer for *error*."""
    if isinstance(error, HttpFailure):
        body = {"detail": error.detail} if error.plain else {"success": False, "detail": error.detail}
        return JSONResponse(body, status_code=error.status, headers=error.headers)
    return failure(status_of(error), describe(error))


def _named(error: BaseException) -> str:
    name, message = _name_and_message(error)
    return f"{name}: {message}"


def _name_and_message(error: BaseException) -> tuple[str, str]:
    if isinstance(error, RemoteException):
        return error.remote_type, error.remote_message
    return type(error).__name__, str(error)
