"""Services of type ``functions`` and ``asgi`` as web sites (server §5.6-5.7, security S33, S36, S37)."""

from __future__ import annotations

import asyncio

import pytest

from hypha.testing import run_server
from hypha_rpc import connect_to_server

from .services import application, cookies, event, page

SITE, APP = "/public/apps/site", "/public/apps/app"


# ------------------------------------------------------------------------------ functions


async def test_the_event_of_a_request(http):
    response = await http.post(f"{SITE}/event?a=1&b=2", content=b"body", headers={"X-Given": "1"})
    assert response.status_code == 201
    assert response.headers["x-own"] == "yes"
    found = response.json()
    expected = {
        "type": "http",
        "method": "POST",
        "path": "/event",
        "raw_path": "/event",
        "query_string": "a=1&b=2",
        "root_path": SITE,
        "workspace": "public",
        "service_id": "site",
        "body": "body",
        "scheme": "http",
        "http_version": "1.1",
    }
    assert {key: found[key] for key in expected} == expected
    assert found["headers"]["x-given"] == "1"
    assert found["user"]["id"] == "anonymouz-http"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("", 200),
        ("event", 201),
        ("api/v1/users", 201),
        ("api/v1/", 200),
        ("api/v1", 404),
        ("none", 404),
        ("api/__class__", 404),
    ],
)
async def test_paths_and_functions(http, path, status):
    assert (await http.get(f"{SITE}/{path}")).status_code == status


async def test_a_path_without_a_function_names_it(http):
    response = await http.get(f"{SITE}/no/thing")
    assert (response.status_code, response.text) == (404, "Function not found: no/thing")


async def test_the_default_function_is_told_the_path(http):
    assert (await http.get("/public/apps/fallback/some/page")).json()["function_path"] == "some/page"


async def test_an_exception_is_an_internal_error(http):
    response = await http.get(f"{SITE}/broken")
    assert (response.status_code, response.text) == (500, "Internal Server Error: ValueError: zz")
    assert response.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("what", ["status", "header", "value"])
async def test_answers_that_are_no_http_are_a_bad_gateway(http, what):
    response = await http.get(f"{SITE}/bad?{what}")
    assert response.status_code == 502
    assert "set-cookie" not in response.headers


async def test_an_answer_that_is_no_map(http):
    assert (await http.get(f"{SITE}/bad?kind")).status_code == 500


async def test_an_app_without_a_slash_is_redirected_to_itself(http):
    response = await http.get(f"{SITE}?x=1")
    assert (response.status_code, response.headers["location"]) == (307, f"{SITE}/?x=1")


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/public/apps/nothing/", 404, "RemoteException: KeyError: 'Service not found: public/*:nothing@*'"),
        ("/nosuch-ws/apps/x/", 404, "Workspace nosuch-ws does not exist or is not accessible"),
        ("/public/apps/tools/", 500, "Invalid service type: generic"),
    ],
)
async def test_apps_that_are_none(http, path, status, text):
    response = await http.get(path)
    assert (response.status_code, response.text) == (status, text)


# ----------------------------------------------------------------------------------- asgi


async def test_an_asgi_application_knows_where_it_is(http):
    assert (await http.get(f"{APP}/")).json() == {"root_path": APP, "path": "/"}


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_all_methods_pass(http, method):
    assert (await http.request(method, f"{APP}/method")).text == method


async def test_bodies_stream_up(http):
    async def pieces():
        for _ in range(40):
            yield b"x" * 100_000

    assert (await http.post(f"{APP}/upload", content=pieces())).json() == {"size": 4_000_000}


async def test_events_stream_down(http):
    response = await http.get(f"{APP}/events")
    assert response.text == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"


@pytest.mark.timeout(60)
async def test_large_answers_stream_down_within_bounds(http):
    before = (await http.get("/health")).json()["memory"]["rss_mb"]
    size = 0
    async with http.stream("GET", f"{APP}/big?n=60") as response:
        async for piece in response.aiter_bytes():
            size += len(piece)
    assert size == 60_000_000
    assert (await http.get("/health")).json()["memory"]["rss_mb"] < before + 60


async def test_an_application_that_says_nothing_is_a_bad_gateway(http):
    assert (await http.get("/public/apps/mute/")).status_code == 502


