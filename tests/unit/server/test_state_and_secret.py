from __future__ import annotations

import logging
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hypha.auth.secret import Secrets, load_secrets, load_server_id
from hypha.settings import Settings, SettingsError
from hypha.store.state import StateDirectory, StateError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_directory_and_file_are_private_and_kept(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "a" / "b")
    assert state.read("name") is None
    assert state.read_or_create("name", lambda: "first") == "first"
    assert StateDirectory(tmp_path / "a" / "b").read_or_create("name", lambda: "second") == "first"
    assert (mode(state.path), mode(state.path / "name")) == (0o700, 0o600)
    assert [path.name for path in state.path.iterdir()] == ["name"]


def test_empty_file_counts_as_absent(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "s")
    (state.path / "name").touch(mode=0o600)
    assert state.read_or_create("name", lambda: "made") == "made"


@pytest.mark.parametrize("open_mode", [0o750, 0o701, 0o755])
def test_directory_open_to_others_is_refused(tmp_path: Path, open_mode: int) -> None:
    path = tmp_path / "s"
    path.mkdir()
    path.chmod(open_mode)
    with pytest.raises(StateError, match="chmod 700"):
        StateDirectory(path)


@pytest.mark.parametrize("open_mode", [0o644, 0o640, 0o606])
def test_file_open_to_others_is_refused(tmp_path: Path, open_mode: int) -> None:
    state = StateDirectory(tmp_path / "s")
    state.read_or_create("jwt-secret", lambda: "x" * 43)
    (state.path / "jwt-secret").chmod(open_mode)
    with pytest.raises(StateError, match="chmod 600"):
        load_secrets(Settings(), state)


def test_unusable_place_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="--in-memory"):
        StateDirectory(tmp_path / "file" / "below")
    with pytest.raises(StateError):
        StateDirectory(tmp_path / "file")


def test_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(StateError, match="another user"):
        StateDirectory(tmp_path / "s")


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "s")
    texts = [f"maker-{index}" for index in range(32)]
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda text: state.read_or_create("name", lambda: text), texts))
    assert len(made) == 1
    assert made == {state.read("name")}


def test_secret_of_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "s")
    assert load_secrets(Settings(jwt_secret="e" * 32), state).current == b"e" * 32
    assert state.read("jwt-secret") is None


def test_generated_secret_survives_a_restart(tmp_path: Path) -> None:
    first = load_secrets(Settings(), StateDirectory(tmp_path / "s"))
    assert len(first.current) >= 32
    assert load_secrets(Settings(), StateDirectory(tmp_path / "s")) == first


def test_secret_in_memory_is_random_each_time() -> None:
    assert load_secrets(Settings(in_memory=True), None) != load_secrets(Settings(in_memory=True), None)
    assert len(Secrets.random().current) == 32


@pytest.mark.parametrize("given", [{"jwt_secret": "x" * 15}, {"jwt_secret": "x" * 32, "jwt_secret_previous": "y"}])
def test_secret_below_16_bytes_does_not_start(given: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="at least 16 bytes"):
        load_secrets(Settings(**given), None)  # type: ignore[arg-type]


def test_secret_below_32_bytes_warns_without_showing_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "hypha.auth"):
        keys = load_secrets(Settings(jwt_secret="s3cr3t-s3cr3t-s3cr3t"), None)
    assert "20 bytes" in caplog.text
    assert "s3cr3t" not in caplog.text + repr(keys)


def test_server_id_is_configured_or_made_once(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "s")
    assert load_server_id(Settings(server_id="mine"), state) == "mine"
    made = load_server_id(Settings(), state)
    assert load_server_id(Settings(), StateDirectory(tmp_path / "s")) == made
    assert load_server_id(Settings(), None) != made
