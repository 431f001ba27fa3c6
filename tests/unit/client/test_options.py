"""Options that are wrong are told; those that are merely unknown are not."""

from __future__ import annotations

import pytest

from hypha_rpc import connect_to_server
from hypha_rpc.client.options import ConnectOptions

URL = "http://127.0.0.1:9527"


def test_a_url_in_place_of_the_options_is_told_what_they_are():
    with pytest.raises(TypeError, match=r"a dictionary or keywords \(server_url=...\), not str"):
        ConnectOptions.parse(URL, {})  # type: ignore[arg-type]


def test_a_misspelt_option_is_told_and_ignored():
    with pytest.warns(
        UserWarning, match="no option 'methd_timeout', it is ignored; did you mean 'method_timeout'"
    ) as told:
        connect_to_server({"server_url": URL, "methd_timeout": 3})
    assert [warning.filename for warning in told] == [__file__], "it points at the caller's line"
    with pytest.warns(UserWarning, match="did you mean"):
        assert ConnectOptions.parse({"server_url": URL, "methd_timeout": 3}, {}).method_timeout == 30.0


def test_options_of_other_functions_and_versions_are_ignored_without_a_word(recwarn):
    others = dict.fromkeys(
        (
            *("login_callback", "login_timeout", "login_service_id", "profile", "expires_in", "password"),
            *("webrtc", "webrtc_config", "case_conversion", "passive", "visibility", "user_id", "transport_type"),
            *("ping_retries", "max_retries", "timeout", "headers", "WebSocketClass", "load_dotenv"),
        ),
        1,
    )
    assert ConnectOptions.parse({"server_url": URL, **others}, {}).server_url == URL
    assert list(recwarn) == []
