"""`schema_function` in detail: what is passed on, what is turned into models, what has no schema (X34)."""

from __future__ import annotations

import asyncio
import functools
import inspect
import subprocess
import sys
from typing import Any, Literal, Optional, Union

import pydantic
import pytest
from pydantic import BaseModel

from hypha_rpc.objects import ObjectProxy
from hypha_rpc.utils import callable_doc, callable_sig
from hypha_rpc.utils.pydantic import (
    create_model_from_schema,
    pydantic_decoder,
    pydantic_encoder,
    register_pydantic_codec,
)
from hypha_rpc.utils.schema import (
    Field,
    dict_to_pydantic_model,
    extract_annotations,
    extract_pydantic_schema,
    fill_missing_args_and_kwargs,
    get_type_name,
    schema_function,
)


class Small(BaseModel):
    name: str


class Large(BaseModel):
    name: str
    size: int = 1


@pytest.mark.parametrize("schema_type", ["native", "pydantic"])
def test_variadic_and_positional_parameters_pass_through(schema_type: str) -> None:
    @schema_function(schema_type=schema_type)
    def collect(a: int, /, b: int = Field(2, description="b"), *rest: int, c: int = 3, **more: int) -> list[Any]:
        """Collect."""
        return [a, b, rest, c, more]

    assert collect(1) == [1, 2, (), 3, {}]
    assert collect(1, 5, 6, 7, c=8, d=9) == [1, 5, (6, 7), 8, {"d": 9}]
    assert list(collect.__schema__["parameters"]["properties"]) == ["a", "b", "c"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("schema_type", ["native", "pydantic"])
def test_list_and_dict_defaults_are_allowed(schema_type: str) -> None:
    @schema_function(schema_type=schema_type)
    def take(a: list = [1], b: dict = {"x": 1}) -> list[Any]:  # type: ignore[type-arg]  # noqa: B006
        """Take."""
        return [a, b]

    assert take() == [[1], {"x": 1}]
    properties = take.__schema__["parameters"]["properties"]  # type: ignore[attr-defined]
    assert properties["a"]["default"] == [1] and properties["b"]["default"] == {"x": 1}


def test_a_default_that_json_cannot_say_is_left_out() -> None:
    @schema_function
    def take(a: Any = object()) -> None:  # noqa: B008
        """Take."""

    assert take.__schema__["parameters"]["properties"] == {"a": {}}  # type: ignore[attr-defined]


def test_a_model_that_may_be_left_out() -> None:
    @schema_function
    def take(*, model: Optional[Small] = None) -> Any:  # noqa: UP045
        """Take."""
        return model

    assert take() is None and take(model=None) is None
    assert take(model={"name": "x"}) == Small(name="x")
    assert take(model=ObjectProxy(name="x")) == Small(name="x")


def test_the_union_member_that_leaves_no_key_unused_is_preferred() -> None:
    @schema_function
    def take(model: Union[Small, Large]) -> Any:  # noqa: UP007
        """Take."""
        return model

    assert take({"name": "x"}) == Small(name="x")
    assert take({"name": "x", "size": 3}) == Large(name="x", size=3)
    assert type(take({"name": "x", "unknown": 3})) is Small


def test_what_no_model_takes_is_passed_on_as_it_is() -> None:
    @schema_function
    def take(model: Small | None) -> Any:
        """Take."""
        return model

    assert take({"wrong": 1}) == {"wrong": 1}
    assert take(5) == 5
    assert take(None) is None


def test_the_context_is_passed_and_never_described() -> None:
    @schema_function
    def who(a: int, context: Any = None) -> Any:
        """Who."""
        return [a, context]

    assert who(1, context={"ws": "w"}) == [1, {"ws": "w"}]
    assert "context" not in str(who.__schema__)  # type: ignore[attr-defined]


async def test_async_functions_stay_async() -> None:
    @schema_function
    async def later(a: int = Field(..., description="a")) -> int:
        """Later."""
        await asyncio.sleep(0)
        return a

    assert inspect.iscoroutinefunction(later)
    assert await later(3) == 3
    with pytest.raises(TypeError, match="Missing required argument: 'a'"):
        await later()


async def test_plain_wrappers_and_async_ones_pass_everything_on() -> None:
    async def later(a: int) -> int:
        """Later."""
        return a

    wrapped = schema_function(later)
    assert inspect.iscoroutinefunction(wrapped) and await wrapped(2) == 2
    assert wrapped.__original__ is later  # type: ignore[attr-defined]


def test_the_signature_shows_the_real_defaults() -> None:
    @schema_function
    def take(a: int = Field(..., description="a"), b: int = pydantic.Field(2, description="b")) -> None:
        """Take."""

    assert str(inspect.signature(take)) == "(a: int, b: int = 2) -> None"
    assert take.__name__ == "take" and take.__doc__ == "Take."


def test_a_default_factory_makes_a_fresh_value() -> None:
    @schema_function
    def take(a: list = pydantic.Field(default_factory=list, description="a")) -> Any:  # type: ignore[type-arg]  # noqa: B008
        """Take."""
        a.append(1)
        return a

    assert take() == [1] and take() == [1]


def test_titles_are_left_out_but_a_field_called_title_stays() -> None:
    class Book(BaseModel):
        title: str = pydantic.Field(..., title="The title", description="its title")

    @schema_function
    def take(book: Book, title: str = "x") -> None:
        """Take."""

    parameters = take.__schema__["parameters"]  # type: ignore[attr-defined]
    assert parameters["$defs"]["Book"]["properties"] == {"title": {"description": "its title", "type": "string"}}
    assert parameters["properties"]["title"] == {"default": "x", "type": "string"}
    assert "title" not in parameters


def test_parameters_called_like_methods_of_models_or_private_are_described() -> None:
    @schema_function
    def take(copy: int, schema: int, model_fields: int, _hidden: int) -> list[int]:
        """Take."""
        return [copy, schema, model_fields, _hidden]

    names = ["copy", "schema", "model_fields", "_hidden"]
    assert list(take.__schema__["parameters"]["properties"]) == names  # type: ignore[attr-defined]
    assert take(1, 2, 3, 4) == [1, 2, 3, 4]


def test_constraints_of_fields_are_shown() -> None:
    @schema_function
    def take(a: int = pydantic.Field(..., description="a", ge=0, le=5), b: Literal["x", "y"] = "x") -> None:
        """Take."""

    properties = take.__schema__["parameters"]["properties"]  # type: ignore[attr-defined]
    assert properties["a"] == {"description": "a", "maximum": 5, "minimum": 0, "type": "integer"}
    assert properties["b"] == {"default": "x", "enum": ["x", "y"], "type": "string"}


@pytest.mark.parametrize("schema_type", ["native", "pydantic"])
def test_a_partial_is_described_by_what_remains(schema_type: str) -> None:
    def take(a: int, b: int = Field(5, description="b"), c: str = "z") -> list[Any]:
        """Take."""
        return [a, b, c]

    described = schema_function(functools.partial(take, 1, c="q"), schema_type)
    assert list(described.__schema__["parameters"]["properties"]) == ["b"]  # type: ignore[attr-defined]
    assert described.__schema__["name"] == ("take(partial)" if schema_type == "pydantic" else "take")  # type: ignore[attr-defined]
    assert described.__schema__["description"] == "Take."  # type: ignore[attr-defined]
    assert described() == [1, 5, "q"] and described(7) == [1, 7, "q"]


def test_an_object_that_can_be_called_is_described() -> None:
    class Adder:
        """Adds."""

        def __call__(self, a: int, b: int = 1) -> int:
            return a + b

    described = schema_function(Adder())
    assert described.__schema__["name"] == "Adder"  # type: ignore[attr-defined]
    assert described(2) == 3


def test_given_parameters_are_taken_without_a_look() -> None:
    def take(a: int) -> int:
        """Take."""
        return a

    given = {"type": "object", "properties": {}}
    assert schema_function(take, name="n", description="d", parameters=given) is take
    assert take.__schema__ == {"name": "n", "description": "d", "parameters": given}  # type: ignore[attr-defined]
    assert schema_function(take) is take

    builtin = schema_function(len, parameters=given)
    assert builtin("abc") == 3 and builtin.__schema__["name"] == "len"  # type: ignore[attr-defined]


def test_name_and_description_can_be_given() -> None:
    @schema_function(name="other", description="Another.")
    def take(a: int) -> None:
        """Take."""

    assert take.__schema__["name"] == "other"  # type: ignore[attr-defined]
    assert take.__schema__["description"] == "Another."  # type: ignore[attr-defined]


@pytest.mark.parametrize("schema_type", ["json", "native:loose", ""])
def test_unknown_kinds_of_schema_are_refused(schema_type: str) -> None:
    with pytest.raises(AssertionError, match="Schema type must be 'pydantic' or 'native'"):
        schema_function(len, schema_type)


def test_too_many_arguments_are_an_error() -> None:
    @schema_function
    def take(a: int = Field(1, description="a")) -> int:
        """Take."""
        return a

    with pytest.raises(TypeError):
        take(1, 2)
    with pytest.raises(TypeError):
        take(b=2)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (int, "int"),
        (str, "str"),
        (dict, "dict"),
        (Optional[int], "int"),  # noqa: UP045
        (int | None, "int"),
        (type(None), "null"),
    ],
)
def test_names_of_types(kind: Any, name: str) -> None:
    assert get_type_name(kind) == name


