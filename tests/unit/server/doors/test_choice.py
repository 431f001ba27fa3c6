from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest

from hypha.doors import picows as fast
from hypha.doors.asgi import AsgiDoor
from hypha.doors.choice import choose_door, open_door, quiet_runner
from hypha.doors.trial import problem_of_picows
from hypha.settings import SettingsError


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_fast_door_passes_its_self_test_quickly(loop: str):
    factory = asyncio.new_event_loop if loop == "asyncio" else pytest.importorskip("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory, debug=False) as runner:
        start = time.monotonic()
        assert runner.run(problem_of_picows()) is None
        assert time.monotonic() - start < 0.5


async def test_the_self_test_leaves_no_task():
    before = asyncio.all_tasks()
    assert await problem_of_picows() is None
    assert asyncio.all_tasks() == before


async def test_the_plain_door_serves_where_the_fast_one_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.delenv("HYPHA_DOOR", raising=False)
    assert await choose_door() == "picows"

    def broken(*_: Any) -> None:
        raise TypeError("takes 3 positional arguments")

    monkeypatch.setattr(fast, "Bridge", broken)
    assert await choose_door() == "asgi"
    assert "takes 3 positional arguments" in caplog.text
    monkeypatch.setenv("HYPHA_DOOR", "picows")
    with pytest.raises(SettingsError, match="does not work here"):
        await choose_door()


async def test_a_fast_door_that_answers_wrongly_is_not_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fast, "echo_listener", lambda *_: None)
    assert await problem_of_picows() is not None


async def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch):
    for name in ("asgi", "picows"):
        monkeypatch.setenv("HYPHA_DOOR", name)
        assert await choose_door() == name
    monkeypatch.setenv("HYPHA_DOOR", "barn")
    with pytest.raises(SettingsError, match="HYPHA_DOOR must be auto, picows or asgi, not 'barn'"):
        await choose_door()


def test_the_plain_door_wraps_the_application():
    context: Any = object()
    application: Any = object()
    assert isinstance(open_door("asgi", context, "/ws", application).application, AsgiDoor)
    assert open_door("picows", context, "/ws", application).application is application


def test_what_strangers_send_does_not_reach_the_log(caplog: pytest.LogCaptureFixture):
    quiet_runner()
    quiet_runner()
    logger = logging.getLogger("uvicorn.error")
    logger.warning("Invalid HTTP request received.")
    logger.error("Exception in ASGI application")
    assert [record.getMessage() for record in caplog.records] == ["Exception in ASGI application"]


def test_the_path_of_an_upgrade_does_not_reach_the_log(caplog: pytest.LogCaptureFixture):
    quiet_runner()
    caplog.set_level(logging.INFO)
    logger = logging.getLogger("uvicorn.error")
    for end in ("[accepted]", "%d", "403"):
        values = (404,) if "%" in end else ()
        logger.info(f'%s - "WebSocket %s" {end}', "127.0.0.1:5", "/ws?token=secret", *values)
    assert caplog.records == []
