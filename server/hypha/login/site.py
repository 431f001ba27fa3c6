"""The login page: its files, and what its script asks for (server §4.6, security S25, S29-S32).

The page holds no token: the session is a cookie that scripts cannot read, and a
waiting program gets its token through its key. One click of the person stands
before each token, logged in or not.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlsplit

from hypha.auth.accounts import Account, AccountError, Accounts
from hypha.auth.errors import AuthenticationError
from hypha.auth.passwords import TooBusy
from hypha.login.keys import LoginKey, TooManyRequests
from hypha.login.requests import COOKIE, BadRequest, PageRequest, answer, json_answer, origin_of
from hypha.login.service import LOGIN_ID, LoginContext, LoginService
from hypha.login.tokens import LOGIN_LIFE_S
from hypha.store import StoreError, kept

__all__ = ["LoginSite", "own_redirect"]

_log = logging.getLogger("hypha.login")

_CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; "
    "img-src 'self' data:; base-uri 'none'; frame-ancestors {ancestors}"
)
_ASSETS: Final = {
    "login.js": "text/javascript; charset=utf-8",
    "stub.js": "text/javascript; charset=utf-8",
    "login.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_Answer = Callable[..., Awaitable[dict[str, Any]]]


class LoginSite:
    """Functions for the browser.

    Args:
        context: what it works with.
        service: the functions for programs.
        base_path: where the cookie is sent to.
        origins: origins that may be redirected to, besides our own.
        ancestors: sites that may show the page in a frame.
    """

    def __init__(
        self,
        context: LoginContext,
        service: LoginService,
        *,
        base_path: str = "/",
        origins: Sequence[str] = (),
        ancestors: Sequence[str] = (),
    ) -> None:
        self._context = context
        self._service = service
        self._base_path = base_path
        self._origins = frozenset(origins) - {"*"}
        self._ancestors = tuple(ancestors)
        self._https = context.public_url.startswith("https://")
        self._files = {name: files("hypha.login").joinpath("page", name).read_bytes() for name in (*_ASSETS, *_PAGES)}

    def functions(self) -> dict[str, Any]:
        """The functions by their names; ``page`` holds those of the script."""
        functions = {"index": self.index, "profile": self.profile, "logout": self.logout, "default": self.default}
        script = {
            "state": self.state,
            "login": self.log_in,
            "signup": self.sign_up,
            "approve": self.approve,
            "change": self.change,
            "logout": self.log_out,
        }
        return functions | {"page": script}

    # -- pages ---------------------------------------------------------------------------

    def index(self, event: Any = None, *, context: Mapping[str, Any]) -> dict[str, Any]:
        """The login page; inside another page a button that opens it (security S30)."""
        request = PageRequest.parse(event)
        listed = request.referrer_origin in self._ancestors
        if request.is_framed and not listed and request.headers.get("sec-fetch-site") != "same-origin":
            return self._page("stub.html", ancestors="*")
        return self._page("index.html")

    def profile(self, event: Any = None, *, context: Mapping[str, Any]) -> dict[str, Any]:
        """The page of one's own account; called by a program: its address."""
        if not _is_event(event):
            return {"profile_url": f"{self._url}profile"}
        return self._page("index.html")

    def logout(self, event: Any = None, *, context: Mapping[str, Any]) -> dict[str, Any]:
        """The address of the page that logs out; opened in a browser: the way there."""
        target = f"{self._url}?logout=true"
        if not _is_event(event):
            return {"logout_url": target}
        return answer("", "text/plain", {"Location": target, "Cache-Control": "no-store"}, status=303)

    def default(self, event: Any = None, *, context: Mapping[str, Any]) -> dict[str, Any]:
        """The files of the page."""
        name = str(event.get("function_path", "")).strip("/") if isinstance(event, Mapping) else ""
        kind = _ASSETS.get(name)
        if kind is None:
            return answer("Not found", "text/plain; charset=utf-8", status=404)
        headers = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        return answer(self._files[name], kind, headers)

    @property
    def _url(self) -> str:
        return f"{self._context.public_url}/public/apps/{LOGIN_ID}/"

    def _page(self, name: str, *, ancestors: str | None = None) -> dict[str, Any]:
        allowed = ancestors or " ".join(("'self'", *self._ancestors))
        headers = {
            "Content-Security-Policy": _CSP.format(ancestors=allowed),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cache-Control": "no-store",
        }
        if self._https:
            headers["Strict-Transport-Security"] = "max-age=31536000"
        return answer(self._files[name], "text/html; charset=utf-8", headers)

    # -- what the script asks for ----------------------------------------------------------

    async def state(self, event: Any = None, *, context: Mapping[str, Any]) -> dict[str, Any]:
        """Who is logged in, and which program waits."""
        return await self._answered(self._state, event, context)

    async def log_in(self, event: Any = None, *, context: Mapping[str, Any]) -> dict[str, Any]:
        """Log in with e-mail and password."""
        return await self._answered(self._log_in, event, context)

    async def sign_up(self, event: Any = None, *, context: Mapping[str, Any]) -> dict[str, Any]:
        """Make an account and log in."""
        return await self._answered(self._sign_up, event, context)

    async def approve(self, event: Any = None, *, context: Mapping[str, Any]) -> dict[str, Any]:
        """Give the waiting program a token of whoever is logged in."""
        return await self._answered(self._approve, event, context)

    async def change(self, event: Any = None, *, context: Mapping[str, Any]) -> dict[str, Any]:
        """Change name or password of whoever is logged in."""
        return await self._answered(self._change, event, context)

    async def log_out(self, event: Any = None, *, context: Mapping[str, Any]) -> dict[str, Any]:
        """End the session of this browser."""
        return await self._answered(self._log_out, event, context)

    async def _answered(self, step: _Answer, event: Any, context: Mapping[str, Any]) -> dict[str, Any]:
        try:
            request = PageRequest.parse(event)
            fields = request.json()
            if not request.is_own(origin_of(self._context.public_url)):
                raise BadRequest(403, "This request comes from another site")
            return await step(request, fields, context)
        except BadRequest as error:
            return json_answer({"error": str(error)}, status=error.status)
        except (AccountError, AssertionError) as error:
            return json_answer({"error": str(error)}, status=400)
        except (PermissionError, KeyError) as error:
            return json_answer({"error": str(error).strip("'")}, status=403)
        except (TooManyRequests, TooBusy) as error:
            return json_answer({"error": str(error).removeprefix("429: ")}, status=429)
        except StoreError as error:
            return json_answer({"error": str(error)}, status=503)

    async def _state(
        self, request: PageRequest, fields: Mapping[str, Any], context: Mapping[str, Any]
    ) -> dict[str, Any]:
        account = await self._session(request)
        pending = self._pending(fields, context) if fields.get("key") else None
        return json_answer(
            {
                "account": None if account is None else _shown(account),
                "login": None if pending is None else self._described(pending, context),
                "expired": bool(fields.get("key")) and pending is None,
                "redirect": own_redirect(fields.get("redirect"), self._origins),
            }
        )

    async def _log_in(
        self, request: PageRequest, fields: Mapping[str, Any], context: Mapping[str, Any]
    ) -> dict[str, Any]:
        address = self._context.callers.caller(context).budget
        pending = self._wanted(fields, context)
        account = await self._accounts.log_in(fields.get("email"), fields.get("password"), address=address)
        return self._enter(account, pending, context)

    async def _sign_up(
        self, request: PageRequest, fields: Mapping[str, Any], context: Mapping[str, Any]
    ) -> dict[str, Any]:
        address = self._context.callers.caller(context).budget
        pending = self._wanted(fields, context)
        name, email = fields.get("name"), fields.get("email")
        made = await self._accounts.sign_up(name, email, fields.get("password"), address=address)
        account = made.account
        if account is None and self._context.show_codes:
            # The code would be shown in this very window, so nobody has to copy it.
            account = await self._accounts.verify_email(email, made.code)
        if account is None:
            return json_answer({"verification_required": True})
        return self._enter(account, pending, context)

    async def _approve(
        self, request: PageRequest, fields: Mapping[str, Any], context: Mapping[str, Any]
    ) -> dict[str, Any]:
        account = await self._session(request)
        if account is None:
            raise BadRequest(401, "Please log in")
        pending = self._wanted(fields, context)
        if pending is None:
            raise BadRequest(400, "There is no program to continue with")
        self._service.approve(account, pending, context)
        return json_answer({"account": _shown(account), "approved": True})

    async def _change(
        self, request: PageRequest, fields: Mapping[str, Any], context: Mapping[str, Any]
    ) -> dict[str, Any]:
        account = await self._session(request)
        if account is None:
            raise BadRequest(401, "Please log in")
        changed = await self._accounts.change(
            account,
            name=fields.get("name"),
            password=fields.get("password") or None,
            current=fields.get("current_password"),
            address=self._context.callers.caller(context).budget,
        )
        return json_answer({"account": _shown(changed)})

    async def _log_out(
        self, request: PageRequest, fields: Mapping[str, Any], context: Mapping[str, Any]
    ) -> dict[str, Any]:
        token = request.cookie()
        if token:
            await self._withdraw(token)
        return json_answer({"account": None}, {"Set-Cookie": self._cookie("", 0)})

    async def _withdraw(self, token: str) -> None:
        """Make the session's token useless to whoever copied it; the programs' tokens are others."""
        try:
            write = self._context.tokens.withdraw(token)
        except AuthenticationError:
            return
        if write is not None:
            await kept(write)

    # -- private ---------------------------------------------------------------------------

    @property
    def _accounts(self) -> Accounts:
        if self._context.accounts is None:
            raise BadRequest(404, "This server has no accounts")
        return self._context.accounts

    async def _session(self, request: PageRequest) -> Account | None:
        """The account whose session cookie came along."""
        token = request.cookie()
        if not token:
            return None
        try:
            user = self._context.tokens.user(token)
        except (AuthenticationError, PermissionError):
            return None
        return None if user.is_child else await self._accounts.of_user(user.id)

    def _pending(self, fields: Mapping[str, Any], context: Mapping[str, Any]) -> LoginKey | None:
        return self._context.keys.find(fields.get("key"), self._context.callers.caller(context))

    def _wanted(self, fields: Mapping[str, Any], context: Mapping[str, Any]) -> LoginKey | None:
        """The login to be completed; None when the page was opened without one."""
        if not fields.get("key"):
            return None
        pending = self._pending(fields, context)
        if pending is None or pending.result is not None:
            raise BadRequest(410, "This login has expired or was completed before. Start again in your program.")
        return pending

    def _enter(self, account: Account, pending: LoginKey | None, context: Mapping[str, Any]) -> dict[str, Any]:
        """Begin a session; the click that logged in stands for the waiting program, too."""
        approved = pending is not None
        if pending is not None:
            self._service.approve(account, pending, context)
        _log.info("user %s logged in", account.id)
        cookie = self._cookie(self._context.tokens.of_account(account), int(LOGIN_LIFE_S))
        return json_answer({"account": _shown(account), "approved": approved}, {"Set-Cookie": cookie})

    def _cookie(self, token: str, life_s: int) -> str:
        secure = "; Secure" if self._https else ""
        return f"{COOKIE}={token}; Max-Age={life_s}; Path={self._base_path}; HttpOnly; SameSite=Strict{secure}"

    def _described(self, pending: LoginKey, context: Mapping[str, Any]) -> dict[str, Any]:
        """What the person has to know before it agrees (security S25)."""
        here, starter = self._context.callers.caller(context), pending.starter
        return {
            "address": starter.address or None,
            "same_network": not (here.address and starter.address) or here.network == starter.network,
            "program": None if starter.is_http else starter.sender.partition("/")[2],
            "started_at": pending.started_at,
            "workspace": pending.workspace,
            "life": pending.expires_in or LOGIN_LIFE_S,
            "done": pending.result is not None,
        }


_PAGES: Final = ("index.html", "stub.html")


def own_redirect(target: object, origins: frozenset[str]) -> str | None:
    """*target* if the page may go there: a path of this server, or a listed origin (security S31)."""
    if not isinstance(target, str) or not target or len(target) > 2048:
        return None
    if "\\" in target or not target.isprintable() or " " in target:
        return None
    if target.startswith("/"):
        # Encoded characters are decoded by nobody before the browser has taken the path for one.
        return target if not target.startswith("//") and not target.lower().startswith("/%5c") else None
    parts = urlsplit(target)
    listed = parts.scheme in ("http", "https") and f"{parts.scheme}://{parts.netloc}" in origins
    return target if listed else None


def _is_event(event: object) -> bool:
    return isinstance(event, Mapping) and event.get("type") == "http"


def _shown(account: Account) -> dict[str, Any]:
    return {"name": account.name, "email": account.email, "verified": account.verified, "id": account.id}
