"""Rows 14-18, 23, 24: a person logs in, in a browser, and programs get the token."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.seed.browser import Page, browser
from tests.seed.document import block
from tests.seed.later import needs_javascript
from tests.seed.terminal import Terminal

pytestmark = pytest.mark.timeout(90)

LOGIN = "User Login and Token-Based Authentication"
BY_HTTP = "Obtain login token via http requests"
ASYNC_LOGIN = block("Asynchronous Client", "python", section=LOGIN)
SYNC_LOGIN = block("Synchronous Client", "python", section=LOGIN)
WITH_CALLBACK = block("Synchronous Client", "python", 1, section=LOGIN)
CALLBACK = block("Synchronous Client", "python", 2, section=LOGIN)
KEY = "mihDumpHGYxkPdSEKB7GgM"

WHO = "\nprint('user:', server.config.user.email, server.config.workspace)\n"
BEFORE = """
from hypha_rpc import login
import time
SERVER_URL = "http://localhost:9527"
begin = time.monotonic()
"""
SYNC_BEFORE = BEFORE.replace("hypha_rpc", "hypha_rpc.sync")
PLAIN_CALLBACK = """
def login_callback(context):
    print("keys:", *(key for key in ("login_url", "report_url", "key") if context[key]))
"""
TRIED = """
try:
    {login}
except Exception as error:
    print("error:", error)
print("seconds:", time.monotonic() - begin)
"""


def tried(text: str) -> str:
    """The document's login, whose end is printed."""
    return TRIED.format(login=text.strip().replace("\n", "\n    "))


def sign_up(page: Page, url: str) -> str:
    """Be a new person on the login page; the e-mail address."""
    email = f"person-{secrets.token_hex(4)}@example.com"
    page.open(url)
    page.wait_for("document.body.innerText.includes('Hypha Account')")
    page.wait_for(f"({FIND_SIGN_UP})()")
    page.evaluate(f"({FILL_IN})({json.dumps(email)}, {json.dumps(secrets.token_urlsafe(16))})")
    return email


# What a person does: choose the form for new accounts, fill in every visible field, press its button.
FIND_SIGN_UP = """() => {
  const visible = (e) => e.offsetParent !== null;
  const ready = [...document.querySelectorAll('input[type=password]')].some(visible);
  const words = /sign ?up|create|new account|register/i;
  const chosen = [...document.querySelectorAll('a, button, [role=tab], summary')]
    .filter((e) => visible(e) && words.test(e.innerText) && e.type !== 'submit');
  if (chosen.length) { chosen[0].click(); return true; }
  return ready;
}"""
FILL_IN = """(email, password) => {
  const fields = [...document.querySelectorAll('input')].filter((e) => e.offsetParent !== null);
  const type = (e, value) => { e.focus(); e.value = value; e.dispatchEvent(new Event('input', {bubbles: true})); };
  for (const field of fields) {
    if (field.type === 'password') type(field, password);
    else if (field.type === 'email' || /mail/i.test(field.name)) type(field, email);
    else if (field.type === 'text') type(field, 'A Person');
    else if (field.type === 'checkbox' && field.required) field.click();
  }
  const form = fields.find((e) => e.type === 'password').form;
  form.requestSubmit(form.querySelector('[type=submit], button:not([type=button])'));
}"""


def log_in_with(shell: Terminal, page: Page, command: str) -> str:
    """Start a program that logs in, sign up at the address it prints, and give what it prints in the end."""
    program = shell.start(command)
    line = program.wait_for_line("http")
    email = sign_up(page, line[line.index("http") :].split()[0])
    assert program.wait(30) == 0, program.printed + page.text
    said = program.line("user:")
    assert said is not None
    assert said.split()[1] == email
    return said


def test_row_14_a_person_signs_up_in_the_browser_and_login_returns(served: Terminal, tmp_path: Path):
    with browser(tmp_path) as page:
        said = log_in_with(served, page, served.cells(ASYNC_LOGIN + WHO + "await server.disconnect()\n"))
        assert said.split()[2].startswith("ws-user-")
        assert page.errors == []
        assert page.foreign == []


