"""A real browser without a window: Chromium, told by its debugging protocol."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
LOCAL = {"localhost", "127.0.0.1"}
START_S = 20.0


def executable() -> str:
    """The browser of this machine; without one the test is skipped, on CI it fails."""
    found = os.environ.get("HYPHA_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None and os.environ.get("CI"):
        pytest.fail("CI needs a browser (Debian: chromium)")
    if found is None:
        pytest.skip("no browser on this machine (Debian: chromium)")
    return found


class Page:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._last = socket, 0
        self.requested: list[str] = []
        self.errors: list[str] = []
        for domain in ("Page", "Network", "Runtime"):
            self._ask(f"{domain}.enable")

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=START_S))
            if message.get("id") == self._last:
                assert "error" not in message, message
                return dict(message["result"])
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        if message.get("method") == "Network.requestWillBeSent":
            self.requested.append(message["params"]["request"]["url"])
        elif message.get("method") == "Runtime.exceptionThrown":
            details = message["params"]["exceptionDetails"]
            self.errors.append(str(details.get("exception", {}).get("description", details["text"])))

    def open(self, url: str) -> None:
        """Go to a page and wait until it is loaded."""
        self._ask("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        found = self._ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 15.0) -> Any:
        """Wait until an expression is true; its value."""
        deadline = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < deadline, f"{expression} did not become true; the page says:\n{self.text}"
            time.sleep(0.05)
        return value

    @property
    def text(self) -> str:
        """What a person reads."""
        return str(self.evaluate("document.body ? document.body.innerText : ''"))

    @property
    def foreign(self) -> list[str]:
        """Requests that left this machine."""
        parts = [(url, urlsplit(url)) for url in self.requested]
        return [url for url, part in parts if part.scheme not in ("data", "blob") and part.hostname not in LOCAL]


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """A page of a fresh browser."""
    profile = folder / "browser"
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    options += ["--disable-background-networking", "--remote-debugging-port=0", f"--user-data-dir={profile}"]
    log = folder / "browser.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [executable(), *options, "about:blank"], stdout=subprocess.DEVNULL, stderr=output, stdin=subprocess.DEVNULL
        )
    try:
        with connect(_page_address(process, log), max_size=None, compression=None) as socket:
            yield Page(socket)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def _page_address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_S
    while True:
        said = log.read_text("utf-8", "replace")
        found = re.search(r"DevTools listening on ws://([\d.]+:\d+)/", said)
        if found:
            break
        assert process.poll() is None and time.monotonic() < deadline, f"the browser did not start:\n{said}"
        time.sleep(0.05)
    with urllib.request.urlopen(f"http://{found[1]}/json/list", timeout=5) as answer:
        pages = json.load(answer)
    return str(next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page"))
