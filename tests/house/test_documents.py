"""The documents point at things that exist, and their programs are programs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.house.import_rules import REPOSITORY

DOCUMENTS = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for pattern in ("*.md", "server/*.md", "docs/*.md")
    for path in REPOSITORY.glob(pattern)
)


def read(document: str) -> str:
    return (REPOSITORY / document).read_text("utf-8")


def test_there_are_documents() -> None:
    assert {"README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs/architecture.md"} <= set(DOCUMENTS)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_relative_link_leads_somewhere(document: str) -> None:
    targets = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", read(document))
    folder = (REPOSITORY / document).parent
    assert [target for target in targets if not (folder / target).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_command_named_is_a_command_of_the_makefile(document: str) -> None:
    named = set(re.findall(r"(?:^|`)make ([a-z][a-z-]+)", read(document), re.MULTILINE))
    targets = set(re.findall(r"^([a-z][a-z-]*):", read("Makefile"), re.MULTILINE))
    assert named <= targets


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_python_block_compiles(document: str) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", read(document), re.MULTILINE | re.DOTALL):
        assert compile(block, document, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_architecture_names_files_that_exist() -> None:
    named = set(
        re.findall(r"`((?:hypha_rpc|server|js|tests|bench|examples|docs)/[\w./-]+)`", read("docs/architecture.md"))
    )
    assert "tests/house/import_rules.py" in named
    assert [name for name in sorted(named) if not Path(REPOSITORY, name).exists()] == []


def test_the_architecture_names_modules_that_exist() -> None:
    rooms = read("docs/architecture.md").partition("## 2. Rooms")[2].partition("### ")[0]
    there = {path.name for package in ("hypha_rpc", "server/hypha") for path in (REPOSITORY / package).rglob("*.py")}
    named = set(re.findall(r"\w+\.py", rooms))
    assert len(named) > 50
    assert named - there == set()


def test_every_room_of_the_packages_and_every_folder_of_tests_is_told() -> None:
    rooms = read("docs/architecture.md").partition("## 2. Rooms")[2].partition("### ")[0]
    for package in ("hypha_rpc", "server/hypha"):
        modules = (REPOSITORY / package).glob("*")
        found = {path.name for path in modules if (path.suffix == ".py" or (path / "__init__.py").exists())}
        assert [name for name in sorted(found - {"__init__.py"}) if not re.search(rf"\b{name}", rooms)] == []
    folders = {path.parent.name for path in (REPOSITORY / "tests").glob("*/test_*.py")}
    contributing = read("CONTRIBUTING.md")
    assert [name for name in sorted(folders) if f"`tests/{name}`" not in contributing] == []
    assert [name for name in sorted(folders) if not re.search(rf"\b{name}\b", rooms)] == []
