"""Reads command lines that are in order, without a parser library: loading one is a seventh of the server's start.

Whatever is not plainly right (help, an unknown option, a missing or odd value)
is left to `hypha.cli.syntax`, which says what is wrong. Both read the same
declarations, and the tests hold them together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

from hypha.settings import LATER_OPTIONS, Settings, option_info, option_name

__all__ = ["read_plain"]

_MANY: Final = "tuple[str, ...]"
_LATER: Final[Mapping[Any, str]] = {bool: "bool", str: "str"}


def read_plain(arguments: Sequence[str]) -> dict[str, Any] | None:
    """What *arguments* give, by the names of the fields; None where that is not plain."""
    kinds = _kinds()
    given: dict[str, Any] = {}
    rest = list(reversed(arguments))
    while rest:
        option, assigned, value = rest.pop().partition("=")
        kind = kinds.get(option)
        name = option[2:].replace("-", "_")
        if kind is None or (name in given and kind != _MANY):
            return None
        values = [value] if assigned else []
        while rest and not rest[-1].startswith("-") and kind != "bool" and (kind == _MANY or not values):
            values.append(rest.pop())
        if not _store(given, name, kind, values):
            return None
    return given


def _store(given: dict[str, Any], name: str, kind: str, values: list[str]) -> bool:
    """Keep *values*, if they are right for the *kind* of option."""
    if kind == "bool":
        given[name] = True
        return not values
    if not all(values) or not values:
        return False
    if kind == _MANY:
        given[name] = [*given.get(name, ()), *values]
    elif kind == "int":
        given[name] = int(values[0]) if values[0].isascii() and values[0].isdigit() else None
        return given[name] is not None
    else:
        given[name] = values[0]
    return True


def _kinds() -> dict[str, str]:
    """The kind of value of every option: bool, int, str or several texts."""
    found = {"--from-env": "bool"}
    for field in dataclasses.fields(Settings):
        if option_info(field).group:
            found[option_name(field.name)] = str(field.type).removesuffix(" | None")
    for name, kind in LATER_OPTIONS.items():
        found[option_name(name)] = _LATER.get(kind, _MANY)
    return found
