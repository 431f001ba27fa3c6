"""What a program sees of its connection, and calls that may run twice (python-client §3.9, §7.7)."""

from __future__ import annotations

import asyncio

import pytest

from hypha_rpc import connect_to_server
from hypha_rpc.errors import PeerGone


async def test_the_state_and_its_events(server_url, eventually, caplog):
    seen = []
    async with connect_to_server(server_url=server_url) as server:
        assert server.state == "ready"
        for name in ("connecting", "ready", "lost", "closed"):
            server.on(name, lambda data, name=name: seen.append((name, server.state)))
        await server.rpc._connection._websocket.close(1011)
        await eventually(lambda: ("ready", "ready") in seen)
        assert seen == [("lost", "lost"), ("connecting", "connecting"), ("ready", "ready")]
        warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert len(warnings) == 1
        assert warnings[0].startswith("connection lost (")
        caplog.clear()
    assert server.state == "closed"
    assert seen[-1] == ("closed", "closed")
    assert [record for record in caplog.records if record.levelname not in ("DEBUG", "INFO")] == []


async def lose_during_a_call(pair, provider, service_id, runs, config):
    """Call a function whose first run never answers because its provider ends without a word."""
    started = asyncio.Event()

    async def work():
        runs.append(1)
        started.set()
        if len(runs) == 1:
            await asyncio.Event().wait()
        return "done"

    await provider.register_service({"id": service_id, "work": work, "config": config})
    service = await pair.consumer.get_service(f"worker:{service_id}")
    call = asyncio.ensure_future(service.work())
    await asyncio.wait_for(started.wait(), 5)
    provider.rpc._link.abort()
    return call, work


@pytest.mark.parametrize("idempotent", [True, ["work"], False, ["other"]])
async def test_only_what_may_run_twice_is_called_again(pair, server_url, idempotent):
    runs = []
    token = await pair.provider.generate_token()
    options = {"server_url": server_url, "token": token, "client_id": "worker"}
    first = await connect_to_server(options)
    call, work = await lose_during_a_call(pair, first, "svc", runs, {"idempotent": idempotent})
    second = await connect_to_server(options)
    try:
        await second.register_service({"id": "svc", "work": work, "config": {"idempotent": idempotent}})
        if idempotent in (True, ["work"]):
            assert await asyncio.wait_for(call, 10) == "done"
            assert len(runs) == 2
        else:
            with pytest.raises(PeerGone) as caught:
                await asyncio.wait_for(call, 10)
            assert caught.value.may_have_run
            assert len(runs) == 1
    finally:
        await first.disconnect()
        await second.disconnect()
