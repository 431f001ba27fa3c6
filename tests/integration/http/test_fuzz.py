"""The HTTP surface fuzzed from its own descriptions: whatever is sent, no error of the server's own making."""

from __future__ import annotations

from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

schemathesis = pytest.importorskip("schemathesis")

pytestmark = [
    pytest.mark.timeout(60),
    # Of the library, and of what it draws in.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SETTINGS = hypothesis.settings(
    max_examples=250,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)
ENDLESS = ("witness", "count", "octets")
"""Functions that answer for as long, or with as much, as they are asked to."""


def operations(url: str) -> list[Any]:
    """What a description describes."""
    found = schemathesis.openapi.from_url(url)
    return [result.ok() for result in found.get_all_operations()]


def attack(chosen: list[Any], base: str) -> int:
    """Send what the library makes of these operations, valid and not; returns how often."""
    strategies = [one.as_strategy(generation_mode=mode) for one in chosen for mode in schemathesis.GenerationMode]
    sent = 0

    @SETTINGS
    @hypothesis.given(case=st.one_of(*strategies))
    def send(case: Any) -> None:
        nonlocal sent
        response = case.call(base_url=base, timeout=10)
        sent += 1
        if response.status_code >= 500:
            # A provider may fail; the server may not.
            assert "RemoteException: " in response.text or "Invalid service type" in response.text, response.text

    send()
    return sent


def test_the_server_survives_its_own_description(http_server):
    assert attack(operations(f"{http_server.url}/openapi.json"), http_server.url) > 100


@pytest.mark.parametrize("service", ["tools", "who"])
def test_the_server_survives_the_descriptions_of_services(http_server, service):
    found = operations(f"{http_server.url}/public/services/{service}/openapi.json")
    chosen = [one for one in found if not any(name in one.path for name in ENDLESS)]
    assert attack(chosen, http_server.url) > 20
