"""Level 1 of the extensions: announced by ours, unnoticed by public peers, never sent to them.

Every pair talks through a recorder; what it carried is compared with extensions 1, 2 and 4.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .matrix import Matrix
from .peers import CELLS, Cell, run_program, start_consumer, wait_until_ready
from .processes import ProcessFailed
from .recorder import DOWN, UP, Connection, FrameReader, Recorder, unmask, without_extensions
from .sides import OURS, PUBLIC

pytestmark = pytest.mark.timeout(180)

CHECKS = [
    "get_by_absolute_id",
    "callbacks",
    "function_in_a_result",
    "generators_in_results",
    "error_of_a_plain_function",
    "values_around_the_chunk_size",
    "many_calls_at_once",
]
LEVEL_1_TYPES = {"cancel", "query", "release", "lease", "chunk", "credit", "progress"}
HEADER_KEYS = {"type", "to", "from", "ws", "user", "method", "session", "parent", "data"}
RUN_S = 90.0


@dataclass(frozen=True)
class Session:
    """What one cell's consumer and provider exchanged with the server."""

    cell: Cell
    results: dict[str, str]
    consumer: Connection
    provider: Connection

    def sides(self) -> list[tuple[str, str, Connection]]:
        """For either client: its side, the side of the other one, its connection."""
        cell = self.cell
        return [(cell.consumer, cell.provider, self.consumer), (cell.provider, cell.consumer, self.provider)]


def record(matrix: Matrix, cell: Cell, folder: Path) -> Session:
    """Run a few checks of one cell through a recorder."""
    with Recorder(matrix.server(cell.server).port) as recorder:
        provider = run_program(cell.provider, "provider", [recorder.url], log=folder / f"provider-{cell}.log")
        ready = wait_until_ready(provider)
        consumer = start_consumer(cell.consumer, recorder.url, ready, CHECKS, log=folder / f"consumer-{cell}.log")
        try:
            consumer.wait_for("done", timeout_s=RUN_S)
            results = {report["name"]: report["error"] for report in consumer.reports if report["event"] == "check"}
            mine = recorder.of_client(str(ready["client_id"]))
            others = [item for item in recorder.connections if item is not mine]
            return Session(cell, results, others[0], mine)
        finally:
            consumer.kill()
            provider.kill()


class Sessions:
    """One recorded session a cell, recorded when it is first asked for."""

    def __init__(self, matrix: Matrix, folder: Path) -> None:
        self._matrix, self._folder = matrix, folder
        self._recorded: dict[Cell, Session | str] = {}

    def __getitem__(self, cell: Cell) -> Session:
        if cell not in self._recorded:
            self._recorded[cell] = self._record(cell)
        session = self._recorded[cell]
        if isinstance(session, str):
            pytest.fail(session, pytrace=False)
        return session

    def _record(self, cell: Cell) -> Session | str:
        try:
            return record(self._matrix, cell, self._folder)
        except (ProcessFailed, LookupError) as error:
            return str(error)


@pytest.fixture(scope="module")
def sessions(matrix: Matrix, tmp_path_factory: pytest.TempPathFactory) -> Sessions:
    """The recorded sessions of all cells."""
    return Sessions(matrix, tmp_path_factory.mktemp("levels"))


each_cell = pytest.mark.parametrize("cell", CELLS, ids=str)
with_ours = pytest.mark.parametrize("cell", [cell for cell in CELLS if OURS in (cell.consumer, cell.provider)], ids=str)
ours_provides = pytest.mark.parametrize("cell", [cell for cell in CELLS if cell.provider == OURS], ids=str)


def calls_of(connection: Connection) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The calls to the main service that a client has sent."""
    return [item for item in connection.frames(UP) if item[0].get("method", "").startswith("services.interop.")]


def answers_of(connection: Connection, end: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The answers of one kind (``.resolve``, ``.reject``) that a client has sent."""
    return [item for item in connection.frames(UP) if item[0].get("method", "").endswith(end)]


def method_maps(value: Any) -> Iterator[dict[str, Any]]:
    """All function and generator maps inside a payload, promises left out."""
    if isinstance(value, list):
        for item in value:
            yield from method_maps(item)
    elif isinstance(value, dict):
        if value.get("_rtype") in ("method", "generator") and value.get("_rpromise"):
            yield value
        for item in value.values():
            yield from method_maps(item)


@each_cell
def test_everything_works_with_level_1_on_the_wire(sessions: Sessions, cell: Cell) -> None:
    assert sessions[cell].results == dict.fromkeys(CHECKS, "")


@each_cell
def test_the_authentication_frame_announces_the_level(sessions: Sessions, cell: Cell) -> None:
    for side, _, connection in sessions[cell].sides():
        first = connection.texts(UP)[0]
        assert first.get("x") == (1 if side == OURS else None)
        assert bool(first.get("life")) == (side == OURS)


