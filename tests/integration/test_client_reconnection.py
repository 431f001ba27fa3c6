"""Links that heal: dropped sockets, restarted servers, refusals (behaviours I; RELIABILITY §1)."""

from __future__ import annotations

import asyncio
import time

import pytest

from hypha.testing import ServerProcess, run_server
from hypha_rpc import connect_to_server
from hypha_rpc.client.link import redial_delays
from hypha_rpc.errors import ConnectionLost


async def drop(server, code: int) -> None:
    """Close the socket of *server* as if the link had broken."""
    await server.rpc._connection._websocket.close(code)


async def ready_again(server, before: int) -> None:
    """Wait until *server* has reconnected more often than *before*."""
    deadline = time.monotonic() + 10
    while server.rpc.stats()["reconnects"] <= before or not server.rpc.outbox.open:
        assert time.monotonic() < deadline, "no reconnection"
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1011])
async def test_every_close_code_leads_to_a_reconnection(pair, code):  # B160-B163
    events = []
    for name in ("connected", "services_registered"):
        pair.provider.on(name, lambda data, name=name: events.append((name, data)))
    calls = []
    await pair.provider.register_service({"id": "svc", "f": lambda: calls.append(1) or len(calls)})
    await pair.provider.register_service({"id": "two", "f": len})
    service = await pair.consumer.get_service("svc")
    assert await service.f() == 1
    begun = time.monotonic()
    await drop(pair.provider, code)
    await ready_again(pair.provider, 0)
    assert time.monotonic() - begun < 3
    assert await service.f() == 2
    assert ("services_registered", {"total": 3, "registered": 3, "failed": []}) in events
    assert [name for name, _ in events].count("connected") == 1
    assert pair.provider.config.workspace == pair.workspace


async def test_calls_made_right_after_a_drop_wait_and_succeed(pair):  # B160, B182
    await pair.provider.register_service({"id": "svc", "f": lambda x: x})
    service = await pair.consumer.get_service("svc")
    await drop(pair.consumer, 1002)
    await asyncio.sleep(0.05)
    assert await asyncio.gather(service.f(1), pair.consumer.echo(2), pair.consumer.get_service("svc"))
    assert pair.consumer.rpc.stats()["reconnects"] == 1


async def test_a_call_in_flight_gets_its_answer_after_the_callers_link_dropped(pair):  # B183
    release = asyncio.Event()
    runs = []

    async def work():
        runs.append(1)
        await release.wait()
        return "delivered"

    await pair.provider.register_service({"id": "svc", "work": work})
    service = await pair.consumer.get_service("svc")
    pending = service.work()
    await asyncio.wait_for(_until(lambda: runs), 5)
    await drop(pair.consumer, 1002)
    await asyncio.wait_for(_until(lambda: not pair.consumer.rpc.outbox.open), 5)
    release.set()
    assert await asyncio.wait_for(pending, 10) == "delivered"
    assert runs == [1]


async def test_an_answer_that_falls_due_in_the_outage_is_kept(server_url, pair):
    """The callee answers while the caller is away: the mailbox holds the answer."""
    release = asyncio.Event()

    async def work():
        await release.wait()
        return "kept"

    await pair.provider.register_service({"id": "svc", "work": work})
    service = await pair.consumer.get_service("svc")
    pending = service.work()
    await pair.provider.echo(0)
    link = pair.consumer.rpc._link
    opened = link._connector.open
    hold = asyncio.Event()

    async def later(options, credentials):
        await hold.wait()
        return await opened(options, credentials)

    link._connector.open = later
    transport = link.transport
    transport._ws.disconnect(False)
    await asyncio.wait_for(_until(lambda: not pair.consumer.rpc.outbox.open), 5)
    await asyncio.wait_for(_gone(pair, "consumer"), 5)
    release.set()
    await pair.provider.echo(0)
    hold.set()
    assert await asyncio.wait_for(pending, 10) == "kept"
    assert pair.consumer.rpc.connection_info["resumed"] is True


async def _gone(pair, client: str) -> None:
    while any(entry["id"].endswith(f"/{client}") for entry in await pair.provider.list_clients()):
        await asyncio.sleep(0.01)


async def _until(condition) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def test_subscriptions_are_restored(pair):
    received = asyncio.Queue()
    await pair.consumer.subscribe("news")
    pair.consumer.on("news", received.put_nowait)
    for round_ in range(3):
        await drop(pair.consumer, 1001)
        await ready_again(pair.consumer, round_)
        await pair.provider.emit({"type": "news", "to": "*", "data": round_})
        assert (await asyncio.wait_for(received.get(), 5)).data == round_
    assert received.empty()


