"""Rows 3-6 and 27: starting the server, its first page, static files, the description of its API."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from hypha import __version__
from tests.seed.browser import browser
from tests.seed.document import block
from tests.seed.terminal import Terminal

pytestmark = pytest.mark.timeout(60)


def head(url: str) -> tuple[int, str]:
    """Status and content type."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.headers["content-type"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["content-type"]


def test_row_03_the_server_starts_and_ends_when_it_is_told_to(shell: Terminal):
    server = shell.serve(block("Starting the Server"))
    assert server.wait_for_line("ready at") == f"Hypha server {__version__} is ready at http://127.0.0.1:{shell.port}"
    assert server.end() == 0
    assert "Traceback" not in server.printed


def test_row_04_the_server_starts_with_server_apps_whether_or_not_there_is_a_browser(shell: Terminal):
    server = shell.serve(block("Starting the Server", position=1))
    server.wait_for_line("ready at")
    assert len([line for line in server.printed.splitlines() if "Server apps" in line]) == 1
    assert server.end() == 0


def test_row_05_the_first_page_shows_the_version_to_programs(served: Terminal):
    assert json.loads(served.output("curl -s http://localhost:9527"))["version"] == __version__


def test_row_05_the_first_page_shows_the_version_in_a_browser_and_asks_nobody_else(served: Terminal, tmp_path: Path):
    with browser(tmp_path) as page:
        page.open(served.url)
        assert __version__ in page.text
        assert page.errors == []
        assert page.foreign == []


@pytest.fixture
def files(shell: Terminal) -> Terminal:
    for name, text in {
        "webtools/index.html": '<link rel="stylesheet" href="style.css"><h1>Tools</h1>',
        "webtools/style.css": "h1 { color: rgb(1, 2, 3) }",
        "webtools/sub/index.html": "<h1>Sub</h1>",
        "images/x.png": "not really",
    }.items():
        (shell.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (shell.folder / name).write_text(text)
    return shell


def test_row_06_one_folder_is_served(files: Terminal, tmp_path: Path):
    files.serve(block("Serving Static Files"))
    assert "<h1>Tools</h1>" in files.output("curl -sfL http://localhost:9527/tools")
    assert "<h1>Sub</h1>" in files.output("curl -sfL http://localhost:9527/tools/sub/")
    assert head(f"{files.url}/tools/style.css")[1].startswith("text/css")
    with browser(tmp_path) as page:
        page.open(f"{files.url}/tools")
        # The page finds what lies beside it.
        page.wait_for("getComputedStyle(document.querySelector('h1')).color === 'rgb(1, 2, 3)'")


def test_row_06_two_folders_are_served(files: Terminal):
    files.serve(block("Serving Static Files", position=1))
    assert "<h1>Tools</h1>" in files.output("curl -sf http://localhost:9527/tools/")
    assert head(f"{files.url}/images/x.png") == (200, "image/png")
    assert head(f"{files.url}/images/")[0] == 404
    assert head(f"{files.url}/images/..%2f..%2fetc%2fpasswd")[0] in (400, 403, 404)


def test_row_27_the_description_of_the_api_is_a_page_of_this_server(served: Terminal, tmp_path: Path):
    with browser(tmp_path) as page:
        page.open(f"{served.url}/api-docs")
        page.wait_for("document.body.innerText.includes('services')")
        assert page.errors == []
        assert page.foreign == []
    assert json.loads(served.output("curl -sf http://localhost:9527/openapi.json"))["openapi"].startswith("3.")
