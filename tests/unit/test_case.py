"""camelCase and snake_case of service keys (python-client §6.4)."""

from __future__ import annotations

from typing import Any

import pytest

from hypha_rpc.case import convert_case, to_camel_case, to_snake_case
from hypha_rpc.objects import ObjectProxy


@pytest.mark.parametrize(
    ("snake", "camel"),
    [("a_b", "aB"), ("list_all_services", "listAllServices"), ("name", "name"), ("a_1", "a1"), ("", "")],
)
def test_underscores_become_capitals(snake: str, camel: str) -> None:
    assert to_camel_case(snake) == camel


def test_without_an_underscore_the_first_letter_is_lowered() -> None:
    assert to_camel_case("Foo") == "foo"


@pytest.mark.parametrize(
    ("camel", "snake"),
    [("aB", "a_b"), ("listAllServices", "list_all_services"), ("Foo", "foo"), ("a_b", "a_b"), ("", "")],
)
def test_capitals_become_underscores(camel: str, snake: str) -> None:
    assert to_snake_case(camel) == snake


def test_keys_at_every_depth_are_renamed_and_the_class_is_kept() -> None:
    value = ObjectProxy({"some_key": [ObjectProxy({"other_key": 1})], "x": "stays_as_is"})
    converted = convert_case(value, "camel")
    assert converted == {"someKey": [{"otherKey": 1}], "x": "stays_as_is"}
    assert type(converted) is type(converted["someKey"][0]) is ObjectProxy


@pytest.mark.parametrize("kind", ["camel+snake", "snake+camel"])
def test_both_names_stand_side_by_side(kind: str) -> None:
    assert convert_case({"a_b": 1, "c": 2}, kind) == {"aB": 1, "a_b": 1, "c": 2}


@pytest.mark.parametrize("kind", [None, ""])
def test_without_a_kind_nothing_changes(kind: Any) -> None:
    value = {"a_b": 1}
    assert convert_case(value, kind) is value


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="Unsupported case type: kebab"):
        convert_case({"a": 1}, "kebab")
