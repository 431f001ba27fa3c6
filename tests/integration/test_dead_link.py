"""A link that is really dead, and a peer that only does not read: told apart by the kernel (RELIABILITY §1).

Runs in a network namespace of its own, where an address can be made to vanish.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(90)

_SCRIPT = """
import asyncio, json, subprocess, time
from websockets.asyncio.client import connect
from hypha.testing import run_server

SERVER, LAZY, VANISHING = "10.9.9.1", "10.9.9.2", "10.9.9.3"

def ip(words):
    subprocess.run(["ip", *words.split()], check=True)

async def join(url, address):
    peer = await connect(url, local_addr=(address, 0), ping_interval=None, compression=None, max_queue=1)
    await peer.send(json.dumps({"client_id": "peer-" + address, "x": 1}))
    info = json.loads(await peer.recv())
    return peer, f"{info['workspace']}/{info['client_id']}"

async def main():
    async with run_server(host=SERVER) as server:
        connections = server.app.router.connections
        dead, dead_address = await join(server.ws_url, VANISHING)
        lazy, lazy_address = await join(server.ws_url, LAZY)
        dead.transport.pause_reading()
        lazy.transport.pause_reading()
        ip(f"route del table local local {VANISHING} dev lo")
        ip(f"route add {VANISHING} dev near")
        begin = time.monotonic()
        connections[dead_address].outlet.send((b"x" * 100_000,))
        connections[lazy_address].outlet.send((b"x" * 12_000_000,))
        while dead_address in connections and time.monotonic() < begin + 40:
            await asyncio.sleep(0.1)
        noticed = time.monotonic() - begin
        while lazy_address in connections and time.monotonic() < begin + 20:
            await asyncio.sleep(0.1)
        print(f"noticed {noticed:.1f}, lazy {lazy_address in connections}", flush=True)
        assert noticed < 16, noticed
        assert lazy_address in connections
        for peer in (dead, lazy):
            peer.transport.abort()

ip("link add name near type veth peer name far")
for device in ("lo", "near", "far"):
    ip(f"link set {device} up")
for address in (SERVER, LAZY, VANISHING):
    ip(f"addr add {address}/32 dev lo")
# A cable at whose other end nobody has this address.
ip(f"neigh add {VANISHING} lladdr 02:00:00:00:00:99 dev near")
asyncio.run(main())
"""


def _namespaces() -> bool:
    """Whether this user may have a network of its own."""
    if not (shutil.which("unshare") and shutil.which("ip")):
        return False
    trial = ["unshare", "--map-root-user", "--net", "ip", "link", "add", "name", "near", "type", "veth"]
    return subprocess.run(trial, capture_output=True, check=False, timeout=10).returncode == 0


def test_a_dead_link_is_noticed_by_what_is_not_acknowledged(tmp_path: Path) -> None:
    if not _namespaces():
        pytest.skip("no network namespaces for this user")
    script = tmp_path / "dead_link.py"
    script.write_text(_SCRIPT)
    command = ["unshare", "--map-root-user", "--net", sys.executable, str(script)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=80, env=env)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
