"""A manager method as clients see it: name, text and JSON schema (server §3).

Every function of the manager carries a schema made of its signature and its
docstring. It knows nothing of what the methods do.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from hypha_rpc.schemas import parse_docstring

__all__ = ["Method", "method_schema"]

_SIMPLE: Final[Mapping[Any, str]] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    list: "array",
    dict: "object",
    type(None): "null",
}


class Method:
    """A manager method with the schema that clients show.

    Args:
        function: takes the arguments of the caller, and ``context`` as a keyword.
        name: what it is called by.
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self._function = function
        self.__name__ = name
        self.__doc__ = function.__doc__
        self.__schema__ = method_schema(function, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function.

        Raises:
            TypeError: the arguments do not fit; the text names the method and not our code.
        """
        try:
            return self._function(*args, **kwargs)
        except TypeError as error:
            trace = error.__traceback__
            if trace is not None and trace.tb_next is None:
                # It was not entered: the arguments are wrong.
                raise TypeError(f"{self.__name__}() {str(error).partition('() ')[2]}") from None
            raise


def method_schema(function: Callable[..., Any], name: str) -> dict[str, Any]:
    """The schema of *function*: types from its annotations, texts from its docstring.

    Args:
        function: the method; its parameter ``context`` is the server's and left out.
        name: the name in the schema.

    Returns:
        ``{"name", "description", "parameters"}``.
    """
    description, texts = parse_docstring(function.__doc__)
    hints = get_type_hints(function)
    properties: dict[str, Any] = {}
    required: list[str] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "context":
            continue
        entry = _json_type(hints.get(parameter.name, Any))
        entry["description"] = texts.get(parameter.name, "")
        if parameter.default is parameter.empty:
            required.append(parameter.name)
        else:
            entry["default"] = parameter.default
        properties[parameter.name] = entry
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"name": name, "description": description, "parameters": parameters}


def _json_type(annotation: Any) -> dict[str, Any]:
    if annotation in _SIMPLE:
        return {"type": _SIMPLE[annotation]}
    origin = get_origin(annotation)
    if origin in {types.UnionType, Union}:
        return {"anyOf": [_json_type(part) for part in get_args(annotation)]}
    if origin is list:
        return {"type": "array", "items": _json_type(get_args(annotation)[0])}
    if origin is dict:
        return {"type": "object"}
    return {}
