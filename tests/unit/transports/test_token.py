"""The workspace that a token names (behaviours B229)."""

from __future__ import annotations

import base64
import json

import pytest

from hypha_rpc.http_client import _extract_workspace_from_token


def token(claims: object) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{body}.signature"


def test_the_workspace_stands_in_the_scope() -> None:
    scope = "ws:ws-user-github|123#a cid:client wid:ws-user-github|123 extra"
    assert _extract_workspace_from_token(token({"scope": scope})) == "ws-user-github|123"


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "no-token",
        "a.b",
        "a.b.c",
        "a.!.c",
        token([]),
        token({}),
        token({"scope": 1}),
        token({"scope": "wid: x"}),
    ],
)
def test_without_one_there_is_none(text: str | None) -> None:
    assert _extract_workspace_from_token(text) is None
