"""The option ``logger``: the library's loggers, nobody, or an object of the user's (python-client §3.2, §21)."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from hypha_rpc import connect_to_server
from hypha_rpc.client.logs import pick
from hypha_rpc.client.options import ABSENT


class Notebook:
    """A logger of the user's own: it takes finished texts."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def warnings(self) -> list[str]:
        return [text for level, text in self.lines if level == "warning"]

    def debug(self, text: str) -> None:
        self.lines.append(("debug", text))

    def info(self, text: str) -> None:
        self.lines.append(("info", text))

    def warning(self, text: str) -> None:
        self.lines.append(("warning", text))

    def error(self, text: str) -> None:
        self.lines.append(("error", text))


def broken(message: Any) -> None:
    raise ValueError("in 50% of the cases")


async def misbehave(server: Any) -> None:
    """Do what a client reports: a handler fails, a frame makes no sense, an option has no effect."""
    server.on("anything", broken)
    server.emit({"type": "anything"})
    server.rpc.endpoint.receive(b"\x01", server.rpc.loop.time())
    await server.register_service({"id": "here", "value": 1})
    await server.get_service("here", encryption_public_key="ab" * 32)


async def test_an_object_gets_everything_as_text(server_url: str, caplog: pytest.LogCaptureFixture) -> None:
    notebook = Notebook()
    async with connect_to_server(server_url=server_url, logger=notebook) as server:
        await misbehave(server)
    texts = notebook.warnings()
    assert len(texts) == 3
    assert "handler of event 'anything' failed" in texts[0] and "in 50% of the cases" in texts[0]
    assert "a received frame was dropped" in texts[1]
    assert "encryption_public_key has no effect" in texts[2]
    assert not [record for record in caplog.records if record.name == "hypha_rpc.client"]


@pytest.mark.parametrize("options", [{"logger": None}, {"silent": True}])
async def test_nobody_hears_anything(
    server_url: str, caplog: pytest.LogCaptureFixture, options: dict[str, Any]
) -> None:
    async with connect_to_server(server_url=server_url, **options) as server:
        server.on("anything", broken)
        server.emit({"type": "anything"})
        server.rpc.endpoint.receive(b"\x01", server.rpc.loop.time())
    assert not [record for record in caplog.records if record.name in ("hypha_rpc.client", "hypha_rpc.link")]


async def test_a_silent_client_reports_to_a_logger_that_was_given(server_url: str) -> None:
    notebook = Notebook()
    async with connect_to_server(server_url=server_url, logger=notebook, silent=True) as server:
        server.rpc.endpoint.receive(b"\x01", server.rpc.loop.time())
    assert notebook.warnings() == ["a received frame was dropped: a frame starts with a msgpack map"]


async def test_without_the_option_the_loggers_of_the_library_are_used(
    server_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with connect_to_server(server_url=server_url) as server:
        await misbehave(server)
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.name for record in warnings] == ["hypha_rpc.client"] * 3


async def test_two_connections_keep_their_loggers_apart(server_url: str) -> None:
    first, second = Notebook(), Notebook()
    async with connect_to_server(server_url=server_url, logger=first) as one:
        async with connect_to_server(server_url=server_url, logger=second):
            one.rpc.endpoint.receive(b"\x01", one.rpc.loop.time())
    assert first.warnings() and not second.warnings()


async def test_an_object_that_is_no_logger_is_refused(server_url: str) -> None:
    with pytest.raises(TypeError, match="a logger needs debug, info, warning, error"):
        await connect_to_server(server_url=server_url, logger=object())


def test_loggers_of_python_are_used_as_they_are() -> None:
    own = logging.getLogger("own")
    adapter = logging.LoggerAdapter(own, {})
    assert pick(own, logging.getLogger("x")) is own
    assert pick(adapter, logging.getLogger("x")) is adapter
    assert pick(ABSENT, own) is own