def test_row_15_the_same_without_await(served: Terminal, tmp_path: Path):
    served.write("sync-login.py", SYNC_LOGIN + WHO)
    with browser(tmp_path) as page:
        assert log_in_with(served, page, "python sync-login.py").split()[2].startswith("ws-user-")


@needs_javascript
def test_row_16_a_page_logs_in():
    assert "hyphaWebsocketClient.login" in block("Synchronous Client", "javascript", section=LOGIN)


def seconds(printed: str) -> float:
    return float(printed.rpartition("seconds: ")[2])


def test_row_17_login_gives_the_context_to_the_callback_and_gives_up_in_time(served: Terminal):
    done = served.run(served.cells(BEFORE + PLAIN_CALLBACK + tried(WITH_CALLBACK)))
    assert done.returncode == 0, done.stderr
    assert "keys: login_url report_url key" in done.stdout
    assert "Login timeout" in done.stdout
    assert 2.9 < seconds(done.stdout) < 10


def test_row_18_the_callback_may_be_a_coroutine_function(served: Terminal):
    text = BEFORE + CALLBACK + "login_callback = callback\n" + tried(WITH_CALLBACK)
    done = served.run(served.cells(text))
    assert done.returncode == 0, done.stderr
    assert f"Go to login url: http://127.0.0.1:{served.port}/public/apps/hypha-login/?key=" in done.stdout
    assert "Login timeout" in done.stdout


@pytest.mark.parametrize("callback", [PLAIN_CALLBACK, CALLBACK + "login_callback = callback\n"])
def test_row_17_and_18_the_same_without_await(served: Terminal, callback: str):
    served.write("sync-callback.py", SYNC_BEFORE + callback + tried(WITH_CALLBACK.replace("await ", "")))
    done = served.run("python sync-callback.py")
    assert done.returncode == 0, done.stderr
    assert ("keys: login_url report_url key" in done.stdout) or ("Go to login url: http" in done.stdout)
    assert "Login timeout" in done.stdout


def start(shell: Terminal) -> dict[str, str]:
    """What curl prints for the start of a login."""
    found: dict[str, str] = json.loads(shell.output(block(BY_HTTP).replace("curl ", "curl -s ", 1)))
    return found


def check(key: str, timeout: int) -> str:
    text = block(BY_HTTP, position=1).replace(KEY, key).replace('"timeout": 10', f'"timeout": {timeout}')
    return text.replace("curl ", "curl -s ", 1)


def test_row_23_curl_starts_a_login(served: Terminal):
    promised = json.loads(block(BY_HTTP, "json"))
    given = start(served)
    assert promised.keys() <= given.keys()
    for name in ("login_url", "report_url"):
        assert urlsplit(given[name]).path == urlsplit(promised[name]).path
    assert parse_qs(urlsplit(given["login_url"]).query)["key"] == [given["key"]]


def test_row_24_curl_waits_for_the_login_and_prints_the_token(served: Terminal, tmp_path: Path):
    given = start(served)
    waiting = served.start(check(given["key"], 30))
    with browser(tmp_path) as page:
        email = sign_up(page, given["login_url"])
        assert waiting.wait(30) == 0
    token = json.loads(waiting.printed)
    who = (
        "from hypha_rpc import connect_to_server\n"
        f'server = await connect_to_server({{"server_url": "http://localhost:9527", "token": "{token}"}})\n'
    )
    printed = served.output(served.cells(who + WHO + "await server.disconnect()\n"))
    assert printed.split()[1] == email


def test_row_24_curl_gives_up_after_the_time_it_was_told(served: Terminal):
    said = json.loads(served.output(check(start(served)["key"], 1)))
    assert said["success"] is False
    assert "Login timeout, waited for 1 seconds" in said["detail"]
