"""Claims of a token as typed values, or a refusal. Pure text and numbers."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

from hypha.auth.errors import AuthenticationError

__all__ = ["fingerprint", "seconds", "text", "texts", "token_id"]


def token_id(claims: Mapping[str, Any], token: str) -> str:
    """What a token is revoked by: its ``jti``, else a fingerprint (security S18).

    Raises:
        AuthenticationError: the claim has the wrong form.
    """
    jti = claims.get("jti")
    if jti is None:
        # Without the signature: its last character has spare bits, so the same token has several spellings.
        return fingerprint(token.rpartition(".")[0])
    if not isinstance(jti, str) or not 0 < len(jti) <= 128:
        raise AuthenticationError("Invalid claim: jti")
    return jti


def fingerprint(value: str) -> str:
    """The SHA-256 of *value* in hexadecimal digits."""
    return hashlib.sha256(value.encode(errors="replace")).hexdigest()


def seconds(claims: Mapping[str, Any], name: str) -> float:
    """A claim that is a time.

    Raises:
        AuthenticationError: it is none.
    """
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise AuthenticationError(f"Invalid claim: {name}")
    return float(value)


def text(value: object, name: str) -> str | None:
    """A claim that is text or absent; empty is absent.

    Raises:
        AuthenticationError: it is something else.
    """
    if value is None or isinstance(value, str):
        return value or None
    raise AuthenticationError(f"Invalid claim: {name}")


def texts(value: object, name: str) -> tuple[str, ...]:
    """A claim that is a list of texts or absent.

    Raises:
        AuthenticationError: it is something else.
    """
    if value is None:
        return ()
    if isinstance(value, list):
        found = tuple(item for item in value if isinstance(item, str))
        if len(found) == len(value):
            return found
    raise AuthenticationError(f"Invalid claim: {name}")
