"""Dictionaries with attributes (python-client §6.3)."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from hypha_rpc.objects import DefaultObjectProxy, ObjectProxy


def test_items_are_attributes_and_attributes_are_items() -> None:
    proxy = ObjectProxy(a=1)
    proxy.b = 2
    assert proxy == {"a": 1, "b": 2}
    assert (proxy.a, proxy["b"]) == (1, 2)
    del proxy.a
    assert "a" not in proxy


def test_what_is_missing_is_an_attribute_or_key_error_and_a_default_works() -> None:
    proxy = ObjectProxy()
    with pytest.raises(AttributeError, match="'ObjectProxy' object has no attribute 'x'") as caught:
        _ = proxy.x
    assert (caught.value.name, caught.value.obj) == ("x", proxy)
    with pytest.raises(AttributeError):
        del proxy.x
    with pytest.raises(KeyError):
        proxy["x"]
    assert getattr(proxy, "x", 5) == 5
    assert proxy.get("x", 6) == 6


@pytest.mark.parametrize("name", ["get", "keys", "items", "values", "pop", "update", "toDict"])
def test_an_item_wins_over_a_method_of_the_same_name(name: str) -> None:
    proxy = ObjectProxy({name: "mine"})
    assert getattr(proxy, name) == "mine"
    assert list(dict.keys(proxy)) == [name]
    assert dict(proxy) == {name: "mine"}


def test_names_with_an_underscore_never_hide_the_machinery() -> None:
    proxy = ObjectProxy({"__class__": 1, "__reduce__": 2, "_rtype": "x"})
    assert type(proxy) is proxy.__class__
    assert proxy._rtype == "x"
    assert copy.copy(proxy) == proxy


def test_it_is_a_dictionary() -> None:
    proxy = ObjectProxy({"b": 1, "a": 2})
    assert list(proxy) == ["b", "a"]
    assert len(proxy) == 2
    assert repr(proxy) == "{'b': 1, 'a': 2}"
    assert {"a", "b", "items"} <= set(dir(proxy))


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda proxy: pickle.loads(pickle.dumps(proxy))])
def test_copies_keep_class_and_items(twin: Any) -> None:
    proxy = ObjectProxy({"items": [ObjectProxy(a=1)]})
    assert twin(proxy) == proxy
    assert type(twin(proxy)) is ObjectProxy
    assert twin(proxy)["items"][0].a == 1


def test_conversion_reaches_lists_and_tuples() -> None:
    proxy = ObjectProxy.fromDict({"a": [{"b": ({"c": 1},)}], "n": None})
    assert proxy.a[0].b[0].c == 1
    plain = proxy.toDict()
    assert plain == {"a": [{"b": ({"c": 1},)}], "n": None}
    assert type(plain["a"][0]["b"][0]) is dict


def test_the_default_proxy_has_none_for_everything_else() -> None:
    proxy = DefaultObjectProxy(a=1)
    assert proxy.a == 1
    assert proxy.x is None
    assert proxy["x"] is None
    assert "x" not in proxy
    with pytest.raises(AttributeError):
        _ = proxy.__deepcopy__


def test_notebooks_see_a_tree_in_which_nothing_is_markup() -> None:
    shown = ObjectProxy({"<b>": {"x": "<script>"}})._repr_html_()
    assert "<b>&lt;b&gt;</b>" in shown
    assert "<script>" not in shown
    assert shown.startswith("<details open>")
