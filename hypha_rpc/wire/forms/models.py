"""Pydantic models (protocol §3.3, security S45).

A model travels as its fields and its JSON schema; dates and the like in it as texts,
as its JSON has them. The receiver builds a class from the schema; what it cannot
express becomes ``Any``, and a schema that is too large or uses something that could
be abused makes it a plain map. Pydantic is imported only when a model is met.
"""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import MutableMapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from hypha_rpc.wire.values import ATOMS, DecodingError, default_forms

if TYPE_CHECKING:
    from hypha_rpc.wire.limits import WireLimits
    from hypha_rpc.wire.values import Decoder, Encoder, FormTable

__all__ = ["describe_model", "model_from_schema", "register"]

_MAX_TYPES: Final = 1024
_MAX_NESTED_TYPES: Final = 32
_SCHEMAS: Final[MutableMapping[type, dict[str, Any] | None]] = WeakKeyDictionary()
_SCALARS: Final[dict[str, Any]] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "null": type(None),
    "object": dict[str, Any],
}


def register(table: FormTable) -> None:
    """Register the forms of this module."""
    table.encode("pydantic.main.BaseModel", _encode_model)
    table.decode("pydantic_model", _decode_model)


def _encode_model(value: Any, encoder: Encoder) -> Any:
    described = describe_model(value, encoder.forms)
    if "_rtype" not in described:
        return encoder.encode(described)
    return {**described, "_rvalue": encoder.encode(described["_rvalue"])}


def describe_model(value: Any, forms: FormTable | None = None) -> dict[str, Any]:
    """The fields and the schema of a model, as values that can be sent.

    Args:
        value: a ``pydantic.BaseModel``.
        forms: the forms that its fields may have; the default ones if not given.

    Returns:
        A ``pydantic_model`` map; the fields alone when the class has no schema, for then nobody could rebuild it.
    """
    fields: dict[str, Any] = _sendable(value.model_dump(), forms or default_forms())
    schema = _schema_of(type(value))
    return fields if schema is None else {"_rtype": "pydantic_model", "_rvalue": fields, "_rschema": schema}


def _schema_of(kind: Any) -> dict[str, Any] | None:
    """The JSON schema of a class of models, made once; None when there is none (fields of arbitrary types)."""
    try:
        return _SCHEMAS[kind]
    except KeyError:
        try:
            with warnings.catch_warnings():
                # A default that JSON cannot say is left out; nobody here can do anything about it.
                warnings.simplefilter("ignore", UserWarning)
                made = _plain_schema(kind.model_json_schema())
        except _errors_of_schemas():
            made = None
        _SCHEMAS[kind] = made
        return made


def _plain_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """*schema* as JSON would have it: defaults may be anything."""
    plain: dict[str, Any] = importlib.import_module("pydantic_core").to_jsonable_python(schema, fallback=str)
    return plain


def _errors_of_schemas() -> tuple[type[Exception], ...]:
    pydantic_errors = importlib.import_module("pydantic.errors")
    return (pydantic_errors.PydanticInvalidForJsonSchema, pydantic_errors.PydanticUserError)


def _sendable(value: Any, forms: FormTable) -> Any:
    """A dumped model in which fields without a form of their own are as pydantic writes them in JSON.

    So dates, decimals, paths, ids and members of enums arrive as the schema says, as texts and numbers.
    """
    kind = type(value)
    if kind in ATOMS:
        return value
    if kind is dict:
        return {key if type(key) is str else _jsonable(key): _sendable(item, forms) for key, item in value.items()}
    if kind in (list, tuple):
        return [_sendable(item, forms) for item in value]
    return value if forms.find(value) is not None else _jsonable(value)


def _jsonable(value: Any) -> Any:
    core = importlib.import_module("pydantic_core")
    try:
        return core.to_jsonable_python(value)
    except core.PydanticSerializationError:
        # The encoder refuses it, with its path.
        return value


def _decode_model(value: dict[str, Any], decoder: Decoder) -> Any:
    fields, schema = value.get("_rvalue"), value.get("_rschema")
    if not isinstance(fields, dict):
        raise DecodingError("the value of a model must be a map")
    members = decoder.members(fields)
    if not isinstance(schema, dict) or not _acceptable(schema, decoder.limits):
        return decoder.mapping(members)
    try:
        text = json.dumps(schema, sort_keys=True)
    except (TypeError, ValueError):
        return decoder.mapping(members)
    if len(text) > decoder.limits.schema_bytes:
        return decoder.mapping(members)
    model = _cached_model(text)
    if model is None or not all(isinstance(name, str) and not name.startswith("_") for name in members):
        return decoder.mapping(members)
    try:
        return model.model_validate(members)
    except ValueError:
        # Validation is the callee's business; values it refuses still arrive.
        return model.model_construct(**members)


@lru_cache(maxsize=128)
def _cached_model(schema_text: str) -> Any:
    """The class for a schema; None when there can be none."""
    try:
        importlib.import_module("pydantic")
    except ImportError:
        return None
    try:
        with warnings.catch_warnings():
            # Fields named like old methods of pydantic (`json`, `copy`) are the sender's affair.
            warnings.simplefilter("ignore", UserWarning)
            return model_from_schema(json.loads(schema_text))
    except Exception:  # noqa: BLE001 - supervision boundary: pydantic refuses a peer's schema with errors of many classes
        return None


