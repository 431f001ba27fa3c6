"""All checks, by name. Importing this needs no client."""

from __future__ import annotations

from ..world import CHECKS
from . import connecting, failures, functions, values

__all__ = ["CHECKS", "connecting", "failures", "functions", "values"]
