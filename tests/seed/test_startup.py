"""Rows 28-31: startup functions, and external programs they launch."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal

import pytest

from tests.house.import_rules import REPOSITORY
from tests.seed.document import block
from tests.seed.terminal import Terminal

pytestmark = pytest.mark.timeout(60)

STARTUP = "Custom Initialization and Service Integration with Hypha Server"
LAUNCHING = "Launching External Services Using Commands"


def test_row_28_a_startup_function_registers_a_service_of_the_server(shell: Terminal):
    shell.write("example-startup-function.py", block(STARTUP, "python"))
    server = shell.serve(block(STARTUP))
    assert shell.output("curl -s 'http://localhost:9527/public/services/test-service/test?x=5'") == "null"
    assert server.wait_for_line("Test:") == "Test: 5"


def test_row_29_two_startup_functions_run_one_after_another(shell: Terminal):
    text = block(STARTUP, "python")
    shell.write("example-startup-function.py", text)
    shell.write("example-startup-function2.py", text.replace("test-service", "second-service").replace("Test:", "2nd:"))
    server = shell.serve(block(STARTUP, position=1))
    for service, printed in (("test-service", "Test: 5"), ("second-service", "2nd: 5")):
        assert shell.output(f"curl -s 'http://localhost:9527/public/services/{service}/test?x=5'") == "null"
        server.wait_for_line(printed)


def test_a_startup_function_of_a_module_is_found_in_the_working_directory(shell: Terminal):
    shell.write("my_pip_module.py", block(STARTUP, "python"))
    shell.serve(block(STARTUP).replace("./example-startup-function.py", "my_pip_module"))
    assert shell.output("curl -s 'http://localhost:9527/public/services/test-service/test?x=5'") == "null"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("async def hypha_startup(server):\n    raise ValueError('no such luck')", "ValueError: no such luck"),
        ("async def hypha_startup(server):\n    raise SystemExit(0)", "SystemExit"),
        ("def hypha_startup(server):\n    pass", "Entrypoint hypha_startup is not a coroutine"),
        ("async def other(server):\n    pass", "Entrypoint hypha_startup does not exist"),
        ("import no_such_module_at_all", "No module named 'no_such_module_at_all'"),
        (None, "Module ./example-startup-function.py does not exist"),
    ],
)
def test_a_startup_function_that_fails_ends_the_server_with_a_reason(shell: Terminal, text: str | None, reason: str):
    if text is not None:
        shell.write("example-startup-function.py", text)
    server = shell.start(block(STARTUP))
    assert server.wait() == 1
    assert reason in server.printed.splitlines()[-1]
    assert "ready at" not in server.printed


def children(pid: int) -> list[int]:
    """Processes started by a process, those of its threads included."""
    found: list[int] = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as listed:
            found += map(int, listed.read().split())
    return found


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def launching(shell: Terminal) -> Terminal:
    """A folder with the document's startup function and a program for it to launch."""
    shell.write("example-startup-function.py", block(LAUNCHING, "python"))
    (shell.folder / "tests").mkdir()
    shutil.copy(REPOSITORY / "examples/external_service.py", shell.folder / "tests/example_service_script.py")
    return shell


def test_row_30_and_31_an_external_program_is_launched_and_its_service_is_there_when_the_server_is_ready(
    launching: Terminal,
):
    server = launching.serve(block(STARTUP))
    url = "http://localhost:9527/public/services/external-test-service"
    assert launching.output(f"curl -s '{url}/hello?name=John'") == '"Hello John"'
    record = json.loads(launching.output(f"curl -s {url}"))
    assert record["config"]["workspace"] == "public"
    # Its output is in the log, and no token is.
    server.wait_for_line("[example_service_script] registered public/")
    assert not re.search(r"eyJ\w{10}", server.printed)


def test_an_external_program_is_started_again_and_ends_with_the_server(launching: Terminal):
    server = launching.serve(block(STARTUP))
    (first,) = children(server.process.pid)
    os.kill(first, signal.SIGKILL)
    server.wait_for(lambda: launched(server.process.pid) - {first}, "another process")
    (second,) = launched(server.process.pid) - {first}
    url = "http://localhost:9527/public/services/external-test-service/hello?name=John"
    server.wait_for(lambda: launching.run(f"curl -s '{url}'").stdout == '"Hello John"', "its service")
    assert server.end() == 0
    assert not is_running(second)


def launched(pid: int) -> set[int]:
    return {child for child in children(pid) if is_running(child)}
