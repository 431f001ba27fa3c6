"""Calling functions by HTTP: arguments, results, errors (server §5.2-5.5)."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json

import msgpack
import pytest

MSGPACK = {"Content-Type": "application/msgpack"}
TOOLS = "/public/services/tools"


async def report(http):
    return (await http.get(f"{TOOLS}/witness.report")).json()


async def until(http, text):
    """What the witness reports once *text* is in it."""
    async with asyncio.timeout(5):
        while text not in (found := await report(http))["seen"]:
            await asyncio.sleep(0.02)
    return found


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("a=1&b=2", 3),
        ("a=1.5&b=2", 3.5),
        ("a=-3&b=5", 2),
        ("a=%2B5&b=x", "+5x"),
        ("a=1e3&b=1_000", "1e31_000"),
        ("a=true&b=null", "truenull"),
        ("a=&b=x", "x"),
        ("a=1&a=5&b=2", 7),
        ("a=0012&b=x", "0012x"),
        ("a=nan&b=inf", "naninf"),
    ],
)
async def test_query_items_become_arguments(http, query, expected):
    response = await http.get(f"{TOOLS}/add?{query}")
    assert response.status_code == 200, response.text
    assert response.json() == expected


async def test_undeclared_query_items_are_guessed(http):
    response = await http.get(f'{TOOLS}/show?i=0012&f=1_000&n=-3&o={{"k":1}}&l=[1,2]&t=true&s=&inf=inf&_mode=random')
    assert response.json() == {
        "i": 12, "f": 1000.0, "n": -3.0, "o": {"k": 1}, "l": [1, 2], "t": "true", "s": "", "inf": "inf",
    }  # fmt: skip


async def test_declared_types_decide(http):
    response = await http.get(f"{TOOLS}/typed?text=0012&number=2&count=-3&flag=true&items=[1]")
    assert response.json() == {"text": "0012", "number": 2, "count": -3, "flag": True, "items": [1]}


async def test_a_malformed_object_is_refused(http):
    response = await http.get(TOOLS + "/show?x={k")
    assert response.status_code == 400
    assert response.json()["detail"].startswith(
        "Invalid request body: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
    )


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ('{"a": 1, "b": 2}', "application/json"),
        ('{"a": 1, "b": 2}', "application/json; charset=utf-8"),
        ('{"a": 1, "b": 2}', "application/x-www-form-urlencoded"),
        ("[1, 2]", "application/json"),
    ],
)
async def test_json_bodies(http, body, kind):
    response = await http.post(f"{TOOLS}/add", content=body, headers={"Content-Type": kind})
    assert (response.status_code, response.json()) == (200, 3)


async def test_a_single_value_is_the_only_argument(http):
    assert (await http.post(f"{TOOLS}/nested.deep.add", json=41)).json() == 42


async def test_an_empty_body_means_no_arguments(http):
    assert (await http.post(f"{TOOLS}/show", headers={"Content-Type": "application/json"})).json() == {}


async def test_query_items_of_a_post_are_ignored(http):
    assert (await http.post(f"{TOOLS}/show?x=1", json={"y": 2})).json() == {"y": 2}


async def test_a_compressed_body(http):
    body = gzip.compress(b'{"a": 1, "b": 2}')
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    assert (await http.post(f"{TOOLS}/add", content=body, headers=headers)).json() == 3


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {"Content-Type": "application/json"}, 400),
        (b"[" * 100_000, {"Content-Type": "application/json"}, 400),
        (b"[" * 200 + b"]" * 200, {"Content-Type": "application/json"}, 400),
        (b'{"x": NaN}', {"Content-Type": "application/json"}, 400),
        (b'{"x": ' + b"9" * 5000 + b"}", {"Content-Type": "application/json"}, 400),
        (b'{"x": ' + b"9" * 30 + b"}", {"Content-Type": "application/json"}, 400),
        (b'{"x": "\\ud800"}', {"Content-Type": "application/json"}, 400),
        (b'{"x": {"_rtype": "method", "_rmethod": "m", "_rtarget": "t"}}', {"Content-Type": "application/json"}, 400),
        (b'{"x": {"_rtype": "unheard-of"}}', {"Content-Type": "application/json"}, 400),
        (b"<x/>", {"Content-Type": "application/xml"}, 415),
        (b"\xc1", MSGPACK, 400),
        (b"\xdf\xff\xff\xff\xff", MSGPACK, 400),
        (b"\x81" * 100_000, MSGPACK, 400),
        (b"\x81\x01\x02", MSGPACK, 400),
        (gzip.compress(b"{}")[:-9], {"Content-Encoding": "gzip"}, 400),
        (gzip.compress(b" " * 50_000_000), {"Content-Encoding": "gzip"}, 413),
        (b"{}", {"Content-Encoding": "br"}, 415),
    ],
)
async def test_bodies_that_are_refused(http, body, headers, status):
    response = await http.post(f"{TOOLS}/show", content=body, headers=headers)
    assert response.status_code == status, response.text
    assert response.json()["success"] is False


async def test_a_body_announced_as_too_large_is_refused_before_it_is_sent(http_server):
    reader, writer = await asyncio.open_connection("127.0.0.1", http_server.port)
    writer.write(f"POST {TOOLS}/show HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n".encode())
    assert b" 413 " in await asyncio.wait_for(reader.readline(), 5)
    writer.close()


# -------------------------------------------------------------------------------- results


async def test_msgpack_both_ways(http):
    array = {"_rtype": "ndarray", "_rvalue": b"\x00" * 8, "_rshape": [2], "_rdtype": "float32"}
    body = msgpack.packb({"data": b"\x01\x02", "array": array})
    response = await http.post(f"{TOOLS}/show", content=body, headers=MSGPACK)
    assert response.headers["content-type"] == "application/msgpack"
    assert msgpack.unpackb(response.content) == {"data": b"\x01\x02", "array": array}


async def test_msgpack_by_accept(http):
    response = await http.get(f"{TOOLS}/add?a=1", headers={"Accept": "application/msgpack"})
    assert msgpack.unpackb(response.content) == 2


async def test_json_shows_what_is_no_json(http):
    found = (await http.get(f"{TOOLS}/special")).json()
    assert found["nan"] is None
    assert found["bytes"] == {"_rtype": "bytes", "_rvalue": base64.b64encode(b"\x00\x01").decode()}
    assert found["set"] == [1]
    assert found["function"]["type"] == "function"
    assert found["function"]["function"]["name"] == "add"


async def test_bytes_sent_as_base64_come_back(http):
    value = {"_rtype": "bytes", "_rvalue": base64.b64encode(b"\x00\xff").decode()}
    assert (await http.post(f"{TOOLS}/show", json={"x": value})).json() == {"x": value}


async def test_a_result_of_bytes_is_the_body(http):
    response = await http.get(f"{TOOLS}/octets?size=1000")
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.content == b"\x07" * 1000


@pytest.mark.timeout(60)
async def test_big_values_pass_both_ways(http):
    response = await http.get(f"{TOOLS}/octets?size=50000000", timeout=40)
    assert len(response.content) == 50_000_000
    body = msgpack.packb({"x": b"q" * 20_000_000})
    response = await http.post(f"{TOOLS}/show", content=body, headers=MSGPACK, timeout=40)
    assert response.content == body


@pytest.mark.parametrize(
    ("key", "expected"), [("constant", 42), ("texts", ["a", "b"]), ("texts.1", "b"), ("id", "tools")]
)
async def test_values_of_a_service(http, key, expected):
    response = await http.get(f"{TOOLS}/{key}")
    assert (response.status_code, response.json()) == (200, expected)


@pytest.mark.parametrize(
    "key", ["nothing", "add.__globals__", "texts.7", "texts.__len__", "__class__", "nested.nothing", "_dispose"]
)
async def test_what_a_service_does_not_have_is_not_found(http, key):
    response = await http.get(f"{TOOLS}/{key}")
    assert response.status_code == 404
    assert response.json() == {"success": False, "detail": f"{key} not found."}


@pytest.mark.parametrize(
    ("kind", "text", "status", "detail"),
    [
        ("ValueError", "bad value", 400, "RemoteException: ValueError: bad value"),
        ("TypeError", "x", 400, "RemoteException: TypeError: x"),
        ("AssertionError", "x", 400, "RemoteException: AssertionError: x"),
        ("KeyError", "kk", 404, "RemoteException: KeyError: 'kk'"),
        ("PermissionError", "nope", 403, "RemoteException: PermissionError: nope"),
        ("RuntimeError", "boom", 500, "RemoteException: RuntimeError: boom"),
        ("RuntimeError", "it was not found", 404, "RemoteException: RuntimeError: it was not found"),
        ("RuntimeError", "Permission denied for you", 403, "RemoteException: RuntimeError: Permission denied for you"),
    ],
)
async def test_errors_of_a_provider(http, kind, text, status, detail):
    response = await http.post(f"{TOOLS}/fail", json={"kind": kind, "text": text})
    assert (response.status_code, response.json()) == (status, {"success": False, "detail": detail})


async def test_a_missing_argument_is_the_callers_fault(http):
    response = await http.get(f"{TOOLS}/add")
    assert response.status_code == 400
    assert "missing 1 required positional argument: 'a'" in response.json()["detail"]


async def test_a_service_that_is_not_there(http):
    response = await http.get("/public/services/hello-world/hello")
    assert response.status_code == 404
    expected = "RemoteException: KeyError: 'Service not found: public/*:hello-world@*'"
    assert response.json() == {"success": False, "detail": expected}


@pytest.mark.parametrize("service", ["built-in", "*", "a*b", "_rintf_x", "a:b:c", "tools@nowhere"])
async def test_names_that_nobody_may_call(http, service):
    response = await http.get(f"/public/services/{service}/echo")
    assert response.status_code in {400, 404}


async def test_other_methods_are_not_allowed(http):
    response = await http.put(f"{TOOLS}/add", content=b"")
    assert response.status_code == 405
    assert response.json() == {"detail": "Method Not Allowed"}
    assert "POST" in response.headers["allow"]


async def test_head_is_get_without_the_body(http):
    response = await http.head(f"{TOOLS}/add?a=1")
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-length"] == "1"
    assert (await http.head(f"{TOOLS}/witness.forever")).status_code == 200


async def test_the_context_comes_from_the_server(http):
    response = await http.post("/public/services/who/whoami", json={"context": {"user": {"id": "root"}}})
    found = response.json()
    assert (found["ws"], found["user"]) == ("ws-anonymous", "anonymouz-http")
    assert found["from"].startswith("ws-anonymous/client-")


# -------------------------------------------------------------------------------- streams


async def test_a_generator_as_events(http):
    response = await http.get(f"{TOOLS}/count?n=3")
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert response.text == "data: 0\n\ndata: 1\n\ndata: 2\n\ndata: [DONE]\n\n"


async def test_a_generator_as_lines(http):
    response = await http.get(f"{TOOLS}/count?n=3", headers={"Accept": "application/x-ndjson"})
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.text == "0\n1\n2\n"


async def test_a_generator_as_msgpack(http):
    response = await http.post(f"{TOOLS}/count", content=msgpack.packb({"n": 3}), headers=MSGPACK)
    unpacker = msgpack.Unpacker()
    unpacker.feed(response.content)
    assert list(unpacker) == [0, 1, 2]


async def test_an_error_in_the_middle_of_a_stream(http):
    lines = (await http.get(f"{TOOLS}/count?n=-1")).text.split("\n\n")
    assert lines[0] == "data: 0"
    assert json.loads(lines[1].removeprefix("data: "))["error"] == "RemoteException: RuntimeError: enough"
    assert lines[2] == "data: [DONE]"


async def test_a_client_that_leaves_closes_the_generator_at_its_producer(http):
    await http.get(f"{TOOLS}/witness.forget")
    async with http.stream("GET", f"{TOOLS}/witness.forever") as response:
        async for _ in response.aiter_bytes():
            break
    await until(http, "closed")


async def test_a_generator_stands_still_while_nobody_reads(http, http_server):
    await http.get(f"{TOOLS}/witness.forget")
    reader, writer = await asyncio.open_connection("127.0.0.1", http_server.port, limit=1024)
    writer.write(f"GET {TOOLS}/witness.forever HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await asyncio.wait_for(reader.readline(), 5)
    async with asyncio.timeout(10):
        produced = -1
        while (now := (await report(http))["produced"]) != produced:
            produced = now
            await asyncio.sleep(0.3)
    # 64 KB each: what fits into the sockets between, not what could be produced.
    assert produced < 300
    writer.close()
    await until(http, "closed")


async def test_a_client_that_leaves_cancels_its_call(http, http_server):
    await http.get(f"{TOOLS}/witness.forget")
    _, writer = await asyncio.open_connection("127.0.0.1", http_server.port)
    writer.write(f"GET {TOOLS}/witness.sleep HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await writer.drain()
    await asyncio.sleep(0.4)  # the call is under way, and long enough to be watched
    writer.close()
    await until(http, "cancelled")


async def test_nothing_is_left_of_calls(http):
    for _ in range(30):
        await http.get(f"{TOOLS}/count?n=3")
        await http.get(f"{TOOLS}/add?a=1")
    objects = (await http.get("/health")).json()["objects"]
    assert objects["http_calls"] == 0
    assert objects["http_callers"] <= 4
