"""camelCase and snake_case of service keys (python-client §6.4)."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["convert_case", "to_camel_case", "to_snake_case"]


def to_camel_case(text: str) -> str:
    """``a_b`` becomes ``aB``; without underscore only the first letter is lowered."""
    if "_" not in text:
        return text[:1].lower() + text[1:]
    head, *rest = text.split("_")
    return head + "".join(word.title() for word in rest)


def to_snake_case(text: str) -> str:
    """``aB`` becomes ``a_b``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", text).lower().lstrip("_")


def convert_case(value: Any, case_type: str | None) -> Any:
    """Rename every key of *value*, at every depth.

    Args:
        value: a service or anything else.
        case_type: ``"camel"``, ``"snake"``, ``"camel+snake"`` or ``"snake+camel"`` (both names side by side), or None.
    """
    if not case_type:
        return value
    if isinstance(value, dict):
        converted: dict[str, Any] = {}
        for key, item in dict.items(value):
            for name in _names(key, case_type):
                converted[name] = convert_case(item, case_type)
        return type(value)(converted)
    if isinstance(value, list):
        return [convert_case(item, case_type) for item in value]
    return value


def _names(key: str, case_type: str) -> tuple[str, ...]:
    if case_type == "camel":
        return (to_camel_case(key),)
    if case_type == "snake":
        return (to_snake_case(key),)
    if case_type in ("camel+snake", "snake+camel"):
        return (to_camel_case(key), to_snake_case(key))
    raise ValueError(f"Unsupported case type: {case_type}")
