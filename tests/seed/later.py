"""Rows of the document whose part is not there yet, and why."""

from __future__ import annotations

import pytest

needs_javascript = pytest.mark.skip(reason="the JavaScript client is not part of this repository yet")
