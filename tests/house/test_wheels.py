"""What the built distributions contain, and that neither owns a file of the other."""

from __future__ import annotations

import email.parser
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.house.import_rules import REPOSITORY
from tests.house.test_version import version

if TYPE_CHECKING:
    from email.message import Message
    from pathlib import Path

pytestmark = [pytest.mark.wheels, pytest.mark.timeout(120)]

EXTRAS = {
    "hypha_rpc": {"encryption", "full", "test", "webrtc"},
    "hypha": {"oidc", "redis", "server-apps"},
}


@dataclass(frozen=True)
class Built:
    """One distribution: its wheel, opened, and its source archive."""

    package: str
    wheel: Path
    names: frozenset[str]
    metadata: Message
    tags: Message
    source_names: frozenset[str]


def build(package: str, folder: Path, out: Path) -> Built:
    """Build the source archive and, from it, the wheel; the backend is the installed one, so no network is used."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = out.glob(f"{package}-*.whl")
    (source,) = out.glob(f"{package}-*.tar.gz")
    parse = email.parser.Parser().parsestr
    with zipfile.ZipFile(wheel) as archive:
        info = f"{package}-{version()}.dist-info"
        metadata = parse(archive.read(f"{info}/METADATA").decode())
        tags = parse(archive.read(f"{info}/WHEEL").decode())
        names = frozenset(archive.namelist())
    with tarfile.open(source) as archive:
        sources = frozenset(name.partition("/")[2] for name in archive.getnames())
    return Built(package, wheel, names, metadata, tags, sources)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    # Built from a copy: a build must not see, nor leave, anything in the checkout.
    copy = tmp_path_factory.mktemp("tree") / "checkout"
    ignored = shutil.ignore_patterns(".*", "node_modules", "dist", "build", "vectors", "__pycache__", "docs", "bench")
    shutil.copytree(REPOSITORY, copy, ignore=ignored)
    out = tmp_path_factory.mktemp("dist")
    return {package: build(package, copy / folder, out) for package, folder in (("hypha_rpc", ""), ("hypha", "server"))}


def own_files(package: str) -> set[str]:
    """The files below the package in the checkout, as the wheel should name them."""
    base = REPOSITORY / {"hypha_rpc": "", "hypha": "server"}[package]
    found = (base / package).rglob("*")
    return {path.relative_to(base).as_posix() for path in found if path.is_file() and "__pycache__" not in path.parts}


@pytest.mark.parametrize("package", ["hypha_rpc", "hypha"])
class TestWheel:
    def test_it_holds_its_package_whole_and_nothing_else(self, built: dict[str, Built], package: str) -> None:
        info = f"{package}-{version()}.dist-info/"
        outside_info = {name for name in built[package].names if not name.startswith(info)}
        assert outside_info == own_files(package)

    def test_it_is_pure(self, built: dict[str, Built], package: str) -> None:
        assert built[package].wheel.name == f"{package}-{version()}-py3-none-any.whl"
        assert built[package].tags["Root-Is-Purelib"] == "true"
        assert built[package].tags.get_all("Tag") == ["py3-none-any"]

    def test_it_says_that_it_is_typed(self, built: dict[str, Built], package: str) -> None:
        assert f"{package}/py.typed" in built[package].names

    def test_it_carries_no_tests(self, built: dict[str, Built], package: str) -> None:
        bad = ("tests/", "/tests/", "conftest", "/test_")
        assert [name for name in built[package].names if any(part in name for part in bad)] == []

    def test_its_licence_travels_with_it(self, built: dict[str, Built], package: str) -> None:
        assert f"{package}-{version()}.dist-info/licenses/LICENSE" in built[package].names
        assert built[package].metadata["License-Expression"] == "MIT"

    def test_its_extras_are_declared(self, built: dict[str, Built], package: str) -> None:
        assert set(built[package].metadata.get_all("Provides-Extra", [])) >= EXTRAS[package]

    def test_its_version_and_python_are_the_ones_we_say(self, built: dict[str, Built], package: str) -> None:
        assert built[package].metadata["Version"] == version()
        assert built[package].metadata["Requires-Python"] == ">=3.11"

    def test_its_source_archive_holds_the_package_and_no_other(self, built: dict[str, Built], package: str) -> None:
        folders = {name.partition("/")[0] for name in built[package].source_names if "/" in name}
        assert folders == {package}


def test_the_server_wheel_requires_the_sdk_of_its_version(built: dict[str, Built]) -> None:
    assert f"hypha-rpc=={version()}" in built["hypha"].metadata.get_all("Requires-Dist", [])


def test_the_sdk_wheel_requires_no_websocket_library_in_pyodide(built: dict[str, Built]) -> None:
    core = [text for text in built["hypha_rpc"].metadata.get_all("Requires-Dist", []) if "extra ==" not in text]
    plain = sorted(text for text in core if "sys_platform != 'emscripten'" not in text.replace('"', "'"))
    assert [text.partition(">")[0] for text in plain] == ["msgpack", "shortuuid"]
    assert len(core) == 4
