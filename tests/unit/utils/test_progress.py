"""The progress bar: text in terminals and files, tqdm where it is installed."""

from __future__ import annotations

import io
import sys
import types
from typing import Any

import pytest

from hypha_rpc.utils.progress import ProgressBar

MB = 1_000_000


class Terminal(io.StringIO):
    """A stream whose lines can be drawn again."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def without_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)


def test_in_a_terminal_a_line_is_drawn_again_and_ended() -> None:
    terminal = Terminal()
    bar = ProgressBar("upload", stream=terminal)
    bar(MB, 4 * MB)
    bar(4 * MB, 4 * MB)
    first, last = terminal.getvalue().removeprefix("\r").split("\r")
    assert first.startswith("upload [#######.......................]  25% 1.0/4.0 MB")
    assert last.startswith("upload [##############################] 100% 4.0/4.0 MB")
    assert last.endswith("\n")


def test_it_is_not_drawn_more_than_ten_times_a_second() -> None:
    terminal = Terminal()
    bar = ProgressBar(stream=terminal)
    for done in range(1000):
        bar(done, 10_000)
    assert 1 <= terminal.getvalue().count("\r") <= 10


def test_in_a_file_there_is_only_the_end() -> None:
    file = io.StringIO()
    bar = ProgressBar(stream=file)
    for done in range(0, 5 * MB, MB):
        bar(done, 4 * MB)
    assert file.getvalue().count("\n") == 1
    assert "\r" not in file.getvalue()
    assert "100%" in file.getvalue()


def test_argument_and_result_have_a_line_each() -> None:
    terminal = Terminal()
    bar = ProgressBar(stream=terminal)
    for total in (2 * MB, 3 * MB):
        bar(0, total)
        bar(total, total)
    assert terminal.getvalue().count("\n") == 2


def test_a_value_that_did_not_arrive_ends_its_line_before_the_next_one() -> None:
    terminal = Terminal()
    bar = ProgressBar(stream=terminal)
    bar(MB, 4 * MB)
    bar(0, 4 * MB)
    bar(4 * MB, 4 * MB)
    assert terminal.getvalue().count("\n") == 2


@pytest.mark.usefixtures("without_tqdm")
def test_by_default_it_is_written_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    ProgressBar("down")(MB, MB)
    assert capsys.readouterr().err.startswith("down [####")


def test_with_tqdm_installed_it_is_a_bar_of_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[Any] = []

    class Bar:
        def __init__(self, **options: Any) -> None:
            self.options, self.n, self.total, self.closed = options, 0, 0, False
            bars.append(self)

        def update(self, by: int) -> None:
            self.n += by

        def close(self) -> None:
            self.closed = True

    module: Any = types.ModuleType("tqdm.auto")
    module.tqdm = Bar
    monkeypatch.setitem(sys.modules, "tqdm", types.ModuleType("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", module)
    bar = ProgressBar("upload")
    bar(MB, 4 * MB)
    assert (bars[0].n, bars[0].closed) == (MB, False)
    bar(4 * MB, 4 * MB)
    bar(0, 2 * MB)
    assert [(one.n, one.total, one.closed) for one in bars] == [(4 * MB, 4 * MB, True), (0, 2 * MB, False)]
    assert bars[0].options == {"total": 4 * MB, "desc": "upload", "unit": "B", "unit_scale": True}
