"""Who asks: the token of a request, and the workspace its caller is seen in (server §4.4, §5.2; security S19, S32)."""

from __future__ import annotations

import base64
import binascii
import inspect
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

from hypha.audit import audit
from hypha.auth.errors import AuthenticationError
from hypha.auth.identity import ROOT_ID, User, anonymous_http_user, home_of
from hypha.auth.permissions import right
from hypha.manager.core import Caller
from hypha.web.addresses import ClientAddress, header_of
from hypha.web.context import Scope, WebContext
from hypha.web.credentials import Credentials
from hypha.web.failures import HttpFailure
from hypha.web.rates import Buckets

__all__ = ["COOKIE", "HttpCaller", "Identities", "too_many"]

COOKIE = "access_token"
ANONYMOUS_WORKSPACE = "ws-anonymous"
_ANONYMOUS = anonymous_http_user()


@dataclass(frozen=True, slots=True)
class HttpCaller:
    """The caller of a request.

    Attributes:
        user: the identity.
        workspace: where it calls from.
        verified: a token was shown and believed.
        address: the network address it calls from.
    """

    user: User
    workspace: str
    verified: bool
    address: str = ""

    def as_manager_caller(self) -> Caller:
        """The same for the manager's methods."""
        return Caller(f"{self.workspace}/http", self.workspace, self.user, None)


class Identities:
    """Finds out who asks.

    Args:
        context: the server.
        addresses: tells where a request comes from.
        by_user: how often a verified caller may ask.
        by_address: how often an address may ask with a token that is not believed.
    """

    def __init__(self, context: WebContext, addresses: ClientAddress, *, by_user: Buckets, by_address: Buckets) -> None:
        self._context = context
        self._addresses = addresses
        self._by_user = by_user
        self._by_address = by_address
        self._credentials = Credentials(context.core.tokens)

    async def caller(self, scope: Scope, workspace: str) -> HttpCaller:
        """The caller of a request that names *workspace* in its path.

        Raises:
            HttpFailure: 401 for a token that is not believed, 403 for one of another use, 429.
        """
        user = await self.user(scope)
        if user is None:
            return HttpCaller(_ANONYMOUS, ANONYMOUS_WORKSPACE, verified=False, address=self._addresses.of(scope))
        home = self._home(user, workspace)
        letter = right(user, home, self._context.core.owners(home))
        if letter is not None:
            user = self._credentials.admitted(user, home, letter)
        return HttpCaller(user, home, verified=True, address=self._addresses.of(scope))

    async def user(self, scope: Scope) -> User | None:
        """Whose token the request brings; None without one.

        Raises:
            HttpFailure: as `caller`.
        """
        token = await self._token(scope)
        if token is None:
            return None
        try:
            await self._context.core.tokens.learn(token)
            user = self._credentials.user(token)
        except AuthenticationError as error:
            audit("failure", kind="http", address=self._addresses.of(scope), reason=str(error))
            if _is_for_login(scope) and header_of(scope, b"authorization") is None:
                # Who has an old cookie must be able to log in again; the page judges the cookie itself.
                return None
            if not self._addresses.is_local(scope) and (wait := self._by_address.take(self._addresses.of(scope))):
                raise too_many(wait) from error
            raise HttpFailure(401, str(error), plain=True, headers={"WWW-Authenticate": "Bearer"}) from error
        except PermissionError as error:
            raise HttpFailure(403, str(error), plain=True) from error
        if user.id == ROOT_ID:
            audit("root", address=self._addresses.of(scope), path=str(scope.get("path", "")))
        if not self._addresses.is_local(scope) and (wait := self._by_user.take(user.id)):
            raise too_many(wait)
        return user

    def _home(self, user: User, workspace: str) -> str:
        """The workspace the provider sees the caller in."""
        # Root is at home everywhere.
        if user.current_workspace is not None and "*" not in user.scope.workspaces:
            return user.current_workspace
        core = self._context.core
        if core.workspaces.exists(workspace) and right(user, workspace, core.owners(workspace)) is not None:
            return workspace
        return home_of(user.id)

    async def _token(self, scope: Scope) -> str | None:
        if self._context.find_token is not None:
            found = self._context.find_token(scope)
            if inspect.isawaitable(found):
                found = await found
            if isinstance(found, str) and found:
                return found
        header = header_of(scope, b"authorization")
        if header is not None and header.strip():
            return _from_header(header.strip())
        return self._from_cookie(scope)

    def _from_cookie(self, scope: Scope) -> str | None:
        """The cookie counts only for requests that this site's own pages made (security S32)."""
        text = header_of(scope, b"cookie")
        if text is None or COOKIE not in text:
            return None
        site = header_of(scope, b"sec-fetch-site")
        if site is not None:
            if site not in {"same-origin", "none"}:
                return None
        elif (origin := header_of(scope, b"origin")) is not None and not self._is_own(origin, scope):
            return None
        try:
            morsel = SimpleCookie(text).get(COOKIE)
        except CookieError:
            return None
        return morsel.value or None if morsel is not None else None

    def _is_own(self, origin: str, scope: Scope) -> bool:
        public = "/".join(self._context.public_url.split("/", 3)[:3])
        return origin == public or origin.partition("://")[2] == header_of(scope, b"host")


def _is_for_login(scope: Scope) -> bool:
    params = scope.get("path_params") or {}
    return (params.get("workspace"), params.get("service")) == ("public", "hypha-login")


def _from_header(header: str) -> str:
    """The token in an ``Authorization`` header: Bearer, Basic (the password), or the bare text."""
    kind, _, rest = header.partition(" ")
    rest = rest.strip()
    if kind.lower() == "bearer":
        return rest
    if kind.lower() == "basic" and rest:
        try:
            return base64.b64decode(rest, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return rest
    return header


def too_many(wait_s: int) -> HttpFailure:
    """The answer to who asks too often."""
    text = "Rate limit exceeded. Please slow down."
    return HttpFailure(429, text, plain=True, headers={"Retry-After": str(wait_s)})
