"""External programs under supervision (server §1.9, python-client §17.3)."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import signal
import sys
from pathlib import Path

import pytest

import hypha.utils
from hypha.testing import free_port
from hypha_rpc import connect_to_server
from hypha_rpc.utils import launch
from hypha_rpc.utils.launch import LaunchError, launch_external_services
from tests.house.import_rules import REPOSITORY

pytestmark = pytest.mark.timeout(60)

PYTHON = shlex.quote(sys.executable)
SCRIPT = REPOSITORY / "examples" / "external_service.py"
COMMAND = (
    f"{PYTHON} {SCRIPT} --server-url={{server_url}} --service-id=external --workspace={{workspace}} --token={{token}}"
)
PATH = {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'server'}"}


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Supervision whose pauses are short."""
    monkeypatch.setattr(launch, "_FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(launch, "_WATCH_S", 0.05)
    monkeypatch.setattr(launch, "_VANISHED_S", 0.3)


def test_it_is_one_function_under_both_names():
    assert hypha.utils.launch_external_services is launch_external_services


async def test_a_program_offers_its_service_until_it_is_killed(client):
    process = await launch_external_services(
        client, COMMAND, name="script", env=PATH, check_services=["external"], timeout=20
    )
    service = await client.get_service("external")
    assert (await service.hello("John"), service.external) == ("Hello John", "42")
    assert process.running and await process.ready()
    pid = process.pid
    await process.kill()
    assert (process.running, process.pid, await process.ready()) == (False, None, False)
    assert not is_running(pid)
    with pytest.raises(Exception, match="not found"):
        await client.get_service("external")
    await process.kill()


async def test_the_program_lands_in_the_workspace_and_on_the_server_of_its_launcher(client, tmp_path):
    out = tmp_path / "seen"
    said = "'{server_url} {workspace} {other} {}'"
    process = await launch_external_services(client, f"sh -c 'echo \"$0\" > {out}; sleep 60' {said}")
    while not (out.exists() and out.read_text()):
        await asyncio.sleep(0.02)
    config = client.config
    assert out.read_text() == f"{config.local_base_url} {config.workspace} {{other}} {{}}\n"
    await process.kill()


async def test_quotes_hold_words_together_and_no_shell_looks_at_them(client, caplog):
    caplog.set_level(logging.INFO, "hypha_rpc.launch")
    code = "import sys, time; print(sys.argv[1:], flush=True); time.sleep(60)"
    process = await launch_external_services(
        client, f'{PYTHON} -c "{code}" "two words" $HOME "a;b" *.py', name="quoted"
    )
    while "two words" not in caplog.text:
        await asyncio.sleep(0.02)
    assert "[quoted] ['two words', '$HOME', 'a;b', '*.py']" in caplog.text
    await process.kill()


@pytest.mark.parametrize("logger", [None, logging.getLogger("of.a.user")])
async def test_any_answer_of_the_url_means_ready(client, logger, tmp_path):
    port = free_port()
    process = await launch_external_services(
        client,
        f"{PYTHON} -m http.server {port} --bind 127.0.0.1 --directory {tmp_path}",
        name="http",
        check_url=f"http://127.0.0.1:{port}/no/such/page",
        timeout=20,
        logger=logger,
    )
    assert await process.ready()
    await process.kill()
    assert not await process.ready()


@pytest.mark.parametrize(
    ("command", "options", "reason"),
    [
        ("sleep 60", {"check_services": ["never"], "timeout": 0.5}, "not ready within 0.5 s"),
        ("sleep 60", {"check_url": f"http://127.0.0.1:{free_port()}", "timeout": 0.5}, "not ready within 0.5 s"),
        ("sh -c 'echo sorry; exit 3'", {"check_services": ["never"]}, "ended with status 3"),
        ("no-such-program-at-all", {}, "No such file"),
    ],
)
async def test_a_program_that_does_not_become_ready_is_ended_with_a_reason(client, caplog, command, options, reason):
    with pytest.raises(LaunchError) as caught:
        await launch_external_services(client, command, name="thing", **options)
    assert str(caught.value) == "External services (thing) failed to start"
    assert reason in "".join(caught.value.__notes__)
    assert reason in caplog.text
    assert ("sorry" in caplog.text) == ("sorry" in command)


@pytest.mark.parametrize("command", ["", "   ", "echo 'unfinished"])
async def test_a_command_that_is_none_is_refused_at_once(client, command):
    with pytest.raises(ValueError, match="command is empty|No closing quotation"):
        await launch_external_services(client, command)


async def test_its_descendants_end_with_it_even_if_they_do_not_want_to(client, tmp_path):
    pid_file = tmp_path / "pid"
    stubborn = f'trap "" TERM; echo $$ > {pid_file}; while :; do sleep 0.1; done'
    process = await launch_external_services(client, f"sh -c 'sh -c \"$0\" & wait' '{stubborn}'")
    while not (pid_file.exists() and pid_file.read_text()):
        await asyncio.sleep(0.02)
    descendant = int(pid_file.read_text())
    assert is_running(descendant)
    await process.kill()
    assert not is_running(descendant)


async def test_a_program_that_ends_with_an_error_is_started_again_until_it_ends_well(client, quick, tmp_path, caplog):
    count = tmp_path / "count"
    count.write_text("")
    command = f"sh -c 'printf x >> {count}; sleep 0.1; [ $(wc -c < {count}) -ge 3 ]'"
    process = await launch_external_services(client, command, name="shaky")
    while process._supervision is not None and not process._supervision.done():
        await asyncio.sleep(0.02)
    assert count.read_text() == "xxx"
    assert caplog.text.count("external services (shaky): it ended with status 1; started again in") == 2
    await process.kill()


async def test_a_killed_program_comes_back_with_a_fresh_token_and_its_service(client, quick):
    process = await launch_external_services(
        client, COMMAND, name="script", env=PATH, check_services=["external"], timeout=20
    )
    first = process.pid
    os.kill(first, signal.SIGKILL)
    while process.pid in (first, None) or not await process.ready():
        await asyncio.sleep(0.05)
    service = await client.get_service("external")
    assert await service.hello("again") == "Hello again"
    await process.kill()


async def test_a_program_whose_service_is_gone_is_started_again(client, quick, tmp_path):
    script = tmp_path / "forgetful.py"
    script.write_text(
        "import asyncio, sys\n"
        "from hypha_rpc import connect_to_server\n"
        "async def main(url, workspace, token):\n"
        "    async with connect_to_server(server_url=url, workspace=workspace, token=token) as server:\n"
        "        await server.register_service({'id': 'external', 'forget': lambda: asyncio.ensure_future("
        "server.unregister_service('external')) and None})\n"
        "        await server.serve()\n"
        "asyncio.run(main(*sys.argv[1:]))\n"
    )
    process = await launch_external_services(
        client,
        f"{PYTHON} {script} {{server_url}} {{workspace}} {{token}}",
        env=PATH,
        check_services=["external"],
        timeout=20,
    )
    first = process.pid
    await (await client.get_service("external")).forget()
    while process.pid in (first, None) or not await process.ready():
        await asyncio.sleep(0.05)
    assert not is_running(first)
    await process.kill()


async def test_a_program_ends_when_its_launcher_disconnects(server):
    async with connect_to_server(server_url=server.url) as connected:
        process = await launch_external_services(connected, "sleep 60", name="sleep")
        pid = process.pid
    while process.running:
        await asyncio.sleep(0.02)
    assert not is_running(pid)


async def test_the_token_is_not_in_the_log(client, caplog, quick):
    caplog.set_level(logging.INFO)
    process = await launch_external_services(client, "sh -c 'echo said {token}; sleep 60'", name="chatty")
    while "[chatty]" not in caplog.text:
        await asyncio.sleep(0.02)
    assert "[chatty] said <token>" in caplog.text
    await process.kill()
