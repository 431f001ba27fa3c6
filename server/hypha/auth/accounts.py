"""Accounts of this server: sign-up, log-in, profile (server §4.7, security S22).

Keeps who somebody is and the hash of the password. It mints no tokens and knows
nothing of pages. An e-mail address is believed only after a code sent to it
came back; where nothing can be sent, an account exists at once and its address
proves nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import unicodedata
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Final

from hypha.audit import audit
from hypha.auth.attempts import Attempts
from hypha.auth.passwords import Passwords, password_problem
from hypha.store import AlreadyThere, Put, Store, kept

__all__ = ["Account", "AccountError", "Accounts", "SignUp"]

_ACCOUNT: Final = "account"
_EMAIL_OF: Final = "account-email"
_EMAIL: Final = re.compile(r"[^@\s\x00-\x1f\x7f]{1,64}@[^@\s\x00-\x1f\x7f]{1,190}")
_MAX_NAME: Final = 100
_CODE_LIFE_S: Final = 600.0
_CODE_TRIES: Final = 5
_RESEND_S: Final = 30.0
_MAX_SIGN_UPS: Final = 10_000
_WRONG: Final = "Invalid email or password"


class AccountError(ValueError):
    """What a person did wrong; the text is shown to it."""


@dataclass(frozen=True, slots=True)
class Account:
    """One account.

    Attributes:
        id: the user id of its tokens.
        email: as it was typed, without blanks around it.
        password: the hash.
        verified: a code sent to the address came back.
        created_at: seconds since the epoch.
    """

    id: str
    name: str
    email: str
    password: str
    verified: bool
    created_at: float


@dataclass(frozen=True, slots=True)
class SignUp:
    """What came of a sign-up.

    Attributes:
        account: the account; None while its address is not verified.
        code: to be sent to the address; None when nothing is to be verified.
    """

    account: Account | None
    code: str | None


@dataclass(slots=True)
class _Waiting:
    """A sign-up whose address is not verified yet."""

    account: Account
    code: bytes
    sent_at: float
    tries: int = 0


class Accounts:
    """The accounts of this server.

    Args:
        store: where they are kept.
        passwords: hashes.
        clock: monotonic seconds.
        now: seconds since the epoch.
        verify: whether addresses are verified; False where nothing can be sent to them.
    """

    def __init__(
        self,
        store: Store,
        passwords: Passwords,
        *,
        clock: Callable[[], float],
        now: Callable[[], float],
        verify: bool,
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._clock = clock
        self._now = now
        self._verify = verify
        self._attempts = Attempts()
        self._waiting: dict[str, _Waiting] = {}

    # -- sign up -----------------------------------------------------------------------

    async def sign_up(self, name: object, email: object, password: object, *, address: str) -> SignUp:
        """Make an account, or keep it until its address is verified.

        Args:
            name: what the person is called.
            email: its address.
            password: at least 8 characters.
            address: the network address it comes from.

        Raises:
            AccountError: something is missing, malformed, taken, or too often tried.
            StoreError: it could not be kept.
        """
        if not all(isinstance(text, str) and text.strip() for text in (name, email, password)):
            raise AccountError("Name, email and password are required")
        shown, typed, secret = str(name).strip(), str(email).strip(), str(password)
        _check_name(shown)
        key = _key(typed)
        problem = password_problem(secret)
        if problem is not None:
            raise AccountError(problem)
        # Signing up counts as one try of the address; no account rests for it.
        self._rest("", address)
        if await self._store.get(_ACCOUNT, key) is not None:
            raise AccountError("Email already registered")
        hashed = await self._passwords.hash(secret)
        account = Account(_new_id(), shown, typed, hashed, verified=False, created_at=self._now())
        if not self._verify:
            return SignUp(await self._add(key, account), None)
        return SignUp(None, self._keep_waiting(key, account))

    async def verify_email(self, email: object, code: object) -> Account:
        """End a sign-up with the code that was sent.

        Raises:
            AccountError: the code is wrong, too old, or nobody waits for it.
            StoreError: the account could not be kept.
        """
        key = _key(email)
        waiting = self._waiting.get(key)
        if waiting is None or self._clock() - waiting.sent_at > _CODE_LIFE_S:
            self._waiting.pop(key, None)
            raise AccountError("The code has expired. Please sign up again.")
        waiting.tries += 1
        if not hmac.compare_digest(_hashed_code(str(code).strip()), waiting.code):
            left = _CODE_TRIES - waiting.tries
            if left > 0:
                raise AccountError(f"Incorrect code. {left} attempt(s) remaining.")
            del self._waiting[key]
            raise AccountError("Too many incorrect attempts. Please sign up again.")
        account = await self._add(key, replace(waiting.account, verified=True))
        self._waiting.pop(key, None)
        return account

    def new_code(self, email: object) -> str:
        """Another code for a sign-up, at most every 30 s.

        Raises:
            AccountError: nobody waits for one, or it is too early.
        """
        waiting = self._waiting.get(_key(email))
        if waiting is None:
            raise AccountError("No sign-up is waiting for a code. Please sign up again.")
        rest = waiting.sent_at + _RESEND_S - self._clock()
        if rest > 0:
            raise AccountError(f"Please wait {rest:.0f} seconds before asking for another code.")
        # The tries are not given back: otherwise asking again would be a way to guess on.
        code = _new_code()
        waiting.code, waiting.sent_at = _hashed_code(code), self._clock()
        return code

    # -- log in, profile -----------------------------------------------------------------

    async def log_in(self, email: object, password: object, *, address: str) -> Account:
        """The account that *email* and *password* belong to; nobody learns which of them was wrong.

        Raises:
            AccountError: they do not match, or too many tries failed.
            StoreError: the account could not be read.
        """
        key, secret = _key_or_text(email), password if isinstance(password, str) else ""
        self._rest(key, address)
        # Counted before it is known, so that many tries at once are not taken for the first.
        self._attempts.failed(key, self._clock())
        account = _read(await self._store.get(_ACCOUNT, key))
        if not await self._passwords.matches(secret, account.password if account is not None else None):
            audit("failure", kind="password", user=account.id if account is not None else None, address=address)
            raise AccountError(_WRONG)
        assert account is not None
        self._attempts.succeeded(key)
        audit("login", user=account.id, address=address)
        return account

    async def of_user(self, user_id: str) -> Account | None:
        """The account behind a token's user, or None."""
        key = await self._store.get(_EMAIL_OF, user_id)
        return None if key is None else _read(await self._store.get(_ACCOUNT, key.decode()))

    async def change(
        self, account: Account, *, name: object = None, password: object = None, current: object = None, address: str
    ) -> Account:
        """Change the name, or the password of somebody who knows the current one.

        Raises:
            AccountError: a value cannot be, or the current password is wrong.
            StoreError: it could not be kept.
        """
        changed = account
        if name is not None:
            _check_name(shown := str(name).strip())
            changed = replace(changed, name=shown)
        if password is not None:
            problem = password_problem(str(password))
            if problem is not None:
                raise AccountError(problem)
            await self.log_in(account.email, current, address=address)
            changed = replace(changed, password=await self._passwords.hash(str(password)))
        await kept(self._store.write([Put(_ACCOUNT, _key(account.email), _written(changed))]))
        return changed

    # -- private ---------------------------------------------------------------------------

    def _rest(self, key: str, address: str) -> None:
        rest = self._attempts.rest_s(key, address, self._clock())
        if rest > 0:
            raise AccountError(f"Too many attempts. Try again in {max(1, round(rest))} seconds.")

    async def _add(self, key: str, account: Account) -> Account:
        try:
            await kept(
                self._store.write(
                    [
                        Put(_ACCOUNT, key, _written(account), new=True),
                        Put(_EMAIL_OF, account.id, key.encode(), new=True),
                    ]
                )
            )
        except AlreadyThere as error:
            raise AccountError("Email already registered") from error
        return account

    def _keep_waiting(self, key: str, account: Account) -> str:
        now = self._clock()
        for email in [email for email, one in self._waiting.items() if now - one.sent_at > _CODE_LIFE_S]:
            del self._waiting[email]
        if key not in self._waiting and len(self._waiting) >= _MAX_SIGN_UPS:
            raise AccountError("Too many people are signing up at the moment. Try again in a few minutes.")
        code = _new_code()
        self._waiting[key] = _Waiting(account, _hashed_code(code), now)
        return code


def _key(email: object) -> str:
    """What an address is found by: spelling and letter case do not make another person."""
    if not isinstance(email, str) or _EMAIL.fullmatch(email.strip()) is None:
        raise AccountError("Please enter a valid email address")
    return unicodedata.normalize("NFKC", email.strip()).casefold()


def _key_or_text(email: object) -> str:
    try:
        return _key(email)
    except AccountError:
        # A log-in with a malformed address fails like any other.
        return "malformed"


def _check_name(name: str) -> None:
    if not 0 < len(name) <= _MAX_NAME or not name.isprintable():
        raise AccountError(f"The name must have 1 to {_MAX_NAME} characters")


def _new_id() -> str:
    # Others see it, so it tells neither name nor address.
    return f"local-{secrets.token_hex(6)}"


def _new_code() -> str:
    return f"{secrets.randbelow(10**6):06d}"


def _hashed_code(code: str) -> bytes:
    return hashlib.sha256(code.encode()).digest()


def _written(account: Account) -> bytes:
    return json.dumps(asdict(account), ensure_ascii=False).encode()


def _read(record: bytes | None) -> Account | None:
    return None if record is None else Account(**json.loads(record))
