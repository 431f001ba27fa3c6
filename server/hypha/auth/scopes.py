"""The ``scope`` text of a token: parse and format.

::

    ws:<workspace>#<r|rw|a>   a right; <workspace> may be *
    cid:<client id>           only this client may use the token
    wid:<workspace>           where the token leads
    anything else             an extra scope, passed on

A malformed word refuses the whole token (security S15). Pure text; grammar:
server §4.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from hypha.auth.errors import AuthenticationError, ValidationError
from hypha.auth.identity import Right, is_valid_workspace_id
from hypha_rpc.addresses import is_valid_client_id

__all__ = ["RANK", "ParsedScope", "check_extra_scopes", "format_scope", "parse_scope", "stronger"]

#: Right letters by strength.
RANK: Mapping[Right, int] = {"r": 1, "rw": 2, "a": 3}

_RESERVED = ("ws:", "cid:", "wid:")
_MAX_EXTRAS, _MAX_EXTRA_LENGTH = 16, 128


@dataclass(frozen=True, slots=True)
class ParsedScope:
    """The words of a scope, taken apart."""

    workspaces: Mapping[str, Right]
    client_id: str | None = None
    current_workspace: str | None = None
    extra_scopes: tuple[str, ...] = ()


def stronger(one: Right | None, other: Right | None) -> Right | None:
    """The stronger of two rights, where None is no right."""
    if one is None or other is None:
        return one or other
    return one if RANK[one] >= RANK[other] else other


def parse_scope(text: object) -> ParsedScope:
    """Take the scope of a token apart.

    Raises:
        AuthenticationError: it is no text, or a word is malformed or doubled.
    """
    if text is None:
        text = ""
    if not isinstance(text, str):
        raise AuthenticationError("Invalid scope: not a text")
    workspaces: dict[str, Right] = {}
    single: dict[str, str] = {}
    extras: list[str] = []
    for word in text.split(" "):
        if word.startswith("ws:"):
            name, right = _workspace_word(word)
            workspaces[name] = stronger(workspaces.get(name), right) or right
        elif word.startswith(("cid:", "wid:")):
            _single_word(word, single)
        elif word:
            _check_word(word)
            extras.append(word)
    return ParsedScope(workspaces, single.get("cid"), single.get("wid"), tuple(extras))


def format_scope(scope: ParsedScope) -> str:
    """Write a scope in the order existing tokens have: rights, client, workspace, extras."""
    words = [f"ws:{name}#{right}" for name, right in scope.workspaces.items()]
    if scope.client_id is not None:
        words.append(f"cid:{scope.client_id}")
    if scope.current_workspace is not None:
        words.append(f"wid:{scope.current_workspace}")
    return " ".join((*words, *scope.extra_scopes))


def check_extra_scopes(value: object) -> tuple[str, ...]:
    """The extra scopes somebody asks for, if they grant nothing (security S15).

    Raises:
        ValidationError: not a list of texts, too many or too long, or a word
            that would be read as a right when the token is parsed.
    """
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)) or len(value) > _MAX_EXTRAS:
        raise ValidationError(f"extra_scopes must be a list of at most {_MAX_EXTRAS} texts")
    for word in value:
        if not isinstance(word, str) or not 0 < len(word) <= _MAX_EXTRA_LENGTH:
            raise ValidationError(f"extra_scopes: each must be a text of 1 to {_MAX_EXTRA_LENGTH} characters")
        if word.startswith(_RESERVED) or not _is_word(word):
            raise ValidationError(f"extra_scopes: {word!r} is not allowed (blanks, or a reserved prefix)")
    return tuple(cast("list[str]", value))


def _workspace_word(word: str) -> tuple[str, Right]:
    name, hash_sign, letter = word.removeprefix("ws:").rpartition("#")
    if not hash_sign or letter not in RANK or not (name == "*" or is_valid_workspace_id(name)):
        raise _malformed(word)
    return name, cast("Right", letter)


def _single_word(word: str, single: dict[str, str]) -> None:
    prefix, _, value = word.partition(":")
    valid = is_valid_client_id(value) if prefix == "cid" else is_valid_workspace_id(value)
    if not valid or prefix in single:
        raise _malformed(word)
    single[prefix] = value


def _check_word(word: str) -> None:
    if not _is_word(word):
        raise _malformed(word)


def _is_word(word: str) -> bool:
    # Printable and without blanks of any kind: what split(" ") leaves of a tab would part words elsewhere.
    return word.isprintable() and not any(character.isspace() for character in word)


def _malformed(word: str) -> AuthenticationError:
    return AuthenticationError(f"Invalid scope: malformed word {word[:80]!r}")
