"""Starting and stopping a server process (server §1.3)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from hypha.testing import ServerProcess, free_port
from hypha_rpc import connect_to_server

pytestmark = pytest.mark.timeout(60)

WAITING = """
import asyncio, os
async def hypha_startup(server):
    while not os.path.exists("go"):
        await asyncio.sleep(0.01)
    await server.register_service({"id": "late", "config": {"visibility": "public"}, "hi": lambda: "hi"})
"""
BLOCKING = """
import time
async def hypha_startup(server):
    {where}
async def forever():
    time.sleep(3600)
"""
SURVEY = """
async def hypha_startup(server):
    config = server.config
    assert config.workspace == config["workspace"] == "public", config
    assert server.config.user["id"] == "root"
    info = await server.register_service({"id": "mine", "name": "Mine", "config": {"visibility": "public"}})
    assert info["id"] == f"public/{config.client_id}:mine", info
    assert config.client_id in config.manager_id
    assert "mine" in [service["name"].lower() for service in await server.list_services()]
    token = await server.generate_token({"workspace": "ws-user-root"})
    assert token.count(".") == 2
    server.register_codec({"name": "x", "type": complex, "encoder": str, "decoder": complex})
    print("survey done", flush=True)
"""


async def answer(port: int, path: str) -> tuple[int, bytes]:
    """Status and body of a GET request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await asyncio.wait_for(reader.read(), 10)).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body


async def until_closed(socket_: Any) -> None:
    """Read until the server closes."""
    async with asyncio.timeout(10):
        while True:
            await socket_.recv()


async def until_it_listens(port: int) -> None:
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        await asyncio.sleep(0.02)


async def test_it_listens_first_and_is_ready_after_the_startup_functions(tmp_path: Path):
    (tmp_path / "s.py").write_text(WAITING)
    server = ServerProcess("--startup-functions", "./s.py:hypha_startup", folder=tmp_path)
    await server.start(ready=False)
    try:
        await until_it_listens(server.port)
        status, body = await answer(server.port, "/health/readiness")
        assert (status, json.loads(body)["status"]) == (503, "DOWN")
        assert (await answer(server.port, "/health/liveness"))[0] == 200
        # Clients come in already.
        async with connect_to_server(server_url=server.url) as client:
            assert await client.echo("early") == "early"
            (tmp_path / "go").touch()
            while (await answer(server.port, "/health/readiness"))[0] != 200:
                await asyncio.sleep(0.02)
            assert await (await client.get_service("public/late")).hi() == "hi"
    finally:
        assert await server.stop() == 0


async def test_a_startup_function_gets_what_a_client_gets(tmp_path: Path):
    (tmp_path / "s.py").write_text(SURVEY)
    async with ServerProcess("--startup-functions=./s.py:hypha_startup", folder=tmp_path) as server:
        assert "survey done" in server.log_tail()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_clients_are_told_that_the_server_goes_away(tmp_path: Path, number: int):
    server = ServerProcess(folder=tmp_path)
    await server.start()
    async with connect(server.ws_url) as socket_:
        await socket_.send(json.dumps({"client_id": "somebody"}))
        assert json.loads(await socket_.recv())["type"] == "connection_info"
        server.signal(number)
        with pytest.raises(ConnectionClosed) as caught:
            await until_closed(socket_)
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1001, "Server is shutting down")
    assert await server.wait() == 0
    assert "Traceback" not in server.log_tail()


def is_stopped(pid: int) -> bool:
    return " T " in Path(f"/proc/{pid}/stat").read_text()


async def test_a_newcomer_is_not_refused_because_the_server_stood_still(tmp_path: Path):
    server = ServerProcess(folder=tmp_path, env={"HYPHA_FIRST_FRAME_TIMEOUT": "0.5"})
    await server.start()
    try:
        async with connect(server.ws_url) as socket_:
            server.signal(signal.SIGSTOP)
            while not is_stopped(server.pid):
                await asyncio.sleep(0.01)
            await socket_.send(json.dumps({"client_id": "somebody"}))
            # Its time is over in any case, and what it sent lies in the socket.
            await asyncio.sleep(1.2)
            server.signal(signal.SIGCONT)
            async with asyncio.timeout(10):
                assert json.loads(await socket_.recv())["type"] == "connection_info"
    finally:
        server.signal(signal.SIGCONT)
        assert await server.stop() == 0


