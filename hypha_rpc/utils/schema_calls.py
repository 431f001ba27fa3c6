"""Calling a described function: ``Field`` defaults resolved, dictionaries turned into models.

Knows nothing of schemas.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

__all__ = [
    "REQUIRED",
    "Field",
    "default_of",
    "describable",
    "description_of",
    "doc_of",
    "fill_missing_args_and_kwargs",
    "is_field",
    "name_of",
    "wrap",
]

REQUIRED: Final = inspect.Parameter.empty
"""Stands for the default that a parameter has not."""

_VARIADIC: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class _Field:
    """The default and the description of a parameter.

    Args:
        default: the default value; ``...`` for a parameter that must be given.
        description: what it is for.
    """

    def __init__(self, default: Any = ..., description: str | None = None) -> None:
        self.default = default
        self.description = description

    def __repr__(self) -> str:
        return f"Field({self.default!r}, description={self.description!r})"


# Of any type for checkers: a parameter has the type of its value, not that of its description.
Field: Any = _Field


def is_field(default: Any) -> bool:
    """Whether *default* is a ``Field``, ours or pydantic's (which is known by its class, not imported)."""
    kind = type(default)
    return kind is _Field or (kind.__name__ == "FieldInfo" and kind.__module__.startswith("pydantic."))


def default_of(default: Any) -> Any:
    """The value behind the default of a parameter; `REQUIRED` if it must be given."""
    if not is_field(default):
        return default
    factory = getattr(default, "default_factory", None)
    if factory is not None:
        return factory()
    value = default.default
    return REQUIRED if value is ... or type(value).__name__ == "PydanticUndefinedType" else value


def description_of(default: Any) -> str | None:
    """The description in the default of a parameter."""
    description = default.description if is_field(default) else None
    return description if isinstance(description, str) else None


