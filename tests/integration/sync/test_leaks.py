"""Nothing of a blocking client stays behind, however it ends (python-client §16, architecture invariant 4)."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from hypha_rpc.sync import connect_to_server, get_remote_service, login

CYCLES = 100


class Deliberate(Exception):
    """Raised by tests."""


def clean(url: str) -> None:
    server = connect_to_server(server_url=url)
    assert server.echo(1) == 1
    server.disconnect()


def with_block(url: str) -> None:
    with connect_to_server(server_url=url) as server:
        assert server.echo(1) == 1


def with_exception(url: str) -> None:
    with pytest.raises(Deliberate):
        with connect_to_server(server_url=url):
            raise Deliberate


def refused(url: str) -> None:
    with pytest.raises(PermissionError):
        connect_to_server(server_url=url, token="no.such.token")


def unreachable(url: str) -> None:
    with pytest.raises(ConnectionError):
        connect_to_server(server_url="http://127.0.0.1:9")


def no_such_service(url: str) -> None:
    with pytest.raises(KeyError):
        get_remote_service(f"{url}/public/services/nobody:nothing")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("way", [clean, with_block, with_exception, refused, unreachable])
def test_threads_after_many_cycles_are_those_before(server_url, way):
    way(server_url)
    before = threading.active_count()
    # The server makes those wait who come with bad tokens.
    for _ in range(CYCLES if way is not refused else 15):
        way(server_url)
        assert threading.active_count() == before


def test_a_service_that_is_not_there_leaves_no_connection(server_url):
    before = threading.active_count()
    no_such_service(server_url)
    assert threading.active_count() == before


def test_a_wrong_option_starts_nothing(server_url):
    before = threading.active_count()
    with pytest.raises(ValueError, match="sync_max_workers"):
        connect_to_server(server_url=server_url, sync_max_workers=0)
    with pytest.raises(ValueError, match="server_url"):
        connect_to_server({"server_url": ""})
    assert threading.active_count() == before


def test_connections_share_one_thread_until_the_last_one_leaves(server_url):
    before = threading.active_count()
    servers = [connect_to_server(server_url=server_url) for _ in range(5)]
    assert threading.active_count() == before + 1
    for server in servers[:-1]:
        server.disconnect()
    assert servers[-1].echo(1) == 1
    servers[-1].disconnect()
    assert threading.active_count() == before


def test_threads_of_functions_end_with_the_last_connection(server_url):
    before = threading.active_count()
    with connect_to_server(server_url=server_url) as server:
        server.register_service({"id": "svc", "f": lambda n: n})
        service = server.get_service("svc")
        threads = [threading.Thread(target=service.f, args=(n,)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert threading.active_count() == before


def test_a_client_that_ends_by_itself_frees_the_thread(server_url, until):
    before = threading.active_count()
    server = connect_to_server(server_url=server_url)
    ended = threading.Event()
    server.on("disconnected", lambda _: ended.set())
    server.rpc.loop.call_soon_threadsafe(server.rpc.close)
    until(ended.is_set, what="the event")
    until(lambda: threading.active_count() == before, what="the end of the thread")
    with pytest.raises(ConnectionError):
        server.echo(1)


def test_a_disconnected_client_is_collected(server_url):
    server = connect_to_server(server_url=server_url)
    server.register_service({"id": "svc", "f": lambda n: n})
    assert server.get_service("svc").f(1) == 1
    gone = weakref.ref(server.rpc)
    server.disconnect()
    del server
    gc.collect()
    assert gone() is None


def test_a_failed_login_leaves_nothing(server_url):
    before = threading.active_count()
    with pytest.raises(Exception, match="nobody"):
        login({"server_url": server_url, "login_service_id": "public/nobody"})
    assert threading.active_count() == before


def test_a_login_calls_a_plain_callback_and_returns_the_token(server_url):
    told = []
    with connect_to_server(server_url=server_url) as server:
        config = {"visibility": "public"}
        service = {
            "id": "my-login",
            "config": config,
            "start": lambda: {"login_url": "http://x/y", "key": "k", "report_url": "r"},
            "check": lambda key, timeout=0, profile=False: f"token of {key}",
        }
        info = server.register_service(service)
        token = login({"server_url": server_url, "login_service_id": info.id, "login_callback": told.append})
    assert token == "token of k"
    assert told[0]["login_url"] == "http://x/y"
