from __future__ import annotations

from typing import Any

import pytest

from hypha.manager.directory import Directory, Query, Record


def record(address: str, name: str, **config: Any) -> Record:
    workspace, _, client = address.partition("/")
    app_id = config.pop("app_id", "*")
    info = {"config": config, "app_id": app_id, "type": "generic"}
    return Record(f"{address}:{name}", workspace, client, name, info, "s1")


def ids(records: list[Record]) -> list[str]:
    return [found.id for found in records]


@pytest.fixture
def directory() -> Directory:
    directory = Directory()
    for address, name in (("a/1", "x"), ("a/2", "x"), ("b/1", "x"), ("a/1", "y")):
        directory.add(record(address, name, visibility="public"))
    return directory


def test_records_are_found_by_id_client_workspace_and_name(directory: Directory) -> None:
    found = directory.get("a/2:x")
    assert found is not None and found.address == "a/2"
    assert ids(directory.of_client("a/1")) == ["a/1:x", "a/1:y"]
    assert ids(directory.of_workspace("a")) == ["a/1:x", "a/2:x", "a/1:y"]
    assert ids(directory.named("x")) == ["a/1:x", "a/2:x", "b/1:x"]
    assert ids(directory.named("x", "a")) == ["a/1:x", "a/2:x"]
    assert len(directory) == 4 == len(list(directory))


def test_adding_the_same_id_replaces_and_moves_it_to_the_end(directory: Directory) -> None:
    former = directory.get("a/1:x")
    assert directory.add(record("a/1", "x")) is former
    assert ids(directory.named("x", "a")) == ["a/2:x", "a/1:x"]
    assert len(directory) == 4


def test_removing_a_client_removes_only_its_records(directory: Directory) -> None:
    assert ids(directory.remove_client("a/1")) == ["a/1:x", "a/1:y"]
    assert ids(list(directory)) == ["a/2:x", "b/1:x"]
    assert directory.remove_client("a/1") == []
    assert directory.remove("a/1:x") is None


def test_an_emptied_directory_keeps_no_index(directory: Directory) -> None:
    for address in ("a/1", "a/2", "b/1"):
        directory.remove_client(address)
    indexes = [value for value in vars(directory).values() if isinstance(value, dict)]
    assert len(indexes) == 5
    assert not any(indexes)


def test_a_query_is_completed_with_the_workspace_of_the_caller() -> None:
    assert str(Query.parse("x", "a")) == "a/*:x@*"
    assert str(Query.parse("1:x", "a")) == "a/1:x@*"
    assert str(Query.parse("b/x", "a")) == "b/*:x@*"
    assert str(Query.parse("b/1:x@app", "a")) == "b/1:x@app"
    assert [Query.parse(text, "a").bare for text in ("x", "1:x", "a/x")] == [True, False, False]


@pytest.mark.parametrize("text", ["*", "", None, 3, "a/*", "*:*"])
def test_a_query_for_any_service_is_refused(text: Any) -> None:
    with pytest.raises(AssertionError, match="it cannot be a wildcard"):
        Query.parse(text, "a")


@pytest.mark.parametrize(("text", "separator"), [("a/b/x", "/"), ("a:b:x", ":"), ("x@a@b", "@")])
def test_a_separator_occurs_at_most_once(text: str, separator: str) -> None:
    with pytest.raises(AssertionError, match=f"Service id must contain at most one '{separator}'"):
        Query.parse(text, "a")


def test_finding_honours_client_and_application(directory: Directory) -> None:
    directory.add(record("a/3", "x", app_id="app"))
    assert ids(directory.find(Query.parse("x", "a"))) == ["a/1:x", "a/2:x", "a/3:x"]
    assert ids(directory.find(Query.parse("2:x", "a"))) == ["a/2:x"]
    assert ids(directory.find(Query.parse("x@app", "a"))) == ["a/3:x"]
    assert directory.find(Query.parse("zz", "a")) == []


def test_only_public_services_are_found_anywhere(directory: Directory) -> None:
    directory.add(record("c/1", "x", visibility="protected"))
    directory.add(record("c/2", "x", visibility="unlisted"))
    directory.add(record("c/1", "built-in", visibility="public"))
    assert ids(directory.find_public(Query.parse("*/x", "a"))) == ["a/1:x", "a/2:x", "b/1:x"]
    assert ids(directory.find_public(Query.parse("*/1:x", "a"))) == ["a/1:x", "b/1:x"]
    assert directory.find_public(Query.parse("*/built-in", "a")) == []