async def test_head_of_an_application(http):
    response = await http.head(f"{APP}/")
    assert (response.status_code, response.content) == (200, b"")


# --------------------------------------------------------------- what providers may and see


async def forward(args):
    """Serve the application of the tests."""
    await application(args["scope"], args["receive"], args["send"])


async def provided(server, **options):
    """A client of alice with the same apps."""
    client = await connect_to_server({"server_url": server.url, "token": server.token("alice"), **options})
    public = {"visibility": "public"}
    functions = {"cookies": cookies, "event": event, "index": page}
    await client.register_service({"id": "site", "type": "functions", "config": public, **functions})
    await client.register_service({"id": "app", "type": "asgi", "config": public, "serve": forward})
    return client


async def fetched(server, path, **headers):
    """The raw head of an answer, and its body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    writer.write(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\n{lines}connection: close\r\n\r\n".encode())
    data = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    head, _, body = data.partition(b"\r\n\r\n")
    return head.decode("latin-1").lower(), body.decode("latin-1")


async def test_a_provider_sees_no_token_of_its_caller():
    async with run_server() as server:
        client = await provided(server)
        token = server.token("bob")
        path = "/ws-user-alice/apps/app/headers"
        _, body = await fetched(server, path, authorization=f"Bearer {token}", x_kept="1")
        assert token not in body
        assert '"x-kept":"1"' in body
        cookie = f"own=2; access_token={token}"
        _, body = await fetched(server, path, cookie=cookie, sec_fetch_site="same-origin")
        assert token not in body
        assert '"cookie":"own=2"' in body
        _, body = await fetched(server, "/ws-user-alice/apps/site/event", authorization=f"Bearer {token}")
        assert token not in body
        assert '"id": "bob"' in body
        await client.disconnect()


async def test_a_provider_cannot_speak_for_the_site():
    async with run_server() as server:
        client = await provided(server)
        head, _ = await fetched(server, "/ws-user-alice/apps/site/cookies", origin="https://other.example")
        for absent in ("evil.example", "credentials", "strict-transport", "clear-site-data", "access_token", "__host-"):
            assert absent not in head
        assert "access-control-allow-origin: *" in head
        assert "set-cookie: own=1; path=/ws-user-alice/apps/site" in head
        assert "domain=" not in head
        await client.disconnect()


async def test_pages_of_providers_are_sandboxed_where_others_can_come():
    async with run_server(public_base_url="https://hypha.example") as server:
        client = await provided(server)
        head, _ = await fetched(server, "/ws-user-alice/apps/site/")
        assert "content-security-policy: sandbox allow-scripts allow-forms" in head
        assert "allow-same-origin" not in head
        refused, _ = await fetched(server, "/ws-user-alice/apps/app/", service_worker="script")
        assert refused.startswith("http/1.1 403")
        await client.disconnect()


@pytest.mark.parametrize("settings", [{}, {"public_base_url": "https://hypha.example", "trust_apps": True}])
async def test_the_sandbox_is_lifted(settings):
    async with run_server(**settings) as server:
        client = await provided(server)
        head, _ = await fetched(server, "/ws-user-alice/apps/site/")
        assert head.startswith("http/1.1 200")
        assert "sandbox" not in head
        await client.disconnect()


async def test_a_host_of_their_own_for_pages_of_providers():
    async with run_server(public_base_url="https://hypha.example", apps_origin="https://apps.example") as server:
        client = await provided(server)
        head, _ = await fetched(server, "/ws-user-alice/apps/site/event?x=1")
        assert head.startswith("http/1.1 307")
        assert "location: https://apps.example/ws-user-alice/apps/site/event?x=1" in head
        await client.disconnect()


async def test_protected_apps_are_for_those_who_may_read():
    async with run_server() as server:
        client = await connect_to_server({"server_url": server.url, "token": server.token("alice")})
        await client.register_service({"id": "inner", "type": "functions", "index": page})
        path = "/ws-user-alice/apps/inner/"
        refused, text = await fetched(server, path)
        assert refused.startswith("http/1.1 403")
        assert "Permission denied for non-public service in workspace ws-user-alice" in text
        allowed, text = await fetched(server, path, authorization=f"Bearer {server.token('alice')}")
        assert allowed.startswith("http/1.1 200")
        assert text == "<p>hello</p>"
        await client.disconnect()
