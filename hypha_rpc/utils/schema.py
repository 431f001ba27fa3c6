"""Schemas for functions: `schema_function` and its kin (python-client §17.2).

A decorated function has ``__schema__``, a JSON schema of its parameters, takes
plain dictionaries where it wants pydantic models, and has its ``Field`` defaults
resolved. How the schema is made is known in `schema_pydantic` and `schema_native`;
pydantic is imported when the first function is described with it.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, overload

from hypha_rpc.utils.schema_calls import Field, describable, doc_of, fill_missing_args_and_kwargs, name_of, wrap
from hypha_rpc.utils.schema_native import get_type_name, native_parameters
from hypha_rpc.utils.schema_pydantic import (
    dict_to_pydantic_model,
    extract_annotations,
    extract_pydantic_schema,
    models_in,
    pydantic_parameters,
)

__all__ = [
    "Field",
    "dict_to_pydantic_model",
    "extract_annotations",
    "extract_pydantic_schema",
    "fill_missing_args_and_kwargs",
    "get_type_name",
    "parse_schema_function",
    "schema_function",
    "schema_function_native",
    "schema_function_pydantic",
    "schema_method",
    "schema_service",
]

F = TypeVar("F", bound=Callable[..., Any])

_INFO: Final = frozenset({"id", "name", "type", "description", "docs", "config", "app_id", "service_schema"})


@overload
def schema_function(
    func: F,
    schema_type: str = ...,
    skip_self: bool = ...,
    arbitrary_types_allowed: bool = ...,
    name: str | None = ...,
    description: str | None = ...,
    parameters: dict[str, Any] | None = ...,
) -> F: ...
@overload
def schema_function(
    func: None = None,
    schema_type: str = ...,
    skip_self: bool = ...,
    arbitrary_types_allowed: bool = ...,
    name: str | None = ...,
    description: str | None = ...,
    parameters: dict[str, Any] | None = ...,
) -> Callable[[F], F]: ...
def schema_function(  # noqa: PLR0917 - the signature that existing programs call
    func: Any = None,
    schema_type: str = "auto",
    skip_self: bool = False,
    arbitrary_types_allowed: bool = False,
    name: str | None = None,
    description: str | None = None,
    parameters: dict[str, Any] | None = None,
) -> Any:
    """Describe the parameters of a function; a decorator, with and without parentheses.

    ::

        @schema_function
        def add(a: int = Field(..., description="one number"), b: int = 1) -> int:
            \"\"\"Add two numbers.\"\"\"
            return a + b

    Args:
        func: the function, plain or async; a partial or a callable object will do.
        schema_type: ``"pydantic"``, ``"native"`` or ``"auto"`` (pydantic if it is installed); ``":strict"`` behind
            it refuses what is not described.
        skip_self: leave out the first parameter (methods).
        arbitrary_types_allowed: accept types that have no schema.
        name: name in the schema; the function's own by default.
        description: description in the schema; the docstring by default.
        parameters: the schema of the parameters; then nothing is looked at.

    Returns:
        A wrapper with ``__schema__`` (and, with pydantic, ``__original__``). With *parameters* the function itself;
        one that has a ``__schema__`` already is returned unchanged.

    Raises:
        AssertionError: an unknown *schema_type*, or what a strict one requires is missing.
        ValueError: a type that has no schema.
        ImportError: pydantic is asked for and not installed.
    """
    if func is None:
        return functools.partial(
            schema_function,
            schema_type=schema_type,
            skip_self=skip_self,
            arbitrary_types_allowed=arbitrary_types_allowed,
            name=name,
            description=description,
            parameters=parameters,
        )
    if isinstance(getattr(func, "__schema__", None), dict):
        return func
    if parameters is not None:
        return _with_schema(
            func,
            {
                "name": name or name_of(func),
                "description": description if description is not None else doc_of(func),
                "parameters": parameters,
            },
        )
    kind, strict = _kind(schema_type)
    describe = schema_function_pydantic if kind == "pydantic" else schema_function_native
    wrapper = describe(
        func,
        name=name,
        mode="strict" if strict else "auto",
        skip_self=skip_self,
        arbitrary_types_allowed=arbitrary_types_allowed,
    )
    if description is not None:
        wrapper.__schema__["description"] = description
    return wrapper


@overload
def schema_method(func: F, schema_type: str = ..., **options: Any) -> F: ...
@overload
def schema_method(func: None = None, schema_type: str = ..., **options: Any) -> Callable[[F], F]: ...
def schema_method(func: Any = None, schema_type: str = "auto", **options: Any) -> Any:
    """`schema_function` for methods: ``self`` is no parameter."""
    options.setdefault("skip_self", True)
    return schema_function(func, schema_type, **options)


def schema_function_native(
    original_func: Callable[..., Any],
    name: str | None = None,
    mode: str = "strict",
    skip_self: bool = False,
    *,
    arbitrary_types_allowed: bool = False,
) -> Any:
    """Describe a function by the names of Python's own types."""
    if mode == "strict" and name_of(original_func) == "<lambda>":
        raise AssertionError("Lambda functions are not supported")
    signature = describable(original_func, skip_self=skip_self)
    wrapper = wrap(original_func, {})
    wrapper.__schema__ = {
        "name": name or name_of(original_func),
        "description": doc_of(original_func, clean=False),
        "parameters": native_parameters(signature, arbitrary_types_allowed=arbitrary_types_allowed),
    }
    return wrapper