async def test_tables_do_not_grow_over_reconnections(pair):  # B178-B181
    await pair.provider.register_service({"id": "svc", "f": lambda x: x})
    service = await pair.consumer.get_service("svc")
    handlers = {name: len(entries) for name, entries in pair.consumer.rpc._event_handlers.items()}
    for round_ in range(5):
        await drop(pair.consumer, 1000)
        await ready_again(pair.consumer, round_)
        assert await asyncio.gather(*(service.f(n) for n in range(10))) == list(range(10))
    stats = pair.consumer.rpc.stats()
    assert (stats["calls"], stats["sessions"], stats["waiting"]) == (0, 0, 0)
    assert {name: len(entries) for name, entries in pair.consumer.rpc._event_handlers.items()} == handlers


async def test_a_disconnect_during_a_reconnection_is_final(pair):  # B164, B165
    await drop(pair.consumer, 1002)
    await pair.consumer.disconnect()
    tasks = [task for task in asyncio.all_tasks() if task.get_name() == "hypha-link"]
    assert len(tasks) == 1
    with pytest.raises(ConnectionError, match="closed"):
        await pair.consumer.echo(1)


@pytest.mark.timeout(60)
async def test_a_restarted_server_is_survived_without_any_retry_of_the_user():  # B166-B168
    async with ServerProcess() as process:
        async with connect_to_server(server_url=process.url, client_id="provider") as provider:
            count = []
            await provider.register_service({"id": "svc", "f": lambda: count.append(1) or len(count)})
            token = await provider.generate_token()
            async with connect_to_server(server_url=process.url, token=token, client_id="consumer") as consumer:
                service = await consumer.get_service("svc")
                echo = consumer.echo
                for round_ in range(3):
                    assert await service.f() == 2 * round_ + 1
                    await process.stop()
                    pending = service.f()
                    await process.start()
                    back = time.monotonic()
                    assert await asyncio.wait_for(pending, 10) == 2 * round_ + 2
                    assert time.monotonic() - back < 3
                    assert await echo("same function") == "same function"
                assert await (await consumer.get_service("svc")).f() == 7
                listed = [entry.id for entry in await consumer.list_services()]
                assert listed.count(service.id) == 1


@pytest.mark.timeout(60)
async def test_calls_at_the_manager_end_when_the_server_restarts():
    async with ServerProcess() as process, connect_to_server(server_url=process.url) as server:
        await server.register_service({"id": "slow", "wait": asyncio.Event().wait})
        slow = await server.get_service("slow")
        pending = [slow.wait() for _ in range(20)]
        await server.echo(0)
        await process.restart()
        assert await asyncio.wait_for(server.echo(1), 15) == 1
        for call in pending:
            call.cancel()
        assert server.rpc.stats()["calls"] == 0


async def test_a_refused_reconnection_ends_the_client_with_one_clear_error():  # B174
    async with run_server() as running:
        server = await connect_to_server(server_url=running.url)
        told = []
        server.on("disconnected", told.append)
        # Another secret: the reconnection token is worthless.
        await running.restart(jwt_secret="another-secret-of-sufficient-length")
        with pytest.raises(ConnectionLost, match="Server refused reconnection: Authentication error"):
            await asyncio.wait_for(_fails(server), 10)
        assert told == [None]
        with pytest.raises(ConnectionError, match="Connection is closed"):
            await server.echo(1)
        await server.disconnect()


async def _fails(server) -> None:
    while True:
        await server.echo(1)
        await asyncio.sleep(0.05)


async def test_twenty_calls_in_flight_all_end(pair):  # B172
    async def work(n):
        await asyncio.sleep(0.2)
        return n

    await pair.provider.register_service({"id": "svc", "work": work})
    service = await pair.consumer.get_service("svc")
    pending = [service.work(n) for n in range(20)]
    await asyncio.sleep(0.05)
    await drop(pair.provider, 1002)
    outcomes = await asyncio.wait_for(asyncio.gather(*pending, return_exceptions=True), 10)
    assert all(isinstance(outcome, (int, ConnectionError)) for outcome in outcomes)
    await ready_again(pair.provider, 0)
    assert await service.work(7) == 7


async def test_services_that_were_not_announced_stay_private(pair):  # B184
    await pair.provider.register_service({"id": "secret", "f": len}, notify=False)
    await drop(pair.provider, 1000)
    await ready_again(pair.provider, 0)
    assert not [entry for entry in await pair.consumer.list_services() if entry.id.endswith(":secret")]


def test_redialling_is_eager_for_a_minute_then_slows_down():  # B177
    delays = redial_delays(jitter=lambda: 0.5)
    assert next(delays) == 0.0
    eager = [next(delays) for _ in range(60)]
    assert eager == [1.0] * 60
    later = [next(delays) for _ in range(30)]
    assert later[0] <= 2.0
    assert later[-1] == 20.0
    assert later == sorted(later)
