"""The programs in ``examples/``, in the README and on the terminal run as they stand, each in a process of its own.

The notebook does in tests/integration/sync.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hypha.testing import RunningServer, run_server
from tests.house.import_rules import REPOSITORY

EXAMPLES = REPOSITORY / "examples"
PRINTED = {
    "callbacks.py": "progress: 1/2\nprogress: 2/2\nresult: 21.5\nchanged to 22.0\n",
    "arrays.py": (
        "smoothed: (1000, 1000) float64 progress told to the end: True\n"
        "strips: [(400, 1001), (400, 1001), (200, 1001)]\n"
    ),
    "encryption.py": "bob reads: see you at noon\neve is refused\n",
}
#: Run by other tests, or below.
ELSEWHERE = {"hello_world.py", "external_service.py", "blocking_notebook.ipynb", "worker.py", "client.py", "login.py"}

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with run_server() as running:
        yield running


def environment(**more: str) -> dict[str, str]:
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "server")])
    return {**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1", **more}


async def start(server: RunningServer, name: str, *args: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", str(EXAMPLES / name), *args),
        env=environment(HYPHA_SERVER_URL=server.url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def run(server: RunningServer, name: str, *args: str) -> str:
    process = await start(server, name, *args)
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert (process.returncode, err.decode()) == (0, "")
    return out.decode()


@contextlib.asynccontextmanager
async def running(server: RunningServer, name: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program that serves until Ctrl-C, and says nothing then."""
    process = await start(server, name)
    try:
        yield process
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(10):
            _, err = await process.communicate()
        assert (process.returncode, err.decode()) == (0, "")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def line_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(20):
        return (await process.stdout.readline()).decode().rstrip()


def test_every_example_is_run() -> None:
    found = {path.name for path in EXAMPLES.iterdir() if path.suffix in {".py", ".ipynb"}}
    assert found == PRINTED.keys() | ELSEWHERE
    listed = set(re.findall(r"\]\(([\w.]+)\)", (EXAMPLES / "README.md").read_text("utf-8")))
    assert found <= listed


@pytest.mark.parametrize("name", PRINTED)
async def test_an_example_prints_what_it_is_about(server: RunningServer, name: str) -> None:
    assert await run(server, name) == PRINTED[name]


async def test_the_client_calls_the_worker(server: RunningServer) -> None:
    async with running(server, "worker.py") as worker:
        printed = await run(server, "client.py", await line_of(worker))
    assert printed == (
        "1 + 2 = 3\ncounting: [0, 1, 2]\nmany: [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]\n"
        "refused: unsupported operand type(s) for +: 'int' and 'str'\n"
    )


def report(url: str, key: str, token: str) -> None:
    query = urllib.parse.urlencode({"key": key, "token": token})
    with urllib.request.urlopen(f"{url}/public/services/hypha-login/report?{query}", timeout=10) as answer:
        assert answer.status == 200


async def test_the_login_goes_on_when_a_person_has_logged_in(server: RunningServer) -> None:
    process = await start(server, "login.py")
    try:
        printed = await line_of(process)
        key = urllib.parse.parse_qs(urllib.parse.urlsplit(printed[printed.index("http") :]).query)["key"][0]
        await asyncio.to_thread(report, server.url, key, server.token("alice"))
        async with asyncio.timeout(20):
            out, err = await process.communicate()
        assert (process.returncode, err.decode()) == (0, "")
        assert "logged in as" in out.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_the_quick_start_of_the_readme(server: RunningServer, tmp_path: Path) -> None:
    text = (REPOSITORY / "README.md").read_text("utf-8").replace("http://127.0.0.1:9527", server.url)
    programs = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for name, program in zip(("worker.py", "client.py"), programs, strict=True):
        (tmp_path / name).write_text(program, "utf-8")
    worker = await start(server, str(tmp_path / "worker.py"))
    try:
        service_id = (await line_of(worker)).removeprefix("registered ")
        assert await run(server, str(tmp_path / "client.py"), service_id) == "Hello John\n"
        workspace, _, service = service_id.partition("/")
        (line,) = re.findall(r"`curl '(.*)'`", text)
        url = line.replace("<workspace>", workspace).replace("<service>", service)
        assert await asyncio.to_thread(fetch, url) == '"Hello John"'
    finally:
        worker.kill()
        await worker.wait()


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


async def test_what_the_server_says_to_try_works(tmp_path: Path) -> None:
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hypha.server", "--in-memory", "--port=0"),
        *("--startup-functions", "examples/hello_world.py:hypha_startup"),
        cwd=REPOSITORY,
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        lines = [await line_of(server) for _ in range(8)]
        assert "ready at http://127.0.0.1:" in lines[0]
        curl, python = lines[3], "\n".join(lines[5:8])
        assert await asyncio.to_thread(fetch, curl.split("'")[1]) == '"Hello John"'
        done = await asyncio.create_subprocess_shell(
            python, cwd=REPOSITORY, env=environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        async with asyncio.timeout(20):
            out, _ = await done.communicate()
        assert out == b"Hello John\n"
    finally:
        server.terminate()
        async with asyncio.timeout(20):
            assert await server.wait() == 0