def schema_function_pydantic(
    original_func: Callable[..., Any],
    name: str | None = None,
    mode: str = "strict",
    skip_self: bool = False,
    *,
    arbitrary_types_allowed: bool = False,
) -> Any:
    """Describe a function by pydantic; dictionaries become the models that it wants."""
    strict = mode == "strict"
    if strict and name_of(original_func) == "<lambda>":
        raise AssertionError("Lambda functions are not supported")
    own_name = name or name_of(original_func)
    description = doc_of(original_func)
    if strict and not description:
        raise AssertionError(f"Function `{own_name}` must have a docstring")
    signature = describable(original_func, skip_self=skip_self)
    wrapper = wrap(original_func, models_in(signature))
    parameters = pydantic_parameters(
        signature, own_name, strict=strict, arbitrary_types_allowed=arbitrary_types_allowed
    )
    partial = "(partial)" if isinstance(original_func, functools.partial) and name is None else ""
    wrapper.__schema__ = {"name": own_name + partial, "description": description, "parameters": parameters}
    wrapper.__original__ = original_func
    return wrapper


def schema_service(schema_type: str = "auto", **definition: Any) -> dict[str, Any]:
    """Describe every function of a service definition, nested ones too.

    ::

        await server.register_service(schema_service(id="calculator", add=add))

    Args:
        schema_type: as for `schema_function`.
        **definition: what ``register_service`` takes.

    Returns:
        The definition with its functions described.
    """
    return {
        key: value if key in _INFO else parse_schema_function(value, key, schema_type)
        for key, value in definition.items()
    }


def parse_schema_function(obj: Any, name: str | None = None, schema_type: str = "native") -> Any:
    """Describe *obj* if it is a function, and every function in it if it is a dictionary or list.

    Args:
        obj: anything; what is neither is returned as it is.
        name: name of the function.
        schema_type: as for `schema_function`.
    """
    if isinstance(obj, Mapping):
        return {key: parse_schema_function(value, str(key), schema_type) for key, value in dict.items(dict(obj))}
    if type(obj) in (list, tuple):
        return type(obj)(parse_schema_function(value, None, schema_type) for value in obj)
    if not callable(obj):
        return obj
    return schema_function(obj, schema_type, name=name)


def _kind(schema_type: str) -> tuple[str, bool]:
    kind, _, mode = schema_type.partition(":")
    if kind == "auto":
        kind = "pydantic" if importlib.util.find_spec("pydantic") is not None else "native"
    if kind not in ("pydantic", "native") or mode not in ("", "strict", "auto"):
        raise AssertionError("Schema type must be 'pydantic' or 'native'")
    return kind, mode == "strict"


def _with_schema(function: Any, schema: dict[str, Any]) -> Any:
    try:
        function.__schema__ = schema
    except AttributeError:
        # Builtins and bound methods take no attributes.
        function = wrap(function, {})
        function.__schema__ = schema
    return function
