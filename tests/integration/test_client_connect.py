"""Connecting, the connected object, disconnecting (behaviours A; python-client §3, §4)."""

from __future__ import annotations

import asyncio
import logging
import os
import threading

import pytest

from hypha_rpc import connect_to_server, errors, get_remote_service
from hypha_rpc.client.link import Link
from hypha_rpc.errors import AuthenticationFailed
from hypha_rpc.rpc import ObjectProxy, RemoteService


async def test_a_dictionary_and_keywords_connect_alike(server_url):  # B001
    one = await connect_to_server({"server_url": server_url, "client_id": "one"})
    two = await connect_to_server(server_url=server_url, client_id="two")
    try:
        assert type(one) is type(two) and isinstance(one, RemoteService)
        assert set(one) == set(two)
        assert (one.config.client_id, two.config.client_id) == ("one", "two")
    finally:
        await one.disconnect()
        await two.disconnect()


async def test_anonymous_clients_get_workspaces_of_their_own(server_url):  # B002
    async with connect_to_server(server_url=server_url) as one, connect_to_server(server_url=server_url) as two:
        assert one.config.workspace.startswith("ws-user-anonymouz-")
        assert one.config.workspace != two.config.workspace
        assert one.config.user.is_anonymous is True


async def test_a_foreign_workspace_is_refused(server_url):  # B003
    with pytest.raises(ConnectionAbortedError, match="does not exist or is not accessible"):
        await connect_to_server(server_url=server_url, workspace="no-such-workspace")


async def test_the_workspace_of_another_is_refused(server_url, anonymous):
    with pytest.raises(PermissionError, match=f"Permission denied for workspace: {anonymous.config.workspace}"):
        await connect_to_server(server_url=server_url, workspace=anonymous.config.workspace)


async def test_leaving_the_block_disconnects(server_url):  # B004
    async with connect_to_server(server_url=server_url) as server:
        assert await server.echo(1) == 1
    with pytest.raises(ConnectionError, match="Connection is closed"):
        await server.echo(1)


async def test_an_exception_passes_through_the_block_unchanged(server_url):
    error = LookupError("mine")
    with pytest.raises(LookupError) as caught:
        async with connect_to_server(server_url=server_url) as server:
            raise error
    assert caught.value is error
    with pytest.raises(ConnectionError):
        await server.echo(1)


async def test_a_token_lets_a_second_client_in(server_url, anonymous):  # B005
    token = await anonymous.generate_token()
    workspace = anonymous.config.workspace
    async with connect_to_server(server_url=server_url, workspace=workspace, token=token) as second:
        assert second.config.workspace == workspace
    async with connect_to_server(server_url=server_url, token=token) as third:
        assert third.config["workspace"] == workspace


async def test_config_tells_who_we_are(server_url):  # B006
    async with connect_to_server(server_url=server_url, client_id="me-myself") as server:
        config = server.config
        assert config.client_id == config["client_id"] == "me-myself"
        assert config.workspace == server["config"]["workspace"]
        assert config.public_base_url.startswith("http://")
        assert config.local_base_url == server_url
        assert config.manager_id.startswith("manager-")
        assert config.hypha_version == "0.22.0"
        assert config.user["id"] == config.user.id
        assert config.user.scope.client_id == "me-myself"
        assert isinstance(config.user, ObjectProxy)
        assert server.rpc.connection_info["workspace"] == config.workspace


async def test_nothing_listens():  # B007
    async with asyncio.timeout(5):
        with pytest.raises(ConnectionRefusedError, match="127.0.0.1:9"):
            await connect_to_server(server_url="http://127.0.0.1:9", method_timeout=3)


async def test_every_member_has_a_schema_of_its_name(anonymous):  # B008, B009
    functions = {name: member for name, member in anonymous.items() if callable(member)}
    assert len(functions) > 25
    for name, member in functions.items():
        assert member.__schema__["name"] == name, name
    assert "get_service" in anonymous
    assert "getService" not in anonymous
    assert not hasattr(anonymous, "registerService")


async def test_unknown_options_are_ignored_and_nothing_given_is_changed(server_url):  # B010, B013
    config = {"server_url": server_url, "passive": True, "timeout": 3, "additional_headers": {"X-Lab": "1"}}
    before = dict(config)
    async with connect_to_server(config, no_such_option=1) as server:
        assert await server.echo("x") == "x"
    assert config == before


