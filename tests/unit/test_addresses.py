"""Addresses and service ids (server §2.1, protocol §6.4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypha_rpc.addresses import ServiceId, absolute, is_valid_client_id, is_valid_service_name, workspace_of


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("name", (None, None, "name", None)),
        ("client:name", (None, "client", "name", None)),
        ("ws/name", ("ws", None, "name", None)),
        ("ws/client:name@app", ("ws", "client", "name", "app")),
        ("name@app", (None, None, "name", "app")),
        ("*/client:name", ("*", "client", "name", None)),
        ("", (None, None, "", None)),
    ],
)
def test_a_service_id_is_taken_apart(text: str, parts: tuple[str | None, ...]) -> None:
    assert ServiceId.parse(text) == parts
    assert str(ServiceId.parse(text)) == text


words = st.text("abc-_*~.", min_size=1, max_size=5)


@given(st.builds(ServiceId, st.none() | words, st.none() | words, words, st.none() | words))
def test_a_formatted_id_is_parsed_back(service_id: ServiceId) -> None:
    assert ServiceId.parse(str(service_id)) == service_id


@pytest.mark.parametrize(("text", "separator"), [("a/b/c", "/"), ("a:b:c", ":"), ("a@b@c", "@")])
def test_a_separator_occurs_once(text: str, separator: str) -> None:
    with pytest.raises(AssertionError, match=f"at most one '{separator}'"):
        ServiceId.parse(text)


def test_a_relative_address_is_completed() -> None:
    assert absolute("client", "ws") == "ws/client"
    assert absolute("other/client", "ws") == "other/client"
    assert workspace_of("ws/client") == "ws"
    assert workspace_of("*/manager") == "*"


@pytest.mark.parametrize("client_id", ["a", "py-prov", "a_b", "X9", "a.b", "c__rlb", "a" * 128])
def test_client_ids_that_are_admitted(client_id: str) -> None:
    assert is_valid_client_id(client_id)


@pytest.mark.parametrize("client_id", ["", "a/b", "a:b", "a@b", "*", "a b", "ä", ".a", "a" * 129, "a\n", None, 5, b"a"])
def test_client_ids_that_are_not(client_id: object) -> None:
    assert not is_valid_client_id(client_id)


@pytest.mark.parametrize("name", ["demo", "built-in", "_rintf_x", "ein Dienst", "ä"])
def test_service_names_that_can_be_registered(name: str) -> None:
    assert is_valid_service_name(name)


@pytest.mark.parametrize("name", ["", "a.b", "a/b", "a:b", "a@b", "*", " a", "a" * 129, None, ["a"]])
def test_service_names_that_cannot(name: object) -> None:
    assert not is_valid_service_name(name)
