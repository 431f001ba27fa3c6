"""What outlives a server that is killed: accounts, revocations, workspaces (server §2.2, security S18)."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from hypha.testing import ServerProcess
from hypha_rpc import connect_to_server
from hypha_rpc.errors import RemoteException

pytestmark = [pytest.mark.faults, pytest.mark.timeout(60)]

ADA = {"email": "ada@example.org", "password": "correct horse"}
LOGIN = "/public/services/hypha-login"


@pytest.fixture
async def server() -> AsyncIterator[ServerProcess]:
    async with ServerProcess() as process:
        yield process


async def post(server: ServerProcess, function: str, **fields: Any) -> Any:
    async with httpx2.AsyncClient(base_url=server.url, timeout=10) as http:
        return (await http.post(f"{LOGIN}/{function}", json=fields)).json()


async def log_in(server: ServerProcess) -> str:
    token: str = (await post(server, "login", **ADA))["token"]
    return token


async def sign_up(server: ServerProcess) -> str:
    code = (await post(server, "signup", name="Ada", **ADA))["dev_code"]
    await post(server, "verify_email", email=ADA["email"], code=code)
    return await log_in(server)


async def killed(server: ServerProcess) -> None:
    """Kill the server and start it again."""
    assert await server.kill() == -9
    await server.start()


async def test_an_account_logs_in_as_the_same_user(server: ServerProcess) -> None:
    first = await sign_up(server)
    async with connect_to_server(server_url=server.url, token=first) as client:
        workspace = client.config.workspace
    await killed(server)
    async with connect_to_server(server_url=server.url, token=await log_in(server)) as client:
        assert client.config.workspace == workspace
    async with connect_to_server(server_url=server.url, token=first) as client:
        assert client.config.workspace == workspace


async def test_a_revoked_token_stays_revoked(server: ServerProcess) -> None:
    kept = await sign_up(server)
    async with connect_to_server(server_url=server.url, token=kept) as client:
        revoked = await client.generate_token()
        child = revoked
        async with connect_to_server(server_url=server.url, token=revoked) as other:
            workspace = other.config.workspace
        await client.revoke_token(revoked)
    await killed(server)
    with pytest.raises(PermissionError, match="revoked"):
        async with connect_to_server(server_url=server.url, token=child):
            pass
    async with connect_to_server(server_url=server.url, token=kept) as client:
        assert client.config.workspace == workspace


async def test_a_persistent_workspace_keeps_what_is_in_it(server: ServerProcess) -> None:
    token = await sign_up(server)
    async with connect_to_server(server_url=server.url, token=token) as client:
        await client.create_workspace({"id": "ada-lab", "persistent": True, "description": "kept", "owners": ["bob"]})
        await client.create_workspace({"id": "ada-tmp"})
        await client.set_env("colour", {"r": 1, "raw": b"\x00"})
        await client.set_env("gone", 1)
        await client.set_env("gone", None)
        await client.bookmark({"bookmark_type": "workspace", "id": "ada-lab"})
        await client.register_service_type({"id": "t1", "name": "T", "definition": {"f": "x"}})
        before = await client.get_workspace_info("ada-lab")
    await killed(server)
    async with connect_to_server(server_url=server.url, token=token) as client:
        assert await client.get_env() == {"colour": {"r": 1, "raw": b"\x00"}}
        assert (await client.get_service_type("t1"))["definition"] == {"f": "x"}
        info = await client.get_workspace_info()
        assert [mark["id"] for mark in info["config"]["bookmarks"]] == ["ada-lab"]
        assert await client.get_workspace_info("ada-lab") == before
        with pytest.raises(RemoteException, match="not found"):
            await client.get_workspace_info("ada-tmp")
        await client.delete_workspace("ada-lab")
    await killed(server)
    async with connect_to_server(server_url=server.url, token=token) as client:
        with pytest.raises(RemoteException, match="not found"):
            await client.get_workspace_info("ada-lab")


async def test_every_write_that_was_acknowledged_is_there(server: ServerProcess) -> None:
    token = await sign_up(server)
    acknowledged: list[str] = []
    async with connect_to_server(server_url=server.url, token=token) as client:
        for number in range(90):
            await client.set_env(f"k{number}", number)
            acknowledged.append(f"k{number}")
            if number == 60:
                break
        await server.kill()
    await server.start()
    async with connect_to_server(server_url=server.url, token=token) as client:
        assert set(acknowledged) <= set(await client.get_env())


async def test_a_disk_that_refuses_is_one_clear_error_and_the_switch_goes_on(server: ServerProcess) -> None:
    token = await sign_up(server)
    async with connect_to_server(server_url=server.url, token=token, client_id="provider") as client:
        await client.register_service({"id": "echo", "config": {"visibility": "public"}, "echo": lambda x: x})
        # Whoever holds the lock for writing is as good as a disk that does not take anything.
        blocker = sqlite3.connect(server.folder / "state" / "hypha.sqlite3", isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        try:
            with pytest.raises(RemoteException, match="The change holds, but only until the server ends: The server's"):
                await client.set_env("k", 1)
            async with connect_to_server(server_url=server.url) as stranger:
                service = await stranger.get_service(f"{client.config.workspace}/provider:echo")
                assert await service.echo(7) == 7
        finally:
            blocker.execute("ROLLBACK")
            blocker.close()
        await client.set_env("k", 2)
    await killed(server)
    async with connect_to_server(server_url=server.url, token=token) as client:
        assert await client.get_env("k") == 2


async def test_what_is_in_memory_only_is_gone_and_nothing_is_written() -> None:
    async with ServerProcess("--in-memory", env={"JWT_SECRET": "0123456789abcdef0123456789abcdef"}) as server:
        await sign_up(server)
        await killed(server)
        assert not (await post(server, "login", **ADA))["success"]
        assert [path.name for path in server.folder.iterdir()] == ["server.log"]
