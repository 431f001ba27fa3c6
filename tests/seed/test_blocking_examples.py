"""The blocking examples of the getting-started document, as written but for the port, as two processes."""

# ruff: noqa: W293 - the examples are kept to the letter

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time

import pytest

from hypha.testing import ServerProcess

WORKER = """
from hypha_rpc.sync import connect_to_server

def start_server(server_url):
    server = connect_to_server({"server_url": server_url})
    
    def hello(name):
        print("Hello " + name)
        return "Hello " + name

    server.register_service({
        "name": "Hello World",
        "id": "hello-world",
        "config": {
            "visibility": "public"
        },
        "hello": hello
    })
    
    print(f"Hello world service registered at workspace: {server.config.workspace}")
    print(f"Test it with the HTTP proxy: {server_url}/{server.config.workspace}/services/hello-world/hello?name=John")

if __name__ == "__main__":
    server_url = "http://localhost:9527"
    start_server(server_url)
"""

CLIENT = """
import asyncio
from hypha_rpc.sync import connect_to_server

def main():
    server = connect_to_server({"server_url": "http://localhost:9527"})

    # Get an existing service
    # Since "hello-world" is registered as a public service, we can access it using only the name "hello-world"
    svc = server.get_service("hello-world")
    ret = svc.hello("John")
    print(ret)

if __name__ == "__main__":
    main()
"""

STAYS_S = 30.0


async def run_client(path) -> tuple[int, str, str]:
    command = [sys.executable, str(path)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=15, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.timeout(90)
async def test_the_blocking_worker_serves_the_blocking_client_until_ctrl_c(tmp_path):
    async with ServerProcess() as server:
        port = server.url.rpartition(":")[2]
        for name, source in (("worker.py", WORKER), ("client.py", CLIENT)):
            (tmp_path / name).write_text(source.replace("9527", port))
        pipe = asyncio.subprocess.PIPE
        command = [sys.executable, "-u", str(tmp_path / "worker.py")]
        worker = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
        try:
            assert worker.stdout is not None
            first = await asyncio.wait_for(worker.stdout.readline(), 15)
            assert first.startswith(b"Hello world service registered at workspace: ws-user-anonymouz-")
            await worker.stdout.readline()
            registered = time.monotonic()
            begin = time.monotonic()
            assert await run_client(tmp_path / "client.py") == (0, "Hello John\n", "")
            # What only called ends at once.
            assert time.monotonic() - begin < 5
            assert await asyncio.wait_for(worker.stdout.readline(), 5) == b"Hello John\n"
            # The main thread has ended long ago.
            await asyncio.sleep(registered + STAYS_S - time.monotonic())
            assert await run_client(tmp_path / "client.py") == (0, "Hello John\n", "")
            assert await asyncio.wait_for(worker.stdout.readline(), 5) == b"Hello John\n"
            begin = time.monotonic()
            worker.send_signal(signal.SIGINT)
            rest, noise = await asyncio.wait_for(worker.communicate(), 5)
            assert time.monotonic() - begin < 1
            assert (worker.returncode, rest, noise) == (0, b"", b"")
        finally:
            if worker.returncode is None:
                worker.kill()
                await worker.wait()
