"""Schemas with the names of Python's own types; needs nothing but Python (python-client §17.2)."""

from __future__ import annotations

import inspect
from typing import Any, Final, Union, get_args, get_origin

from hypha_rpc.utils.schema_calls import REQUIRED, default_of, description_of

__all__ = ["get_type_name", "native_parameters"]

_PRIMITIVE: Final = (int, float, bool, str, list, dict)


def get_type_name(tp: Any, arbitrary_types_allowed: bool = False) -> Any:
    """The name of a primitive type; ``Optional[T]`` is called as T.

    Raises:
        ValueError: it is not primitive; with *arbitrary_types_allowed* the answer is ``{}`` instead.
    """
    if tp is type(None):
        return "null"
    if tp in _PRIMITIVE:
        return tp.__name__
    others = [part for part in get_args(tp) if part is not type(None)] if _is_union(tp) else []
    if len(others) == 1:
        return get_type_name(others[0], arbitrary_types_allowed)
    if arbitrary_types_allowed:
        return {}
    raise ValueError(f"Type {tp} is not supported, please use only primitive types or set arbitrary_types_allowed=True")


def _is_union(tp: Any) -> bool:
    return get_origin(tp) is Union or type(tp).__name__ == "UnionType"


def native_parameters(signature: inspect.Signature, *, arbitrary_types_allowed: bool) -> dict[str, Any]:
    """The schema of the parameters in *signature*.

    Raises:
        ValueError: a type is not primitive.
    """
    properties: dict[str, Any] = {}
    required: list[str] = []
    for parameter in signature.parameters.values():
        entry: dict[str, Any] = {}
        if parameter.annotation is not parameter.empty:
            kind = get_type_name(parameter.annotation, arbitrary_types_allowed)
            if isinstance(kind, str):
                entry["type"] = kind
        description = description_of(parameter.default)
        if description is not None:
            entry["description"] = description
        default = default_of(parameter.default)
        if default is REQUIRED:
            required.append(parameter.name)
        else:
            entry["default"] = default
        properties[parameter.name] = entry
    return {"type": "object", "properties": properties, "required": required}
