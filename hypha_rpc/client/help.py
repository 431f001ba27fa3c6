"""What ``help()``, ``inspect.signature`` and notebooks show of remote things, made of their schemas when asked for.

Until then nothing is computed: a proxy merely keeps the schema that came with it.
Knows schemas, not connections.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Final, Self

__all__ = [
    "LocalSignature",
    "RemoteDoc",
    "RemoteSignature",
    "Routine",
    "function_html",
    "members_text",
    "service_html",
    "service_summary",
    "service_text",
    "signature_of",
]

_TYPES: Final[dict[Any, Any]] = {
    "integer": int,
    "number": float,
    "string": str,
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": None,
    # The native flavour of schema_function has Python's names.
    **{kind.__name__: kind for kind in (int, float, str, bool, list, dict)},
}
_UNKNOWN: Final = inspect.Signature(
    [
        inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
        inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
    ]
)
_MAX_DEPTH: Final = 8
_MAX_TEXT: Final = 200
_MAX_NAMES: Final = 12
#: Notebooks align cells to the right and in the middle otherwise.
_CELL: Final = "text-align:left;vertical-align:top;padding:0.15em 1.5em 0.15em 0"


class _Word:
    """Something whose ``repr`` is a given text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


_SOME_DEFAULT: Final = _Word("...")


def signature_of(schema: Mapping[str, Any] | None) -> inspect.Signature:
    """The signature that *schema* describes; ``(*args, **kwargs)`` if there is none.

    A parameter that may be left out and whose default is not told has the default ``...``.
    """
    parameters = (schema or {}).get("parameters")
    properties = parameters.get("properties") if isinstance(parameters, dict) else None
    if not isinstance(parameters, dict) or not isinstance(properties, dict):
        return _UNKNOWN
    required = parameters.get("required")
    needed = frozenset(map(str, required)) if isinstance(required, (list, tuple)) else frozenset[str]()
    made: list[inspect.Parameter] = []
    kind: Any = inspect.Parameter.POSITIONAL_OR_KEYWORD
    for name, part in properties.items():
        if not isinstance(name, str) or not name.isidentifier():
            return _UNKNOWN
        described = part if isinstance(part, dict) else {}
        default = inspect.Parameter.empty if name in needed else described.get("default", _SOME_DEFAULT)
        if name in needed and made and made[-1].default is not inspect.Parameter.empty:
            kind = inspect.Parameter.KEYWORD_ONLY
        try:
            made.append(inspect.Parameter(name, kind, default=default, annotation=_annotation(described)))
        except ValueError:
            return _UNKNOWN  # a keyword of Python
    return inspect.Signature(made)


def _annotation(part: Mapping[str, Any], depth: int = 0) -> Any:
    """The type that *part* of a schema describes, as near as Python can say it."""
    reference = part.get("$ref")
    if isinstance(reference, str):
        return _Word(reference.rpartition("/")[2])
    choices = part.get("anyOf")
    if isinstance(choices, list) and choices and depth < _MAX_DEPTH:
        names = (_type_name(_annotation(choice if isinstance(choice, dict) else {}, depth + 1)) for choice in choices)
        return _Word(" | ".join(names))
    kind = part.get("type")
    items = part.get("items")
    if kind == "array" and isinstance(items, dict) and items and depth < _MAX_DEPTH:
        return _Word(f"list[{_type_name(_annotation(items, depth + 1))}]")
    return _TYPES.get(kind, inspect.Parameter.empty) if isinstance(kind, str) else inspect.Parameter.empty


def _type_name(kind: Any) -> str:
    if kind is inspect.Parameter.empty:
        return "Any"
    return kind.__name__ if isinstance(kind, type) else str(kind)


class RemoteSignature:
    """The attribute ``__signature__`` of remote functions: made of ``__schema__`` when it is looked at."""

    def __get__(self, function: Any, owner: type[Any] | None = None) -> inspect.Signature | None:
        # None is what `inspect` takes for "look elsewhere": the class itself has an ordinary signature.
        return None if function is None else signature_of(function.__schema__)


class LocalSignature:
    """The attribute ``__signature__`` of functions of the connection: that of the function behind, when looked at."""

    def __get__(self, function: Any, owner: type[Any] | None = None) -> inspect.Signature | None:
        if function is None:
            return None
        signature = inspect.signature(function.__wrapped__)
        # Annotations are texts here, and read better without their quotes.
        parameters = [
            parameter.replace(annotation=_unquoted(parameter.annotation)) for parameter in signature.parameters.values()
        ]
        return signature.replace(parameters=parameters, return_annotation=_unquoted(signature.return_annotation))


def _unquoted(annotation: Any) -> Any:
    return _Word(annotation) if isinstance(annotation, str) else annotation


class Routine:
    """A callable object that ``help()`` shows as the function it stands for."""

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Self:
        # What has this method is a routine to `inspect`; it binds to nothing.
        return self

    def _repr_html_(self) -> str:
        """How notebooks show it."""
        return function_html(self)