async def test_a_websocket_url_is_taken_as_it_is(server_url):  # B011
    url = server_url.replace("http://", "ws://") + "/ws"
    async with connect_to_server(server_url=url) as server:
        assert await server.echo(2) == 2


@pytest.mark.parametrize("interval", [None, 0, -1])
async def test_keep_alive_can_be_switched_off(server_url, interval):  # B012
    async with connect_to_server(server_url=server_url, ping_interval=interval) as server:
        assert await server.echo(3) == 3


async def test_ssl_is_ignored_for_plain_urls(server_url):
    async with connect_to_server(server_url=server_url, ssl=False) as server:
        assert await server.echo(4) == 4


async def test_silent_connects_and_announces_nothing(server_url):
    async with connect_to_server(server_url=server_url, silent=True) as server:
        assert await server.echo(5) == 5
        assert await server.list_services() == []


def test_the_environment_is_asked_when_nothing_is_given(monkeypatch, tmp_path):  # B014
    monkeypatch.chdir(tmp_path)
    for name in ("HYPHA_SERVER_URL", "HYPHA_TOKEN", "HYPHA_CLIENT_ID", "HYPHA_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="HYPHA_SERVER_URL.*HYPHA_TOKEN.*HYPHA_CLIENT_ID.*HYPHA_WORKSPACE"):
        connect_to_server()


async def test_the_environment_connects(monkeypatch, server_url):
    monkeypatch.setenv("HYPHA_SERVER_URL", server_url)
    monkeypatch.setenv("HYPHA_CLIENT_ID", "from-env")
    async with connect_to_server() as server:
        assert server.config.client_id == "from-env"


@pytest.mark.parametrize("config", [{"client_id": "x"}, {"server_url": ""}, {"server_url": None}])
def test_a_missing_url_is_an_error_of_the_call(config):
    with pytest.raises(ValueError, match="server_url is required"):
        connect_to_server(config)


@pytest.mark.parametrize("client_id", ["", "a/b", 7])
def test_a_bad_client_id_is_refused_before_any_network(client_id):
    with pytest.raises(ValueError, match="client_id"):
        connect_to_server(server_url="http://127.0.0.1:9", client_id=client_id)


async def test_the_server_refuses_ids_that_break_addresses(server_url):
    with pytest.raises(ConnectionAbortedError, match="Invalid client id: a:b"):
        await connect_to_server(server_url=server_url, client_id="a:b")


async def test_a_wrong_token_is_one_clear_error_at_once(server_url):
    async with asyncio.timeout(5):
        with pytest.raises(AuthenticationFailed, match="Authentication error: ") as caught:
            await connect_to_server(server_url=server_url, token="not-a-token")
    assert isinstance(caught.value, ConnectionAbortedError)
    assert caught.value.retryable is False


async def test_a_living_client_id_is_refused_and_the_living_one_unharmed(server_url, anonymous):
    token = await anonymous.generate_token()
    await anonymous.register_service({"id": "mine", "hello": lambda: "still here"})
    with pytest.raises(ConnectionAbortedError, match="Client already exists and is active: "):
        await connect_to_server(
            server_url=server_url,
            token=token,
            workspace=anonymous.config.workspace,
            client_id=anonymous.config.client_id,
        )
    service = await anonymous.get_service("mine")
    assert await service.hello() == "still here"


async def test_list_services_lists(anonymous):  # B015, B016
    info = await anonymous.register_service({"id": "listed", "name": "Listed", "description": "on the list", "f": len})
    entries = await anonymous.list_services()
    (entry,) = [entry for entry in entries if entry.id == info.id]
    assert entry["name"] == "Listed"
    assert entry.description == "on the list"
    assert isinstance(await anonymous.list_services("public"), list)


async def test_disconnecting_twice_is_harmless(server_url):  # B017
    server = await connect_to_server(server_url=server_url)
    told = []
    server.on("disconnected", told.append)
    await server.disconnect()
    await server.disconnect()
    assert told == [None]
    with pytest.raises(ConnectionError, match="Connection is closed"):
        await server.echo(1)
    with pytest.raises(ConnectionError, match="Connection is closed"):
        await server.register_service({"id": "late", "f": len})


async def test_a_pending_call_fails_at_disconnect(server_url):
    server = await connect_to_server(server_url=server_url)
    await server.register_service({"id": "stuck", "wait": asyncio.Event().wait})
    service = await server.get_service("stuck")
    pending = service.wait()
    await asyncio.sleep(0)
    await server.disconnect()
    with pytest.raises(ConnectionError, match="closed"):
        await pending


async def test_a_failed_connect_leaves_nothing_behind(server_url):  # B018
    tasks, threads = len(asyncio.all_tasks()), threading.active_count()
    files = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(ConnectionError):
            await connect_to_server(server_url=server_url, token="nonsense")
        with pytest.raises(ConnectionError):
            await connect_to_server(server_url="http://127.0.0.1:9")
    assert len(asyncio.all_tasks()) == tasks
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) <= files + 1


