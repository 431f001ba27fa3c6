"""What a callable is called like and says of itself, as text (python-client §17.1)."""

from __future__ import annotations

import functools
import inspect
from typing import Any

__all__ = ["callable_doc", "callable_sig"]


def callable_sig(any_callable: Any, skip_context: bool = False) -> str:
    """The name and the parameters of a callable, such as ``add(a, b=1)``.

    Args:
        any_callable: a function, a partial (without what it binds), a class (parameters of its ``__call__``)
            or an instance with ``__call__`` (under the name of its class).
        skip_context: leave out the parameter ``context``.

    Raises:
        TypeError, ValueError: it has no signature.
    """
    bound = frozenset[str]()
    target = any_callable
    if isinstance(target, functools.partial):
        bound = frozenset(target.keywords)
        name = _name(target.func)
    elif isinstance(target, type):
        name, target = target.__name__, target.__call__
    else:
        name = _name(target)
    kept = [
        parameter
        for parameter in inspect.signature(target).parameters.values()
        if parameter.name not in bound and not (skip_context and parameter.name == "context")
    ]
    return f"{name}{inspect.Signature(kept)}"


def callable_doc(any_callable: Any) -> str | None:
    """The docstring of a callable, of a partial that of its function."""
    target = any_callable.func if isinstance(any_callable, functools.partial) else any_callable
    doc = getattr(target, "__doc__", None)
    return doc if isinstance(doc, str) else None


def _name(target: Any) -> str:
    name = getattr(target, "__name__", None)
    return name.strip("<>") if isinstance(name, str) else type(target).__name__
