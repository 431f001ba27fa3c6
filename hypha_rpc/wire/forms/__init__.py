"""One small module a family of forms; `register_all` puts them into a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypha_rpc.wire.forms import arrays, containers, errors, files, functions, generators, models, records

if TYPE_CHECKING:
    from hypha_rpc.wire.values import FormTable

__all__ = ["register_all"]


def register_all(table: FormTable) -> None:
    """Register every form of protocol §3 in *table*."""
    for family in (containers, arrays, errors, models, files, generators, functions, records):
        family.register(table)
