"""Query items and bodies as arguments, without a server."""

from __future__ import annotations

import json

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypha.web.arguments import body_arguments, query_arguments, wants_msgpack
from hypha.web.failures import HttpFailure


def declared(kind):
    return {"properties": {"x": {"type": kind}}}


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("string", "0012", "0012"),
        ("string", "5", 5),
        ("string", "1.50", "1.50"),
        ("string", "-3", -3.0),
        ("string", '{"a":1}', '{"a":1}'),
        ("integer", "-3", -3),
        ("integer", "x", "x"),
        ("number", "1e3", 1000.0),
        ("boolean", "True", True),
        ("boolean", "0", False),
        ("boolean", "maybe", "maybe"),
        ("object", '{"a":1}', {"a": 1}),
        ("array", "[1]", [1]),
        ("array", "x", "x"),
        (["string", "null"], "7", 7),
    ],
)
def test_a_declared_type_decides(kind, text, expected):
    found = query_arguments([("x", text)], declared(kind))
    assert found == {"x": expected}
    assert type(found["x"]) is type(expected)


@given(st.text())
def test_any_text_is_an_argument_or_refused(text):
    try:
        query_arguments([("x", text)], None)
    except HttpFailure as failure:
        assert failure.status == 400


def test_names_of_the_path_are_arguments_only_where_declared():
    items = [("workspace", "w"), ("service_id", "s"), ("_mode", "first"), ("x", "1")]
    assert query_arguments(items, None) == {"x": 1}
    assert query_arguments(items, {"properties": {"workspace": {}}}) == {"workspace": "w", "x": 1}


@given(st.binary(max_size=200), st.sampled_from(["application/json", "application/msgpack", None, "text/plain"]))
def test_any_body_is_arguments_or_refused(body, kind):
    try:
        args, kwargs = body_arguments(body, kind)
    except HttpFailure as failure:
        assert failure.status in {400, 415}
    else:
        assert isinstance(args, list)
        assert isinstance(kwargs, dict)


def nested(depth):
    value = {"x": 1}
    for _ in range(depth - 1):
        value = {"x": value}
    return json.dumps(value).encode()


def test_depth_is_bounded():
    body_arguments(nested(128), "application/json")
    with pytest.raises(HttpFailure, match="nested deeper than 128 levels"):
        body_arguments(nested(129), "application/json")


@pytest.mark.parametrize("form", ["method", "generator", "iostream", "error", "custom", "stop_iteration"])
@pytest.mark.parametrize("pack", [json.dumps, msgpack.packb])
def test_only_data_comes_in(form, pack):
    body = pack({"x": [{"deep": {"_rtype": form}}]})
    body = body if isinstance(body, bytes) else body.encode()
    kind = "application/msgpack" if pack is msgpack.packb else "application/json"
    with pytest.raises(HttpFailure, match="cannot be sent by HTTP"):
        body_arguments(body, kind)


@pytest.mark.parametrize(
    ("content_type", "accept", "expected"),
    [
        ("application/msgpack", None, True),
        ("application/msgpack", "*/*", True),
        ("application/msgpack", "application/json", False),
        ("application/json", "application/msgpack", True),
        (None, None, False),
    ],
)
def test_the_form_of_the_answer(content_type, accept, expected):
    assert wants_msgpack(content_type, accept) is expected