def name_of(function: Any) -> str:
    """The name of a function; of a partial that of its function, of an object that of its class."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) else type(function).__name__


def doc_of(function: Any, *, clean: bool = True) -> str | None:
    """The docstring of *function*, of a partial that of its function; indented as in the source unless *clean*."""
    while isinstance(function, functools.partial):
        function = function.func
    doc = getattr(function, "__doc__", None)
    if not isinstance(doc, str):
        return None
    return inspect.cleandoc(doc) if clean else doc


def describable(function: Callable[..., Any], *, skip_self: bool) -> inspect.Signature:
    """The parameters of *function* that its callers give: without self, context, ``*args`` and ``**kwargs``.

    Raises:
        ValueError, TypeError: it has no signature.
    """
    parameters = list(_signature(function).parameters.values())
    bound = _bound_by(function)
    kept = [
        parameter
        for parameter in parameters[1 if skip_self else 0 :]
        if parameter.name != "context" and parameter.kind not in _VARIADIC and parameter.name not in bound
    ]
    return inspect.Signature(kept, __validate_parameters__=False)


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """With annotations that are written as texts as they are meant; one whose names are not to be found is Any."""
    try:
        return inspect.signature(function, eval_str=True)
    except (NameError, SyntaxError, AttributeError, TypeError):
        signature = inspect.signature(function)
    known = _names_around(function)
    parameters = [
        parameter.replace(annotation=_meant(parameter.annotation, known)) for parameter in signature.parameters.values()
    ]
    return signature.replace(parameters=parameters)


def _names_around(function: Any) -> dict[str, Any]:
    """What names mean where *function* is being defined: in its module, and in the functions it is defined in."""
    while isinstance(function, functools.partial):
        function = function.func
    found: dict[str, Any] = getattr(inspect.unwrap(function), "__globals__", {})
    known: dict[str, Any] = {}
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals is found:
            known = {**frame.f_locals, **known}
        frame = frame.f_back
    return {**found, **known}


def _meant(annotation: Any, known: dict[str, Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        # The text is source code of the program itself, never a peer's.
        return eval(annotation, known)
    except (NameError, SyntaxError, AttributeError, TypeError):
        return Any


def _bound_by(function: Any) -> frozenset[str]:
    return frozenset(function.keywords) if isinstance(function, functools.partial) else frozenset()


class _Plan:
    """What happens to the arguments of one function before it is called."""

    def __init__(self, signature: inspect.Signature, models: Mapping[str, tuple[type[Any], ...]]) -> None:
        self._signature = signature
        self._models = models
        self._fields = {
            parameter.name: parameter.default
            for parameter in signature.parameters.values()
            if is_field(parameter.default)
        }
        self._required = [
            parameter.name
            for parameter in signature.parameters.values()
            if default_of(parameter.default) is REQUIRED and parameter.kind not in _VARIADIC
        ]
        self.trivial = not self._models and not self._fields

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> inspect.BoundArguments:
        """The arguments to call the function with.

        Raises:
            TypeError: one is missing, or there are too many.
        """
        bound = self._signature.bind_partial(*args, **kwargs)
        given = bound.arguments
        for name in self._required:
            if name not in given:
                raise TypeError(f"Missing required argument: '{name}'")
        for name, field in self._fields.items():
            if name not in given:
                given[name] = default_of(field)
        for name, models in self._models.items():
            if isinstance(given.get(name), dict):
                given[name] = _as_model(given[name], models)
        # In the order of the signature: what is passed by position depends on it.
        bound.arguments = {name: given[name] for name in self._signature.parameters if name in given}
        return bound


def _as_model(value: dict[str, Any], models: tuple[type[Any], ...]) -> Any:
    """*value* as the first of *models* that takes it and leaves nothing unused, else the first that takes it.

    What none takes is passed on as it is: what it means is the function's business.
    """
    plain = dict(dict.items(value))
    fallback: Any = None
    for model in models:
        try:
            made = model.model_validate(plain)
        except ValueError:
            continue
        if plain.keys() <= _accepted(model):
            return made
        fallback = made if fallback is None else fallback
    return value if fallback is None else fallback


def _accepted(model: Any) -> set[str]:
    names: set[str] = set(model.model_fields)
    names.update(field.alias for field in model.model_fields.values() if field.alias)
    return names


def _sync_wrapper(function: Callable[..., Any], plan: _Plan) -> Callable[..., Any]:
    def called(*args: Any, **kwargs: Any) -> Any:
        bound = plan.arguments(args, kwargs)
        return function(*bound.args, **bound.kwargs)

    return called


def _async_wrapper(function: Callable[..., Any], plan: _Plan) -> Callable[..., Any]:
    async def called(*args: Any, **kwargs: Any) -> Any:
        bound = plan.arguments(args, kwargs)
        return await function(*bound.args, **bound.kwargs)

    return called


def _sync_alias(function: Callable[..., Any]) -> Callable[..., Any]:
    def called(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return called


def _async_alias(function: Callable[..., Any]) -> Callable[..., Any]:
    async def called(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return called


def wrap(function: Callable[..., Any], models: Mapping[str, tuple[type[Any], ...]]) -> Any:
    """A function that takes attributes and calls *function*.

    Args:
        function: plain or async; async stays async.
        models: by parameter the model classes that dictionaries are turned into.
    """
    signature = _signature(function)
    plan = _Plan(signature, models)
    asynchronous = _is_async(function)
    if plan.trivial:
        wrapper = _async_alias(function) if asynchronous else _sync_alias(function)
    else:
        wrapper = _async_wrapper(function, plan) if asynchronous else _sync_wrapper(function, plan)
    functools.update_wrapper(wrapper, function)
    wrapper.__name__ = wrapper.__qualname__ = name_of(function)
    wrapper.__doc__ = doc_of(function)
    wrapper.__signature__ = _resolved(signature)  # type: ignore[attr-defined]
    return wrapper


def _is_async(function: Any) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    call = vars(type(function)).get("__call__")
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _resolved(signature: inspect.Signature) -> inspect.Signature:
    """*signature* with the values behind ``Field`` defaults, for ``help``."""
    parameters = [
        parameter.replace(default=default_of(parameter.default)) for parameter in signature.parameters.values()
    ]
    return inspect.Signature(
        parameters,
        return_annotation=signature.return_annotation,
        __validate_parameters__=False,
    )


def fill_missing_args_and_kwargs(
    original_func_sig: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments with the defaults behind ``Field`` filled in.

    Raises:
        TypeError: a required one is missing.
    """
    bound = _Plan(original_func_sig, {}).arguments(args, kwargs)
    return list(bound.args), dict(bound.kwargs)
