"""The functions of ``public/hypha-login`` (server §4.6, §4.7).

They may be called by anybody, over RPC and HTTP. Whatever they do for a user
rests on a token or a password given as an argument; the page has its own
functions (`hypha.login.site`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from hypha.auth.accounts import Account, AccountError, Accounts
from hypha.auth.errors import AuthenticationError
from hypha.auth.identity import User, home_of
from hypha.login.callers import Callers
from hypha.login.keys import LoginKey, LoginKeys
from hypha.login.tokens import LOGIN_LIFE_S, LoginTokens, checked_life, checked_workspace

__all__ = ["LOGIN_ID", "LoginContext", "LoginService"]

LOGIN_ID: Final = "hypha-login"

_PROFILE: Final = ("email", "email_verified", "name", "nickname", "user_id", "picture")
_MAX_TEXT: Final = 2048


@dataclass(frozen=True, slots=True)
class LoginContext:
    """What the login service works with.

    Attributes:
        public_url: where people reach this server, without a trailing slash.
        keys: logins under way.
        tokens: mints and reads tokens.
        accounts: None where people log in elsewhere.
        callers: tells who calls.
        show_codes: whoever signs up is shown its code, as no mail is sent and this is one
            person's own machine (security S22).
    """

    public_url: str
    keys: LoginKeys
    tokens: LoginTokens
    accounts: Accounts | None
    callers: Callers
    show_codes: bool = False


class LoginService:
    """Functions for programs.

    Args:
        context: what it works with.
        max_wait_s: longest, and usual, time ``check`` waits.
    """

    def __init__(self, context: LoginContext, max_wait_s: float) -> None:
        self._context = context
        self._max_wait_s = max_wait_s

    def functions(self) -> dict[str, Any]:
        """The functions by their names."""
        functions: dict[str, Any] = {"start": self.start, "check": self.check, "report": self.report}
        if self._context.accounts is not None:
            functions |= {
                "signup": self.signup,
                "verify_email": self.verify_email,
                "resend_code": self.resend_code,
                "login": self.login,
                "update_profile": self.update_profile,
            }
        return functions

    # -- keys ----------------------------------------------------------------------------

    def start(self, workspace: Any = None, expires_in: Any = None, *, context: Mapping[str, Any]) -> dict[str, Any]:
        """Begin a login: show login_url to the person, then wait with check.

        Args:
            workspace: the workspace that the token is for; any if not given.
            expires_in: life of the token in seconds.
        """
        wanted, life = checked_workspace(workspace), checked_life(expires_in)
        caller = self._context.callers.caller(context)
        made = self._context.keys.start(caller, workspace=wanted, expires_in=life)
        given = {"key": made.key, "workspace": wanted, "expires_in": None if life is None else f"{life:g}"}
        query = urlencode({name: value for name, value in given.items() if value is not None})
        base = f"{self._context.public_url}/public"
        return {
            "login_url": f"{base}/apps/{LOGIN_ID}/?{query}",
            "key": made.key,
            "report_url": f"{base}/services/{LOGIN_ID}/report",
            "check_url": f"{base}/services/{LOGIN_ID}/check",
        }

    async def check(self, key: Any, timeout: Any = None, profile: Any = False, *, context: Mapping[str, Any]) -> Any:
        """Wait until the person has logged in, and return the token.

        Args:
            key: of start.
            timeout: seconds to wait; 0 or less returns null at once if nobody has logged in yet.
            profile: return who logged in, with the token in it.
        """
        seconds = _seconds(timeout, self._max_wait_s)
        caller = self._context.callers.caller(context)
        result = await self._context.keys.check(str(key), seconds, caller)
        if result is None:
            return None
        return result if profile in (True, "true", "1", 1) else result["token"]

    async def report(
        self,
        key: Any,
        token: Any,
        workspace: Any = None,
        expires_in: Any = None,
        email: Any = None,
        email_verified: Any = None,
        name: Any = None,
        nickname: Any = None,
        user_id: Any = None,
        picture: Any = None,
        *,
        context: Mapping[str, Any],
    ) -> None:
        """Say that the person has logged in.

        Args:
            key: of start.
            token: its token.
            workspace: replace the token by one for this workspace only.
            expires_in: life of that one in seconds.
            email: its address.
            email_verified: whether the address is known to be its own.
            name: its name.
            nickname: how it is called.
            user_id: its id.
            picture: URL of its picture.
        """
        given = (email, email_verified, name, nickname, user_id, picture)
        user = await self._user_of(token)
        wanted, life = checked_workspace(workspace), checked_life(expires_in)
        profile = {member: _plain(value) for member, value in zip(_PROFILE, given, strict=True)}
        if wanted is not None:
            token = self._context.tokens.child(user, wanted, life)
        result = {"token": token, "workspace": wanted, "expires_in": life, **profile}
        self._context.keys.report(str(key), result, self._context.callers.caller(context))

    async def _user_of(self, token: Any) -> User:
        try:
            return await self._context.tokens.known_user(token)
        except AuthenticationError as error:
            raise ValueError(
                f"Invalid token provided to report_login: 401: {error}. The token must be a valid JWT of this server."
            ) from error

    # -- accounts ------------------------------------------------------------------------

    async def signup(
        self, name: Any = None, email: Any = None, password: Any = None, *, context: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Make an account.

        Args:
            name: what the person is called.
            email: its address.
            password: 8 to 256 characters.
        """
        try:
            address = self._context.callers.caller(context).budget
            made = await self._accounts.sign_up(name, email, password, address=address)
        except AccountError as error:
            return _failure(error)
        answer = {"success": True, "verification_required": made.code is not None, "email": str(email).strip()}
        return answer | self._shown(made.code)

    async def verify_email(self, email: Any = None, code: Any = None, *, context: Mapping[str, Any]) -> dict[str, Any]:
        """End a sign-up with the code that was sent to the address.

        Args:
            email: the address.
            code: the code of six digits.
        """
        try:
            # Over HTTP a code of digits arrives as a number, without its leading zeros.
            account = await self._accounts.verify_email(email, f"{code:06d}" if isinstance(code, int) else code)
        except AccountError as error:
            return _failure(error)
        return {"success": True, "user_id": account.id, "email_verified": True}

    def resend_code(self, email: Any = None, *, context: Mapping[str, Any]) -> dict[str, Any]:
        """Make another code for a sign-up.

        Args:
            email: the address.
        """
        try:
            return {"success": True, **self._shown(self._accounts.new_code(email))}
        except AccountError as error:
            return _failure(error)

    async def login(
        self,
        email: Any = None,
        password: Any = None,
        workspace: Any = None,
        key: Any = None,
        *,
        context: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Log in with e-mail and password.

        Args:
            email: the address.
            password: the password.
            workspace: the workspace that the token is for; any if not given.
            key: of start: the waiting program gets the token, too.
        """
        caller = self._context.callers.caller(context)
        try:
            account = await self._accounts.log_in(email, password, address=caller.budget)
        except AccountError as error:
            return _failure(error)
        wanted = checked_workspace(workspace)
        token = self.token_of(account, wanted, None)
        if key is not None:
            self._context.keys.report(str(key), {"token": token, **profile_of(account, wanted, LOGIN_LIFE_S)}, caller)
        where = wanted or home_of(account.id)
        return {"success": True, "token": token, "user_id": account.id, "email": account.email, "workspace": where}

    async def update_profile(
        self,
        token: Any = None,
        name: Any = None,
        password: Any = None,
        current_password: Any = None,
        *,
        context: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Change the name or the password of the account that the token belongs to.

        Args:
            token: a login token.
            name: the new name.
            password: the new password.
            current_password: needed to change the password.
        """
        try:
            user = self._context.tokens.user(token)
        except (AuthenticationError, PermissionError) as error:
            return _failure(error)
        account = None if user.is_child else await self._accounts.of_user(user.id)
        if account is None:
            return _failure(AccountError("The token belongs to no account of this server"))
        try:
            address = self._context.callers.caller(context).budget
            changed = await self._accounts.change(
                account, name=name, password=password, current=current_password, address=address
            )
        except AccountError as error:
            return _failure(error)
        return {"success": True, "user_id": changed.id, "name": changed.name, "email": changed.email}

    # -- for the page ----------------------------------------------------------------------

    def token_of(self, account: Account, workspace: str | None, life_s: float | None) -> str:
        """The token of *account*, or one for a workspace."""
        tokens = self._context.tokens
        if workspace is None:
            return tokens.of_account(account, life_s or LOGIN_LIFE_S)
        # Its parent is thrown away, so that the child stands for itself.
        return tokens.child(tokens.user(tokens.of_account(account)), workspace, life_s)

    def approve(self, account: Account, pending: LoginKey, context: Mapping[str, Any]) -> None:
        """Give the program that waits for *pending* a token of *account*.

        Raises:
            AssertionError: it was given one before.
            KeyError, PermissionError: the account cannot have the workspace that was asked for.
        """
        life = pending.expires_in or LOGIN_LIFE_S
        token = self.token_of(account, pending.workspace, life)
        profile = profile_of(account, pending.workspace, life)
        self._context.keys.report(pending.key, {"token": token, **profile}, self._context.callers.caller(context))

    @property
    def _accounts(self) -> Accounts:
        assert self._context.accounts is not None
        return self._context.accounts

    def _shown(self, code: str | None) -> dict[str, Any]:
        return {"dev_code": code} if code is not None and self._context.show_codes else {}


def profile_of(account: Account, workspace: str | None, life_s: float) -> dict[str, Any]:
    """What ``check`` tells besides the token when it is asked for the profile."""
    return {
        "workspace": workspace,
        "expires_in": life_s,
        "email": account.email,
        "email_verified": account.verified,
        "name": account.name,
        "nickname": account.name,
        "user_id": account.id,
        "picture": None,
    }


def _failure(error: Exception) -> dict[str, Any]:
    return {"success": False, "error": str(error)}


def _seconds(timeout: Any, longest: float) -> float:
    if timeout is None:
        return longest
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or timeout != timeout:
        raise ValueError("timeout must be a number of seconds")
    return min(float(timeout), longest)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str) and len(value) <= _MAX_TEXT:
        return value
    raise ValueError(f"a profile is made of texts of at most {_MAX_TEXT} characters")
