"""Every cell of security §3 against a real server, by socket, by HTTP and by ``/rpc``.

``expected.csv`` is the table of the specification, written down by hand; nothing in it was taken from the
server. A caller by HTTP without a token is a stranger everywhere and a reader of ``ws-anonymous``.
"""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hypha.testing import RunningServer, run_server
from hypha_rpc import connect_to_server

from .actions import ACTIONS, REFUSALS, REFUSED_I
from .scenes import CELLS, ROOT_TOKEN, TRANSPORTS, Denied, Scene, credentials, set_scene

_LINES = Path(__file__).with_name("expected.csv").read_text(encoding="utf-8").splitlines()
TABLE = {row["action"]: row for row in csv.DictReader(_LINES)}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server() -> AsyncIterator[RunningServer]:
    async with run_server(root_token=ROOT_TOKEN, max_workspaces_per_user=100_000) as running:
        yield running


class Scenes:
    """Scenes that several cells share, until one of them is destroyed."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._standing: dict[bool, Scene] = {}

    async def get(self, *, anonymous: bool, alone: bool) -> Scene:
        if alone:
            return await set_scene(self._server, anonymous=anonymous)
        if anonymous not in self._standing:
            self._standing[anonymous] = await set_scene(self._server, anonymous=anonymous)
        return self._standing[anonymous]

    async def close(self) -> None:
        for scene in self._standing.values():
            await scene.stack.aclose()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def scenes(server: RunningServer) -> AsyncIterator[Scenes]:
    standing = Scenes(server)
    yield standing
    await standing.close()


def _letter(action: str, cell: str, transport: str) -> str:
    letter = TABLE[action][cell]
    if cell == "root" and transport != "http" and action in {"call.protected", "call.authorized"}:
        # The provider decides about a frame, and knows no root: its caller is of another workspace (protocol §4.5).
        return "K"
    if transport == "http" and cell == "anon" and action != "create_workspace":
        other = TABLE[action]["other"]
        # The rows that cannot name another workspace act on `ws-anonymous`, where everybody reads.
        letter = TABLE[action]["r"] if other in "-o" else other
    return letter


def _cases() -> list[Any]:
    return [
        pytest.param(action, cell, transport, _letter(action, cell, transport), id=f"{action}-{cell}-{transport}")
        for action in TABLE
        if action in ACTIONS
        for cell in CELLS
        for transport in TRANSPORTS
        if _letter(action, cell, transport) != "-"
        and not (transport == "http" and ACTIONS[action].needs_connection)
        # The anonymous client is its own host; which transport it came by is tried once.
        and not (transport == "rpc" and cell == "anon")
        # There is no token to show.
        and not (action == "revoke_token.own" and (cell == "root" or (cell == "anon" and transport == "http")))
    ]


@pytest.mark.parametrize(("action", "cell", "transport", "letter"), _cases())
async def test_cell(scenes: Scenes, action: str, cell: str, transport: str, letter: str) -> None:
    done = ACTIONS[action]
    anonymous = cell == "anon" and transport != "http"
    scene = await scenes.get(anonymous=anonymous, alone=done.destroys)
    async with AsyncExitStack() as stack:
        if done.destroys:
            stack.push_async_callback(scene.stack.aclose)
        actor = await TRANSPORTS[transport](scene, cell, stack, of_owner=done.of_owner)
        if letter in "yo":
            outcome = await done.step(actor, scene)
            if action == "list_services":
                assert outcome >= {"public", "protected", "authorized", "built-in"}
                assert "unlisted" not in outcome
            return
        if letter == "L":
            shown = {"public-type"} if action == "list_service_types" else {"public", "authorized"}
            assert await done.step(actor, scene) == shown
            return
        with pytest.raises(Denied) as caught:
            await done.step(actor, scene)
    status, text = (403, REFUSED_I[action]) if letter == "I" else REFUSALS[letter]
    # Who may not act on its own workspace is told about that one; a reader before anything else is looked at.
    texts = {text.format(W=scene.workspace, where=where) for where in (scene.workspace, actor.workspace)}
    if action == "register_service.foreign" and cell == "r":
        texts = {REFUSALS["P"][1].format(where=scene.workspace)}
    assert any(one in str(caught.value) for one in texts)
    if transport == "http":
        assert caught.value.status == status


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell != "anon"])
async def test_connecting_into_a_workspace(scenes: Scenes, cell: str) -> None:
    scene = await scenes.get(anonymous=False, alone=False)
    # The root token names its own workspace (server §4.8).
    workspace = "ws-user-root" if cell == "root" else scene.workspace
    options = {"server_url": scene.server.url, "token": credentials(scene, cell), "workspace": workspace}
    if TABLE["connect"][cell] == "y":
        async with connect_to_server(options) as client:
            assert client.config.workspace == workspace
        return
    with pytest.raises(ConnectionError, match=f"Permission denied for workspace: {scene.workspace}"):
        async with connect_to_server(options):
            pass


async def test_every_row_of_the_table_is_tried() -> None:
    assert set(TABLE) == {*ACTIONS, "connect"}
    assert all(set(row) == {"action", *CELLS} for row in TABLE.values())