async def upgrade_status(port: int) -> int:
    """Status of the answer to a request for a WebSocket."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    head = await asyncio.wait_for(reader.readline(), 10)
    writer.close()
    return int(head.split()[1])


async def test_the_end_leaves_time_for_calls_and_lets_nobody_in(tmp_path: Path):
    began, goes_on = asyncio.Event(), asyncio.Event()

    async def work() -> str:
        began.set()
        await goes_on.wait()
        return "done"

    server = ServerProcess(folder=tmp_path, env={"HYPHA_STOP_GRACE": "30"})
    await server.start()
    async with connect_to_server(server_url=server.url) as provider, connect_to_server(server_url=server.url) as caller:
        assert await upgrade_status(server.port) == 101
        info = await provider.register_service({"id": "work", "config": {"visibility": "public"}, "work": work})
        call = asyncio.ensure_future((await caller.get_service(info["id"])).work())
        await began.wait()
        server.signal(signal.SIGTERM)
        while (await answer(server.port, "/health/readiness"))[0] != 503:
            await asyncio.sleep(0.01)
        assert (await answer(server.port, "/health/liveness"))[0] == 200
        assert await upgrade_status(server.port) == 503
        goes_on.set()
        assert await call == "done"
    # Nobody is there any more: what is left of the grace is not waited for.
    assert await server.wait(5) == 0


@pytest.mark.parametrize(
    "where",
    [
        "time.sleep(3600)",
        "import asyncio; asyncio.get_running_loop().create_task(forever())",
        "import asyncio; asyncio.get_running_loop().run_in_executor(None, time.sleep, 3600)",
    ],
)
async def test_a_startup_function_that_blocks_stops_neither_the_switch_nor_the_end(tmp_path: Path, where: str):
    (tmp_path / "s.py").write_text(BLOCKING.format(where=where))
    server = ServerProcess("--startup-functions=./s.py:hypha_startup", folder=tmp_path)
    await server.start(ready=False)
    await until_it_listens(server.port)
    async with connect_to_server(server_url=server.url) as client:
        assert await client.echo(1) == 1
    assert await server.stop() == 0


async def test_a_taken_port_is_told_in_one_line(tmp_path: Path):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        server = ServerProcess(port=holder.getsockname()[1], folder=tmp_path)
        await server.start(ready=False)
        assert await server.wait() == 1
    assert server.log_tail().strip() == (
        f"hypha: cannot listen on 127.0.0.1:{server.port}: Address already in use"
        "; another program has this port, choose one with --port"
    )


async def test_the_access_log_tells_the_path_and_nothing_of_the_query(tmp_path: Path):
    async with ServerProcess(folder=tmp_path, env={"HYPHA_ACCESS_LOG": "true", "HYPHA_LOGLEVEL": "WARNING"}) as server:
        await answer(server.port, "/health/liveness?token=very-secret")
        while "/health/liveness" not in server.log_tail():
            await asyncio.sleep(0.02)
        assert '"GET /health/liveness HTTP/1.1" 200' in server.log_tail()
        assert "very-secret" not in server.log_tail()
    silent = tmp_path / "silent"
    async with ServerProcess(folder=silent) as server:
        await answer(server.port, "/health/liveness")
        assert "/health/liveness" not in server.log_tail()


async def test_a_mount_without_a_folder_ends_the_start(tmp_path: Path):
    server = ServerProcess("--static-mounts", "/tools:./none", folder=tmp_path)
    await server.start(ready=False)
    assert await server.wait() == 1
    assert f"hypha: --static-mounts /tools: the directory {tmp_path}/none does not exist" in server.log_tail()


async def test_the_base_path_is_before_every_route(tmp_path: Path):
    server = ServerProcess("--base-path=/hypha", folder=tmp_path)
    await server.start(ready=False)
    try:
        await until_it_listens(server.port)
        while (await answer(server.port, "/hypha/health/readiness"))[0] != 200:
            await asyncio.sleep(0.02)
        assert (await answer(server.port, "/health/readiness"))[0] == 404
        async with connect_to_server(server_url=f"{server.url}/hypha") as client:
            assert client.config.public_base_url == f"{server.url}/hypha"
    finally:
        assert await server.stop() == 0


class Runner:
    """An ASGI runner of the operator's choice, here uvicorn, with ``hypha.server:app``."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.port, self._folder, self._variables = free_port(), folder, variables
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> asyncio.subprocess.Process:
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "HYPHA_STATE_DIR": str(self._folder / "state"),
            "HYPHA_PORT": str(self.port),
            **self._variables,
        }
        command = [sys.executable, "-m", "uvicorn", "hypha.server:app", "--host", "127.0.0.1", "--port", str(self.port)]
        process: Any = await asyncio.create_subprocess_exec(
            *command,
            cwd=self._folder,
            env=env,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        return process


async def test_another_runner_serves_the_application(tmp_path: Path):
    (tmp_path / "s.py").write_text(SURVEY)
    runner = Runner(tmp_path, HYPHA_STARTUP_FUNCTIONS="./s.py:hypha_startup")
    process = await runner.start()
    await until_it_listens(runner.port)
    while (await answer(runner.port, "/health/readiness"))[0] != 200:
        await asyncio.sleep(0.02)
    async with connect_to_server(server_url=f"http://127.0.0.1:{runner.port}") as client:
        assert await client.echo("x") == "x"
    process.terminate()
    assert process.stderr is not None
    said = await asyncio.wait_for(process.stderr.read(), 20)
    assert b"Traceback" not in said
    assert await asyncio.wait_for(process.wait(), 10) in (0, -signal.SIGTERM)


async def test_another_runner_ends_when_a_startup_function_fails(tmp_path: Path):
    process = await Runner(tmp_path, HYPHA_STARTUP_FUNCTIONS="./none.py:f").start()
    assert process.stderr is not None
    said = await asyncio.wait_for(process.stderr.read(), 30)
    assert b"Module ./none.py does not exist" in said
    assert await asyncio.wait_for(process.wait(), 10) != 0