@pytest.mark.parametrize("kind", [bytes, tuple, Any, list[int], Union[int, str], Small, None])  # noqa: UP007
def test_types_without_a_name_are_refused_unless_allowed(kind: Any) -> None:
    with pytest.raises(ValueError, match="arbitrary_types_allowed=True"):
        get_type_name(kind)
    assert get_type_name(kind, arbitrary_types_allowed=True) == {}


def test_the_helpers_that_programs_import() -> None:
    def take(a: int, b: int = Field(2, description="b")) -> bool:
        return True

    assert extract_annotations(Small | None) == [Small, type(None)]
    assert extract_annotations(list[int]) == [list[int]]
    assert fill_missing_args_and_kwargs(inspect.signature(take), (1,), {}) == ([1, 2], {})
    model, returned = extract_pydantic_schema(take, mode="auto")
    assert model(a=1).b == 2 and returned == "bool"
    assert dict_to_pydantic_model("Made", {"a": (int, 1), "b": str}, doc="Made.")(b="x").a == 1


def test_a_model_is_rebuilt_from_its_schema() -> None:
    class Documented(BaseModel):
        """With a docstring."""

        name: str
        size: int | None = None

    schema = Documented.model_json_schema()
    assert create_model_from_schema(schema).model_json_schema() == schema
    rebuilt = pydantic_decoder(pydantic_encoder(Documented(name="x")))
    assert rebuilt.model_dump() == {"name": "x", "size": None}


