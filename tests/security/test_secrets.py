"""No log shows a token, a password, a key or what is sent, whatever level it is set to (security S50)."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import pytest

from hypha.testing import ServerProcess
from hypha_rpc import connect_to_server
from tests.integration.raw_peers import TEXT, peer_at, socket_at

pytestmark = pytest.mark.timeout(60)

ROOT = "q7Zb2mVx9KpLw4Tn8RcYd6Hj3Gf5Sa1Ue0Ik-Oz_BvMy"
SECRET = "the-signing-secret-of-this-test-0123456789"
PASSWORD = "correct horse battery staple"
PAYLOAD = "nobody-but-the-receiver-sees-this"
TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]{8,}")


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
@pytest.mark.parametrize("door", ["picows", "asgi"])
async def test_secrets_are_in_no_log(level: str, door: str) -> None:
    env = {"HYPHA_LOGLEVEL": level, "HYPHA_ACCESS_LOG": "1", "HYPHA_DOOR": door, "HYPHA_JWT_SECRET": SECRET}
    async with ServerProcess("--in-memory", f"--root-token={ROOT}", env=env) as server:
        seen: set[str] = {ROOT, SECRET, PASSWORD, PAYLOAD}
        await by_client(server, seen)
        await by_http(server, seen)
        await by_hand(server)
        text = server.log.read_text("utf-8", "replace")
    assert " is ready at " in text
    shown = [line for line in text.splitlines() if TOKEN.search(line) or any(one in line for one in seen)]
    assert shown == []
    assert "Traceback" not in text


async def by_client(server: ServerProcess, seen: set[str]) -> None:
    """Log in, mint, call, fail, send something big."""
    async with connect_to_server(server_url=server.url, client_id="prov") as client:
        token = await client.generate_token()
        seen.add(token)
        service: dict[str, Any] = {"id": "svc", "echo": lambda value: value, "fail": fail}
        await client.register_service({**service, "config": {"visibility": "public"}})
        options = {"server_url": server.url, "token": token, "client_id": "cons"}
        async with connect_to_server(options) as consumer:
            svc = await consumer.get_service("svc")
            await svc.echo(PAYLOAD)
            await svc.echo({"key": PAYLOAD * 50_000})
            with pytest.raises(Exception, match=PAYLOAD):
                await svc.fail(PAYLOAD)
        login = await client.get_service("public/hypha-login")
        start = await login.start()
        seen.add(start["key"])
        made = await login.signup(name="Ada", email="ada@example.org", password=PASSWORD)
        await login.verify_email(email="ada@example.org", code=made["dev_code"])
        for password in ("x" + PASSWORD, PASSWORD):
            await login.login(email="ada@example.org", password=password, key=start["key"])
        await client.set_env("SECRET", PAYLOAD)
        await client.revoke_token(token)


async def by_http(server: ServerProcess, seen: set[str]) -> None:
    """Show tokens good and bad wherever a request has a place for one."""
    async with httpx2.AsyncClient(trust_env=False, base_url=server.url) as http:
        for token in (ROOT, ROOT[:-1] + "x"):
            seen.add(token)
            headers = {"Authorization": f"Bearer {token}", "Cookie": f"access_token={token}"}
            await http.get(f"/public/services/?token={token}&key={PAYLOAD}", headers=headers)
            await http.post("/public/services/hypha-login/start", json={"workspace": PAYLOAD}, headers=headers)
            await http.get(f"/public/services/hypha-login/report?key={PAYLOAD}&token={token}")
            # A good one opens a stream, which would not end.
            async with http.stream("GET", f"/rpc?client_id=a&token={token}", headers=headers) as stream:
                seen.add(stream.headers.get("x-hypha-stream", token))
            await http.get(f"/public/apps/hypha-login/?key={PAYLOAD}")


async def by_hand(server: ServerProcess) -> None:
    """What no client sends: credentials in the URL, damaged first messages, damaged frames."""
    for path in (f"/ws?token={ROOT}&workspace={PAYLOAD}", f"/nothing?token={ROOT}"):
        async with socket_at(server.url) as socket:
            await socket.upgrade(path)
    for first in (f'{{"token": "{ROOT}x"}}', f'{{"client_id": "a", "token": "{ROOT}" ', f'{{"token": ["{ROOT}"]}}'):
        async with socket_at(server.url) as socket:
            await socket.upgrade()
            socket.send(TEXT, first.encode())
            await socket.close_code()
    async with peer_at(server.ws_url, "raw") as peer:
        await peer.ws.send(b"\xc1" + PAYLOAD.encode())
        await peer.ws.send(f'{{"type": "{PAYLOAD}"}}')
        await peer.send({"type": "method", "to": "nobody", "method": PAYLOAD, "session": "s"}, {"args": [PAYLOAD]})
        await peer.send({"type": PAYLOAD, "to": "*"})
        assert await peer.alive()


def fail(text: str) -> None:
    """Fail with what was sent."""
    raise ValueError(text)
