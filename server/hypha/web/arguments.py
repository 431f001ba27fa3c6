"""Arguments of an HTTP call: query items and bodies as values (server §5.3, security S38, S41).

It knows nothing of services but the JSON schema of the function to be called.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgpack

from hypha.web.failures import HttpFailure

__all__ = ["Arguments", "body_arguments", "query_arguments"]

Arguments = tuple[list[Any], dict[str, Any]]

_DEPTH: Final = 128
_NESTED: Final = frozenset({dict, list})
_INTEGER: Final = re.compile(r"\d{1,18}")
_NUMBER: Final = re.compile(r"[+-]?\d(?:_?\d)*(?:\.\d*)?(?:[eE][+-]?\d+)?")
_WHOLE: Final = re.compile(r"[+-]?\d{1,18}")
_PATH_NAMES: Final = ("workspace", "service_id", "function_key")
_MSGPACK: Final = frozenset({"application/msgpack", "application/x-msgpack", "application/vnd.msgpack"})
_DATA_FORMS: Final = frozenset({"ndarray", "typedarray", "set", "orderedmap", "memoryview", "bytes", "pydantic_model"})
"""What a body may carry besides natives; functions, generators and codecs belong to conversations."""

_BINARY_FORMS: Final = frozenset({"ndarray", "typedarray", "memoryview", "bytes"})


def query_arguments(items: Iterable[tuple[str, str]], schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """Query items as keyword arguments; of a repeated one the last counts.

    Args:
        items: decoded names and texts.
        schema: ``parameters`` of the function, or None.

    Raises:
        HttpFailure: 400 for malformed JSON.
    """
    properties: Mapping[str, Any] = (schema or {}).get("properties") or {}
    found: dict[str, Any] = {}
    for name, text in items:
        if name == "_mode" or (name in _PATH_NAMES and name not in properties):
            continue
        try:
            found[name] = _coerced(text, properties.get(name))
        except (ValueError, RecursionError) as error:
            raise _invalid(error) from error
        _check_natives(found[name])
    return found


def body_arguments(body: bytes, content_type: str | None) -> Arguments:
    """A body as arguments: a map names them, a list gives them in order, anything else is the only one.

    Args:
        body: inflated.
        content_type: the header, or None.

    Raises:
        HttpFailure: 400 for a malformed body, 415 for one of another kind.
    """
    if not body:
        return [], {}
    value = _unpacked(body) if media_type(content_type) in _MSGPACK else _parsed(body, content_type)
    value = _checked(value)
    if isinstance(value, dict):
        return [], value
    return (value if isinstance(value, list) else [value]), {}


def media_type(header: str | None) -> str:
    """The media type in a ``Content-Type``, in lower case, without parameters."""
    return (header or "").partition(";")[0].strip().lower()


def wants_msgpack(content_type: str | None, accept: str | None) -> bool:
    """Whether the answer is to be msgpack: by ``Accept``, else by what was sent (server §5.4)."""
    if accept is not None:
        if any(kind in accept for kind in _MSGPACK):
            return True
        if "json" in accept or "text/" in accept:
            return False
    return media_type(content_type) in _MSGPACK


# ------------------------------------------------------------------------ query


def _coerced(text: str, schema: Any) -> Any:
    """One query value: to the type its schema declares, else as the ecosystem knows it."""
    declared = schema.get("type") if isinstance(schema, Mapping) else None
    if isinstance(declared, str) and declared in _BY_TYPE:
        return _BY_TYPE[declared](text)
    return _guessed(text)


def _guessed(text: str) -> Any:
    if _INTEGER.fullmatch(text):
        return int(text)
    if len(text) <= 64 and _NUMBER.fullmatch(text):
        number = float(text.replace("_", ""))
        return number if math.isfinite(number) else text
    if text[:1] == "{":
        return _json(text)
    if text[:1] == "[":
        try:
            return _json(text)
        except ValueError:
            return text
    return text


def _whole(text: str) -> Any:
    return int(text) if _WHOLE.fullmatch(text) else _guessed(text)


def _number(text: str) -> Any:
    whole = _whole(text)
    return whole if isinstance(whole, (int, float)) else _guessed(text)


def _truth(text: str) -> Any:
    return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)


def _structure(text: str) -> Any:
    return _json(text) if text[:1] in {"{", "["} else _guessed(text)


def _text(text: str) -> Any:
    """A parameter without an annotation is described as text, too, so what is a number in every respect stays one."""
    if text[:1] in {"{", "["}:
        return text
    found = _guessed(text)
    whole = int(found) if isinstance(found, float) and found.is_integer() else found
    return found if text in {str(found), str(whole)} else text


_BY_TYPE: Final[Mapping[str, Callable[[str], Any]]] = {
    "string": _text,
    "integer": _whole,
    "number": _number,
    "boolean": _truth,
    "object": _structure,
    "array": _structure,
}


# ------------------------------------------------------------------------- body


def _json(text: str | bytes) -> Any:
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _parsed(body: bytes, content_type: str | None) -> Any:
    try:
        return _json(body)
    except (ValueError, RecursionError) as error:
        kind = media_type(content_type)
        if not kind or kind == "application/json" or kind.endswith("+json"):
            raise _invalid(error) from error
        text = f"Unsupported content type {kind:.80}: send application/json or application/msgpack"
        raise HttpFailure(415, text) from error


def _unpacked(body: bytes) -> Any:
    try:
        return msgpack.unpackb(body, strict_map_key=False, timestamp=0)
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise _invalid(f"not msgpack: {type(error).__name__}") from error


def _checked(value: Any) -> Any:
    """*value*, if it consists of data only; binary forms may bring their bytes as base64."""
    _check_natives(value)
    return _data(value)


def _check_natives(value: Any) -> None:
    """Refuse what is nested too deep, and maps whose keys are no text."""
    level = [value]
    for _ in range(_DEPTH):
        below: list[Any] = []
        for item in level:
            if type(item) is dict:
                if not all(type(key) is str for key in item):
                    raise _invalid("the keys of a map must be text")
                below.extend(item.values())
            elif type(item) is list:
                below.extend(item)
        level = [item for item in below if type(item) in _NESTED]
        if not level:
            return
    raise _invalid(f"nested deeper than {_DEPTH} levels")


def _data(value: Any) -> Any:
    if isinstance(value, list):
        if not any(isinstance(item, (dict, list)) for item in value):
            return value
        return [_data(item) for item in value]
    if not isinstance(value, dict):
        return value
    form = value.get("_rtype")
    if isinstance(form, str):
        if form not in _DATA_FORMS:
            raise _invalid(f"values of the form {form!r:.60} cannot be sent by HTTP")
        if form in _BINARY_FORMS and isinstance(value.get("_rvalue"), str):
            value = {**value, "_rvalue": _from_base64(value["_rvalue"])}
        if form == "bytes":
            return value.get("_rvalue")
    return {key: _data(item) for key, item in value.items()}


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _invalid(f"not base64: {error}") from error


def _invalid(error: object) -> HttpFailure:
    return HttpFailure(400, f"Invalid request body: {error}")
