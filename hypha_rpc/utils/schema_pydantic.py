"""Schemas made by pydantic (python-client §17.2); it is imported inside the functions."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final, Union, get_args, get_origin

from hypha_rpc.utils.schema_calls import REQUIRED, default_of, describable, description_of, is_field, name_of

__all__ = [
    "dict_to_pydantic_model",
    "extract_annotations",
    "extract_pydantic_schema",
    "models_in",
    "pydantic_parameters",
]

_MISSING: Final = "schema_type='pydantic' needs the package pydantic: install hypha-rpc[full]"


def pydantic_parameters(
    signature: inspect.Signature, name: str, *, strict: bool, arbitrary_types_allowed: bool
) -> dict[str, Any]:
    """The schema of the parameters in *signature*, without titles.

    Args:
        signature: the parameters.
        name: name of the function, for messages.
        strict: refuse what is not annotated or described.
        arbitrary_types_allowed: accept types that have no schema.

    Raises:
        AssertionError, ValueError: what *strict* requires is missing.
        pydantic.errors.PydanticUserError: a type has no schema.
    """
    if strict:
        _require_descriptions(signature, name)
    model = _model_of(signature, name, arbitrary_types_allowed)
    generator = _generator(lenient=arbitrary_types_allowed)
    with warnings.catch_warnings():
        # Defaults that JSON cannot say are left out; the function has them.
        warnings.simplefilter("ignore", UserWarning)
        schema = _without_titles(model.model_json_schema(schema_generator=generator))
    schema.pop("description", None)
    schema.setdefault("properties", {})
    result: dict[str, Any] = schema
    return result


def _require_descriptions(signature: inspect.Signature, name: str) -> None:
    for parameter in signature.parameters.values():
        argument = f"Argument `{parameter.name}` for `{name}`"
        if parameter.annotation is parameter.empty:
            raise ValueError(f"{argument} must have type annotation")
        if parameter.default is parameter.empty:
            continue
        if not is_field(parameter.default):
            raise ValueError(f"{argument} must be a Pydantic FieldInfo object with description")
        if description_of(parameter.default) is None:
            raise AssertionError(f"{argument} must have a description")


def _model_of(signature: inspect.Signature, name: str, arbitrary_types_allowed: bool) -> Any:
    """A model with the parameters as its fields."""
    pydantic = _pydantic()
    fields: dict[str, Any] = {}
    for parameter in signature.parameters.values():
        annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
        field = _field(parameter, pydantic)
        # Fields do not begin with an underscore.
        key = parameter.name
        if key.startswith("_"):
            key = f"p{key}"
            names = dict.fromkeys(("alias", "validation_alias", "serialization_alias"), parameter.name)
            field = _field_info().merge_field_infos(field, **names)
        fields[key] = (annotation, field)
    config = pydantic.ConfigDict(arbitrary_types_allowed=arbitrary_types_allowed, protected_namespaces=())
    with warnings.catch_warnings():
        # A parameter may be called like a method of pydantic's models.
        warnings.simplefilter("ignore", UserWarning)
        return pydantic.create_model(name, __config__=config, **fields)


def _field(parameter: inspect.Parameter, pydantic: Any) -> Any:
    default, description = default_of(parameter.default), description_of(parameter.default)
    required = default is REQUIRED
    if required and description is None:
        description = parameter.name
    if isinstance(parameter.default, _field_info()):
        if parameter.default.description == description:
            return copy.copy(parameter.default)
        return _field_info().merge_field_infos(parameter.default, description=description)
    return pydantic.Field(... if required else default, description=description)


def _generator(*, lenient: bool) -> Any:
    """The class that writes schemas; a *lenient* one calls what has no schema an object."""
    from pydantic.json_schema import GenerateJsonSchema

    if not lenient:
        return GenerateJsonSchema
    return type("LenientJsonSchema", (GenerateJsonSchema,), {"handle_invalid_for_json_schema": _an_object})


def _an_object(generator: Any, schema: Any, error_info: str) -> dict[str, Any]:
    return {"type": "object"}


def _without_titles(node: Any, *, names: bool = False) -> Any:
    """*node* without the keyword ``title``; where keys are *names* of fields one may be called so."""
    if isinstance(node, list):
        return [_without_titles(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: value
        if key in ("default", "const", "enum", "examples") and not names
        else _without_titles(value, names=key in ("properties", "$defs") and not names)
        for key, value in node.items()
        if names or key != "title" or not isinstance(value, str)
    }


def models_in(signature: inspect.Signature) -> Mapping[str, tuple[type[Any], ...]]:
    """The model classes that each parameter may be, of those that may be one."""
    base = _pydantic().BaseModel
    found: dict[str, tuple[type[Any], ...]] = {}
    for parameter in signature.parameters.values():
        kinds = extract_annotations(parameter.annotation)
        models = tuple(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, base))
        if models:
            found[parameter.name] = models
    return found


def extract_annotations(annotation: Any) -> list[Any]:
    """The alternatives of a union; any other annotation by itself."""
    if get_origin(annotation) is Union or type(annotation).__name__ == "UnionType":
        return list(get_args(annotation))
    return [annotation]


def extract_pydantic_schema(
    func: Callable[..., Any],
    func_name: str | None = None,
    mode: str = "strict",
    *,
    skip_self: bool = False,
    skip_args: list[str] | None = None,
    arbitrary_types_allowed: bool = False,
) -> tuple[Any, Any]:
    """A model with the parameters of *func* as its fields, and its return annotation."""
    name = func_name or name_of(func)
    signature = describable(func, skip_self=skip_self)
    if mode == "strict":
        _require_descriptions(signature, name)
    kept = [part for part in signature.parameters.values() if part.name not in (skip_args or ())]
    chosen = inspect.Signature(kept, __validate_parameters__=False)
    return _model_of(chosen, name, arbitrary_types_allowed), inspect.signature(func).return_annotation


def dict_to_pydantic_model(
    name: str, dict_def: dict[str, Any], doc: str | None = None, arbitrary_types_allowed: bool = False
) -> Any:
    """A model with the fields of *dict_def*: a type, or a type and its default."""
    pydantic = _pydantic()
    fields = {key: part if isinstance(part, tuple) else (part, ...) for key, part in dict_def.items()}
    config = pydantic.ConfigDict(arbitrary_types_allowed=arbitrary_types_allowed, protected_namespaces=())
    return pydantic.create_model(name, __config__=config, __doc__=doc, **fields)


def _pydantic() -> Any:
    try:
        import pydantic
    except ImportError as error:
        raise ImportError(_MISSING) from error
    return pydantic


def _field_info() -> Any:
    from pydantic.fields import FieldInfo

    return FieldInfo
