"""Small rules of the web room: addresses, rates, credentials, bodies, errors, descriptions."""

from __future__ import annotations

import gzip
from types import SimpleNamespace

import pytest

from hypha.auth.errors import AuthenticationError, TokenRevoked
from hypha.auth.scopes import ParsedScope
from hypha.auth.secret import Secrets
from hypha.auth.tokens import Grant, TokenService
from hypha.web.addresses import ClientAddress, is_private
from hypha.web.bodies import Disconnected, read_body
from hypha.web.credentials import Credentials
from hypha.web.docs import docs_page
from hypha.web.failures import HttpFailure, describe, status_of
from hypha.web.mounts import find_file
from hypha.web.openapi import server_document, service_document
from hypha.web.rates import Buckets
from hypha.web.results import json_text, msgpack_bytes
from hypha_rpc.errors import CallTimeout, PeerGone, SerializationError, TooManyPending

SECRET = b"x" * 40


# ------------------------------------------------------------------------------ addresses


def scope(peer, **headers):
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"client": (peer, 1), "headers": named}


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.2", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
    ],
)
def test_the_address_of_a_client(peer, forwarded, expected):
    assert ClientAddress(["10.0.0.0/24"]).of(scope(peer, x_forwarded_for=forwarded)) == expected


def test_nobody_is_trusted_by_itself():
    assert ClientAddress([]).of(scope("127.0.0.1", x_forwarded_for="1.2.3.4")) == "127.0.0.1"
    assert ClientAddress([]).is_local(scope("127.0.0.1"))
    assert not ClientAddress([]).is_local(scope("127.0.0.1", x_forwarded_for="1.2.3.4"))
    assert not ClientAddress([]).is_local(scope("8.8.8.8"))
    assert is_private("10.1.2.3")
    assert not is_private("8.8.8.8")
    assert not is_private("unix:")


# ---------------------------------------------------------------------------------- rates


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_a_bucket_empties_and_fills():
    clock = Clock()
    buckets = Buckets(2, 3, clock)
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 1]
    assert buckets.take("b") == 0
    clock.now += 0.5
    assert buckets.take("a") == 0
    assert buckets.take("a") == 1


def test_buckets_are_bounded_and_can_be_switched_off():
    buckets = Buckets(1, 1, Clock())
    for number in range(10_050):
        buckets.take(str(number))
    assert len(buckets) == 10_000
    assert [Buckets(0, 1, Clock()).take("a") for _ in range(5)] == [0] * 5


# ---------------------------------------------------------------------------- credentials


def test_a_believed_token_is_checked_for_its_end_and_revocation_every_time():
    clock = Clock()
    tokens = TokenService(Secrets(SECRET), clock=clock)
    token = tokens.mint(Grant(user_id="alice", scope=ParsedScope({}), expires_in=60))
    credentials = Credentials(tokens, clock)
    user = credentials.user(token)
    assert credentials.user(token) is user
    assert credentials.admitted(user, "w", "r") is credentials.admitted(user, "w", "r")
    assert credentials.admitted(user, "w", "r") is not credentials.admitted(user, "w", "a")
    clock.now += 100
    with pytest.raises(AuthenticationError):
        credentials.user(token)
    clock.now -= 100
    tokens.revoke(tokens.inspect(token))
    with pytest.raises(TokenRevoked):
        credentials.user(token)
    with pytest.raises(AuthenticationError):
        credentials.user("nonsense")


# --------------------------------------------------------------------------------- bodies


def receiver(*messages):
    waiting = list(messages)

    async def receive():
        return waiting.pop(0)

    return receive


def part(body, more=False):
    return {"type": "http.request", "body": body, "more_body": more}


async def test_bodies_are_counted_as_they_come():
    receive = receiver(part(b"123", more=True), part(b"456"))
    assert await read_body({"headers": []}, receive, most=6, ratio=2) == b"123456"
    with pytest.raises(HttpFailure) as caught:
        await read_body({"headers": []}, receiver(part(b"123", more=True), part(b"4567")), most=6, ratio=2)
    assert caught.value.status == 413
    with pytest.raises(Disconnected):
        await read_body({"headers": []}, receiver(part(b"1", more=True), {"type": "http.disconnect"}), most=6, ratio=2)


@pytest.mark.parametrize(("body", "status"), [(gzip.compress(b"0" * 10_000_000), 413), (b"no gzip", 400)])
async def test_inflation_is_bounded(body, status):
    headers = {"headers": [(b"content-encoding", b"gzip")]}
    with pytest.raises(HttpFailure) as caught:
        await read_body(headers, receiver(part(body)), most=1 << 30, ratio=200)
    assert caught.value.status == status


# --------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (CallTimeout("silent"), 504),
        (TooManyPending("many"), 503),
        (PeerGone("gone"), 502),
        (SerializationError("no form", "args[0]"), 400),
        (HttpFailure(418, "x"), 418),
        (AuthenticationError("x"), 401),
        (KeyError("x"), 404),
        (OSError("x"), 500),
    ],
)
def test_the_status_of_an_error(error, status):
    assert status_of(error) == status
    assert describe(error)


# -------------------------------------------------------------------------------- results


def test_json_and_msgpack_of_odd_values():
    assert json_text({"a": [float("inf"), {1}, (2,)]}) == b'{"a":[null,[1],[2]]}'
    assert json_text("\ud800") == b'"?"'
    assert json_text({"_rtype": "set", "_rvalue": [1]}) == b"[1]"
    assert json_text(ValueError("x")) == b'{"_rtype":"error","_rvalue":"ValueError: x"}'
    assert msgpack_bytes({"a": b"\x00"}) == b"\x81\xa1a\xc4\x01\x00"


# --------------------------------------------------------------------------- descriptions


@pytest.fixture
def context():
    return SimpleNamespace(version="1.2.3", public_url="http://h", base_path="")


HOSTILE = "<script>alert(1)</script>\"'"


def test_texts_of_providers_are_escaped_in_pages(context):
    schema = {"properties": {HOSTILE: {"type": "string", "description": HOSTILE}, "odd": 5}, "required": [HOSTILE]}
    function = {"type": "function", "function": {"name": HOSTILE, "description": HOSTILE, "parameters": schema}}
    record = {"name": HOSTILE, "description": HOSTILE, "service_schema": {HOSTILE: function, "n": [function], "x": 1}}
    text = docs_page(service_document(context, "w", "s", record), base="")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


@pytest.mark.parametrize(
    "schema", [None, 5, [], {"f": {"type": "function", "function": {"parameters": 5}}}, {"f": {"type": "function"}}]
)
def test_any_record_can_be_described(context, schema):
    assert service_document(context, "w", "s", {"service_schema": schema})["openapi"] == "3.1.0"


def test_operation_ids_are_unique(context):
    operations = [one for path in server_document(context)["paths"].values() for one in path.values()]
    ids = [one["operationId"] for one in operations]
    assert len(set(ids)) == len(ids)


# ---------------------------------------------------------------------------------- files


def test_files_outside_are_not_found(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.txt").write_text("a")
    (tmp_path / "secret").write_text("s")
    (root / "loop").symlink_to(root / "loop")
    assert find_file(root, "a.txt") == root / "a.txt"
    for path in (
        "../secret",
        "a.txt/..",
        "",
        "loop",
        "x\x00",
        "x\\y",
        ".a",
        "a/.b",
        "/../secret",
        str(tmp_path / "secret"),
    ):
        assert find_file(root, path) is None, path
