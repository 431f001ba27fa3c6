"""What the server itself answers: pages, files, health, and what all answers have in common."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import shutil
import subprocess

import pytest

from hypha.testing import run_server
from hypha_rpc import __version__

from .conftest import SECRET
from .test_apps import fetched

PREFLIGHT = {"Origin": "https://other.example", "Access-Control-Request-Method": "POST"}


def curl(*arguments):
    """What curl prints."""
    program = shutil.which("curl")
    if program is None:
        pytest.skip("there is no curl here")
    return subprocess.run([program, "-sS", *arguments], check=True, capture_output=True, timeout=10).stdout


# ------------------------------------------------------------------------- as documented


def test_curl_calls_a_function(http_server):
    assert curl(f"{http_server.url}/public/services/tools/add?a=1&b=2") == b"3"


def test_curl_posts_json_without_a_content_type(http_server):
    url = f"{http_server.url}/public/services/tools/add"
    assert curl("-X", "POST", url, "-d", '{"a": "Hello ", "b": "John"}') == b'"Hello John"'


def test_curl_is_told_why_a_blank_before_the_colon_is_refused(http_server):
    url = f"{http_server.url}/public/services/tools/add?a=1"
    found = curl("-w", "%{http_code}", "-H", "Authorization : Bearer x", url)
    assert found.endswith(b"400")
    assert b"no space between the header name 'Authorization' and its colon" in found


# --------------------------------------------------------------------------------- pages


async def test_the_home_page_for_people_and_for_programs(http):
    page = await http.get("/", headers={"Accept": "text/html,*/*"})
    assert f"version {__version__}" in page.text
    assert "http://" not in page.text.replace(str(http.base_url).rstrip("/"), "").replace("http://127.0.0.1", "")
    info = (await http.get("/", headers={"Accept": "*/*"})).json()
    assert (info["name"], info["version"]) == ("Hypha", __version__)


@pytest.mark.parametrize("path", ["/", "/api-docs"])
async def test_pages_load_nothing_from_elsewhere(http, path):
    response = await http.get(path, headers={"Accept": "text/html"})
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'")
    assert "unsafe" not in policy
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["cross-origin-opener-policy"] == "same-origin"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "<script>" not in response.text
    assert "style=" not in response.text


async def test_the_description_of_the_server(http):
    document = (await http.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.")
    assert "post" in document["paths"]["/{workspace}/services/{service}/{function}"]
    page = (await http.get("/api-docs")).text
    assert all(path.split("{")[0].strip("/") in page.replace("<wbr>", "") for path in document["paths"])
    assert (await http.get("/api-redoc")).headers["location"] == "/api-docs"


async def test_the_description_of_a_service(http):
    document = (await http.get("/public/services/tools/openapi.json")).json()
    operation = document["paths"]["/public/services/tools/add"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["a"]
    assert schema["properties"]["a"]["description"] == "the first."
    assert "/public/services/tools/nested.deep.add" in document["paths"]
    manager = (await http.get("/public/services/ws/openapi.json")).json()
    assert "/public/services/ws/list_services" in manager["paths"]


async def test_listing_and_info(http):
    listed = {record["id"].partition(":")[2]: record for record in (await http.get("/public/services/")).json()}
    assert {"tools", "site", "app", "who"} <= set(listed)
    assert "built-in" not in listed
    assert "created_by" not in listed["tools"]["config"]
    record = (await http.get("/public/services/tools")).json()
    assert record["service_schema"]["add"]["type"] == "function"
    assert (await http.get("/public/services/tools/")).json() == record
    assert (await http.get("/public/services")).headers["location"] == "/public/services/"
    missing = await http.get("/nosuch-ws/services/")
    assert (missing.status_code, missing.json()["detail"]) == (
        404,
        "'Workspace nosuch-ws does not exist or is not accessible'",
    )


async def test_the_manager_is_a_service_too(http):
    assert (await http.get("/public/services/ws")).json()["id"] == "ws"
    assert (await http.get("/public/services/~")).json()["id"] == "~"
    found = (await http.post("/public/services/~/list_workspaces")).json()
    assert [workspace["id"] for workspace in found] == ["ws-anonymous"]
    assert (await http.post("/public/services/ws/nothing")).status_code == 404
    denied = await http.post("/public/services/ws/echo", json={"data": 1})
    assert (denied.status_code, denied.json()["detail"]) == (
        403,
        "RemoteException: PermissionError: Permission denied for workspace ws-anonymous",
    )


async def test_what_is_known_about_workspaces(http):
    assert (await http.get("/ws-anonymous/info")).json()["id"] == "ws-anonymous"
    assert (await http.get("/nosuch/info")).json()["detail"] == "Workspace 'nosuch' not found"
    assert (await http.get("/public/info")).json()["detail"] == "anonymouz-http has no permission to access public"
    assert "server-apps" in (await http.get("/public/apps")).json()["detail"]


async def test_server_info(http):
    info = (await http.get("/assets/config.json")).json()
    assert info["user"]["id"] == "anonymouz-http"
    assert info["hypha_version"] == __version__
    assert info["login_service_url"].endswith("/public/services/hypha-login")


async def test_health(http):
    assert (await http.get("/health/liveness")).json()["status"] == "OK"
    assert (await http.get("/health/readiness")).json()["detail"]["store"] == "ready"
    found = (await http.get("/health")).json()
    assert found["memory"]["rss_mb"] > 1
    assert found["connections"]["active"] >= 1
    assert {"rpc_objects", "connection_objects"} <= set(found["objects"])


async def test_metrics_have_bounded_labels(http):
    for number in range(20):
        await http.get(f"/unheard-of-{number}")
        await http.request(f"M{number}", "/")
    text = (await http.get("/metrics")).text
    for name in ("websocket_connections ", "rpc_call_total", "client_requests_total", "event_bus_total", "process_"):
        assert name in text
    lines = [line for line in text.splitlines() if line.startswith("http_requests_total{")]
    assert len(lines) < 20
    assert "unheard" not in text


async def test_what_nobody_answers(http):
    response = await http.get("/config.php")
    assert (response.status_code, response.json()) == (
        404,
        {"success": False, "detail": "File not found: /config.php"},
    )
    assert (await http.get("/ws")).status_code == 426
    assert (await http.get("/login?x=1")).headers["location"] == "/public/apps/hypha-login/?x=1"


# ---------------------------------------------------------------------------------- CORS


@pytest.mark.parametrize(
    "path", ["/", "/public/services/tools/add?a=1", "/public/apps/site/", "/public/apps/app/", "/x.y"]
)
async def test_any_origin_may_ask_and_never_with_credentials(http, path):
    response = await http.get(path, headers={"Origin": "https://other.example"})
    assert response.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in response.headers
    preflight = await http.options(path, headers=PREFLIGHT)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-methods"] == "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    assert preflight.headers["access-control-max-age"] == "600"


async def test_listed_origins_only():
    async with run_server(allow_origins=("https://good.example",)) as server:
        head, _ = await fetched(server, "/health/liveness", origin="https://good.example")
        assert "access-control-allow-origin: https://good.example" in head
        assert "vary: origin" in head
        head, _ = await fetched(server, "/health/liveness", origin="https://other.example")
        assert "access-control" not in head
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /assets/config.json HTTP/1.1\r\nhost: rebound.example\r\nconnection: close\r\n\r\n")
        assert b" 421 " in await asyncio.wait_for(reader.readline(), 5)
        writer.close()


# -------------------------------------------------------------------------------- tokens


async def who(http, **headers):
    response = await http.get(
        "/assets/config.json", headers={key.replace("_", "-"): value for key, value in headers.items()}
    )
    return response.json()["user"]["id"] if response.status_code == 200 else response


async def test_where_a_token_is_looked_for(http):
    async with run_server(jwt_secret=SECRET) as server:
        token = server.token("alice")
    assert await who(http, Authorization=f"Bearer {token}") == "alice"
    assert await who(http, Authorization=token) == "alice"
    basic = base64.b64encode(f"any:{token}".encode()).decode()
    assert await who(http, Authorization=f"Basic {basic}") == "alice"
    cookie = f"a=b; access_token={token}"
    assert await who(http, Cookie=cookie) == "alice"
    assert await who(http, Cookie=cookie, Sec_Fetch_Site="same-origin") == "alice"
    assert await who(http, Cookie=cookie, Sec_Fetch_Site="none") == "alice"
    assert await who(http, Cookie=cookie, Sec_Fetch_Site="cross-site") == "anonymouz-http"
    assert await who(http, Cookie=cookie, Sec_Fetch_Site="same-site") == "anonymouz-http"
    assert await who(http, Cookie=cookie, Origin="https://other.example") == "anonymouz-http"
    assert await who(http, Cookie=cookie, Origin=str(http.base_url).rstrip("/")) == "alice"


@pytest.mark.parametrize(
    "path", ["/assets/config.json", "/public/services/tools/add?a=1", "/public/services/", "/public/apps/site/"]
)
async def test_a_bad_token_is_refused_and_never_anonymous(http, path):
    response = await http.get(path, headers={"Authorization": "Bearer not-a-token"})
    assert response.status_code == 401
    assert response.json() == {"detail": "Error decoding token headers."}


async def test_a_revoked_token_is_refused_at_once():
    async with run_server() as server:
        token = server.token("alice")
        path = "/assets/config.json"
        assert (await fetched(server, path, authorization=f"Bearer {token}"))[0].startswith("http/1.1 200")
        server.app.tokens.revoke(server.app.tokens.inspect(token))
        assert (await fetched(server, path, authorization=f"Bearer {token}"))[0].startswith("http/1.1 401")


# -------------------------------------------------------------------------------- limits


async def test_who_asks_too_often_is_asked_to_wait():
    async with run_server(http_rate_limit=1, http_burst_limit=3) as server:
        answers = [await fetched(server, "/assets/config.json", x_forwarded_for="203.0.113.7") for _ in range(5)]
        statuses = [head.split()[1] for head, _ in answers]
        assert statuses[:3] == ["200", "200", "200"]
        assert statuses[4] == "429"
        assert "retry-after: 1" in answers[4][0]
        assert json.loads(answers[4][1]) == {"detail": "Rate limit exceeded. Please slow down."}
        assert (await fetched(server, "/health/liveness", x_forwarded_for="203.0.113.7"))[0].startswith("http/1.1 200")
        # This machine is free, and a forwarding header from nobody in particular says nothing about the client.
        assert (await fetched(server, "/assets/config.json"))[0].startswith("http/1.1 200")
        assert (await fetched(server, "/assets/config.json", x_forwarded_for="198.51.100.1"))[0].startswith(
            "http/1.1 429"
        )


async def test_guessing_tokens_is_limited_like_asking_without():
    async with run_server(http_rate_limit=1, http_burst_limit=3) as server:
        guess = {"authorization": "Bearer guess", "x_forwarded_for": "203.0.113.7"}
        heads = [(await fetched(server, "/assets/config.json", **guess))[0] for _ in range(5)]
        assert [head.split()[1] for head in heads] == ["401", "401", "401", "429", "429"]
        real = {**guess, "authorization": f"Bearer {server.token('alice')}"}
        assert (await fetched(server, "/assets/config.json", **real))[0].startswith("http/1.1 200")


async def test_diagnostics_are_for_private_addresses():
    async with run_server(trusted_proxies=("127.0.0.1",)) as server:
        for path in ("/health", "/metrics"):
            assert (await fetched(server, path))[0].startswith("http/1.1 200")
            head, _ = await fetched(server, path, x_forwarded_for="10.0.0.1, 8.8.8.8")
            assert head.startswith("http/1.1 403")


async def test_long_texts_are_compressed_when_asked(http_server):
    reader, writer = await asyncio.open_connection("127.0.0.1", http_server.port)
    writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n")
    head, _, body = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")
    assert b"content-encoding: gzip" in head
    assert json.loads(gzip.decompress(body))["openapi"]
    writer.close()


SMUGGLED = [
    b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    b"X: 1\r\n folded\r\nContent-Length: 2\r\n\r\n[]",
    b"X: 1\nContent-Length: 2\n\n[]",
    b"Content-Length : 2\r\n\r\n[]",
    b"Transfer-Encoding: xchunked\r\n\r\n",
    b"Content-Length: +2\r\n\r\n[]",
    b"X: a\x00b\r\n\r\n",
]


@pytest.mark.parametrize("rest", SMUGGLED)
async def test_ambiguous_requests_are_refused_and_the_connection_closed(http_server, rest):
    reader, writer = await asyncio.open_connection("127.0.0.1", http_server.port)
    writer.write(b"POST /public/services/tools/show HTTP/1.1\r\nHost: x\r\n" + rest)
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1
    writer.close()


async def test_a_head_that_is_too_large_is_refused(http_server):
    reader, writer = await asyncio.open_connection("127.0.0.1", http_server.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000)
    assert b" 431 " in await asyncio.wait_for(reader.readline(), 5)
    writer.close()


async def test_everything_is_below_the_base_path():
    async with run_server(base_path="/base") as server:
        assert (await fetched(server, "/base/health/liveness"))[0].startswith("http/1.1 200")
        assert (await fetched(server, "/base/"))[0].startswith("http/1.1 200")
        assert (await fetched(server, "/base/public/services/"))[0].startswith("http/1.1 200")
        assert (await fetched(server, "/health/liveness"))[0].startswith("http/1.1 404")
        assert (await fetched(server, "/basement/health/liveness"))[0].startswith("http/1.1 404")
        head, _ = await fetched(server, "/base/public/services")
        assert "location: /base/public/services/" in head


# -------------------------------------------------------------------------------- mounts


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/tools", 307, None),
        ("/tools/", 200, "<p>index</p>"),
        ("/tools/index.html", 200, "<p>index</p>"),
        ("/tools/sub", 307, None),
        ("/tools/sub/", 200, "<p>sub</p>"),
        ("/tools/n%C3%A4me.txt", 200, "named"),
        ("/tools/bare/", 404, None),
        ("/bare", 404, None),
        ("/bare/", 404, None),
        ("/tools/none.txt", 404, None),
    ],
)
async def test_mounted_files(http, path, status, text):
    response = await http.get(path)
    assert response.status_code == status
    assert text is None or response.text == text


async def test_mounted_files_are_revalidated_and_come_in_parts(http):
    response = await http.get("/tools/data.bin")
    again = await http.get("/tools/data.bin", headers={"If-None-Match": response.headers["etag"]})
    assert again.status_code == 304
    part = await http.get("/tools/data.bin", headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"\x02\x03\x04")


WAYS_OUT = [
    "..%2foutside.txt",
    "%2e%2e/outside.txt",
    "%2e%2e%2foutside.txt",
    "../outside.txt",
    "sub/../../outside.txt",
    "sub/%2e%2e/%2e%2e/outside.txt",
    "..%5coutside.txt",
    r"..\outside.txt",
    "%252e%252e/outside.txt",
    "/etc/passwd",
    "//etc/passwd",
    "%2fetc%2fpasswd",
    "%00",
    "index.html%00.txt",
    "link.txt",
    "link/outside.txt",
    ".hidden",
    "%2ehidden",
    ".git/config",
    "sub/.%2e/index.html",
    "./index.html",
    "sub/./index.html",
    "%c0%ae%c0%ae/outside.txt",
    "....//outside.txt",
    "..;/outside.txt",
    "%e0%80%ae%e0%80%ae/outside.txt",
    "C:%5cwindows",
    "file:%2f%2f%2fetc%2fpasswd",
    "~root",
    "sub%5c..%5cindex.html",
    "%0d%0aX: y",
    "..",
    "../",
    "%2e%2e",
    "sub/..",
    "link",
    "link/",
    "sub/%2e%2e%2findex.html",
    "%2e/index.html",
    "a" * 5000,
]


@pytest.mark.parametrize("path", WAYS_OUT)
async def test_ways_out_of_a_mount_are_closed(http_server, path):
    reader, writer = await asyncio.open_connection("127.0.0.1", http_server.port)
    writer.write(f"GET /tools/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin-1"))
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.split()[1] in {b"400", b"404"}, answer
    assert (
        b"outside"
        not in answer.partition(b"\r\n\r\n")[2].replace(path.encode("latin-1"), b"").partition(b"File not found")[0]
    )
    writer.close()
