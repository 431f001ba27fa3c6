"""Rows of the document whose part is not there yet, and why."""

from __future__ import annotations

import importlib.util

import pytest


def _is_there(module: str) -> bool:
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None


needs_sync = pytest.mark.skipif(not _is_there("hypha_rpc.sync"), reason="the blocking face hypha_rpc.sync is not there")
needs_javascript = pytest.mark.skip(reason="the JavaScript client is not part of this repository yet")
