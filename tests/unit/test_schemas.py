"""Schemas from signatures and docstrings (python-client §5.2)."""

from __future__ import annotations

from typing import Any

import pytest

from hypha_rpc.schemas import function_schema, parse_docstring, service_schema


def typed(a: int, b: float = 1, *rest: str, c: list[int], flag: bool = False, context: Any = None, **more: Any) -> dict:  # type: ignore[type-arg]
    """Do it.

    More about it.

    Args:
        a: the first
            and its rest
        b (float): the second
        *rest: others

    Returns:
        Something.
    """
    return {}


def test_a_docstring_is_split() -> None:
    description, arguments = parse_docstring(typed.__doc__)
    assert description == "Do it.\n\nMore about it.\n\nReturns:\n    Something."
    assert arguments == {"a": "the first and its rest", "b": "the second", "rest": "others"}


@pytest.mark.parametrize("heading", ["Args:", "Arguments:", "Parameters:"])
def test_the_section_has_several_names_and_ends_with_unindented_text(heading: str) -> None:
    assert parse_docstring(f"Do.\n\n{heading}\n    x: it\n\nThe end.") == ("Do.\n\nThe end.", {"x": "it"})


@pytest.mark.parametrize("doc", [None, ""])
def test_no_docstring_is_no_text(doc: str | None) -> None:
    assert parse_docstring(doc) == ("", {})


def test_parameters_come_from_the_signature() -> None:
    schema = function_schema(typed, "name")
    assert schema["name"] == "name"
    properties = schema["parameters"]["properties"]
    assert {name: part["type"] for name, part in properties.items()} == {
        "a": "integer",
        "b": "number",
        "c": "string",
        "flag": "boolean",
    }
    assert properties["a"]["description"] == "the first and its rest"
    assert schema["parameters"]["required"] == ["a", "c"]


def test_real_annotations_are_read_like_their_names() -> None:
    def plain(a, b, c, d, e):  # type: ignore[no-untyped-def]
        return None

    plain.__annotations__ = {"a": int, "b": dict[str, int], "c": list, "d": object, "e": "str"}
    properties = function_schema(plain, "f")["parameters"]["properties"]
    assert [part["type"] for part in properties.values()] == ["integer", "object", "array", "string", "string"]


def test_a_given_schema_is_taken_under_the_key_and_not_changed() -> None:
    def given() -> None:
        return None

    original = {"name": "x", "parameters": {"properties": {"context": {}, "a": {}}, "required": ["context", "a"]}}
    given.__schema__ = original  # type: ignore[attr-defined]
    assert function_schema(given, "key")["name"] == "key"
    entry = service_schema({"key": given}, skip_context=True)["key"]
    assert entry["function"]["parameters"] == {"properties": {"a": {}}, "required": ["a"]}
    assert original["parameters"]["required"] == ["context", "a"]  # type: ignore[index]


def test_a_service_is_mirrored() -> None:
    service = {"f": typed, "deep": {"n": 1, "list": [True, 1.5, "s", None, object()]}, "_hidden": 1, "_dispose": len}
    schema = service_schema(service)
    assert schema["f"]["type"] == "function"
    assert schema["deep"]["n"] == {"type": "number"}
    kinds = [{"type": "boolean"}, {"type": "number"}, {"type": "string"}, {"type": "null"}, {}]
    assert schema["deep"]["list"] == kinds
    assert "_hidden" not in schema and "_dispose" in schema


def test_a_callable_without_a_signature_is_still_a_function() -> None:
    assert service_schema({"f": type}) == {"f": {"type": "function"}}