def _acceptable(schema: Any, limits: WireLimits) -> bool:
    """Whether *schema* is small, shallow, and free of foreign references and patterns."""
    pending: list[tuple[Any, int]] = [(schema, 1)]
    names = 0
    while pending:
        node, depth = pending.pop()
        if depth > limits.schema_depth:
            return False
        if isinstance(node, list):
            pending.extend((item, depth + 1) for item in node)
        elif isinstance(node, dict):
            properties = node.get("properties")
            if isinstance(properties, dict):
                names += len(properties)
                if any(not isinstance(name, str) or name.startswith("_") for name in properties):
                    return False
            reference = node.get("$ref")
            if reference is not None and not (isinstance(reference, str) and reference.startswith("#/$defs/")):
                return False
            pending.extend((item, depth + 1) for item in node.values())
    return names <= limits.schema_fields


def model_from_schema(schema: dict[str, Any]) -> Any:
    """Build a pydantic model class from a JSON *schema* of type object.

    Fields, defaults and optional values are rebuilt; enums, tuples and what has
    no counterpart are ``Any``. Patterns and other constraints are not taken over.

    Args:
        schema: as ``model_json_schema()`` gives it.

    Returns:
        A subclass of ``pydantic.BaseModel``.
    """
    builder = _Builder(schema)
    reference = schema.get("$ref")
    if isinstance(reference, str) and "properties" not in schema:
        # A class that contains itself is one of its own definitions.
        return builder.model(builder.definition(reference))
    return builder.model(schema)


class _Builder:
    """Builds the classes of one schema; recursion ends in Any.

    Definitions of models are built once. Others are built wherever they are used, as pydantic would unfold them, so
    that a short schema of definitions that double each other runs into the budget.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        self._budget = _MAX_TYPES
        self._depth = 0
        definitions = schema.get("$defs")
        self._definitions: dict[str, Any] = definitions if isinstance(definitions, dict) else {}
        self._built: dict[str, Any] = {}
        self._pydantic: Any = importlib.import_module("pydantic")

    def definition(self, reference: str) -> dict[str, Any]:
        """The schema that *reference* names; an empty one if there is none."""
        found = self._definitions.get(reference.rpartition("/")[2])
        return found if isinstance(found, dict) else {}

    def model(self, schema: dict[str, Any]) -> Any:
        """The class for *schema* of type object."""
        properties = schema.get("properties")
        required = schema.get("required")
        names = required if isinstance(required, list) else []
        fields: dict[str, Any] = {}
        for name, part in (properties if isinstance(properties, dict) else {}).items():
            if name.startswith("model_") and hasattr(self._pydantic.BaseModel, name):
                raise ValueError(f"a field must not replace {name}")
            fields[name] = self._field(part if isinstance(part, dict) else {}, name in names)
        title = schema.get("title")
        name = title if isinstance(title, str) and title.isidentifier() else "Model"
        config = self._pydantic.ConfigDict(protected_namespaces=(), arbitrary_types_allowed=True)
        return self._pydantic.create_model(name, __config__=config, **fields)

    def _field(self, part: dict[str, Any], required: bool) -> tuple[Any, Any]:
        description = part.get("description")
        details = {"description": description} if isinstance(description, str) else {}
        default = ... if required else part.get("default")
        return self._type(part), self._pydantic.Field(default, **details)

    def _type(self, part: dict[str, Any]) -> Any:
        self._budget -= 1
        self._depth += 1
        try:
            if self._budget < 0 or self._depth > _MAX_NESTED_TYPES:
                raise ValueError("the schema is too complex")
            return self._choose(part)
        finally:
            self._depth -= 1

    def _choose(self, part: dict[str, Any]) -> Any:
        reference = part.get("$ref")
        if isinstance(reference, str):
            return self._definition(reference.rpartition("/")[2])
        choices = part.get("anyOf")
        if isinstance(choices, list):
            return self._union([self._type(choice) for choice in choices if isinstance(choice, dict)])
        kind = part.get("type")
        if part.get("format") == "binary" or part.get("uniqueItems") is True:
            # Bytes and sets arrive as themselves, though JSON has texts and arrays in their place.
            return Any
        if kind == "array" and isinstance(part.get("items"), dict):
            return list[self._type(part["items"])]  # type: ignore[misc]
        if kind == "object" and "properties" in part:
            return self.model(part)
        return _SCALARS.get(kind, Any) if isinstance(kind, str) and "enum" not in part else Any

    def _union(self, types: list[Any]) -> Any:
        union: Any = types[0] if types else Any
        for kind in types[1:]:
            union = Any if Any in (union, kind) else union | kind
        return union

    def _definition(self, name: str) -> Any:
        if name not in self._built:
            self._built[name] = Any
            schema = self._definitions.get(name)
            built = self._type(schema) if isinstance(schema, dict) else Any
            if not (isinstance(built, type) and issubclass(built, self._pydantic.BaseModel)):  # pyright: ignore[reportArgumentType]
                del self._built[name]
                return built
            self._built[name] = built
        return self._built[name]
