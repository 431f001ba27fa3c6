"""Schemas of functions and services (behaviours M; python-client §5.2, §17.2).

The dictionaries are what the public client gives for the same functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Union  # noqa: UP035 - what programs write

import pydantic
import pytest
from pydantic import BaseModel

from hypha_rpc.rpc import _convert_function_to_schema, _get_schema, _parse_docstring
from hypha_rpc.utils.schema import Field, parse_schema_function, schema_function, schema_method, schema_service


class User(BaseModel):
    """A user."""

    name: str = pydantic.Field(..., description="Name")
    age: int = pydantic.Field(..., description="Age")
    email: Optional[str] = pydantic.Field(None, description="Mail")  # noqa: UP045


class Place(BaseModel):
    street: str
    number: Optional[int] = None  # noqa: UP045


class Anything:
    """A class that has no schema."""


USER = {
    "description": "A user.",
    "properties": {
        "name": {"description": "Name", "type": "string"},
        "age": {"description": "Age", "type": "integer"},
        "email": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None, "description": "Mail"},
    },
    "required": ["name", "age"],
    "type": "object",
}
PLACE = {
    "properties": {
        "street": {"type": "string"},
        "number": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
    },
    "required": ["street"],
    "type": "object",
}


@dataclass
class Clients:
    provider: Any
    consumer: Any

    async def fetch(self, definition: dict[str, Any]) -> Any:
        """Register at one side, fetch at the other."""
        await self.provider.register_service(definition)
        return await self.consumer.get_service(definition["id"])

    async def info(self, name: str) -> Any:
        """What the server knows of a service."""
        return (await self.consumer.get_service_info(name))["service_schema"]


@pytest.fixture
async def clients(pair: Any) -> Clients:
    return Clients(pair.provider, pair.consumer)


@schema_function
def multiply(a: int, b: int = 2) -> int:
    """Multiply two numbers."""
    return a * b


@schema_function
def register(
    user: User = pydantic.Field(..., description="the user"),  # noqa: B008
    count: int = pydantic.Field(3, description="how many"),
) -> dict[str, Any]:
    """Register a user."""
    return {"kind": type(user).__name__, "name": user.name, "count": count}


def union(who: Union[User, Place], other: Optional[User] = None) -> list[str]:  # noqa: UP007, UP045
    """Take one or the other."""
    return [type(who).__name__, type(other).__name__]


async def test_the_service_schema_of_a_decorated_function_b235(clients: Clients) -> None:
    await clients.fetch({"id": "calc", "multiply": multiply})
    entry = (await clients.info("calc"))["multiply"]
    assert entry == {
        "type": "function",
        "function": {
            "name": "multiply",
            "description": "Multiply two numbers.",
            "parameters": {
                "properties": {"a": {"description": "a", "type": "integer"}, "b": {"default": 2, "type": "integer"}},
                "required": ["a"],
                "type": "object",
            },
        },
    }


async def test_a_model_is_a_reference_into_the_definitions_b236(clients: Clients) -> None:
    await clients.fetch({"id": "users", "register": register})
    parameters = (await clients.info("users"))["register"]["function"]["parameters"]
    assert parameters == {
        "$defs": {"User": USER},
        "properties": {
            "user": {"$ref": "#/$defs/User", "description": "the user"},
            "count": {"default": 3, "description": "how many", "type": "integer"},
        },
        "required": ["user"],
        "type": "object",
    }


async def test_a_dictionary_becomes_the_model_b237(clients: Clients) -> None:
    service = await clients.fetch({"id": "users", "register": register})
    expected = {"kind": "User", "name": "Ada", "count": 3}
    assert await service.register({"name": "Ada", "age": 3}) == expected
    assert await service.register(user={"name": "Ada", "age": 3}, count=4) == {**expected, "count": 4}
    assert await service.register(User(name="Ada", age=3)) == expected


async def test_the_fetched_function_has_the_schema_of_the_provider_b238(clients: Clients) -> None:
    functions = {"multiply": multiply, "register": register, "union": schema_function(union)}
    service = await clients.fetch({"id": "all", **functions})
    for name, function in functions.items():
        assert service[name].__schema__ == function.__schema__  # type: ignore[attr-defined]
    assert service["union"].__schema__ == {
        "name": "union",
        "description": "Take one or the other.",
        "parameters": {
            "$defs": {"User": USER, "Place": PLACE},
            "properties": {
                "who": {"anyOf": [{"$ref": "#/$defs/User"}, {"$ref": "#/$defs/Place"}], "description": "who"},
                "other": {"anyOf": [{"$ref": "#/$defs/User"}, {"type": "null"}], "default": None},
            },
            "required": ["who"],
            "type": "object",
        },
    }
    assert await service.union({"street": "s"}, {"name": "Ada", "age": 3}) == ["Place", "User"]
    assert await service.union({"name": "Ada", "age": 3}) == ["User", "NoneType"]


@pytest.mark.parametrize("field", [Field, pydantic.Field])
def test_in_native_mode_missing_arguments_take_the_default_inside_the_field_b239(field: Any) -> None:
    @schema_function(schema_type="native")
    def describe(
        a: int,
        b: str = field("x", description="a text"),
        c: Optional[float] = field(None, description="a number"),  # noqa: UP045
    ) -> list[Any]:
        """Describe."""
        return [a, b, c]

    assert describe(1) == [1, "x", None]
    assert describe(1, "y", c=2.5) == [1, "y", 2.5]
    assert describe.__schema__ == {  # type: ignore[attr-defined]
        "name": "describe",
        "description": "Describe.",
        "parameters": {
            "type": "object",
            "properties": {
                "a": {"type": "int"},
                "b": {"type": "str", "description": "a text", "default": "x"},
                "c": {"type": "float", "description": "a number", "default": None},
            },
            "required": ["a"],
        },
    }
    with pytest.raises(TypeError, match="Missing required argument: 'a'"):
        describe()


@pytest.mark.parametrize("schema_type", ["native", "pydantic"])
async def test_methods_leave_out_self_b240(schema_type: str, clients: Clients) -> None:
    class Counter:
        def __init__(self) -> None:
            self.id = "counter"
            self.total = 10

        @schema_method(schema_type=schema_type)
        def add(self, number: int = Field(1, description="how much")) -> int:
            """Add."""
            self.total += number
            return self.total

        @schema_function(skip_self=True, schema_type=schema_type)
        async def get(self) -> int:
            """Get."""
            return self.total

    counter = Counter()
    assert list(counter.add.__schema__["parameters"]["properties"]) == ["number"]  # type: ignore[attr-defined]
    service = await clients.fetch({"id": "counter", "add": counter.add, "get": counter.get})
    assert await service.add() == 11
    assert await service.add(5) == 16
    assert await service.get() == 16


@pytest.mark.parametrize("schema_type", ["native", "pydantic"])
def test_both_kinds_of_field_can_be_mixed_b241(schema_type: str) -> None:
    @schema_function(schema_type=schema_type)
    def mixed(a: int = Field(1, description="ours"), b: int = pydantic.Field(2, description="pydantic's")) -> list[int]:
        """Mix."""
        return [a, b]

    assert mixed() == [1, 2]
    assert mixed(b=5) == [1, 5]
    properties = mixed.__schema__["parameters"]["properties"]  # type: ignore[attr-defined]
    assert {name: (part["description"], part["default"]) for name, part in properties.items()} == {
        "a": ("ours", 1),
        "b": ("pydantic's", 2),
    }


@pytest.mark.parametrize("schema_type", ["native:strict", "pydantic:strict", "native", "pydantic"])
def test_arbitrary_classes_are_refused_unless_allowed_b242(schema_type: str) -> None:
    def take(thing: Anything) -> None:
        """Take."""

    with pytest.raises((ValueError, pydantic.errors.PydanticUserError), match="arbitrary_types_allowed=True"):
        schema_function(take, schema_type)
    allowed = schema_function(take, schema_type, arbitrary_types_allowed=True)
    assert "thing" in allowed.__schema__["parameters"]["properties"]  # type: ignore[attr-defined]


def undescribed(a: int, b: int = 1) -> None:
    """Do."""


def unannotated(a) -> None:  # type: ignore[no-untyped-def]
    """Do."""


def undocumented(a: int) -> None:
    return None


def with_context(a: int, context=None) -> None:  # type: ignore[no-untyped-def]
    """Do."""


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda x: x, "Lambda functions are not supported"),
        (undocumented, "Function `undocumented` must have a docstring"),
        (unannotated, "Argument `a` for `unannotated` must have type annotation"),
        (undescribed, "Argument `b` for `undescribed` must be a Pydantic FieldInfo object with description"),
    ],
)
def test_a_strict_schema_wants_everything_described_b242(function: Any, text: str) -> None:
    with pytest.raises((AssertionError, ValueError), match=text):
        schema_function(function, "pydantic:strict")


def test_a_strict_schema_tolerates_an_unannotated_last_context_b243() -> None:
    described = schema_function(with_context, "pydantic:strict")
    assert list(described.__schema__["parameters"]["properties"]) == ["a"]  # type: ignore[attr-defined]


async def test_schema_service_wraps_nested_functions_and_removes_the_context_b243(clients: Clients) -> None:
    def who(name: str, context=None) -> str:  # type: ignore[no-untyped-def]
        """Say who calls."""
        return f"{name} {context['ws']}"

    def given(name: str, context: Any = None) -> str:
        return f"{name} {context['ws']}"

    given.__schema__ = {  # type: ignore[attr-defined]
        "name": "given",
        "description": "",
        "parameters": {"properties": {"name": {}, "context": {}}, "required": ["name", "context"]},
    }
    definition = schema_service(
        id="nested",
        name="Nested",
        config={"require_context": True},
        deep={"who": who, "list": [who]},
        given=given,
        number=5,
    )
    assert definition["name"] == "Nested" and definition["number"] == 5
    service = await clients.fetch(definition)
    workspace = clients.consumer.config.workspace
    assert await service.deep.who("Ada") == f"Ada {workspace}"
    assert await service.deep["list"][0]("Ada") == f"Ada {workspace}"
    schema = await clients.info("nested")
    assert schema["deep"]["who"]["function"]["parameters"] == {
        "properties": {"name": {"description": "name", "type": "string"}},
        "required": ["name"],
        "type": "object",
    }
    assert schema["given"]["function"]["parameters"] == {"properties": {"name": {}}, "required": ["name"]}
    assert "context" in given.__schema__["parameters"]["properties"]  # type: ignore[attr-defined]


async def test_undecorated_functions_get_a_schema_b244(clients: Clients) -> None:
    def annotated(a: int, b: float = 1, c: List[int] = [], d: Dict[str, int] = {}, e: Any = None) -> None:  # noqa: B006, UP006
        """Do it."""

    def bare(a, b=1):  # type: ignore[no-untyped-def]
        return a

    service = await clients.fetch({"id": "plain", "annotated": annotated, "bare": bare, "none": lambda: None})
    schema = await clients.info("plain")
    described = schema["annotated"]["function"]
    assert described["description"] == "Do it."
    kinds = {name: part["type"] for name, part in described["parameters"]["properties"].items()}
    assert kinds == {"a": "integer", "b": "number", "c": "string", "d": "string", "e": "string"}
    assert described["parameters"]["required"] == ["a"]
    assert schema["bare"]["function"] == {
        "name": "bare",
        "description": "",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "string", "description": ""}, "b": {"type": "string", "description": ""}},
            "required": ["a"],
        },
    }
    assert schema["none"]["function"]["parameters"] == {"type": "object", "properties": {}, "required": []}
    assert service.annotated.__schema__ == described


SECTIONS = """Do it.

    More of it.

    {heading}:
        a (int): the a
            and its rest
        b: the b

    Returns:
        int: it
    """


@pytest.mark.parametrize("heading", ["Args", "Arguments", "Parameters"])
def test_docstring_sections_describe_the_parameters_b245(heading: str) -> None:
    def function(a: int, b: str = "x") -> None:
        return None

    function.__doc__ = SECTIONS.format(heading=heading)
    schema = _convert_function_to_schema(function)
    assert schema["name"] == "function"
    assert schema["description"].startswith("Do it.\n\nMore of it.")
    assert "the a" not in schema["description"]
    assert schema["parameters"]["properties"] == {
        "a": {"type": "integer", "description": "the a and its rest"},
        "b": {"type": "string", "description": "the b"},
    }
    assert _parse_docstring(function.__doc__) == {"a": "the a and its rest", "b": "the b"}


def test_the_schema_of_a_definition_mirrors_it_b244() -> None:
    schema = _get_schema({"f": multiply, "n": 1, "t": True, "s": "a", "none": None, "l": [multiply, 1], "b": b"x"})
    assert schema["f"]["function"]["name"] == "f"
    assert schema["l"][0]["function"]["name"] == "multiply"
    rest = {key: value for key, value in schema.items() if key not in ("f", "l")}
    assert rest == {
        "n": {"type": "number"},
        "t": {"type": "boolean"},
        "s": {"type": "string"},
        "none": {"type": "null"},
        "b": {},
    }
    assert _get_schema(multiply, "other")["function"]["name"] == "other"


def test_parse_schema_function_describes_what_can_be_called_b243() -> None:
    parsed = parse_schema_function({"f": undescribed, "deep": [undescribed], "number": 5}, schema_type="pydantic")
    assert parsed["f"].__schema__["name"] == "f"
    assert parsed["deep"][0].__schema__["name"] == "undescribed"
    assert parsed["number"] == 5
    assert parse_schema_function(undescribed, "other").__schema__["name"] == "other"
