"""Names, types and refusals of the blocking face (python-client §16, §24)."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import hypha_rpc
from hypha_rpc import sync
from hypha_rpc.client.workspace import _LOCAL, LocalFunctions

PROGRAM = """
from typing import Protocol

from hypha_rpc.sync import connect_to_server, get_remote_service, login


class Calculator(Protocol):
    def add(self, a: int, b: int) -> int: ...


server = connect_to_server({"server_url": "http://x"}, workspace="w")
reveal_type(server.get_service("a"))
reveal_type(server.get_service("a", Calculator).add(1, 2))
reveal_type(server.register_service({"id": "a"}, overwrite=True))
reveal_type(server.disconnect())
reveal_type(server.export({}))
reveal_type(server.on("event", print))
reveal_type(server.list_apps())
reveal_type(server.anything_the_manager_offers)
with connect_to_server(server_url="http://x") as entered:
    reveal_type(entered)
with get_remote_service("http://x/w/services/s") as service:
    reveal_type(service)
server.get_service()
server.unregister_service("a", notify="yes")
"""
EXPECTED = [
    'Revealed type is "hypha_rpc.client.proxies.RemoteService"',
    'Revealed type is "int"',
    'Revealed type is "hypha_rpc.objects.ObjectProxy"',
    'Revealed type is "None"',
    'Revealed type is "hypha_rpc.objects.ObjectProxy"',
    'Revealed type is "None"',
    'Revealed type is "list[Any]"',
    'Revealed type is "Any"',
    'Revealed type is "hypha_rpc.sync.proxies.SyncHyphaServer"',
    'Revealed type is "hypha_rpc.sync.proxies.SyncService"',
    'All overload variants of "get_service"',
    'Argument "notify" has incompatible type "str"; expected "bool"',
]


@pytest.mark.timeout(180)
def test_a_type_checker_knows_what_blocks(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    root = Path(hypha_rpc.__file__).parent.parent
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), "--hide-error-context"]
    done = subprocess.run(
        [*command, "--config-file", str(root / "pyproject.toml"), str(program)],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        cwd=root,
    )
    said = [line for line in done.stdout.splitlines() if str(program.name) in line and "note: Possible" not in line]
    said = [line.replace("builtins.", "") for line in said if "note:  " not in line]
    for line, expected in zip(said, EXPECTED, strict=False):
        assert expected in line, done.stdout
    assert len(said) >= len(EXPECTED), done.stdout


def test_every_function_of_the_async_server_is_derived():
    for name in _LOCAL:
        twin = inspect.getattr_static(sync.SyncHyphaServer, name)
        original = getattr(LocalFunctions, name)
        assert inspect.signature(twin) == inspect.signature(original), name
        assert twin.__doc__ == original.__doc__
        assert not inspect.iscoroutinefunction(twin)


def test_the_package_has_the_blocking_names():
    for name in (
        "connect_to_server",
        "get_remote_service",
        "login",
        "logout",
        "register_rtc_service",
        "get_rtc_service",
    ):
        assert getattr(hypha_rpc, f"{name}_sync") is getattr(sync, name)
    assert sync.SyncHyphaServer.__name__ in sync.__all__


def test_in_the_browser_the_async_api_is_recommended(monkeypatch):
    monkeypatch.setattr(sys, "platform", "emscripten")
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="await connect_to_server"):
        sync.connect_to_server(server_url="http://127.0.0.1:9")
    with pytest.raises(RuntimeError, match="await connect_to_server"):
        sync.login({"server_url": "http://127.0.0.1:9"})
    assert threading.active_count() == before


def test_rtc_wants_a_blocking_server_and_says_that_it_does_not_exist_yet():
    for function in (sync.register_rtc_service, sync.get_rtc_service):
        with pytest.raises(AssertionError, match=r"hypha_rpc\.sync import connect_to_server"):
            function(object(), "rtc")
        with pytest.raises(NotImplementedError, match="WebRTC"):
            function(sync.SyncHyphaServer(), "rtc")
