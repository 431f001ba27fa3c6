"""Revocations are looked up in memory and outlive the process (security S18)."""

from __future__ import annotations

from typing import Any

import pytest

from hypha.auth.revocation import KeptRevocations
from hypha.store import MemoryStore, StoreError

YEAR = 365 * 86400.0


async def test_what_was_revoked_stays_revoked_after_a_restart_until_it_expires(clock: Any) -> None:
    store = MemoryStore()
    first = KeptRevocations(store, clock=clock)
    await first.revoke("old")
    clock.now += 100
    await first.revoke("new")
    second = KeptRevocations(store, clock=clock)
    assert second.is_revoked("old")
    assert second.is_revoked("child", ["root", "new"])
    assert not second.is_revoked("other")
    clock.now += YEAR - 50
    await second.revoke("another")
    assert not second.is_revoked("old")
    assert second.is_revoked("new")


async def test_it_holds_at_once_even_if_it_cannot_be_kept(clock: Any) -> None:
    class FullStore(MemoryStore):
        def write(self, changes: Any) -> Any:
            future = super().write([])
            failed = future.get_loop().create_future()
            failed.set_exception(StoreError("full"))
            failed.exception()
            return failed

    revocations = KeptRevocations(FullStore(), clock=clock)
    write = revocations.revoke("t1")
    assert revocations.is_revoked("t1")
    with pytest.raises(StoreError):
        await write
    assert revocations.is_revoked("t1")


async def test_a_full_table_refuses_rather_than_forgetting(clock: Any) -> None:
    revocations = KeptRevocations(MemoryStore(), clock=clock, limit=1)
    await revocations.revoke("t1")
    with pytest.raises(RuntimeError, match="Too many revoked tokens"):
        revocations.revoke("t2")
    assert revocations.is_revoked("t1")