def test_the_codec_of_models_registers_under_its_name() -> None:
    class Registry:
        def register_codec(self, codec: dict[str, Any]) -> None:
            self.codec = codec

    registry = Registry()
    register_pydantic_codec(registry)
    assert registry.codec["name"] == "pydantic_model" and registry.codec["type"] is BaseModel


class Callable:
    """Its docstring."""

    def __call__(self, a: int, context: Any = None) -> None:
        return None


def documented(a: int, b: int = 1, *, context: Any = None) -> None:
    """Its docstring."""


@pytest.mark.parametrize(
    ("target", "skip", "text"),
    [
        (documented, False, "documented(a: 'int', b: 'int' = 1, *, context: 'Any' = None)"),
        (documented, True, "documented(a: 'int', b: 'int' = 1)"),
        (functools.partial(documented, 1), True, "documented(b: 'int' = 1)"),
        (functools.partial(documented, b=2), True, "documented(a: 'int')"),
        (Callable, True, "Callable(self, a: 'int')"),
        (Callable(), True, "Callable(a: 'int')"),
        (lambda x: x, False, "lambda(x)"),
        (len, False, "len(obj, /)"),
    ],
)
def test_callables_as_text(target: Any, skip: bool, text: str) -> None:
    assert callable_sig(target, skip) == text


@pytest.mark.parametrize("target", [documented, functools.partial(documented, 1), Callable, Callable()])
def test_docstrings_of_callables(target: Any) -> None:
    assert callable_doc(target) == "Its docstring."
    assert callable_doc(lambda: None) is None


def test_an_annotation_whose_name_cannot_be_found_is_any() -> None:
    def take(a: Missing, b: int) -> Any:  # type: ignore[name-defined]  # noqa: F821
        """Take."""
        return a

    described = schema_function(take)
    properties = described.__schema__["parameters"]["properties"]  # type: ignore[attr-defined]
    assert properties == {"a": {"description": "a"}, "b": {"description": "b", "type": "integer"}}
    assert described(1, 2) == 1


def test_pydantic_is_imported_when_it_is_needed() -> None:
    program = (
        "import sys; from hypha_rpc.utils.schema import schema_function, Field\n"
        "f = schema_function(lambda a=Field(1): a, 'native'); assert f() == 1\n"
        "sys.exit('pydantic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=30, check=False).returncode == 0


def test_the_first_use_of_pydantic_is_by_a_schema() -> None:
    program = (
        "from hypha_rpc.utils.schema import schema_function\n"
        "def f(a: int, b: str = 'x'): pass\n"
        "assert schema_function(f).__schema__['parameters']['required'] == ['a']"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=30, check=False).returncode == 0
