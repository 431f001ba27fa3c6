from __future__ import annotations

from pathlib import Path

import pytest

from hypha.auth.secret import Secrets
from hypha.auth.tokens import TokenService
from hypha.cli.token import generate_token

SECRET = "0123456789abcdef0123456789abcdef"


def run(capsys: pytest.CaptureFixture[str], *argv: str, environ: dict[str, str] | None = None) -> tuple[str, str]:
    assert generate_token(argv, {"JWT_SECRET": SECRET} if environ is None else environ) == 0
    output = capsys.readouterr().out
    lines = output.rstrip("\n").split("\n")
    assert lines[-2] == "Token:"
    return output, lines[-1]


def test_default_token_is_for_a_new_anonymous_user(capsys: pytest.CaptureFixture[str]) -> None:
    output, token = run(capsys)
    user = TokenService(Secrets(SECRET.encode())).parse(token)
    assert user.is_anonymous
    assert user.current_workspace == f"ws-user-{user.id}"
    assert f"Generated token for user '{user.id}':" in output


def test_token_says_what_the_options_say(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--workspace ws-a --permission read --client-id c1 --user-id bob --role user --role lab --email b@x.org"
    _, token = run(capsys, *options.split(), "--scope", "ws-b#a", "--scope=ws-c#read_write")
    user = TokenService(Secrets(SECRET.encode())).parse(token)
    assert (user.id, user.roles, user.email, user.current_workspace) == ("bob", ("user", "lab"), "b@x.org", "ws-a")
    assert user.scope.client_id == "c1"
    assert user.scope.workspaces == {"ws-a": "r", "ws-b": "a", "ws-c": "rw", "ws-user-bob": "a"}


def test_secret_of_the_state_directory_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, token = run(capsys, "--state-dir", str(tmp_path / "state"), environ={})
    secret = (tmp_path / "state" / "jwt-secret").read_text().strip()
    assert TokenService(Secrets(secret.encode())).parse(token).is_anonymous


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--user-id", "a b"], "--user-id"),
        (["--expires-in", "0"], "--expires-in"),
        (["--scope", "ws-a"], "malformed"),
        (["--scope", "ws-a#r ws-b#r"], "malformed"),
        (["--workspace", "a:b"], "malformed"),
        (["--permission", "all"], "--permission"),
        (["--unknown"], "--unknown"),
    ],
)
def test_bad_value_exits_with_2(argv: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        generate_token(argv, {"JWT_SECRET": SECRET})
    assert caught.value.code == 2
    assert text in capsys.readouterr().err
