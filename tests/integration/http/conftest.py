"""A real server with services of every kind, and a client for HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx2
import pytest

from hypha.testing import ServerProcess

SECRET = "x" * 40
SERVICES = Path(__file__).with_name("services.py")


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """A directory for a static mount, with things in it that nobody may get."""
    folder = tmp_path_factory.mktemp("mounted")
    (folder.parent / "outside.txt").write_text("outside")
    (folder / "index.html").write_text("<p>index</p>")
    (folder / "data.bin").write_bytes(bytes(range(256)))
    (folder / "näme.txt").write_text("named")
    (folder / ".hidden").write_text("hidden")
    (folder / "sub").mkdir()
    (folder / "sub" / "index.html").write_text("<p>sub</p>")
    (folder / "bare").mkdir()
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("hidden")
    (folder / "link.txt").symlink_to(folder.parent / "outside.txt")
    (folder / "link").symlink_to(folder.parent)
    return folder


@pytest.fixture(scope="session")
def http_server(site, tmp_path_factory):
    """One process for all tests here."""
    options = [f"--static-mounts=/tools:{site}", f"/bare:{site / 'bare'}"]
    options += ["--startup-functions", f"{SERVICES}:hypha_startup", "--in-memory"]
    server = ServerProcess(*options, env={"JWT_SECRET": SECRET}, folder=tmp_path_factory.mktemp("http"))
    asyncio.run(server.start())
    yield server
    assert asyncio.run(server.stop()) == 0
    assert "Traceback" not in server.log.read_text(), server.log_tail()


@pytest.fixture
async def http(http_server):
    """A client of it."""
    async with httpx2.AsyncClient(base_url=http_server.url, timeout=10) as client:
        yield client
