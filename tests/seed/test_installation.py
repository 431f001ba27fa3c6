"""Rows 1-2: the document's commands, in an empty environment, install our wheels."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

from hypha import __version__
from tests.house.import_rules import REPOSITORY
from tests.seed.document import block
from tests.seed.terminal import Terminal, terminal

pytestmark = [pytest.mark.wheels, pytest.mark.timeout(300)]


@dataclass(frozen=True)
class Empty:
    """An environment with nothing but pip, and the folder with our wheels."""

    python: str
    wheels: Path

    def type(self, command: str, folder: Path) -> str:
        """Type a ``pip install`` of the document; pip also looks at our wheels, and keeps to the tested versions."""
        assert command.startswith("pip install ")
        tested = f"--find-links {self.wheels} --constraint {REPOSITORY / 'constraints.txt'}"
        options = f"--disable-pip-version-check --quiet --prefer-binary {tested}"
        with terminal(folder, self.python) as shell:
            return shell.output(f"python -m {command.replace('install', f'install {options}', 1)}", 240)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Empty:
    folder = tmp_path_factory.mktemp("empty")
    # Built from a copy: a build must not see, nor leave, anything in the checkout.
    ignored = shutil.ignore_patterns(".*", "node_modules", "dist", "build", "vectors", "__pycache__", "docs", "bench")
    shutil.copytree(REPOSITORY, folder / "checkout", ignore=ignored)
    for part in (".", "server"):
        command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder / "wheels")]
        done = subprocess.run([*command, str(folder / "checkout" / part)], capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stdout + done.stderr
    venv.create(folder / "environment", with_pip=True)
    return Empty(str(folder / "environment" / "bin" / "python"), folder / "wheels")


def serve(shell: Terminal, position: int) -> None:
    server = shell.serve(block("Starting the Server", position=position))
    assert f"Hypha server {__version__} is ready" in server.wait_for_line("ready at")
    assert __version__ in shell.output("curl -s http://localhost:9527")
    assert server.end() == 0


def test_row_01_the_base_package_is_enough_to_start_the_server(empty: Empty, tmp_path: Path):
    empty.type(block("Installation").strip(), tmp_path)
    with terminal(tmp_path, empty.python) as shell:
        assert shell.output("python -c 'import hypha; print(hypha.__file__)'").startswith(
            str(Path(empty.python).parents[1])
        )
        assert shell.output("hypha-server --version") == f"hypha {__version__}\n"
        serve(shell, 0)


def test_row_02_the_extra_for_server_apps_is_there(empty: Empty, tmp_path: Path):
    command, browsers = block("Installation", position=1).strip().splitlines()
    empty.type(command, tmp_path)
    with terminal(tmp_path, empty.python) as shell:
        # `playwright install` fetches a browser from elsewhere: here only that the command is there.
        assert "install" in shell.output(f"{browsers} --help")
        serve(shell, 1)
