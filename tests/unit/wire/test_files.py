"""Files as maps of functions: which functions go out, and what becomes of a map that comes in (protocol §3.7)."""

from __future__ import annotations

import gzip
import io
import pathlib
import tempfile
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypha_rpc.errors import SerializationError
from hypha_rpc.objects import ObjectProxy
from hypha_rpc.wire import Decoder, Encoder, default_forms

ALLOWED = set(
    "fileno seek truncate detach write read read1 readall close __enter__ __exit__ flush isatty __iter__ __next__ "
    "readable readline readlines seekable tell writable writelines closed name size path type _rtype _rnative".split()
)


class Notes:
    """Remembers functions; names them by number."""

    def __init__(self) -> None:
        self.functions: dict[str, Any] = {}

    def export_function(self, function: Any) -> dict[str, Any]:
        name = f"S.{len(self.functions)}"
        self.functions[name] = function
        return {"_rtype": "method", "_rmethod": name, "_rtarget": "w/c"}

    def import_function(self, reference: dict[str, Any]) -> Any:
        return self.functions[reference["_rmethod"]]

    import_generator = import_function
    export_generator = export_function

    def export_interface(self, interface: dict[str, Any]) -> None:
        return None


class Odd(io.RawIOBase):
    """A file with more to it than travels."""

    size = 10
    path = pathlib.Path("a/b")
    secret = "never"

    def type(self) -> str:
        return "a function is no value"

    def readable(self) -> bool:
        return True


def encoded(file: Any, notes: Notes | None = None) -> dict[str, Any]:
    result: dict[str, Any] = Encoder(default_forms(), notes or Notes()).encode(file)
    return result


@pytest.fixture
def files(tmp_path: pathlib.Path) -> Any:
    path = tmp_path / "x.txt"
    path.write_text("text")
    with ExitStack() as stack:
        yield [
            stack.enter_context(file)
            for file in (
                path.open(),
                path.open("rb"),
                path.open("rb", buffering=0),
                io.BytesIO(b"x"),
                io.StringIO("x"),
                tempfile.TemporaryFile(),  # noqa: SIM115 - the stack closes it
                tempfile.NamedTemporaryFile(),  # noqa: SIM115 - the stack closes it
                tempfile.SpooledTemporaryFile(),  # noqa: SIM115 - the stack closes it
                gzip.open(tmp_path / "x.gz", "wb"),  # noqa: SIM115 - the stack closes it
                Odd(),
            )
        ]


def test_exactly_the_members_of_the_protocol_travel(files: Any) -> None:
    for file in files:
        sent = encoded(file)
        assert set(sent) <= ALLOWED
        assert sent["_rtype"] == "iostream"
        assert sent["_rnative"] == f"py:{type(file)}"
        assert sent["closed"] is False
        for name, value in sent.items():
            assert value is None or isinstance(value, (str, int)) or value["_rtype"] == "method", name
        assert {"close", "__enter__", "__exit__", "readline"} <= set(sent)


def test_values_are_what_they_were_and_paths_are_texts(files: Any) -> None:
    assert encoded(files[0])["name"].endswith("x.txt")
    odd = encoded(files[-1])
    assert (odd["size"], odd["path"]) == (10, "a/b")
    assert "type" not in odd and "secret" not in odd


def test_a_file_that_comes_back_is_itself(files: Any) -> None:
    for file in files:
        notes = Notes()
        assert Decoder(default_forms(), notes).decode(encoded(file, notes)) is file


def test_a_file_of_a_peer_is_a_map_of_its_members() -> None:
    notes = Notes()
    sent = encoded(io.BytesIO(b"abc"), notes)
    notes.functions = {name: f"remote {name}" for name in notes.functions}
    file = Decoder(default_forms(), notes, mapping=ObjectProxy).decode(sent)
    assert file.read == f"remote {sent['read']['_rmethod']}"
    assert file.closed is False
    assert "_rtype" not in file and "_rnative" not in file


def test_a_file_needs_a_conversation() -> None:
    with pytest.raises(SerializationError, match="a file cannot be sent here") as caught:
        Encoder(default_forms()).encode_arguments([{"f": io.BytesIO()}])
    assert caught.value.path == "args[0]['f']"


anything = st.none() | st.integers(-5, 5) | st.text(max_size=3) | st.binary(max_size=3) | st.lists(st.integers(0, 3))


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(ALLOWED - {"_rtype"})), anything))
def test_any_map_that_claims_to_be_a_file_is_read(members: dict[str, Any]) -> None:
    value = Decoder(default_forms()).decode({"_rtype": "iostream", **members})
    assert value == {name: member for name, member in members.items() if name != "_rnative"}