async def test_ten_cycles_leave_nothing_behind(server_url, eventually):  # B198
    tasks, files = len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        async with connect_to_server(server_url=server_url) as server:
            await server.register_service({"id": "s", "f": len})
            service = await server.get_service("s")
            assert await service.f([1, 2]) == 2
        left = server.rpc.stats()
        del left["reconnects"]
        assert not any(left.values()), left
    assert len(asyncio.all_tasks()) == tasks
    await eventually(lambda: len(os.listdir("/proc/self/fd")) <= files, timeout_s=5, what="the sockets to close")


async def test_a_normal_life_logs_nothing_above_info(server_url, caplog):  # B210
    root_handlers = list(logging.getLogger().handlers)
    with caplog.at_level(logging.DEBUG):
        async with connect_to_server(server_url=server_url) as server:
            await server.register_service({"id": "quiet", "f": len})
            await (await server.get_service("quiet")).f([])
    ours = [record for record in caplog.records if record.name.startswith("hypha_rpc")]
    assert [record for record in ours if record.levelno > logging.INFO] == []
    assert logging.getLogger().handlers == root_handlers


async def test_no_loop_exception_handler_is_installed(server_url):
    async with connect_to_server(server_url=server_url):
        assert asyncio.get_running_loop().get_exception_handler() is None


@pytest.mark.parametrize("transport", ["websocket", "http"])
async def test_https_where_only_http_is_spoken_says_so(server_url, transport):
    url = server_url.replace("http://", "https://")
    with pytest.raises(errors.ConnectionFailed, match=r"No secure connection to .*does not speak TLS; is it http://"):
        await connect_to_server(server_url=url, transport=transport)


async def test_get_remote_service_is_awaitable_and_a_block(server_url, anonymous):  # B040
    await anonymous.register_service({"id": "open", "config": {"visibility": "public"}, "hi": lambda: "hi"})
    url = f"{server_url}/{anonymous.config.workspace}/services/open"
    async with get_remote_service(url) as service:
        assert await service.hi() == "hi"
    with pytest.raises(ConnectionError):
        await service.hi()
    service = await get_remote_service(
        f"{server_url}/{anonymous.config.workspace}/services/{anonymous.config.client_id}:open/"
    )
    assert await service.hi() == "hi"
    await service.disconnect()


def test_get_remote_service_checks_its_url(server_url):
    with pytest.raises(ValueError, match="URL does not match the expected pattern"):
        get_remote_service(f"{server_url}/nowhere")
    with pytest.raises(ValueError, match="is not the one in the service URL"):
        get_remote_service(f"{server_url}/ws/services/x", {"server_url": "http://elsewhere"})


async def test_serve_ends_when_disconnected_for_good(server_url):
    server = await connect_to_server(server_url=server_url)
    serving = asyncio.ensure_future(server.serve())
    await asyncio.sleep(0)
    assert not serving.done()
    await server.disconnect()
    assert await asyncio.wait_for(serving, 5) is None


async def test_a_call_from_another_thread_is_a_clear_error(anonymous):
    with pytest.raises(RuntimeError, match="event loop of its connection"):
        await asyncio.to_thread(anonymous.echo, 1)


async def test_the_connection_ends_with_one_class_for_links(anonymous):
    assert isinstance(anonymous.rpc._link, Link)
    assert anonymous.rpc._connection._closed is False
