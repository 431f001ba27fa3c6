"""The first two examples of the getting-started document, as written but for the port, as two processes."""

# ruff: noqa: W293 - the examples are kept to the letter

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap

from hypha.testing import ServerProcess

WORKER = """
import asyncio
from hypha_rpc import connect_to_server

async def start_server(server_url):
    server = await connect_to_server({"server_url": server_url})
    
    def hello(name):
        print("Hello " + name)
        return "Hello " + name

    await server.register_service({
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
    loop = asyncio.get_event_loop()
    loop.create_task(start_server(server_url))
    loop.run_forever()
"""

CLIENT = """
import asyncio
from hypha_rpc import connect_to_server

async def main():
    server = await connect_to_server({"server_url": "http://localhost:9527"})

    # Get an existing service
    # Since "hello-world" is registered as a public service, we can access it using only the name "hello-world"
    svc = await server.get_service("hello-world")
    ret = await svc.hello("John")
    print(ret)
if __name__ == "__main__":
    asyncio.run(main())
"""


async def test_the_async_worker_and_the_async_client_meet(tmp_path):
    async with ServerProcess() as server:
        port = server.url.rpartition(":")[2]
        for name, source in (("worker.py", WORKER), ("client.py", CLIENT)):
            (tmp_path / name).write_text(textwrap.dedent(source).replace("9527", port))
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-u", str(tmp_path / "worker.py"), stdout=asyncio.subprocess.PIPE
        )
        try:
            assert worker.stdout is not None
            first = await asyncio.wait_for(worker.stdout.readline(), 15)
            assert first.startswith(b"Hello world service registered at workspace: ws-user-anonymouz-")
            await worker.stdout.readline()
            client = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, str(tmp_path / "client.py")],
                capture_output=True,
                text=True,
                timeout=15,
                check=False,
            )
            assert (client.returncode, client.stdout, client.stderr) == (0, "Hello John\n", "")
            assert await asyncio.wait_for(worker.stdout.readline(), 5) == b"Hello John\n"
        finally:
            worker.kill()
            await worker.wait()
