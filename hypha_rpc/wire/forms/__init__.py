"""One small module a family of forms; `register_all` puts them into a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypha_rpc.wire.forms import arrays, containers, errors, functions, generators, models

if TYPE_CHECKING:
    from hypha_rpc.wire.values import FormTable

__all__ = ["register_all"]


def register_all(table: FormTable) -> None:
    """Register every form of protocol §3 in *table*."""
    for family in (containers, arrays, errors, models, generators, functions):
        family.register(table)
