"""Rows 7-13: a worker registers a service, and others use it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.seed.document import block
from tests.seed.later import needs_javascript
from tests.seed.terminal import Running, Terminal

pytestmark = pytest.mark.timeout(60)

WORKER = block("Asynchronous Worker", "python")
SYNC_WORKER = block("Synchronous Worker", "python")
CLIENT = block("Asynchronous Client", "python")
SYNC_CLIENT = block("Synchronous Client", "python")


def work(served: Terminal, text: str) -> Running:
    served.write("hello-world-worker.py", text)
    worker = served.start("python hello-world-worker.py")
    worker.wait_for_line("Test it with the HTTP proxy")
    return worker


@pytest.fixture(scope="module")
def worker(served: Terminal) -> Iterator[Running]:
    """The asynchronous worker of the document."""
    running = work(served, WORKER)
    yield running
    running.end()


def test_row_07_the_async_worker_registers_its_service_and_stays(worker: Running):
    assert re.search(r"^Hello world service registered at workspace: ws-user-anonymouz-[\w-]+$", worker.printed, re.M)
    assert worker.process.poll() is None


def test_row_09_curl_calls_the_service_by_the_address_that_was_printed(served: Terminal, worker: Running):
    url = worker.wait_for_line("Test it with the HTTP proxy").partition(": ")[2]
    assert served.output(f"curl -s '{url}'") == '"Hello John"'


def test_row_10_the_async_client_of_another_user_finds_the_service_by_its_name(served: Terminal, worker: Running):
    served.write("client.py", CLIENT)
    done = served.run("python client.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello John\n", "")
    worker.wait_for_line("Hello John")


def test_row_11_the_sync_client_of_another_user_finds_the_service_by_its_name(served: Terminal, worker: Running):
    served.write("sync-client.py", SYNC_CLIENT)
    done = served.run("python sync-client.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello John\n", "")


def test_row_08_the_sync_worker_registers_its_service_and_stays(shell: Terminal):
    shell.serve(block("Starting the Server"))
    worker = work(shell, SYNC_WORKER)
    url = worker.wait_for_line("Test it with the HTTP proxy").partition(": ")[2]
    assert shell.output(f"curl -s '{url}'") == '"Hello John"'
    assert worker.process.poll() is None
    worker.wait_for_line("Hello John")


@needs_javascript
def test_row_12_a_page_loads_the_client_by_a_script_tag():
    assert "hypha-rpc-websocket.min.js" in block("JavaScript Client", "html")


@needs_javascript
def test_row_13_a_page_finds_the_service_by_its_name():
    assert "server.get_service" in block("JavaScript Client", "javascript")
