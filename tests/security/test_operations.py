"""What an operator is told, and what outsiders are not (security S35, S52, S53)."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from hypha.testing import run_server


async def fetched(url: str, path: str, **headers: str) -> httpx2.Response:
    async with httpx2.AsyncClient(trust_env=False, base_url=url) as http:
        return await http.get(path, headers=headers)


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
async def test_a_proxy_that_is_not_trusted_is_one_warning_and_lets_nobody_see_figures(
    header: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with run_server() as server:
        assert (await fetched(server.url, "/health")).status_code == 200
        for path in ("/health", "/metrics", "/health/liveness", "/"):
            response = await fetched(server.url, path, **{header: "203.0.113.7"})
            assert response.status_code == (403 if path in ("/health", "/metrics") else 200)
    told = [record for record in caplog.records if record.name == "hypha.web" and record.levelno >= logging.WARNING]
    assert len(told) == 1
    assert "HYPHA_TRUSTED_PROXIES" in told[0].getMessage() and "203.0.113.7" not in told[0].getMessage()


async def test_behind_a_trusted_proxy_the_client_counts(caplog: pytest.LogCaptureFixture) -> None:
    async with run_server(trusted_proxies=("127.0.0.1",)) as server:
        assert (await fetched(server.url, "/health", **{"X-Forwarded-For": "10.0.0.5"})).status_code == 200
        assert (await fetched(server.url, "/health", **{"X-Forwarded-For": "10.0.0.5, 8.8.8.8"})).status_code == 403
    assert [record for record in caplog.records if record.name == "hypha.web"] == []


@pytest.mark.parametrize(
    ("contact", "line"),
    [
        ("mailto:security@lab.example", "Contact: mailto:security@lab.example"),
        ("security@lab.example", "Contact: mailto:security@lab.example"),
        ("https://lab.example/security", "Contact: https://lab.example/security"),
        ("a@lab.example\nPolicy: https://evil.example", "Contact: a@lab.examplePolicy:https://evil.example"),
    ],
)
async def test_whom_to_tell_about_a_vulnerability(contact: str, line: str) -> None:
    async with run_server(security_contact=contact) as server:
        response = await fetched(server.url, "/.well-known/security.txt")
    assert response.headers["content-type"].startswith("text/plain")
    first, second = response.text.splitlines()
    assert first == line
    expires = datetime.fromisoformat(second.removeprefix("Expires: ").replace("Z", "+00:00"))
    assert timedelta(days=30) < expires - datetime.now(UTC) < timedelta(days=365)


async def test_without_a_contact_there_is_no_such_file() -> None:
    async with run_server() as server:
        assert (await fetched(server.url, "/.well-known/security.txt")).status_code == 404
