"""Loading start-up functions: what is accepted, and what is said of the rest (server §1.3, §1.8)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hypha.startup import StartupError, load_function


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


def test_two_files_of_one_name_are_two_modules(folder: Path) -> None:
    for number in (1, 2):
        (folder / str(number)).mkdir()
        (folder / str(number) / "my-start.py").write_text(f"async def f(server):\n    return {number}\n")
    one, two = load_function("./1/my-start.py:f"), load_function("./2/my-start.py:f")
    assert one.__module__ != two.__module__
    assert one.__code__.co_filename != two.__code__.co_filename


def test_a_module_of_the_working_directory_is_found(folder: Path) -> None:
    (folder / "their_module.py").write_text("async def f(server):\n    pass\n")
    sys.path[:] = [entry for entry in sys.path if entry not in ("", str(folder))]
    assert load_function("their_module:f").__module__ == "their_module"


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("a.py", "Entrypoint is required for a.py, please use a.py:entrypoint_function"),
        ("module", "Entrypoint is required for module, please use module:entrypoint_function"),
        ("none.py:f", "Module none.py does not exist"),
        ("a.py:plain", "Entrypoint plain is not a coroutine"),
        ("a.py:missing", "Entrypoint missing does not exist in a.py"),
        ("broken.py:f", "Module broken.py cannot be loaded: ZeroDivisionError: division by zero"),
        ("leaving.py:f", "Module leaving.py cannot be loaded: SystemExit: 3"),
        ("no_such_module_here:f", "Module no_such_module_here cannot be loaded: ModuleNotFoundError"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason(folder: Path, uri: str, text: str) -> None:
    (folder / "a.py").write_text("def plain(server):\n    pass\n")
    (folder / "broken.py").write_text("1 / 0\n")
    (folder / "leaving.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(StartupError) as caught:
        load_function(uri)
    assert str(caught.value).startswith(text)
