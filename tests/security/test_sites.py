"""Pages of other sites at the WebSocket door (security S28)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus

import pytest

from hypha.doors.sites import SiteRule
from hypha.settings import Settings
from hypha.testing import RunningServer, run_server

LISTED = "https://good.example"
UPGRADE = (
    "GET /ws HTTP/1.1\r\nHost: {host}\r\n{origin}Upgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.fixture(params=["picows", "asgi"])
def door(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HYPHA_DOOR", request.param)
    return str(request.param)


@pytest.fixture
async def server(door: str) -> AsyncIterator[RunningServer]:
    async with run_server(allow_origins=(LISTED,), allowed_hosts=("lab.example",)) as running:
        yield running


async def status(server: RunningServer, *, host: str, origin: str | None) -> int:
    """How an upgrade is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        line = "" if origin is None else f"Origin: {origin}\r\n"
        writer.write(UPGRADE.format(host=host.format(port=server.port), origin=line.format(port=server.port)).encode())
        return int((await asyncio.wait_for(reader.readline(), 5)).split()[1])
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("host", "origin", "expected"),
    [
        ("127.0.0.1:{port}", LISTED, 101),
        ("127.0.0.1:{port}", None, 101),
        ("lab.example", LISTED, 101),
        ("LAB.example:80", None, 101),
        ("localhost:{port}", "http://localhost:{port}", 101),
        ("127.0.0.1:{port}", "http://127.0.0.1:{port}", 101),
        ("127.0.0.1:{port}", "https://evil.example", 403),
        ("127.0.0.1:{port}", "null", 403),
        ("127.0.0.1:{port}", "https://good.example.evil.example", 403),
        ("127.0.0.1:{port}", "http://good.example", 403),
        ("localhost:{port}", "http://localhost:9", 403),
        ("rebound.example:{port}", None, 421),
        ("rebound.example:{port}", "http://rebound.example:{port}", 421),
        ("rebound.example", LISTED, 421),
        ("127.0.0.1.evil.example", None, 421),
    ],
)
async def test_where_origins_are_listed_others_do_not_come_in(
    server: RunningServer, host: str, origin: str | None, expected: int
) -> None:
    assert await status(server, host=host, origin=origin) == expected


async def test_any_page_comes_in_where_none_are_listed_and_its_cookies_mean_nothing(door: str) -> None:
    async with run_server() as running:
        cookie = f"https://evil.example\r\nCookie: access_token={running.token('alice')}"
        assert await status(running, host="anything.example", origin=cookie) == 101


def test_the_public_address_is_one_of_ours() -> None:
    settings = Settings(
        allow_origins=(LISTED,), public_base_url="https://hub.example/base", apps_origin="https://a.example"
    )
    rule = SiteRule.of(settings, settings.public_url())
    assert rule.refusal("hub.example", "https://hub.example") is None
    assert rule.refusal("10.0.0.1:80", "https://hub.example") is HTTPStatus.MISDIRECTED_REQUEST
    assert rule.refusal("a.example", "https://a.example") is None
    assert rule.refusal("hub.example", "https://a.example") is HTTPStatus.FORBIDDEN
