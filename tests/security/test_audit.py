"""The audit log: what is reported, where it is kept, and what is never in it (security S51)."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hypha.audit import EVENTS, AuditFile, Pace, audit
from hypha.settings import SettingsError
from hypha.testing import RunningServer, run_server
from hypha_rpc import connect_to_server
from tests.integration.raw_peers import Rejected, peer_at, socket_at

ROOT = "q7Zb2mVx9KpLw4Tn8RcYd6Hj3Gf5Sa1Ue0Ik-Oz_BvMy"
PASSWORD = "correct horse battery staple"
LOGIN = "services.hypha-login"


def records(path: Path, event: str | None = None) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in path.read_text("ascii").splitlines()]
    return [record for record in found if event in (None, record["event"])]


# -- the file --------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


@pytest.fixture
def kept(path: Path) -> Any:
    file = AuditFile(str(path))
    yield file
    file.close()


def test_a_line_is_an_object_with_a_time_and_what_is_known(kept: AuditFile, path: Path) -> None:
    audit("kick", client="ws/a", reason=None, seconds=3)
    (record,) = records(path)
    assert record.pop("at").endswith("+00:00")
    assert record == {"event": "kick", "client": "ws/a", "seconds": 3}


def test_a_text_of_a_peer_makes_no_line_of_its_own_and_is_cut(kept: AuditFile, path: Path) -> None:
    audit("kick", client='a"\n{"event": "login"}\x1b[2J\u202e\ud800' + "x" * 5000)
    assert len(path.read_bytes()) < 600
    (record,) = records(path)
    assert record["event"] == "kick"


def test_the_file_is_for_its_owner_only(path: Path) -> None:
    path.touch(0o644)
    AuditFile(str(path)).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_is_not_followed(tmp_path: Path, path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingsError, match="HYPHA_AUDIT_LOG: cannot write"):
        AuditFile(str(path))
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_was_moved_away_is_made_anew(kept: AuditFile, path: Path) -> None:
    audit("kick", client="first")
    path.rename(path.with_suffix(".1"))
    audit("kick", client="second")
    assert [record["client"] for record in records(path)] == ["second"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_folder_that_vanishes_is_one_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    file = AuditFile(str(folder / "audit.log"))
    try:
        audit("kick", client="first")
        (folder / "audit.log").unlink()
        folder.rmdir()
        for _ in range(3):
            audit("kick", client="lost")
    finally:
        file.close()
    assert [record.getMessage() for record in caplog.records] == [
        f"the audit log {folder / 'audit.log'} cannot be written: events are lost"
    ]
    assert capsys.readouterr().err == ""


def test_without_a_file_nothing_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    audit("kick", client="ws/a")
    assert caplog.records == []


def test_refusals_are_one_a_second_and_those_left_out_are_counted() -> None:
    now = 0.0
    pace = Pace(lambda: now)
    assert [pace.take("refusal") for _ in range(4)] == [0, None, None, None]
    now = 1.0
    assert [pace.take("refusal") for _ in range(2)] == [3, None]
    now = 100.0
    assert [pace.take("refusal") for _ in range(2)] == [1, None]


def test_other_events_are_ten_a_second_after_a_burst() -> None:
    now = 0.0
    pace = Pace(lambda: now)
    assert [pace.take("failure") for _ in range(101)] == [0] * 100 + [None]
    assert pace.take("login") == 0
    now = 1.0
    assert [pace.take("failure") for _ in range(11)] == [1] + [0] * 9 + [None]


# -- what a server reports -------------------------------------------------------------------


class Server:
    """A server that keeps an audit log, and the log."""

    def __init__(self, running: RunningServer, path: Path) -> None:
        self.running = running
        self.path = path

    async def event(self, name: str, wanted: Callable[[dict[str, Any]], bool] = lambda record: True) -> dict[str, Any]:
        """The first record of an event that is wanted, when it comes."""
        async with asyncio.timeout(5):
            while True:
                found = [record for record in records(self.path, name) if wanted(record)]
                if found:
                    return found[0]
                await asyncio.sleep(0.02)


@pytest.fixture
async def server(path: Path) -> Any:
    limits = {"invalid_frames_burst": 3, "max_connections_per_user": 3, "replace_ping_timeout": 0.2}
    async with run_server(
        audit_log=str(path), root_token=ROOT, allow_origins=("https://x.example",), **limits
    ) as running:
        yield Server(running, path)
    check(path)


def check(path: Path) -> None:
    """Known events only, and none of them shows a secret."""
    assert {record["event"] for record in records(path)} <= EVENTS
    text = path.read_text("ascii")
    # How every token begins.
    assert "eyJ" not in text and ROOT not in text and PASSWORD not in text


async def test_tokens(server: Server) -> None:
    token = server.running.token("alice")
    async with connect_to_server({"server_url": server.running.url, "token": token}) as alice:
        child = await alice.generate_token({"expires_in": 60})
        minted = await server.event("mint", lambda record: record.get("parent") == "alice")
        assert minted["seconds"] == 60 and "ws:ws-user-alice#rw" in minted["scope"]
        async with peer_at(server.running.ws_url, "worker", token=child) as worker:
            await alice.revoke_token(child)
            await worker.closed()
        revoked = await server.event("revoke")
        assert (revoked["jti"], revoked["by"]) == (minted["jti"], "alice")
        assert (await server.event("kick"))["client"] == "ws-user-alice/worker"


async def test_connections_that_are_refused(server: Server) -> None:
    async with peer_at(server.running.ws_url) as peer:
        await peer.ws.send('{"client_id": "a", "token": "not a token"}')
        await peer.refused()
    record = await server.event("failure", lambda record: record["kind"] == "connection")
    assert record["address"] == "127.0.0.1" and record["reason"].startswith("Authentication error")
    async with httpx2.AsyncClient(trust_env=False) as http:
        url = f"{server.running.url}/public/services/"
        assert (await http.get(url, headers={"Authorization": "Bearer x"})).status_code == 401
    assert (await server.event("failure", lambda record: record["kind"] == "http"))["address"] == "127.0.0.1"


async def test_logging_in(server: Server) -> None:
    async with connect_to_server({"server_url": server.running.url}) as client:
        login = await client.get_service("public/hypha-login")
        await login.signup(name="Ada", email="ada@example.org", password=PASSWORD)
        code = (await login.resend_code(email="ada@example.org")).get("dev_code")
        if code is None:
            # A code is sent anew after half a minute only: the first one was shown.
            made = await login.signup(name="Ada", email="ada2@example.org", password=PASSWORD)
            await login.verify_email(email="ada2@example.org", code=made["dev_code"])
        assert (await login.login(email="ada2@example.org", password="wrong one"))["success"] is False
        answer = await login.login(email="ada2@example.org", password=PASSWORD)
        assert answer["success"] is True
    failed = await server.event("failure", lambda record: record["kind"] == "password")
    passed = await server.event("login")
    assert failed["user"] == passed["user"] == answer["user_id"]


async def test_workspaces(server: Server) -> None:
    async with connect_to_server({"server_url": server.running.url, "token": server.running.token("alice")}) as alice:
        await alice.create_workspace({"id": "lab-one", "name": "lab"})
        assert (await server.event("workspace_created", lambda r: r["workspace"] == "lab-one"))["user"] == "alice"
        await alice.create_workspace({"id": "lab-one", "owners": ["alice", "bob"]}, overwrite=True)
        assert (await server.event("owners_changed"))["owners"] == "alice bob"
        await alice.delete_workspace("lab-one")
        assert (await server.event("workspace_deleted"))["workspace"] == "lab-one"


async def test_refusals(server: Server) -> None:
    async with peer_at(server.running.ws_url, "evil", token=server.running.token("mallory")) as peer:
        with pytest.raises(Rejected, match="Permission denied"):
            await peer.call(peer.manager, "services.default.list_clients", "ws-user-alice")
        record = await server.event("refusal")
        assert (record["user"], record["action"], record["workspace"]) == ("mallory", "list_clients", "ws-user-alice")


async def test_forged_news_of_the_server(server: Server) -> None:
    async with peer_at(server.running.ws_url, "evil") as peer:
        await peer.send({"type": "force-exit", "to": "*"})
        assert (await server.event("refusal"))["action"] == "send force-exit"


async def test_root(server: Server) -> None:
    async with peer_at(server.running.ws_url, "boss", token=ROOT) as peer:
        assert (await server.event("root"))["client"] == peer.address
    async with httpx2.AsyncClient(trust_env=False) as http:
        await http.get(f"{server.running.url}/public/services/", headers={"Authorization": f"Bearer {ROOT}"})
    assert (await server.event("root", lambda record: "path" in record))["path"] == "/public/services/"


async def test_a_silent_client_is_taken_over(server: Server) -> None:
    token = server.running.token("alice")
    async with socket_at(server.running.url) as silent:
        assert await silent.upgrade() == 101
        await silent.hello("worker", token=token)
        async with peer_at(server.running.ws_url, "worker", token=token):
            record = await server.event("takeover")
    assert (record["client"], record["user"], record["former"]) == ("ws-user-alice/worker", "alice", "alice")


async def test_who_breaks_a_limit(server: Server) -> None:
    async with socket_at(server.running.url) as socket:
        assert await socket.upgrade() == 101
        await socket.hello("noise", token=server.running.token("alice"))
        for _ in range(10):
            socket.send(2, b"\xc1")
        assert await socket.close_code() == 1008
    assert (await server.event("limit"))["client"] == "ws-user-alice/noise"


async def test_one_connection_too_many(server: Server) -> None:
    token = server.running.token("bob")
    async with (
        peer_at(server.running.ws_url, "a", token=token),
        peer_at(server.running.ws_url, "b", token=token),
        peer_at(server.running.ws_url, "c", token=token),
        peer_at(server.running.ws_url) as late,
    ):
        await late.ws.send(json.dumps({"client_id": "d", "token": token}))
        await late.refused()
    record = await server.event("limit")
    assert (record["limit"], record["user"]) == ("connections of a user", "bob")


async def test_the_usual_is_no_event(server: Server) -> None:
    token = server.running.token("alice")
    async with connect_to_server({"server_url": server.running.url, "token": token, "client_id": "w"}) as client:
        await client.register_service({"id": "svc", "echo": lambda value: value})
        assert await (await client.get_service("svc")).echo(1) == 1
    usual = {"workspace_created", "mint"}
    # The token of this test is the only one that was minted.
    assert {record["event"] for record in records(server.path)} <= usual
    assert len(records(server.path, "mint")) == 1
