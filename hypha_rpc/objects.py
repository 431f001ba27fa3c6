"""Dictionaries with attribute access: what received maps are.

No dependency and no knowledge of the wire. Existing programs import these as
``hypha_rpc.utils.ObjectProxy`` and ``hypha_rpc.rpc.ObjectProxy``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

__all__ = ["DefaultObjectProxy", "ObjectProxy"]


class ObjectProxy(dict[str, Any]):
    """A dictionary whose items are attributes, too.

    Items win over dictionary methods, so that a service may have a function named
    ``get`` or ``items``; ``dict.keys(proxy)`` still lists (python-client §6.3).
    Names with a leading underscore are never items as attributes.
    """

    def __getattribute__(self, name: str) -> Any:
        if name[:1] != "_" and dict.__contains__(self, name):
            return dict.__getitem__(self, name)
        return dict.__getattribute__(self, name)

    def __getattr__(self, name: str) -> Any:
        # Reached when the ordinary lookup failed; items may have any name.
        try:
            return dict.__getitem__(self, name)
        except KeyError:
            raise AttributeError(self._lacks(name), name=name, obj=self) from None

    def _lacks(self, name: str) -> str:
        """What to say of an attribute that is not there; a traceback adds what may have been meant."""
        return f"{type(self).__name__!r} object has no attribute {name!r}"

    def __setattr__(self, name: str, value: Any) -> None:
        dict.__setitem__(self, name, value)

    def __delattr__(self, name: str) -> None:
        try:
            dict.__delitem__(self, name)
        except KeyError:
            raise AttributeError(name) from None

    def __dir__(self) -> list[str]:
        names = [key for key in dict.keys(self) if isinstance(key, str) and key.isidentifier()]
        return sorted({*names, *dict.__dir__(self)})

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (dict(dict.items(self)),))

    def __repr__(self) -> str:
        return dict.__repr__(self)

    def _repr_html_(self) -> str:
        return _tree(self)

    @classmethod
    def fromDict(cls, value: Mapping[str, Any]) -> Self:
        """Convert *value* and every dictionary in it, also inside lists and tuples."""
        return cls({key: _convert(item, cls) for key, item in value.items()})

    def toDict(self) -> dict[str, Any]:
        """Plain dictionaries at every depth."""
        return {key: _plain(item) for key, item in dict.items(self)}


class DefaultObjectProxy(ObjectProxy):
    """An `ObjectProxy` that has None for every missing attribute and item."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return dict.get(self, name)

    def __missing__(self, key: str) -> None:
        return None


def _convert(value: Any, cls: type[ObjectProxy]) -> Any:
    if isinstance(value, Mapping):
        return cls.fromDict(value)
    if type(value) in (list, tuple):
        return type(value)(_convert(item, cls) for item in value)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in dict.items(value)}
    if type(value) in (list, tuple):
        return type(value)(_plain(item) for item in value)
    return value


def _tree(value: Any, depth: int = 0) -> str:
    """Nested <details> for notebooks."""
    import html  # its table of entities is large, and few programs show anything

    if isinstance(value, dict) and depth < 8:
        rows = "".join(
            f"<li><b>{html.escape(str(key))}</b>: {_tree(item, depth + 1)}</li>" for key, item in dict.items(value)
        )
        opened = " open" if depth == 0 else ""
        return f"<details{opened}><summary>{len(value)} items</summary><ul>{rows}</ul></details>"
    return html.escape(repr(value)[:200])
