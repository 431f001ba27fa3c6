"""What can be read in a bearer token without checking it.

Pure. Nothing is decided by it: the server checks.
"""

from __future__ import annotations

import base64
import json

__all__ = ["workspace_of_token"]


def workspace_of_token(token: str | None) -> str | None:
    """Return the workspace that *token* names by ``wid:`` in its scope (protocol §7.3).

    Args:
        token: a JWT.

    Returns:
        None if there is none, or *token* is no JWT.
    """
    parts = (token or "").split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return None
    scope = claims.get("scope") if isinstance(claims, dict) else None
    words = scope.split() if isinstance(scope, str) else []
    return next((word[4:] for word in words if word.startswith("wid:") and len(word) > 4), None)
