"""Fixtures of the interop tests: one matrix of processes a session."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .matrix import Matrix
from .sides import KINDS, InterpreterMissing, interpreter

HERE = Path(__file__).resolve().parent


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, so that this folder can be run by itself."""
    config.addinivalue_line("markers", "interop: needs both interpreters and real processes")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is an interop test."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("interop")


@pytest.fixture(scope="session")
def both_sides() -> None:
    """Fail, with what to do about it, when an interpreter is missing: a skipped matrix proves nothing."""
    missing = [text for kind in KINDS if (text := what_is_missing(kind))]
    if missing:
        pytest.fail("\n".join(missing), pytrace=False)


def what_is_missing(kind: str) -> str:
    """What to do about a missing interpreter, empty when it is there."""
    try:
        interpreter(kind)
    except InterpreterMissing as error:
        return str(error)
    return ""


@pytest.fixture(scope="session")
def matrix(both_sides: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    """Both servers, a provider of each side on each, and all consumers."""
    matrix = Matrix(tmp_path_factory.mktemp("interop"))
    try:
        matrix.open()
        yield matrix
    finally:
        matrix.close()


@pytest.fixture(scope="session")
def node_modules(both_sides: None) -> Path:
    """The folder with the public JavaScript client: the one that HYPHA_PUBLIC_NODE_MODULES names, or made here."""
    given = os.environ.get("HYPHA_PUBLIC_NODE_MODULES")
    if given:
        return Path(given)
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.fail("node and npm are needed", pytrace=False)
    folder, lock = HERE / ".cache" / "npm", HERE / "package-lock.json"
    installed = folder / "package-lock.json"
    if not (installed.exists() and installed.read_text() == lock.read_text() and (folder / "node_modules").exists()):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / "package.json", folder)
        shutil.copy(lock, installed)
        command = ["npm", "ci", "--no-audit", "--no-fund", "--silent"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
        if done.returncode != 0:
            installed.unlink()
            pytest.fail(f"npm ci failed: {done.stderr[-2000:]}", pytrace=False)
    return folder / "node_modules"