class RemoteDoc:
    """The attribute ``__doc__`` of services: for a service what it offers, for the class its docstring."""

    def __init__(self, text: str | None) -> None:
        self._text = text

    def __get__(self, service: Any, owner: type[Any] | None = None) -> str | None:
        return self._text if service is None else service_text(service)


def service_text(service: dict[str, Any]) -> str:
    """What ``help(service)`` says: its description, its functions with signatures, its values."""
    heading = _heading(service)
    lines = [heading]
    for field in ("description", "docs"):
        text = dict.get(service, field)
        if isinstance(text, str) and text.strip() and text != heading:
            lines += ["", text.strip()]
    functions = list(_functions(service))
    if functions:
        lines += ["", "Functions:"]
    for path, function in functions:
        lines.append(f"    {path}{_signature_text(function)}")
        lines.extend(f"        {line}".rstrip() for line in _doc(function).splitlines())
    values = [name for name, value in _members(service) if not callable(value) and not isinstance(value, dict)]
    if values:
        lines += ["", f"Values: {', '.join(values)}"]
    return "\n".join(lines)


def members_text(service: dict[str, Any]) -> str:
    """The names of the members, for an error message."""
    names = [name for name, _ in _members(service) if name != "service_schema" and not name.startswith("_")]
    return ", ".join(names[:_MAX_NAMES]) + (", ..." if len(names) > _MAX_NAMES else "") if names else "none"


def service_summary(service: dict[str, Any]) -> str:
    """How terminals of IPython show a service: a line for each function."""
    lines = [_heading(service)]
    for path, function in _functions(service):
        about = _first_line(function)
        lines.append(f"    {path}{_signature_text(function)}" + (f"  # {about}" if about else ""))
    return "\n".join(lines)


def service_html(service: dict[str, Any]) -> str:
    """How notebooks show a service."""
    description = dict.get(service, "description")
    rows = "".join(
        f"<tr><td style='{_CELL}'><code>{_escape(path + _signature_text(function))}</code></td>"
        f"<td style='{_CELL}'>{_escape(_first_line(function))}</td></tr>"
        for path, function in _functions(service)
    )
    values = "".join(
        f"<li><b>{_escape(name)}</b>: {_escape(repr(value)[:_MAX_TEXT])}</li>"
        for name, value in _members(service)
        if not callable(value) and not _holds_functions(value)
    )
    note = f"<p>{_escape(description)}</p>" if isinstance(description, str) and description else ""
    table = f"<table><tbody>{rows}</tbody></table>" if rows else ""
    more = f"<details><summary>values</summary><ul>{values}</ul></details>" if values else ""
    return f"<details open><summary><b>{_escape(_heading(service))}</b></summary>{note}{table}{more}</details>"


def function_html(function: Any) -> str:
    """How notebooks show a remote function."""
    name = _escape(f"{getattr(function, '__name__', 'function')}{_signature_text(function)}")
    return f"<div><code>{name}</code><pre>{_escape(_doc(function))}</pre></div>"


def _escape(text: str) -> str:
    import html  # its table of entities is large, and few programs show anything

    return html.escape(text)


def _heading(service: dict[str, Any]) -> str:
    name, service_id = dict.get(service, "name"), dict.get(service, "id")
    shown = [str(part) for part in (name, service_id) if isinstance(part, str) and part]
    return f"{shown[0]} ({shown[1]})" if len(shown) == 2 else shown[0] if shown else "service"


def _members(service: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in dict.items(service):
        if isinstance(name, str) and name not in ("id", "name", "type", "config", "description", "docs", "app_id"):
            yield name, value


def _functions(node: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """The functions in *node* with their paths."""
    pairs: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(node, dict):
        pairs = _members(node) if depth == 0 else iter(dict.items(node))
    elif isinstance(node, list):
        pairs = iter(enumerate(node))
    for name, value in pairs:
        inner = f"{path}[{name}]" if isinstance(node, list) else f"{path}.{name}" if path else str(name)
        if isinstance(value, (dict, list)) and depth < _MAX_DEPTH:
            yield from _functions(value, inner, depth + 1)
        elif callable(value):
            yield inner, value


def _holds_functions(value: Any) -> bool:
    return isinstance(value, (dict, list)) and next(_functions(value, depth=1), None) is not None


def _signature_text(function: Any) -> str:
    try:
        return str(inspect.signature(function))
    except (TypeError, ValueError):
        return "(...)"


def _doc(function: Any) -> str:
    doc = getattr(function, "__doc__", None)
    if not isinstance(doc, str) or not doc:
        schema = getattr(function, "__schema__", None)
        doc = schema.get("description") if isinstance(schema, dict) else None
    return inspect.cleandoc(doc) if isinstance(doc, str) else ""


def _first_line(function: Any) -> str:
    return _doc(function).partition("\n")[0]
