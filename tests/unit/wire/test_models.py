"""Models from strangers become classes only within bounds, and plain maps else (security S45)."""

from __future__ import annotations

import enum
import time
from typing import Any, Literal

import pydantic
import pytest

from hypha_rpc.wire import Decoder, Encoder, default_forms
from hypha_rpc.wire.forms.models import model_from_schema


def decode(schema: Any, fields: Any) -> Any:
    return Decoder(default_forms()).decode({"_rtype": "pydantic_model", "_rvalue": fields, "_rschema": schema})


def described(*names: str, **more: Any) -> dict[str, Any]:
    return {"type": "object", "title": "T", "properties": {name: {"type": "string"} for name in names}, **more}


def nested(depth: int) -> dict[str, Any]:
    return {"type": "array", "items": nested(depth - 1)} if depth else {"type": "string"}


def chain(count: int, link: Any) -> dict[str, Any]:
    definitions = {f"d{n}": link({"$ref": f"#/$defs/d{n + 1}"}) for n in range(count)}
    return {"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": definitions}


HOSTILE = {
    "none": None,
    "text": "type: object",
    "dunder": described("__class__"),
    "private": described("_x"),
    "configuration": described("model_config"),
    "method": described("model_validate"),
    "too many fields": described(*(f"f{n}" for n in range(300))),
    "too deep": {"properties": {"a": nested(20)}},
    "too long": described("a", description="x" * 70_000),
    "foreign reference": {"properties": {"a": {"$ref": "http://evil.example/schema"}}},
    "file reference": {"properties": {"a": {"$ref": "file:///etc/passwd"}}},
    "odd reference": {"properties": {"a": {"$ref": ["#/$defs/a"]}}},
    "bytes": described("a", default=b"x"),
    "keys": {"properties": {5: {"type": "string"}}},
    "long chain": chain(2000, lambda link: link),
    "chain of models": chain(200, lambda link: {"type": "object", "properties": {"x": link}}),
    "doubling": chain(
        40,
        lambda link: {
            "anyOf": [{"type": "array", "items": link}, {"type": "array", "items": {"type": "array", "items": link}}]
        },
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_leaves_a_plain_map_quickly(name: str) -> None:
    begun = time.perf_counter()
    value = decode(HOSTILE[name], {"a": "v", "model_config": [1]})
    assert value == {"a": "v", "model_config": [1]}
    assert type(value) is dict
    assert time.perf_counter() - begun < 2.0


def test_values_that_the_schema_refuses_still_arrive() -> None:
    value = decode(described("a"), {"a": 5, "more": 1})
    assert isinstance(value, pydantic.BaseModel)
    assert value.a == 5  # type: ignore[attr-defined]


@pytest.mark.parametrize("members", [{1: 2}, {"_fields_set": 5}, {"__class__": 5}])
def test_members_that_are_no_fields_make_it_a_map(members: Any) -> None:
    assert decode(described("a"), members) == members


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"properties": 5},
        {"properties": {"a": 5}, "required": 7, "title": 4},
        {"properties": {"a": {"anyOf": []}}},
        {"properties": {"a": {"anyOf": [5, {"type": ["x"]}]}}},
        {"properties": {"a": {"type": "array", "items": 5}}},
        {"properties": {"a": {"$ref": "#/$defs/missing"}}, "$defs": 5},
        {"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}},
        {"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$ref": "#/$defs/a"}}},
        {"title": "not an identifier", "properties": {}},
    ],
    ids=repr,
)
def test_an_odd_schema_is_read_as_far_as_it_makes_sense(schema: Any) -> None:
    assert isinstance(decode(schema, {"a": []}), pydantic.BaseModel)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["copy", "json", "schema", "class", "self", "mro"])
def test_a_field_may_be_named_like_a_method_of_old(name: str) -> None:
    assert getattr(decode(described(name), {name: "v"}), name) == "v"


class Shade(enum.Enum):
    DARK = "dark"


class Leaf(pydantic.BaseModel):
    n: int = 1


class Tree(pydantic.BaseModel):
    """A tree."""

    leaf: Leaf
    again: Leaf | None = None
    shade: Shade = Shade.DARK
    either: int | str = 0
    pair: tuple[int, str] = (1, "a")
    kind: Literal["a", "b"] = "a"
    leaves: dict[str, Leaf] = {}


def test_nested_optional_enum_and_tuple_fields_do_not_fail() -> None:
    model = model_from_schema(Tree.model_json_schema())
    value = model.model_validate({"leaf": {"n": 3}, "shade": "dark", "pair": [1, "a"], "leaves": {"x": {"n": 2}}})
    assert value.leaf.n == 3
    assert value.again is None
    assert model.__name__ == "Tree"
    with pytest.raises(pydantic.ValidationError):
        model.model_validate({})


def test_the_same_definition_is_the_same_class() -> None:
    value = decode(Tree.model_json_schema(), {"leaf": {"n": 1}, "again": {"n": 2}})
    assert type(value.leaf) is type(value.again)


def test_a_model_with_a_field_that_cannot_be_sent_names_it() -> None:
    class Bad(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
        value: Any

    with pytest.raises(TypeError, match=r"at args\[0\]\['value'\]"):
        Encoder(default_forms()).encode_arguments([Bad(value=object())])


def test_without_pydantic_a_model_is_a_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pydantic", None)
    assert decode(described("only_here"), {"only_here": "v"}) == {"only_here": "v"}
