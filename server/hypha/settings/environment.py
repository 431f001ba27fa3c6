"""Environment variables to typed values, by the type of a dataclass field.

Knows text and types only, neither names nor meanings of settings
(`options`, `limits`).
"""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Mapping

__all__ = ["SettingsError", "read_environment"]

_TRUE = frozenset({"true", "1", "yes", "y", "on"})
_FALSE = frozenset({"false", "0", "no", "n", "off"})


class SettingsError(ValueError):
    """A setting has a value the server cannot start with; the text names it."""


def read_environment(
    owner: type, names: Mapping[str, tuple[str, ...]], environ: Mapping[str, str]
) -> dict[str, object]:
    """Read fields of the dataclass *owner* that are set in *environ*.

    Args:
        owner: the class whose annotations give the types.
        names: for each field the variables to look at; the first one set wins.
        environ: the variables. An empty text counts as not set.

    Raises:
        SettingsError: a value does not fit its type; the text names the variable.
    """
    hints = typing.get_type_hints(owner)
    values: dict[str, object] = {}
    for field, variables in names.items():
        variable = next((name for name in variables if environ.get(name, "").strip()), None)
        if variable is not None:
            values[field] = _parse(variable, environ[variable].strip(), hints[field])
    return values


def _parse(variable: str, text: str, hint: object) -> object:
    try:
        return _PARSERS[hint](text)
    except ValueError as error:
        raise SettingsError(f"{variable}: {error}") from error


def _boolean(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(f"expected true or false, got {text!r}")


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"expected a whole number, got {text!r}") from None


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"expected a number, got {text!r}")
    return value


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_PARSERS: Mapping[object, Callable[[str], object]] = {
    bool: _boolean,
    int: _integer,
    float: _number,
    str: str,
    str | None: str,
    tuple[str, ...]: _words,
}
