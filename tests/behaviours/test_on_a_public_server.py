"""Tests of `tests/integration`, once more on a public server: the lines they hold are not marked as ours.

What of them only our server can do, and lines that they show in part, have tests of their own in this folder.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hypha_rpc import connect_to_server
from tests.behaviours.conftest import url_of
from tests.interop.servers import Server
from tests.interop.sides import PUBLIC

pytestmark = pytest.mark.interop

TESTS = {
    "test_client_connect": """
        test_a_dictionary_and_keywords_connect_alike test_anonymous_clients_get_workspaces_of_their_own
        test_a_foreign_workspace_is_refused test_leaving_the_block_disconnects test_a_token_lets_a_second_client_in
        test_nothing_listens test_every_member_has_a_schema_of_its_name test_list_services_lists
        test_unknown_options_are_ignored_and_nothing_given_is_changed test_a_websocket_url_is_taken_as_it_is
        test_disconnecting_twice_is_harmless test_ten_cycles_leave_nothing_behind
        test_get_remote_service_is_awaitable_and_a_block
    """,
    "test_client_services": """
        test_registering_tells_the_absolute_id test_functions_keep_name_doc_and_schema
        test_members_may_have_the_names_of_dict_methods test_overwriting_replaces_the_functions
        test_unregistering_takes_every_id_form test_case_conversion test_a_config_that_cannot_be_is_named
        test_returned_dicts_are_proxies_at_every_depth test_arguments_arrive_unchanged test_a_call_is_sent_when_made
        test_calls_fit_all_of_asyncio test_many_calls_at_once_get_their_own_results test_failures_stay_with_their_call
        test_a_silent_callee_times_out test_echo_of_texts test_nan_tuples_and_depth
        test_callbacks_take_arguments_and_give_results test_callbacks_nest test_arrays_pass_through_callbacks
        test_an_error_in_a_callback_reaches_both_ends test_callbacks_leave_nothing_and_end_with_their_call
    """,
    "test_client_reconnection": """
        test_every_close_code_leads_to_a_reconnection test_calls_made_right_after_a_drop_wait_and_succeed
        test_tables_do_not_grow_over_reconnections test_a_disconnect_during_a_reconnection_is_final
        test_twenty_calls_in_flight_all_end
    """,
    "test_encryption": """
        world test_the_context_of_an_encrypted_call_names_the_key_of_its_caller_b148
        test_an_unencrypted_client_may_call_too_b149 test_a_trusted_key_may_call_b151
        test_each_of_several_trusted_keys_may_call_b151 test_an_untrusted_key_is_refused_b152
        test_a_plain_call_of_a_service_with_trusted_keys_is_refused_b153
        test_with_the_wrong_key_of_the_target_a_call_fails_at_once_b154 test_values_of_all_kinds_survive_b155
        test_no_trusted_keys_restrict_nothing_b156
    """,
    "sync.conftest": "blocking",
    "sync.test_behaviours": """
        test_everything_of_a_session_blocks test_one_service_by_its_url
        test_a_service_function_calls_services_that_lead_back
        test_in_a_running_loop_with_an_async_client_and_big_arrays
    """,
}
for _module, _names in TESTS.items():
    for _name in _names.split():
        globals()[_name] = getattr(importlib.import_module(f"tests.integration.{_module}"), _name)


@pytest.fixture
def server_url(servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of the public server."""
    return url_of(PUBLIC, servers, tmp_path_factory)


@pytest.fixture
async def anonymous(server_url: str) -> AsyncIterator[Any]:
    """A client in a workspace of its own, as in `tests/integration`."""
    async with connect_to_server(server_url=server_url) as server:
        yield server


@dataclass
class Named:
    """Two clients of one workspace with ids that the tests know, as in `tests/integration`."""

    provider: Any
    consumer: Any
    workspace: str


@pytest.fixture
async def pair(server_url: str) -> AsyncIterator[Named]:
    async with connect_to_server(server_url=server_url, client_id="provider") as provider:
        workspace, token = provider.config["workspace"], await provider.generate_token()
        options = {"server_url": server_url, "workspace": workspace, "token": token, "client_id": "consumer"}
        async with connect_to_server(options) as consumer:
            yield Named(provider, consumer, workspace)


def test_the_other_tests_are_listed_in_the_table() -> None:
    table = Path(__file__).with_name("README.md").read_text("utf-8")
    names = [name for names in TESTS.values() for name in names.split() if name.startswith("test_")]
    assert [name for name in names if f"::{name}`" not in table] == []
