"""What providers may say and see (security S36, S37), without a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypha.web.provider_answers import BadAnswer, answer_headers, checked_status, request_headers

PREFIX = "/w/apps/s"


def kept(given, *, trusted=False):
    return dict(answer_headers(given, prefix=PREFIX, trusted=trusted))


def test_headers_of_the_site_are_its_own():
    given = {
        "Content-Type": "text/html",
        "Transfer-Encoding": "chunked",
        "Connection": "close",
        "Access-Control-Allow-Origin": "x",
        "Alt-Svc": "x",
        "Service-Worker-Allowed": "/",
        "Strict-Transport-Security": "x",
        "Clear-Site-Data": "x",
        "X-Own": 5,
    }
    assert kept(given) == {b"content-type": b"text/html", b"x-own": b"5"}


@pytest.mark.parametrize(
    ("cookie", "expected"),
    [
        ("a=1", b"a=1; Path=/w/apps/s"),
        ("a=1; Path=/w/apps/s/sub; HttpOnly", b"a=1; HttpOnly; Path=/w/apps/s/sub"),
        ("a=1; path=/w/apps/s2", b"a=1; Path=/w/apps/s"),
        ("a=1; Path=/w/apps/s/../t", b"a=1; Path=/w/apps/s"),
        ("a=1; Domain=x.example", b"a=1; Path=/w/apps/s"),
        ("access_token=1", None),
        ("ACCESS_TOKEN=1", None),
        ("__Host-a=1", None),
        (" __secure-a=1", None),
        ("=1", None),
    ],
)
def test_cookies_stay_below_the_app(cookie, expected):
    assert kept({"set-cookie": cookie}).get(b"set-cookie") == expected


def test_a_service_of_the_server_itself_sets_any_cookie():
    assert kept({"set-cookie": "access_token=1; Path=/"}, trusted=True) == {b"set-cookie": b"access_token=1; Path=/"}


@pytest.mark.parametrize(
    "given",
    [
        {"a b": "1"},
        {"": "1"},
        {"x": "1\r\ny: 2"},
        {"x": "\x00"},
        {"x": "☃"},
        {"x": {}},
        {"x": True},
        [["a"]],
        "text",
        5,
        [1],
    ],
)
def test_what_is_no_header_is_a_bad_answer(given):
    with pytest.raises(BadAnswer):
        kept(given)


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=40)))
def test_whatever_is_kept_is_valid(given):
    try:
        headers = answer_headers(given, prefix=PREFIX, trusted=False)
    except BadAnswer:
        return
    for name, value in headers:
        assert name
        assert not any(byte in name + value for byte in b"\r\n\x00")


@pytest.mark.parametrize("status", [99, 100, 101, 199, 600, "200", None, True, 2.5])
def test_what_is_no_status(status):
    with pytest.raises(BadAnswer):
        checked_status(status)


def test_a_provider_sees_no_credentials():
    headers = [(b"authorization", b"Bearer x"), (b"cookie", b"access_token=y; a=1"), (b"te", b"x"), (b"accept", b"*/*")]
    assert request_headers(headers, verified=True, trusted=False) == [(b"cookie", b"a=1"), (b"accept", b"*/*")]
    assert (b"authorization", b"Bearer x") in request_headers(headers, verified=True, trusted=True)
    assert request_headers([(b"cookie", b"access_token=y")], verified=False, trusted=False) == []
