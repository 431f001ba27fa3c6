from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hypha.auth.identity import User
from hypha.auth.revocation import MemoryRevocations, may_revoke

if TYPE_CHECKING:
    from conftest import Clock

YEAR = 365 * 86400


def test_descendants_are_revoked_with_their_ancestor() -> None:
    revocations = MemoryRevocations()
    revocations.revoke("t1")
    assert revocations.is_revoked("t1")
    assert revocations.is_revoked("t3", ["t0", "t1", "t2"])
    assert not revocations.is_revoked("t0", [])


def test_entries_are_kept_as_long_as_a_descendant_can_live(clock: Clock) -> None:
    revocations = MemoryRevocations(clock=clock)
    revocations.revoke("t1")
    clock.now += YEAR - 1
    revocations.revoke("t2")
    assert revocations.is_revoked("t1")
    clock.now += 2
    revocations.revoke("t3")
    assert not revocations.is_revoked("t1")
    assert len(revocations) == 2


def test_revoking_again_renews(clock: Clock) -> None:
    revocations = MemoryRevocations(clock=clock)
    revocations.revoke("t1")
    revocations.revoke("t2")
    clock.now += YEAR - 1
    revocations.revoke("t1")
    clock.now += 2
    revocations.revoke("t3")
    assert revocations.is_revoked("t1")
    assert not revocations.is_revoked("t2")


def test_full_set_refuses_rather_than_forgets() -> None:
    revocations = MemoryRevocations(limit=1)
    revocations.revoke("t1")
    with pytest.raises(RuntimeError, match="Too many"):
        revocations.revoke("t2")
    assert revocations.is_revoked("t1")


@pytest.mark.parametrize(
    ("caller", "target", "allowed"),
    [
        # presented by the caller
        (User("kid", parent="alice", token_ids=("t1",)), User("kid", parent="alice", token_ids=("t1",)), True),
        # minted with the caller's token
        (User("kid", parent="alice", token_ids=("t1",)), User("kid2", parent="alice", token_ids=("t1", "t2")), True),
        # another token of the same user, or a child of it
        (User("alice", token_ids=("t1",)), User("alice", token_ids=("t9",)), True),
        (User("alice", token_ids=("t1",)), User("kid", parent="alice", token_ids=("t8", "t9")), True),
        # a sibling, the parent, a stranger
        (
            User("kid", parent="alice", token_ids=("t0", "t1")),
            User("k2", parent="alice", token_ids=("t0", "t2")),
            False,
        ),
        (User("kid", parent="alice", token_ids=("t0", "t1")), User("alice", token_ids=("t0",)), False),
        (User("eve", token_ids=("t5",)), User("alice", token_ids=("t1",)), False),
        (User("anonymouz-x"), User("alice", token_ids=("t1",)), False),
    ],
)
def test_who_may_revoke_without_being_administrator(caller: User, target: User, allowed: bool) -> None:
    assert may_revoke(caller, target) is allowed
