"""What the Pyodide tests need, kept in a folder that git ignores: npm packages and unpackable wheels.

Nothing is skipped when something cannot be installed: then the test fails.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CACHE = HERE / ".cache"
MSGPACK = "msgpack==1.2.4"
SHORTUUID = "shortuuid==1.0.13"
# What npm's pyodide 314 takes: Python 3.14 compiled for this platform.
ABI = (
    "--platform",
    "pyemscripten_2026_0_wasm32",
    "--python-version",
    "3.14",
    "--implementation",
    "cp",
    "--abi",
    "cp314",
)

Run = Callable[..., Awaitable[dict[str, Any]]]


def _command(*arguments: str, cwd: Path = HERE) -> None:
    done = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def _pip(*arguments: str) -> None:
    _command(sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "-q", *arguments)


def _fresh(folder: Path, wanted: str) -> bool:
    """Whether *folder* was completed for what is wanted; if not, it is emptied."""
    stamp = folder / "stamp"
    if stamp.exists() and stamp.read_text() == wanted:
        return True
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return False


@pytest.fixture(scope="session")
def modules() -> Path:
    """The folder of the npm packages."""
    assert shutil.which("node"), "node is needed"
    assert shutil.which("npm"), "npm is needed"
    folder, wanted = CACHE / "npm", (HERE / "package.json").read_text()
    if not _fresh(folder, wanted):
        shutil.copy(HERE / "package.json", folder)
        _command("npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--silent", cwd=folder)
        (folder / "stamp").write_text(wanted)
    return folder / "node_modules"


@pytest.fixture(scope="session")
def wheels() -> Path:
    """The wheels that are unpacked inside Pyodide: the two dependencies and this package as it is now."""
    libraries, wanted = CACHE / "libraries", f"{MSGPACK} {SHORTUUID} {ABI}"
    if not _fresh(libraries, wanted):
        _pip("download", "--no-deps", "--only-binary", ":all:", "-d", str(libraries), *ABI, MSGPACK)
        _pip("download", "--no-deps", "--only-binary", ":all:", "-d", str(libraries), SHORTUUID)
        (libraries / "stamp").write_text(wanted)
    folder = CACHE / "wheels"
    if not _fresh(folder, _sources()):
        _pip("wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT))
        for wheel in libraries.glob("*.whl"):
            shutil.copy(wheel, folder)
        (folder / "stamp").write_text(_sources())
    return folder


def _sources() -> str:
    digest = hashlib.sha256()
    for file in sorted([*(ROOT / "hypha_rpc").rglob("*.py"), ROOT / "pyproject.toml"]):
        digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


@pytest.fixture
def run_in_pyodide(modules: Path, wheels: Path) -> Run:
    """``await run_in_pyodide("transport", {...})`` returns what the program returned, decoded."""

    async def run(program: str, config: dict[str, Any], *, timeout_s: float = 50.0) -> dict[str, Any]:
        file = HERE / "programs" / f"{program}.py"
        arguments = [str(HERE / "run.mjs"), str(modules), str(wheels), str(file), json.dumps(config)]
        node = await asyncio.create_subprocess_exec(
            "node", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            output, errors = await asyncio.wait_for(node.communicate(), timeout_s)
        finally:
            if node.returncode is None:
                node.kill()
                await node.communicate()
        text = output.decode(errors="replace")
        assert node.returncode == 0, f"{text[-2000:]}\n{errors.decode(errors='replace')[-4000:]}"
        line = next(line for line in reversed(text.splitlines()) if line.startswith("RESULT "))
        result: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
        return result

    return run
