from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypha.auth.errors import AuthenticationError, ValidationError
from hypha.auth.scopes import ParsedScope, check_extra_scopes, format_scope, parse_scope, stronger


def test_scope_of_an_existing_token() -> None:
    scope = parse_scope("ws:ws-user-alice#r ws:*#a cid:c1 wid:ws-user-alice openid file:download")
    assert scope == ParsedScope({"ws-user-alice": "r", "*": "a"}, "c1", "ws-user-alice", ("openid", "file:download"))
    assert parse_scope(format_scope(scope)) == scope


@pytest.mark.parametrize("text", [None, "", "  "])
def test_empty_scope_grants_nothing(text: str | None) -> None:
    assert parse_scope(text) == ParsedScope({})


def test_the_stronger_of_two_words_for_one_workspace_counts() -> None:
    assert parse_scope("ws:a#rw ws:a#r").workspaces == {"a": "rw"}
    assert stronger(None, "r") == "r"
    assert stronger(None, None) is None


@pytest.mark.parametrize(
    "text",
    [
        "ws:a",
        "ws:a#",
        "ws:a#x",
        "ws:a#A",
        "ws:#a",
        "ws:a*#a",
        "ws:a/b#a",
        "ws:a#b#a",
        "ws:a@b#a",
        "ws:a\tb#a",
        "ws:" + "a" * 129 + "#r",
        "cid:",
        "cid:a/b",
        "cid:a:b",
        "cid:a cid:a",
        "wid:",
        "wid:*",
        "wid:a wid:b",
        "file\tdownload",
        "a\u00a0b",
        "a\x00",
        5,
        ["ws:a#a"],
    ],
)
def test_malformed_word_refuses_the_token(text: object) -> None:
    with pytest.raises(AuthenticationError, match="Invalid scope"):
        parse_scope(text)


@pytest.mark.parametrize("value", [None, [], ["openid"], ("file:download", "a"), ["x" * 128] * 16])
def test_harmless_extra_scopes(value: list[str] | None) -> None:
    assert check_extra_scopes(value) == tuple(value or ())


@pytest.mark.parametrize(
    "value",
    [
        "file:download",
        ["ws:ws-user-bob#a"],
        ["cid:x"],
        ["wid:x"],
        ["a ws:ws-user-bob#a"],
        ["a\tb"],
        ["a\u2003b"],
        ["a\n"],
        [""],
        ["x" * 129],
        ["x"] * 17,
        [5],
        {"a": 1},
    ],
)
def test_extra_scopes_that_could_grant_are_refused(value: object) -> None:
    with pytest.raises(ValidationError, match="extra_scopes"):
        check_extra_scopes(value)


@given(st.lists(st.text(max_size=20), max_size=5))
def test_no_accepted_extra_scope_ever_becomes_a_right(words: list[str]) -> None:
    try:
        extras = check_extra_scopes(words)
    except ValidationError:
        return
    scope = ParsedScope({"lab-ws": "r"}, None, "lab-ws", extras)
    assert parse_scope(format_scope(scope)) == scope


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        scope = parse_scope(text)
    except AuthenticationError:
        return
    assert parse_scope(format_scope(scope)) == scope
