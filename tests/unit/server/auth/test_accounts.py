"""Accounts: sign-up with and without a code, log-in, profile (server §4.7, security S22)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from hypha.auth.accounts import Account, AccountError, Accounts
from hypha.auth.passwords import Passwords
from hypha.store import MemoryStore

HERE = "203.0.113.7"
GOOD = "correct horse"


class FastPasswords(Passwords):
    """Hashes that cost nothing; the real ones have tests of their own."""

    async def hash(self, password: str) -> str:
        return f"hash of {password}"

    async def matches(self, password: str, kept: str | None) -> bool:
        return kept == f"hash of {password}"


class World:
    def __init__(self, *, verify: bool) -> None:
        self.now = 0.0
        self.store = MemoryStore()
        self.accounts = self.again(verify=verify)

    def again(self, *, verify: bool = False) -> Accounts:
        return Accounts(
            self.store, FastPasswords(), clock=lambda: self.now, now=lambda: 1_800_000_000.0 + self.now, verify=verify
        )

    async def ada(self) -> Account:
        made = await self.accounts.sign_up("Ada", "Ada@Example.org", GOOD, address=HERE)
        assert made.account is not None
        return made.account


@pytest.fixture
def world() -> World:
    """Where no mail can be sent."""
    return World(verify=False)


@pytest.fixture
def strict() -> World:
    """Where addresses are verified."""
    return World(verify=True)


class TestSignUp:
    @pytest.mark.parametrize(
        ("name", "email", "password", "text"),
        [
            ("", "a@b.c", GOOD, "Name, email and password are required"),
            (None, "a@b.c", GOOD, "Name, email and password are required"),
            ("Ada", "a@b.c", None, "Name, email and password are required"),
            ("Ada", " ", GOOD, "Name, email and password are required"),
            ("Ada", "a@b.c", "short", "Password must be at least 8 characters"),
            ("Ada", "a@b.c", "x" * 257, "Password must be at most 256 characters"),
            ("Ada", "nonsense", GOOD, "valid email"),
            ("Ada", "a b@c.d", GOOD, "valid email"),
            ("Ada", "a@b@c.d", GOOD, "valid email"),
            ("Ada\n", "a@b\n.c", GOOD, "valid email"),
            ("A\x07da", "a@b.c", GOOD, "name must have"),
            ("x" * 101, "a@b.c", GOOD, "name must have"),
        ],
    )
    async def test_what_is_missing_or_malformed_is_told(
        self, world: World, name: Any, email: Any, password: Any, text: str
    ) -> None:
        with pytest.raises(AccountError, match=text):
            await world.accounts.sign_up(name, email, password, address=HERE)
        assert world.store.load("account") == {}

    async def test_without_mail_the_account_exists_at_once_with_an_address_that_proves_nothing(
        self, world: World
    ) -> None:
        account = await world.ada()
        assert (account.name, account.email, account.verified) == ("Ada", "Ada@Example.org", False)
        assert await world.accounts.log_in("ada@example.ORG", GOOD, address=HERE) == account

    async def test_an_address_is_taken_in_any_spelling(self, world: World) -> None:
        await world.ada()
        with pytest.raises(AccountError, match="Email already registered"):
            await world.accounts.sign_up("Eve", " ADA@example.org ", GOOD, address=HERE)

    async def test_of_two_at_the_same_moment_one_wins(self, world: World) -> None:
        twice = (world.accounts.sign_up(name, "a@b.c", GOOD, address=HERE) for name in ("Ada", "Eve"))
        outcomes = await asyncio.gather(*twice, return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["AccountError", "SignUp"]

    async def test_an_id_tells_neither_name_nor_address_and_is_nobody_elses(self, world: World) -> None:
        account = await world.ada()
        assert account.id.startswith("local-")
        assert "ada" not in account.id
        assert account.id != (await world.accounts.sign_up("Ada", "b@b.c", GOOD, address=HERE)).account.id  # type: ignore[union-attr]

    async def test_the_password_is_not_kept(self, world: World) -> None:
        real = Passwords()
        accounts = Accounts(world.store, real, clock=lambda: 0.0, now=lambda: 0.0, verify=False)
        await accounts.sign_up("Ada", "a@b.c", GOOD, address=HERE)
        real.close()
        (record,) = world.store.load("account").values()
        assert GOOD.encode() not in record
        assert json.loads(record)["password"].startswith("$argon2id$")

    async def test_an_address_may_sign_up_twenty_times_a_minute(self, world: World) -> None:
        for number in range(20):
            await world.accounts.sign_up("Ada", f"a{number}@b.c", GOOD, address=HERE)
        with pytest.raises(AccountError, match="Too many attempts"):
            await world.accounts.sign_up("Ada", "a20@b.c", GOOD, address=HERE)


class TestCodes:
    async def test_the_code_makes_a_verified_account(self, strict: World) -> None:
        made = await strict.accounts.sign_up("Ada", "a@b.c", GOOD, address=HERE)
        assert made.account is None
        assert made.code is not None and len(made.code) == 6
        with pytest.raises(AccountError, match="Invalid email or password"):
            await strict.accounts.log_in("a@b.c", GOOD, address=HERE)
        account = await strict.accounts.verify_email("A@b.c", made.code)
        assert account.verified
        assert await strict.accounts.log_in("a@b.c", GOOD, address=HERE) == account

    async def test_five_wrong_codes_end_the_sign_up(self, strict: World) -> None:
        code = (await strict.accounts.sign_up("Ada", "a@b.c", GOOD, address=HERE)).code
        wrong = "000000" if code != "000000" else "000001"
        for left in (4, 3, 2, 1):
            with pytest.raises(AccountError, match=f"^Incorrect code. {left} attempt\\(s\\) remaining.$"):
                await strict.accounts.verify_email("a@b.c", wrong)
        with pytest.raises(AccountError, match="^Too many incorrect attempts. Please sign up again.$"):
            await strict.accounts.verify_email("a@b.c", wrong)
        with pytest.raises(AccountError, match="sign up again"):
            await strict.accounts.verify_email("a@b.c", code)

    async def test_asking_for_another_code_gives_no_tries_back(self, strict: World) -> None:
        await strict.accounts.sign_up("Ada", "a@b.c", GOOD, address=HERE)
        for _ in range(4):
            with pytest.raises(AccountError, match="Incorrect"):
                await strict.accounts.verify_email("a@b.c", "nonsense")
        strict.now += 31
        strict.accounts.new_code("a@b.c")
        with pytest.raises(AccountError, match="Too many incorrect"):
            await strict.accounts.verify_email("a@b.c", "nonsense")

    async def test_a_code_lives_ten_minutes(self, strict: World) -> None:
        code = (await strict.accounts.sign_up("Ada", "a@b.c", GOOD, address=HERE)).code
        strict.now += 601
        with pytest.raises(AccountError, match="expired"):
            await strict.accounts.verify_email("a@b.c", code)

    async def test_another_code_comes_at_most_every_half_minute_and_replaces_the_first(self, strict: World) -> None:
        code = (await strict.accounts.sign_up("Ada", "a@b.c", GOOD, address=HERE)).code
        with pytest.raises(AccountError, match="wait 30 seconds"):
            strict.accounts.new_code("a@b.c")
        strict.now += 30
        other = strict.accounts.new_code("a@b.c")
        if code != other:
            with pytest.raises(AccountError, match="Incorrect"):
                await strict.accounts.verify_email("a@b.c", code)
        assert (await strict.accounts.verify_email("a@b.c", other)).verified

    async def test_codes_are_kept_as_hashes(self, strict: World) -> None:
        code = (await strict.accounts.sign_up("Ada", "a@b.c", GOOD, address=HERE)).code
        assert code is not None
        assert code.encode() not in strict.accounts._waiting["a@b.c"].code

    async def test_sign_ups_that_wait_are_bounded(self, strict: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("hypha.auth.accounts._MAX_SIGN_UPS", 2)
        for number in range(2):
            await strict.accounts.sign_up("Ada", f"a{number}@b.c", GOOD, address=HERE)
        with pytest.raises(AccountError, match="Too many people"):
            await strict.accounts.sign_up("Ada", "a3@b.c", GOOD, address=HERE)
        strict.now += 601
        assert (await strict.accounts.sign_up("Ada", "a3@b.c", GOOD, address=HERE)).code


class TestLogIn:
    @pytest.mark.parametrize(
        ("email", "password"),
        [("ada@example.org", "wrong"), ("bob@example.org", GOOD), ("nonsense", GOOD), (None, None), (7, ["x"])],
    )
    async def test_nobody_learns_what_was_wrong(self, world: World, email: Any, password: Any) -> None:
        await world.ada()
        with pytest.raises(AccountError, match="^Invalid email or password$"):
            await world.accounts.log_in(email, password, address=HERE)

    @pytest.mark.parametrize("email", ["ada@example.org", "bob@example.org"])
    async def test_after_five_failures_an_account_rests_whether_it_exists_or_not(
        self, world: World, email: str
    ) -> None:
        await world.ada()
        for _ in range(5):
            with pytest.raises(AccountError, match="Invalid"):
                await world.accounts.log_in(email, "wrong", address=HERE)
        with pytest.raises(AccountError, match="^Too many attempts. Try again in 2 seconds.$"):
            await world.accounts.log_in(email, GOOD, address="198.51.100.1")

    async def test_after_the_rest_the_right_password_is_taken(self, world: World) -> None:
        await world.ada()
        for _ in range(5):
            with pytest.raises(AccountError, match="Invalid"):
                await world.accounts.log_in("ada@example.org", "wrong", address=HERE)
        world.now += 2
        assert await world.accounts.log_in("ada@example.org", GOOD, address=HERE)

    async def test_many_tries_at_once_are_not_all_taken_for_the_first(self, world: World) -> None:
        await world.ada()
        tries = (world.accounts.log_in("ada@example.org", "wrong", address=f"h{number}") for number in range(50))
        texts = [str(error) for error in await asyncio.gather(*tries, return_exceptions=True)]
        assert sum("Invalid" in text for text in texts) == 5

    async def test_another_process_sees_the_account(self, world: World) -> None:
        account = await world.ada()
        assert await world.again().log_in("ada@example.org", GOOD, address=HERE) == account
        assert await world.again().of_user(account.id) == account

    async def test_nobody_has_an_unknown_id(self, world: World) -> None:
        assert await world.accounts.of_user("alice") is None


class TestChange:
    async def test_a_name(self, world: World) -> None:
        account = await world.ada()
        await world.accounts.change(account, name=" Countess ", address=HERE)
        found = await world.accounts.of_user(account.id)
        assert found is not None and found.name == "Countess"

    async def test_a_password_needs_the_current_one(self, world: World) -> None:
        account = await world.ada()
        with pytest.raises(AccountError, match="Invalid email or password"):
            await world.accounts.change(account, password="another horse", current="wrong", address=HERE)
        await world.accounts.change(account, password="another horse", current=GOOD, address=HERE)
        assert await world.accounts.log_in(account.email, "another horse", address=HERE)
        with pytest.raises(AccountError, match="Invalid"):
            await world.accounts.log_in(account.email, GOOD, address=HERE)

    async def test_a_bad_value_changes_nothing(self, world: World) -> None:
        account = await world.ada()
        with pytest.raises(AccountError, match="name"):
            await world.accounts.change(account, name="\x00", address=HERE)
        with pytest.raises(AccountError, match="at least 8"):
            await world.accounts.change(account, password="short", current=GOOD, address=HERE)
        assert await world.accounts.of_user(account.id) == account
