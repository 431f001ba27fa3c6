from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hypha.__main__ as entry
from hypha.cli import parse
from hypha.cli.plain import read_plain
from hypha.cli.syntax import explain
from hypha.settings import LATER_OPTIONS
from hypha.settings.options import option_name

GOOD = "Zk3v9QxT7wLm2pRb8sYc5dHf1gJn4aUe"


@pytest.mark.parametrize("option", ["startup-functions", "static-mounts"])
@pytest.mark.parametrize(
    "form",
    [
        ["--{o}", "/a:x", "/b:y"],
        ["--{o}=/a:x", "/b:y"],
        ["--{o}=/a:x", "--{o}=/b:y"],
        ["--port", "1", "--{o}", "/a:x", "/b:y", "--host", "h"],
    ],
)
def test_multi_value_options_take_all_spellings(option: str, form: list[str]) -> None:
    settings = parse([word.format(o=option) for word in form], {})
    assert getattr(settings, option.replace("-", "_")) == ("/a:x", "/b:y")


def test_seed_command_line() -> None:
    argv = ["--host=127.0.0.1", "--port=9527", "--startup-functions=./a.py:f", "./b.py:f", "--enable-server-apps"]
    settings = parse(argv, {})
    assert settings.startup_functions == ("./a.py:f", "./b.py:f")
    assert settings.enable_server_apps


def test_command_line_of_the_clients_own_test_suite() -> None:
    argv = (
        "--port=9394 --enable-server-apps --enable-s3 --start-minio-server --minio-workdir=/tmp/m --minio-port=9000 "
        "--minio-console-port=9001 --minio-root-user=u --minio-root-password=p --minio-file-system-mode "
        "--workspace-bucket=b --s3-admin-type=minio --s3-cleanup-period 3 --executable-path bin"
    ).split()
    settings = parse(argv, {})
    assert settings.port == 9394
    assert len(settings.ignored_options) == 12
    assert "--start-minio-server" in settings.ignored_options


@pytest.mark.parametrize("name", LATER_OPTIONS)
def test_every_later_option_is_accepted_and_named_once(name: str) -> None:
    kind = LATER_OPTIONS[name]
    argv = [option_name(name)] + ([] if kind is bool else ["x"] if kind is str else ["x", "y"])
    assert parse(argv, {}).ignored_options == (option_name(name),)


def test_unknown_option_exits_with_2_and_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--prot", "1"], {})
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert "--prot" in error
    assert "--port" in error


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["stray"], "stray"),
        (["--port", "x"], "--port"),
        (["--port"], "--port"),
        (["--port", "70000"], "--port"),
        (["--root-token", "short"], "Root token must be at least 32 characters long for security."),
        (["--no-enable-mcp"], "--no-enable-mcp"),
    ],
)
def test_bad_argument_exits_with_2(argv: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(argv, {})
    assert caught.value.code == 2
    assert text in capsys.readouterr().err


def test_bad_variable_exits_with_2_and_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--port", "1"], {"HYPHA_HTTP_RATE_LIMIT": "fast"})
    assert caught.value.code == 2
    assert "HYPHA_HTTP_RATE_LIMIT" in capsys.readouterr().err


def test_help_lists_every_option_with_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--help"], {})
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for option in (
        "--host",
        "--startup-functions",
        "--root-token",
        "--state-dir",
        "--from-env",
        "--start-minio-server",
        "python -m hypha.server --static-mounts /tools:./webtools/ /images:./images/",
        "HYPHA_JWT_SECRET",
        "HYPHA_LOGLEVEL",
    ):
        assert option in text
    assert "[default: 9527]" in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--version"], {})
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("hypha 0.")


def test_environment_counts_with_from_env_or_without_any_argument() -> None:
    environ = {"HYPHA_PORT": "77", "HYPHA_HOST": "h"}
    assert parse([], environ).port == 77
    assert parse(["--from-env"], environ).port == 77
    assert parse(["--host", "x"], environ).port == 9527


def test_explicit_flag_wins_over_the_environment_even_when_it_is_the_default() -> None:
    settings = parse(["--from-env", "--port", "9527"], {"HYPHA_PORT": "77", "HYPHA_HOST": "h"})
    assert (settings.port, settings.host) == (9527, "h")


def test_arguments_of_the_process_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["hypha-server", "--port", "5"])
    assert parse(environ={}).port == 5


def test_dotenv_file_of_a_parent_is_loaded_and_yields_to_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("HYPHA_PORT=81\nHYPHA_HOST=from-file\n")
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    # Whatever the file adds is taken back when the test ends.
    monkeypatch.setattr(os, "environ", {**os.environ, "HYPHA_PORT": "82"})
    monkeypatch.delenv("HYPHA_HOST", raising=False)
    settings = parse([])
    assert (settings.port, settings.host) == (82, "from-file")


def test_module_entry_tells_commands_apart(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    served: list[list[str]] = []

    class Server:
        @staticmethod
        def main(argv: list[str]) -> int:
            served.append(argv)
            return 3

    monkeypatch.setitem(sys.modules, "hypha.server", Server)  # type: ignore[arg-type]
    assert entry.main(["server", "--port", "1"]) == 3
    assert entry.main(["--port", "1"]) == 3
    assert served == [["--port", "1"], ["--port", "1"]]
    monkeypatch.setenv("HYPHA_JWT_SECRET", "x" * 32)
    assert entry.main(["generate-token"]) == 0
    assert "Token:" in capsys.readouterr().out


COMMAND_LINES = [
    [],
    ["--port", "1"],
    ["--port=1", "--host=::"],
    ["--host", "0.0.0.0", "--enable-server-apps", "--port=9527", "--in-memory"],
    ["--static-mounts=/a:x", "/b:y", "--port", "0"],
    ["--static-mounts", "/a:x", "--static-mounts", "/b:y", "/c:z"],
    ["--startup-functions=./a.py:f=g", "./b.py:f"],
    ["--allow-origins", "https://a,https://b", "https://c"],
    ["--triton-servers", "a", "b", "--minio-port=9000", "--enable-s3"],
    ["--from-env", "--root-token", GOOD],
    ["--public-base-url=https://x.org/?a=b"],
]
NOT_PLAIN = [
    ["--help"],
    ["--version"],
    ["-h"],
    ["stray"],
    ["--prot", "1"],
    ["--port"],
    ["--port="],
    ["--port", "one"],
    ["--port", "-1"],
    ["--port", "1", "--port", "2"],
    ["--port", "1", "2"],
    ["--in-memory", "yes"],
    ["--in-memory=yes"],
    ["--static-mounts"],
    ["--static-mounts="],
    ["--"],
    ["--no-in-memory"],
    ["--in_memory"],
    [""],
]


@pytest.mark.parametrize("argv", COMMAND_LINES)
def test_a_plain_command_line_is_read_as_the_full_parser_reads_it(argv: list[str]) -> None:
    assert read_plain(argv) == explain(argv)


@pytest.mark.parametrize("argv", NOT_PLAIN)
def test_whatever_is_not_plain_is_left_to_the_full_parser(argv: list[str]) -> None:
    assert read_plain(argv) is None


def test_a_plain_start_does_not_load_the_parser() -> None:
    code = "import sys; from hypha.cli import parse; parse(['--port', '1'], {}); print('cyclopts' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "False\n"
