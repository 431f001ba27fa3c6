"""What help(), signatures, completion and notebooks show of remote things; made when asked for."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys
from types import SimpleNamespace
from typing import Any, Protocol

import pytest

from hypha_rpc.client.fetching import Wanted, missing_members, split_options
from hypha_rpc.client.help import signature_of
from hypha_rpc.client.proxies import CoroutineCall, RemoteFunction, RemoteService
from hypha_rpc.client.rpc import RPC
from hypha_rpc.client.server import Server
from hypha_rpc.endpoint import Reference

ADD = {
    "name": "add",
    "description": "Add two numbers.",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "number", "default": 1.5}},
        "required": ["a"],
    },
}


def remote(name: str = "add", schema: Any = ADD, doc: str | None = "Add two numbers.\n\nMore.") -> RemoteFunction:
    wire = {"_rtype": "method", "_rname": name, "_rdoc": doc, "_rschema": schema}
    return RemoteFunction(RPC(None, "me"), Reference("w/c", f"services.calc.{name}", wire=wire))


def service() -> RemoteService:
    return RemoteService(
        {
            "id": "w/c:calc",
            "name": "Calculator",
            "description": "It <counts>.",
            "config": {"workspace": "w"},
            "add": remote(),
            "deep": {"list": [remote("inner", None, None)]},
            "version": 3,
            "not a name": 1,
        }
    )


def plain(renderable: Any) -> str:
    return pydoc.render_doc(renderable, renderer=pydoc.plaintext)  # type: ignore[attr-defined]


def test_the_signature_comes_from_the_schema() -> None:
    assert str(inspect.signature(remote())) == "(a: int, b: float = 1.5)"
    assert inspect.signature(remote()).bind(1, b=2).arguments == {"a": 1, "b": 2}
    assert str(inspect.signature(remote().as_coroutine())) == "(a: int, b: float = 1.5)"


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (None, "(*args, **kwargs)"),
        ({}, "(*args, **kwargs)"),
        ({"properties": {}}, "()"),
        ({"properties": {"a": {}, "b": {}}}, "(a=..., b=...)"),
        (
            {"properties": {"a": {"type": "string"}, "b": {"type": "int"}}, "required": ["b"]},
            "(a: str = ..., *, b: int)",
        ),
        ({"properties": {"a": {"type": "array", "items": {"type": "integer"}}}, "required": ["a"]}, "(a: list[int])"),
        ({"properties": {"a": {"type": "array", "items": {}}}, "required": ["a"]}, "(a: list)"),
        ({"properties": {"u": {"$ref": "#/$defs/User"}}, "required": ["u"]}, "(u: User)"),
        (
            {"properties": {"u": {"anyOf": [{"type": "string"}, {"type": "null"}]}}, "required": ["u"]},
            "(u: str | None)",
        ),
        ({"properties": {"u": {"anyOf": [{}, {"type": "array", "items": {}}]}}, "required": ["u"]}, "(u: Any | list)"),
        ({"properties": {"no name": {}}}, "(*args, **kwargs)"),
        ({"properties": {"class": {}}}, "(*args, **kwargs)"),
        ({"properties": {5: {}}}, "(*args, **kwargs)"),
        ({"properties": {"a": "nonsense"}, "required": 7}, "(a=...)"),
        ({"properties": ["a"]}, "(*args, **kwargs)"),
        ("nonsense", "(*args, **kwargs)"),
    ],
)
def test_any_schema_makes_a_signature(parameters: Any, expected: str) -> None:
    assert str(signature_of({"name": "f", "parameters": parameters})) == expected


def test_without_a_schema_any_arguments_will_do() -> None:
    assert str(inspect.signature(remote(schema=None))) == "(*args, **kwargs)"
    assert str(signature_of(None)) == "(*args, **kwargs)"


def test_a_deep_schema_ends() -> None:
    part: dict[str, Any] = {}
    for _ in range(500):
        part = {"anyOf": [part]}
    assert str(signature_of({"parameters": {"properties": {"a": part}}})).startswith("(a: ")


def test_help_of_a_function_shows_it_as_a_function() -> None:
    text = plain(remote())
    assert "add(a: int, b: float = 1.5)\n    Add two numbers.\n    \n    More." in text
    assert inspect.isroutine(remote())


def test_a_function_kept_in_a_class_does_not_bind() -> None:
    function = remote()
    holder = type("Holder", (), {"function": function})
    assert holder().function is function and holder.function is function


def test_the_repr_of_a_function_shows_its_signature() -> None:
    assert repr(remote()) == "<RemoteFunction add(a: int, b: float = 1.5) (w/c:services.calc.add)>"
    assert repr(remote(schema=None)) == "<RemoteFunction add (w/c:services.calc.add)>"


def test_help_of_a_service_shows_what_it_offers() -> None:
    text = plain(service())
    assert "Calculator (w/c:calc)" in text
    assert "It <counts>." in text
    assert "add(a: int, b: float = 1.5)" in text and "Add two numbers." in text
    assert "deep.list[0](*args, **kwargs)" in text
    assert "Values: version, not a name" in text


def test_help_of_the_classes_is_about_the_classes() -> None:
    assert "A service of a peer" in str(RemoteService.__doc__)
    assert "The connected object" in str(Server.__doc__)
    for kind in (RemoteService, RemoteFunction, Server, CoroutineCall):
        assert kind.__name__ in plain(kind)


def test_help_of_an_empty_service() -> None:
    assert RemoteService().__doc__ == "service"
    assert RemoteService(id="x").__doc__ == "x"


def test_the_schema_describes_a_function_without_a_docstring() -> None:
    assert "Add two numbers." in str(RemoteService(add=remote(doc=None)).__doc__)


def test_completion_offers_the_members() -> None:
    names = [name for name in dir(service()) if not name.startswith("__")]
    assert names == ["add", "config", "deep", "description", "id", "name", "version"]


def test_notebooks_get_escaped_html() -> None:
    page = service()._repr_html_()
    assert "add(a: int, b: float = 1.5)" in page and "Calculator (w/c:calc)" in page
    assert "It &lt;counts&gt;." in page and "<counts>" not in page
    assert "<b>version</b>: 3" in page
    assert "add(a: int, b: float = 1.5)" in remote()._repr_html_()
    assert "&lt;script&gt;" in remote(doc="<script>")._repr_html_()
    assert RemoteService()._repr_html_()


def test_terminals_of_ipython_show_a_line_for_each_function() -> None:
    printed: list[str] = []
    service()._repr_pretty_(SimpleNamespace(text=printed.append), False)
    assert "".join(printed) == (
        "Calculator (w/c:calc)\n    add(a: int, b: float = 1.5)  # Add two numbers.\n    deep.list[0](*args, **kwargs)"
    )


def test_a_missing_member_is_told_with_those_that_are_there() -> None:
    with pytest.raises(
        AttributeError, match=r"service w/c:calc has no member 'ad'; it has add, deep, version"
    ) as caught:
        _ = service().ad
    assert caught.value.name == "ad"
    assert not hasattr(service(), "__array__")


def test_nothing_is_made_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hypha_rpc.client.help.signature_of", lambda schema: pytest.fail("made too early"))
    monkeypatch.setattr("hypha_rpc.client.help.service_text", lambda service: pytest.fail("made too early"))
    assert callable(service().add)
    assert dict(service())["version"] == 3


class Calculator(Protocol):
    version: int

    async def add(self, a: int, b: int) -> int: ...

    def _private(self) -> None: ...


class Bigger(Calculator, Protocol):
    async def multiply(self, a: int, b: int) -> int: ...

    async def version_of(self) -> str: ...


class Concrete:
    deep: Any
    missing: int

    def config(self) -> None: ...


def test_a_protocol_is_met_by_members() -> None:
    assert missing_members(service(), Calculator) == []
    assert missing_members(service(), Bigger) == ["multiply", "version_of"]


def test_a_value_is_no_method() -> None:
    assert missing_members(service(), Concrete) == ["missing", "config"]


def test_a_service_that_lacks_members_of_the_protocol_is_refused() -> None:
    with pytest.raises(TypeError, match="w/c:calc is no Bigger: it lacks multiply, version_of"):
        Wanted(protocol=Bigger).shape(RPC(None, "me"), service())


def test_options_for_this_side_are_taken_out() -> None:
    options = {"mode": "random", "encryption_public_key": "ab" * 32}
    wanted, rest = split_options(options, Calculator)
    assert wanted == Wanted(bytes.fromhex("ab" * 32), Calculator)
    assert rest == {"mode": "random"}


def test_importing_the_client_loads_no_documentation_tools() -> None:
    program = "import sys, hypha_rpc.client.connect; sys.exit('pydoc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=30, check=False).returncode == 0
