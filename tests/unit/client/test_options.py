"""Options that are wrong are told; those that are merely unknown are not."""

from __future__ import annotations

import logging

import pytest

from hypha_rpc.client.options import ConnectOptions

URL = "http://127.0.0.1:9527"


def test_a_url_in_place_of_the_options_is_told_what_they_are():
    with pytest.raises(TypeError, match=r"a dictionary or keywords \(server_url=...\), not str"):
        ConnectOptions.parse(URL, {})  # type: ignore[arg-type]


def test_a_misspelt_option_is_told_and_ignored(caplog):
    options = ConnectOptions.parse({"server_url": URL, "methd_timeout": 3}, {})
    assert options.method_timeout == 30.0
    assert [record.getMessage() for record in caplog.records] == [
        "connect_to_server has no option 'methd_timeout', it is ignored; did you mean 'method_timeout'?"
    ]


def test_options_of_other_functions_and_versions_are_ignored_without_a_word(caplog):
    caplog.set_level(logging.DEBUG, logger="hypha_rpc")
    others = dict.fromkeys(
        (
            *("login_callback", "login_timeout", "login_service_id", "profile", "expires_in", "password"),
            *("webrtc", "webrtc_config", "case_conversion", "passive", "visibility", "user_id", "transport_type"),
            *("ping_retries", "max_retries", "timeout", "headers", "WebSocketClass", "load_dotenv"),
        ),
        1,
    )
    assert ConnectOptions.parse({"server_url": URL, **others}, {}).server_url == URL
    assert caplog.records == []
