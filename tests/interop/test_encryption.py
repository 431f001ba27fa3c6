"""End-to-end encryption between our client and the public ones, Python and JavaScript, either way (protocol §9).

JavaScript is a peer of the client only; the servers merely pass the frames on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from .peers import HERE, run_program
from .processes import Process
from .servers import Server
from .sides import KINDS, OURS, PUBLIC, environment

pytestmark = pytest.mark.timeout(120)

JAVASCRIPT = "javascript"
# consumer, provider
CELLS = [(OURS, OURS), (OURS, PUBLIC), (PUBLIC, OURS), (OURS, JAVASCRIPT), (JAVASCRIPT, OURS)]
START_S = 30.0
RUN_S = 90.0


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of either side."""
    server = Server(request.param, tmp_path_factory.mktemp("sealed"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


def start(kind: str, role: str, arguments: list[str], *, node_modules: Path, log: Path) -> Process:
    """Start one of the two programs of one side."""
    if kind != JAVASCRIPT:
        return run_program(kind, "sealed", [role, *arguments], log=log)
    log.parent.mkdir(parents=True, exist_ok=True)
    command = ["node", str(HERE / "programs" / "sealed.mjs"), str(node_modules), role, *arguments]
    return Process(command, env=environment(PUBLIC), log=log, cwd=HERE)


@pytest.mark.parametrize(("consumer", "provider"), CELLS, ids=["-calls-".join(cell) for cell in CELLS])
def test_calls_are_encrypted_both_ways(
    server: Server, consumer: str, provider: str, node_modules: Path, tmp_path: Path
) -> None:
    callee = start(provider, "provider", [server.url], node_modules=node_modules, log=tmp_path / "provider.log")
    caller = None
    try:
        ready = callee.wait_for("ready", timeout_s=START_S)
        arguments = [server.url, json.dumps(ready)]
        caller = start(consumer, "consumer", arguments, node_modules=node_modules, log=tmp_path / "consumer.log")
        key = caller.wait_for("open", timeout_s=START_S)["key"]
        callee.write(key)
        callee.wait_for("guarded", timeout_s=START_S, key=key)
        caller.write("go")
        caller.wait_for("done", timeout_s=RUN_S)
        results = {report["name"]: report["error"] for report in caller.reports if report["event"] == "check"}
        failed = {name: error for name, error in results.items() if error}
        assert len(results) >= 10
        assert not failed, f"{json.dumps(failed, indent=1)}\n{callee.state()}"
    finally:
        if caller is not None:
            caller.kill()
        callee.kill()
