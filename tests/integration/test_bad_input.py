"""Bad input at the command line: one clear line, an exit code, no traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hypha.testing import free_port, run_server


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hypha.server", "--in-memory", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)


def test_an_unknown_option_is_named():
    done = serve("--prot", "9000")
    assert done.returncode == 2
    assert "--prot" in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_taken_port_is_named():
    async with run_server() as running:
        import asyncio

        done = await asyncio.to_thread(serve, "--port", str(running.port))
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{running.port}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("source", "entry", "text"),
    [
        ("async def start(server):\n    raise RuntimeError('no microscope')\n", "start", "no microscope"),
        ("def start(server):\n    pass\n", "start", "Entrypoint start is not a coroutine"),
        ("", "start", "Entrypoint start does not exist"),
        (None, "start", "does not exist"),
        ("def broken(:", "start", "SyntaxError"),
    ],
    ids=["raises", "plain", "missing", "no-file", "syntax"],
)
def test_a_failing_startup_function_ends_the_process(tmp_path, source, entry, text):
    script = tmp_path / "startup.py"
    if source is not None:
        script.write_text(source)
    done = serve("--port", str(free_port()), f"--startup-functions={script}:{entry}")
    assert done.returncode == 1
    assert text in done.stderr.splitlines()[-1]
    # A trace shows the user's own lines, if any.
    assert "server/hypha/" not in done.stderr


def test_options_of_later_are_accepted_with_a_warning(tmp_path):
    script = tmp_path / "startup.py"
    script.write_text("async def start(server):\n    raise SystemError('far enough')\n")
    done = serve("--port", "0", "--enable-s3", "--minio-port", "9000", f"--startup-functions={script}:start")
    assert "enable-s3" in done.stderr
    assert "minio-port" in done.stderr
    assert "far enough" in done.stderr
