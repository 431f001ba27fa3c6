"""The login page in a real browser: sign up, log in, by keyboard, at phone and desktop width, from this host only."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hypha.testing import RunningServer, run_server
from hypha_rpc import connect_to_server, login

playwright = pytest.importorskip("playwright.async_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
    pytest.mark.timeout(60),
]

PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 800}


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with run_server() as running:
        yield running


@pytest.fixture
async def browser() -> AsyncIterator[Any]:
    async with playwright.async_playwright() as driver:
        chromium = await driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        await chromium.close()


@pytest.fixture(params=[PHONE, DESKTOP], ids=["phone", "desktop"])
async def page(request: pytest.FixtureRequest, browser: Any, server: RunningServer) -> AsyncIterator[Any]:
    """A window that notes what goes wrong in it and whom it asks."""
    context = await browser.new_context(viewport=request.param)
    context.set_default_timeout(10_000)
    opened = await context.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("request", lambda sent: None if sent.url.startswith(server.url) else problems.append(sent.url))
    yield opened
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert await opened.evaluate(overflow) == 0, "the page scrolls sideways"
    assert problems == []
    await context.close()


class Program:
    """A program that waits in `login`."""

    def __init__(self, server: RunningServer, **options: Any) -> None:
        self._shown: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        config = {"server_url": server.url, "login_callback": self._show, "login_timeout": 30, **options}
        self.token = asyncio.ensure_future(login(config))

    def _show(self, context: Any) -> None:
        self._shown.set_result(context["login_url"])

    async def url(self) -> str:
        return await asyncio.wait_for(self._shown, 10)


async def sign_up(window: Any) -> None:
    """Fill the form and send it."""
    for field, text in (("name", "Ada"), ("email", "a@b.c"), ("password", "correct horse")):
        await window.locator(f"#signup-{field}").fill(text)
    await window.locator("#signup").get_by_role("button").click()


async def test_signing_up_and_logging_in_again(page: Any, server: RunningServer) -> None:
    program = Program(server)
    await page.goto(await program.url())
    await page.get_by_role("tab", name="Create account").click()
    await page.get_by_label("Name").fill("Ada")
    await page.locator("#signup").get_by_label("Email").fill("ada@example.org")
    await page.locator("#signup").get_by_label("Password").fill("correct horse")
    await page.get_by_role("button", name="Create account and continue").click()
    await page.get_by_role("heading", name="You are logged in").wait_for()
    token = await program.token
    async with connect_to_server(server_url=server.url, token=token) as client:
        assert client.config.user["email"] == "ada@example.org"

    # The next program gets its token by one click, and not before.
    second = Program(server)
    await page.goto(await second.url())
    await page.get_by_text("127.0.0.1").wait_for()
    await page.get_by_text("Continue only if you started this program yourself").wait_for()
    assert not second.token.done()
    await page.get_by_role("button", name="Continue as Ada").click()
    assert server.user(await second.token).id == server.user(token).id

    await page.goto(f"{server.url}/public/apps/hypha-login/?logout=true")
    await page.get_by_text("You are logged out").wait_for()
    third = Program(server)
    await page.goto(await third.url())
    # Password first wrong, then right, with the keyboard alone: the first field has the focus.
    await page.locator("#login-email:focus").wait_for()
    await page.keyboard.type("ada@example.org")
    await page.keyboard.press("Tab")
    await page.keyboard.type("wrong horse")
    await page.keyboard.press("Enter")
    await page.get_by_role("alert").filter(has_text="Invalid email or password").wait_for()
    await page.locator("#login-password:focus").wait_for()
    await page.keyboard.press("Control+A")
    await page.keyboard.type("correct horse")
    await page.keyboard.press("Enter")
    assert server.user(await third.token).id == server.user(token).id
    await page.get_by_role("heading", name="You are logged in").wait_for()


async def test_tabs_turn_with_the_arrow_keys(page: Any, server: RunningServer) -> None:
    await page.goto(f"{server.url}/login")
    await page.get_by_role("tab", name="Log in", exact=True).focus()
    await page.keyboard.press("ArrowRight")
    assert await page.locator("#signup").is_visible()
    assert await page.get_by_role("tab", name="Create account").get_attribute("aria-selected") == "true"
    await page.keyboard.press("ArrowLeft")
    assert await page.locator("#login").is_visible()
    assert not await page.locator("#signup").is_visible()


async def test_a_used_key_says_so_and_a_strange_one_makes_no_markup(page: Any, server: RunningServer) -> None:
    await page.goto(f"{server.url}/public/apps/hypha-login/?key=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    await page.get_by_role("alert").filter(has_text="has expired or was completed before").wait_for()


async def test_scripts_of_the_page_see_no_token(page: Any, server: RunningServer) -> None:
    await page.goto(f"{server.url}/public/apps/hypha-login/")
    await page.get_by_role("tab", name="Create account").click()
    await sign_up(page)
    await page.get_by_role("heading", name="Logged in as Ada").wait_for()
    (cookie,) = await page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (
        "access_token",
        True,
        "Strict",
        "/",
    )
    assert await page.evaluate("document.cookie") == ""
    assert await page.evaluate("localStorage.length + sessionStorage.length") == 0
    # The cookie is good for the rest of this site.
    answer = await page.evaluate("fetch('/assets/config.json').then((response) => response.json())")
    assert answer["user"]["email"] == "a@b.c"


async def test_profile_name_and_password(page: Any, server: RunningServer) -> None:
    await page.goto(f"{server.url}/public/apps/hypha-login/profile")
    await page.get_by_role("tab", name="Create account").click()
    await sign_up(page)
    await page.locator("#rename-name").fill("Countess")
    await page.get_by_role("button", name="Save name").click()
    await page.get_by_role("heading", name="Logged in as Countess").wait_for()
    await page.get_by_label("Current password").fill("correct horse")
    await page.get_by_label("New password").fill("another horse")
    await page.get_by_role("button", name="Change password").click()
    await page.get_by_text("Your password was changed.").wait_for()
    await page.get_by_role("button", name="Log out").click()
    await page.locator("#login-email").fill("a@b.c")
    await page.locator("#login-password").fill("another horse")
    await page.locator("#login").get_by_role("button", name="Log in").click()
    await page.get_by_role("heading", name="Logged in as Countess").wait_for()


async def test_after_the_login_it_leads_to_own_pages_only(page: Any, server: RunningServer) -> None:
    program = Program(server)
    await page.goto(f"{await program.url()}&redirect=/health/liveness")
    await page.get_by_role("tab", name="Create account").click()
    await sign_up(page)
    await page.wait_for_url(f"{server.url}/health/liveness")
    await program.token
    second = Program(server)
    await page.goto(f"{await second.url()}&redirect=//evil.example/")
    await page.get_by_role("button", name="Continue as Ada").click()
    await page.get_by_role("heading", name="You are logged in").wait_for()
    await second.token
    assert page.url.startswith(server.url)


async def test_in_a_frame_of_another_site_a_window_opens_and_the_page_around_is_told(
    browser: Any, server: RunningServer
) -> None:
    program = Program(server)
    url = await program.url()
    around = f"""<iframe src="{url}" width=480 height=300></iframe>
        <script>addEventListener("message", (e) => document.title = JSON.stringify([e.origin, e.data]))</script>"""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n" + around.encode())
        writer.close()

    context = await browser.new_context(viewport=DESKTOP)
    context.set_default_timeout(10_000)
    page = await context.new_page()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as site:
        # By this name the same machine is another site.
        await page.goto(f"http://localhost:{site.sockets[0].getsockname()[1]}/")
    frame = page.frame_locator("iframe")
    button = frame.get_by_role("button", name="Open the login window")
    await button.wait_for()
    assert await frame.locator("input").count() == 0
    async with context.expect_page() as opened:
        await button.click()
    window = await opened.value
    await window.get_by_role("tab", name="Create account").click()
    await sign_up(window)
    token = await program.token
    await frame.get_by_text("You are logged in.").wait_for()
    key = url.rpartition("key=")[2]
    title = await page.title()
    assert title == f'["{server.url}",{{"type":"hypha-login-complete","key":"{key}"}}]'
    assert token not in title
    await context.close()