@with_ours
def test_each_client_object_has_a_life_of_its_own(sessions: Sessions, cell: Cell) -> None:
    lives = [item.texts(UP)[0]["life"] for side, _, item in sessions[cell].sides() if side == OURS]
    assert len(lives) == len(set(lives)) >= 1


@each_cell
def test_connection_info_announces_the_level(sessions: Sessions, cell: Cell) -> None:
    for _, _, connection in sessions[cell].sides():
        info = connection.texts(DOWN)[0]
        assert info["type"] == "connection_info"
        assert info.get("x") == (1 if cell.server == OURS else None)


@each_cell
def test_calls_carry_the_level(sessions: Sessions, cell: Cell) -> None:
    calls = calls_of(sessions[cell].consumer)
    assert len(calls) >= len(CHECKS)
    assert {payload.get("x") for _, payload in calls} == {1 if cell.consumer == OURS else None}


@each_cell
def test_a_deadline_in_a_call_is_a_time_left(sessions: Sessions, cell: Cell) -> None:
    calls = calls_of(sessions[cell].consumer)
    assert calls
    # only a caller that has a deadline sends one (extensions 2): these calls have a limit of silence
    left = [payload["d"] for _, payload in calls if "d" in payload]
    assert cell.consumer == OURS or not left
    assert all(isinstance(seconds, int | float) and seconds > 0 for seconds in left)


@each_cell
def test_answers_carry_the_level(sessions: Sessions, cell: Cell) -> None:
    answers = answers_of(sessions[cell].provider, ".resolve")
    assert answers
    assert {payload.get("x") for _, payload in answers} == {1 if cell.provider == OURS else None}


@each_cell
def test_functions_are_marked_with_the_level(sessions: Sessions, cell: Cell) -> None:
    for side, _, connection in sessions[cell].sides():
        client = connection.texts(DOWN)[0]["client_id"]
        maps = [item for _, payload in connection.frames(UP) for item in method_maps(payload)]
        own = [item for item in maps if item["_rtarget"].split("/")[-1] == client]
        assert own
        assert {item.get("_rx") for item in own} == {1 if side == OURS else None}


@ours_provides
def test_errors_name_their_type(sessions: Sessions, cell: Cell) -> None:
    rejects = [payload["args"][0] for _, payload in answers_of(sessions[cell].provider, ".reject")]
    errors = [item["_rerr"] for item in rejects if "something is wrong" in item["_rvalue"]]
    assert len(errors) == 1
    assert errors[0]["type"] == "ValueError"
    assert errors[0]["args"] == ["something is wrong"]
    assert {item["_rtype"] for item in rejects} == {"error"}


@each_cell
def test_nothing_of_level_1_is_in_a_header(sessions: Sessions, cell: Cell) -> None:
    for side, other, connection in sessions[cell].sides():
        if side == PUBLIC or other == PUBLIC:
            for header, _ in connection.frames(UP):
                assert set(header) <= HEADER_KEYS


@each_cell
def test_a_public_client_never_gets_a_frame_of_level_1(sessions: Sessions, cell: Cell) -> None:
    for side, _, connection in sessions[cell].sides():
        if side == PUBLIC:
            types = {header["type"] for header, _ in connection.frames(DOWN)}
            assert "method" in types
            assert not types & LEVEL_1_TYPES


@each_cell
def test_nobody_sends_frames_of_level_1_to_a_public_peer(sessions: Sessions, cell: Cell) -> None:
    for _, other, connection in sessions[cell].sides():
        if other == PUBLIC:
            assert not {header["type"] for header, _ in connection.frames(UP)} & LEVEL_1_TYPES


@each_cell
def test_no_single_frame_is_too_big_for_a_public_client(sessions: Sessions, cell: Cell) -> None:
    for _, _, connection in sessions[cell].sides():
        assert max(len(item.payload) for item in connection.messages) <= 512_000


def test_the_recorder_reads_masked_fragmented_and_long_frames() -> None:
    connection = Connection()
    reader = FrameReader(UP, connection)
    stream = b"\x01\x82\x01\x02\x03\x04" + unmask(b"[1", b"\x01\x02\x03\x04") + b"\x89\x00" + b"\x80\x01]"
    stream += b"\x82\x7e\x01\x00" + bytes(256) + b"\x82\x7f" + (65536).to_bytes(8) + bytes(65536)
    for position in range(0, len(stream), 1000):
        reader.feed(stream[position : position + 1000])
    assert [(item.opcode, len(item.payload)) for item in connection.messages] == [(1, 3), (2, 256), (2, 65536)]
    assert json.loads(connection.messages[0].payload) == [1]


def test_the_recorder_takes_out_the_offer_of_compression() -> None:
    head = b"GET /ws HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Extensions: permessage-deflate\r\nUpgrade: websocket\r\n\r\n"
    assert without_extensions(head) == b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n"
