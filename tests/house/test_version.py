"""Both distributions carry one version, written in one place."""

from __future__ import annotations

import re
import runpy
import tomllib
from typing import Any

import pytest

from tests.house.import_rules import REPOSITORY


def project(folder: str) -> dict[str, Any]:
    return tomllib.loads((REPOSITORY / folder / "pyproject.toml").read_text("utf-8"))


def version() -> str:
    return str(runpy.run_path(str(REPOSITORY / "hypha_rpc" / "_version.py"))["__version__"])


@pytest.mark.parametrize("folder", ["", "server"])
def test_a_distribution_reads_its_version_from_the_one_file(folder: str) -> None:
    data = project(folder)
    source = REPOSITORY / folder / data["tool"]["hatch"]["version"]["path"]
    assert data["project"]["dynamic"] == ["version"]
    assert "version" not in data["project"]
    assert source.resolve() == REPOSITORY / "hypha_rpc" / "_version.py"


def test_the_server_requires_the_sdk_of_its_own_version() -> None:
    pins = [text for text in project("server")["project"]["dependencies"] if text.startswith("hypha-rpc")]
    assert pins == [f"hypha-rpc=={version()}"]


def test_the_changelog_has_a_section_for_this_version() -> None:
    text = (REPOSITORY / "CHANGELOG.md").read_text("utf-8")
    assert re.search(rf"^## \[{re.escape(version())}\]", text, re.MULTILINE)


def test_every_dependency_has_a_lower_bound() -> None:
    wanted = [
        requirement
        for folder in ("", "server")
        for group in [
            project(folder)["project"]["dependencies"],
            *project(folder)["project"]["optional-dependencies"].values(),
        ]
        for requirement in group
        if not requirement.startswith("hypha-rpc")
    ]
    assert len(wanted) > 10
    assert [text for text in wanted if ">=" not in text] == []


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-public.txt"])
def test_constraints_are_versions_and_nothing_else(name: str) -> None:
    lines = (REPOSITORY / name).read_text("utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert len(pins) > 20
    assert [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)] == []
