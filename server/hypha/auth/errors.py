"""Why somebody is not admitted.

::

    AuthenticationError     the credential itself is bad    HTTP 401
      TokenRevoked          it was good and was withdrawn   HTTP 401
    ValidationError(ValueError)   an argument of generate_token is malformed

What a credential does not allow is a plain `PermissionError`. Which prefix a
text gets at the WebSocket door is decided in `hypha.auth.admission`.
"""

from __future__ import annotations

__all__ = ["AuthenticationError", "TokenRevoked", "ValidationError"]


class AuthenticationError(Exception):
    """A token cannot be believed. Its text is what peers see (server §4.3)."""


class TokenRevoked(AuthenticationError):
    """A token, or one it descends from, was revoked (security S18)."""

    def __init__(self) -> None:
        super().__init__("Token has been revoked")


class ValidationError(ValueError):
    """An argument has the wrong form. Peers see the class name (server §4.5)."""
