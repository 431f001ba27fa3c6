"""`register_auth_service` in a start-up function: own tokens, own login page (server §4.6)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from hypha.testing import RunningServer, run_server
from hypha_rpc import connect_to_server, login

MODULE = """
from hypha.core import UserInfo, UserPermission
from hypha.core.auth import create_scope


async def parse_token(token):
    if not token.startswith("corp-"):
        raise ValueError("not ours")
    name = token[5:]
    scope = create_scope(workspaces={f"ws-user-{name}": UserPermission.admin})
    return UserInfo(id=name, is_anonymous=False, email=None, parent=None, roles=["user"], scope=scope, expires_at=None)


def get_token(scope):
    for name, value in scope["headers"]:
        if name == b"x-corp":
            return value.decode()


async def index(event):
    return {"status": 200, "headers": {"Content-Type": "text/html"}, "body": f"own page for {event['user']['id']}"}


async def start(workspace=None, expires_in=None):
    return {"login_url": "https://corp.example/login", "key": "k1", "report_url": "https://corp.example/report"}


async def check(key, timeout=0, profile=False):
    return "corp-eve"


async def hypha_startup(server):
    assert server.config.workspace == "public"
    await server.register_auth_service(
        parse_token=parse_token, get_token=get_token, index_handler=index, start_handler=start, check_handler=check,
        extra=lambda: "extra",
    )
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    module = tmp_path / "corp_auth.py"
    module.write_text(MODULE)
    async with run_server(startup_functions=(f"{module}:hypha_startup",)) as running:
        yield running


async def test_own_tokens_connect_and_call(server: RunningServer) -> None:
    token = await login({"server_url": server.url, "login_callback": lambda context: None})
    assert token == "corp-eve"
    async with connect_to_server(server_url=server.url, token=token) as client:
        assert client.config.workspace == "ws-user-eve"
        # Tokens of this server go on working beside them.
        child = await client.generate_token()
    async with connect_to_server(server_url=server.url, token=child) as client:
        assert client.config.user["parent"] == "eve"
    with pytest.raises(PermissionError):
        async with connect_to_server(server_url=server.url, token="nonsense"):
            pass


async def test_own_tokens_over_http_wherever_the_module_looks(server: RunningServer) -> None:
    async with httpx2.AsyncClient(base_url=server.url) as http:
        for headers in ({"X-Corp": "corp-eve"}, {"Authorization": "Bearer corp-eve"}):
            answer = await http.get("/assets/config.json", headers=headers)
            assert answer.json()["user"]["id"] == "eve"
        assert (await http.get("/assets/config.json", headers={"X-Corp": "nonsense"})).status_code == 401


async def test_own_page_and_functions_with_the_usual_ones_beside_them(server: RunningServer) -> None:
    async with httpx2.AsyncClient(base_url=server.url) as http:
        page = await http.get("/public/apps/hypha-login/", headers={"X-Corp": "corp-eve"})
        assert page.text == "own page for eve"
        assert (await http.get("/public/services/hypha-login/extra")).json() == "extra"
        assert "logout_url" in (await http.get("/public/services/hypha-login/logout")).json()


async def test_a_login_service_of_a_startup_function_takes_the_place_of_the_usual_one(tmp_path: Path) -> None:
    module = tmp_path / "own_login.py"
    module.write_text(
        "async def hypha_startup(server):\n"
        "    await server.register_service({'id': 'hypha-login', 'type': 'functions',\n"
        "        'config': {'visibility': 'public'}, 'start': lambda: 'ours'})\n"
    )
    async with (
        run_server(startup_functions=(f"{module}:hypha_startup",)) as server,
        connect_to_server(server_url=server.url) as client,
    ):
        service = await client.get_service("public/hypha-login")
        assert await service.start() == "ours"
        assert "check" not in service
