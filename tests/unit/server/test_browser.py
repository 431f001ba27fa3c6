"""Whether there is a browser for server apps, and what is said when there is none (server-apps §7)."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypha.apps import browser
from hypha.apps.browser import caution, find_browser


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_named_one_counts_alone(tmp_path: Path) -> None:
    mine = program(tmp_path / "mine")
    program(tmp_path / "chromium")
    assert find_browser(str(mine), {"PATH": ""}) == str(mine)
    assert find_browser(str(tmp_path / "none"), {"PATH": str(tmp_path)}) is None


def test_the_one_of_the_driver_comes_before_those_on_the_path(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "chromium")
    environ = {"PATH": str(tmp_path / "bin"), "PLAYWRIGHT_BROWSERS_PATH": str(tmp_path / "builds")}
    assert find_browser(None, environ) == str(tmp_path / "bin" / "chromium")
    program(tmp_path / "builds" / "chromium-1234" / "INSTALLATION_COMPLETE")
    assert find_browser(None, environ) == str(tmp_path / "builds" / "chromium-1234")


def test_the_operator_is_told_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = {"PATH": "", "PLAYWRIGHT_BROWSERS_PATH": str(tmp_path)}
    monkeypatch.setattr(browser.importlib.util, "find_spec", lambda name: None)
    assert 'pip install "hypha[server-apps]"' in caution(None, nothing)
    monkeypatch.setattr(browser.importlib.util, "find_spec", lambda name: object())
    assert caution(None, nothing) == (
        'Server apps: no browser found. Run "playwright install chromium", install Chromium, '
        "or set --browser-executable; no restart needed."
    )
    program(tmp_path / "chromium")
    assert "does not run apps yet" in caution(None, {**nothing, "PATH": str(tmp_path)})
