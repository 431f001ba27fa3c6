"""Tokens through the doors: children, revocation of the living, what is left afterwards (security S16-S20)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from hypha.testing import RunningServer, run_server
from hypha_rpc import connect_to_server


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with run_server() as running:
        yield running


async def config_of(server: RunningServer, token: str) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=server.url) as http:
        return await http.get("/assets/config.json", headers={"Authorization": f"Bearer {token}"})


async def test_revoking_a_token_closes_what_rests_on_it_and_ends_its_children(server: RunningServer) -> None:
    mother = server.token("alice")
    async with connect_to_server(server_url=server.url, token=mother) as alice:
        token = await alice.generate_token({"permission": "admin"})
        async with connect_to_server(server_url=server.url, token=token) as child:
            grandchild = await child.generate_token()
            address = f"{child.config.workspace}/{child.config.client_id}"
            assert (await config_of(server, token)).status_code == 200
            await alice.revoke_token(token)
            async with asyncio.timeout(5):
                while address in server.app.router.connections:
                    await asyncio.sleep(0.01)
        for dead in (token, grandchild):
            assert (await config_of(server, dead)).status_code == 401
            with pytest.raises(Exception, match="revoked"):
                await alice.parse_token(dead)
            with pytest.raises(PermissionError, match="revoked"):
                async with connect_to_server(server_url=server.url, token=dead):
                    pass
        assert (await config_of(server, mother)).status_code == 200


async def test_a_stranger_revokes_nothing(server: RunningServer) -> None:
    token = server.token("alice")
    async with connect_to_server(server_url=server.url, token=server.token("eve")) as eve:
        with pytest.raises(PermissionError):
            await eve.revoke_token(token)
    assert (await config_of(server, token)).status_code == 200


async def test_answers_with_tokens_are_kept_by_nobody(server: RunningServer) -> None:
    async with httpx2.AsyncClient(base_url=server.url) as http:
        key = (await http.get("/public/services/hypha-login/start")).json()["key"]
        params = {"key": key, "token": server.token("alice")}
        report = await http.get("/public/services/hypha-login/report", params=params)
        check = await http.get("/public/services/hypha-login/check", params={"key": key})
    assert report.headers["cache-control"] == check.headers["cache-control"] == "no-store"


async def test_after_the_server_no_thread_and_no_task_is_left(tmp_path: Path) -> None:
    tasks = asyncio.all_tasks()
    async with run_server(state_dir=str(tmp_path / "state")) as server:
        async with httpx2.AsyncClient(base_url=server.url) as http:
            fields = {"name": "Ada", "email": "a@b.c", "password": "correct horse"}
            answer = await http.post("/public/services/hypha-login/signup", json=fields)
            assert answer.json()["success"]
        assert {"hypha-store"} <= {thread.name for thread in threading.enumerate()}
    left = {thread.name for thread in threading.enumerate() if thread.name.startswith("hypha")}
    assert left == set()
    assert asyncio.all_tasks() == tasks
