"""Describing functions: JSON schemas from signatures and docstrings (python-client §5.2)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from hypha_rpc.endpoint.exports import exported_members

__all__ = ["argument_texts", "function_schema", "parse_docstring", "service_schema"]

_TYPES: Final[dict[Any, str]] = {
    int: "integer",
    float: "number",
    bool: "boolean",
    str: "string",
    list: "array",
    dict: "object",
}
_NAMED: Final = {kind.__name__: name for kind, name in _TYPES.items()}
_SECTION: Final = re.compile(r"^\s*(Args|Arguments|Parameters)\s*:\s*$")
_OTHER_SECTION: Final = re.compile(r"^\s*(Returns?|Raises|Yields?|Examples?|Notes?)\s*:\s*$")
_ENTRY: Final = re.compile(r"^\s*\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)$")


def parse_docstring(doc: str | None) -> tuple[str, dict[str, str]]:
    """Split a docstring into its description and the texts of its arguments.

    Args:
        doc: a docstring with a section ``Args:``, ``Arguments:`` or ``Parameters:``, or None.

    Returns:
        The text outside the argument section, and the descriptions by name.
    """
    if not doc:
        return "", {}
    description: list[str] = []
    arguments: dict[str, str] = {}
    inside, current = False, None
    for line in inspect.cleandoc(doc).splitlines():
        if _SECTION.match(line):
            inside, current = True, None
        elif inside and (_OTHER_SECTION.match(line) or (line and not line[0].isspace() and not _ENTRY.match(line))):
            inside = False
            description.append(line)
        elif not inside:
            description.append(line)
        elif match := _ENTRY.match(line):
            current = match[1]
            arguments[current] = match[2].strip()
        elif line.strip() and current is not None:
            arguments[current] = f"{arguments[current]} {line.strip()}".strip()
    return "\n".join(description).strip(), arguments


def argument_texts(doc: str | None) -> dict[str, str]:
    """The descriptions of arguments in a docstring, by name."""
    return parse_docstring(doc)[1]


def function_schema(function: Callable[..., Any], name: str | None = None) -> dict[str, Any]:
    """The schema of *function*: its own ``__schema__``, else one derived from signature and docstring.

    Args:
        function: any callable.
        name: the key it has in its service; becomes the schema's name. Its own if not given.

    Returns:
        ``{"name", "description", "parameters"}``; the parameter ``context`` is left out.
    """
    given = getattr(function, "__schema__", None)
    if isinstance(given, dict):
        return {**given, "name": name or given.get("name")}
    if name is None:
        own = getattr(function, "__name__", None)
        name = own if isinstance(own, str) else type(function).__name__
    description, texts = parse_docstring(getattr(function, "__doc__", None))
    properties: dict[str, Any] = {}
    required: list[str] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in ("self", "context") or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        properties[parameter.name] = {
            "type": _json_type(parameter.annotation),
            "description": texts.get(parameter.name, ""),
        }
        if parameter.default is parameter.empty:
            required.append(parameter.name)
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"name": name, "description": description, "parameters": parameters}


def _json_type(annotation: Any) -> str:
    if isinstance(annotation, str):
        return _NAMED.get(annotation, "string")
    return _TYPES.get(annotation, _TYPES.get(getattr(annotation, "__origin__", None), "string"))


def _without_context(schema: dict[str, Any]) -> dict[str, Any]:
    """A copy of *schema* without the parameter ``context`` (the caller does not give it)."""
    parameters = schema.get("parameters")
    if not isinstance(parameters, dict):
        return schema
    properties = {key: value for key, value in (parameters.get("properties") or {}).items() if key != "context"}
    trimmed = {**parameters, "properties": properties}
    if isinstance(parameters.get("required"), list):
        trimmed["required"] = [key for key in parameters["required"] if key != "context"]
    return {**schema, "parameters": trimmed}


def service_schema(node: Any, name: str | None = None, skip_context: bool = False) -> Any:
    """Mirror a service: functions as schemas, values as their types, maps and lists recurse.

    Args:
        node: a service, or a member of one.
        name: key of *node*; of a function its own name if not given.
        skip_context: the service requires the context: leave that parameter out of given schemas, too.
    """
    if isinstance(node, Mapping):
        return {
            key: service_schema(value, key, skip_context=skip_context) for key, value in exported_members(dict(node))
        }
    if isinstance(node, (list, tuple)):
        return [service_schema(value, skip_context=skip_context) for value in node]
    if callable(node):
        return _function_entry(node, name, skip_context)
    if isinstance(node, bool):
        return {"type": "boolean"}
    if isinstance(node, (int, float)):
        return {"type": "number"}
    if isinstance(node, str):
        return {"type": "string"}
    return {"type": "null"} if node is None else {}


def _function_entry(function: Callable[..., Any], name: str | None, skip_context: bool) -> dict[str, Any]:
    try:
        schema = function_schema(function, name)
    except (TypeError, ValueError):
        # Builtins without a signature are still callable.
        return {"type": "function"}
    return {"type": "function", "function": _without_context(schema) if skip_context else schema}
