"""Tokens: mint and parse the JSON Web Tokens of this server.

Decides whether a token can be believed and which user it makes. It does not
decide what that user may do (`hypha.auth.permissions`) nor how a refusal is
told (`hypha.auth.admission`). Specs: server §4.1, §4.5, security S14-S21,
protocol §1.4, §1.7.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from joserfc import jwt
from joserfc.errors import BadSignatureError, JoseError, UnsupportedAlgorithmError
from joserfc.jwk import OctKey

from hypha.audit import audit
from hypha.auth.claims import fingerprint, seconds, text, texts, token_id
from hypha.auth.errors import AuthenticationError, TokenRevoked
from hypha.auth.hooks import AuthHooks
from hypha.auth.identity import Right, Scope, User, home_of, is_valid_user_id, root_user
from hypha.auth.revocation import MemoryRevocations, Revocations
from hypha.auth.scopes import ParsedScope, format_scope, parse_scope, stronger

if TYPE_CHECKING:
    from hypha.auth.secret import Secrets

__all__ = ["MAX_ANCESTORS", "MAX_LIFE_S", "Grant", "TokenService", "refuse_specialised"]

_logger = logging.getLogger("hypha.auth")

MAX_LIFE_S = 365 * 86400.0
MAX_ANCESTORS = 8
_MAX_TOKEN_LENGTH = 8 * 1024
_LEEWAY_S = 10.0
_ALGORITHMS = ["HS256"]
# They would let a token name the key it is checked with, or change how it is read (security S14).
_FORBIDDEN_HEADERS = frozenset({"crit", "jku", "jwk", "x5u", "x5c"})
_RECONNECT = "reconnect"
_ROOT_TOKEN_ID = "root-token-"
_LEARNT_S = 60.0
_MAX_LEARNT = 1024

_BAD_FORM = "Error decoding token headers."


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a token is to say.

    Attributes:
        user_id: claim ``sub``.
        scope: rights, client and workspace.
        expires_in: seconds.
        ancestors: ids of the tokens it descends from, oldest first.
        use: ``reconnect`` for tokens that only resume a connection.
    """

    user_id: str
    scope: ParsedScope
    expires_in: float
    roles: Sequence[str] = ()
    email: str | None = None
    email_verified: bool = False
    parent: str | None = None
    ancestors: Sequence[str] = ()
    use: str | None = None


class TokenService:
    """Mints and parses tokens with one signing key.

    Args:
        keys: the signing key and its predecessor.
        issuer: claim ``iss``.
        audience: claim ``aud``.
        namespace: prefix of the claims for roles, e-mail and parent.
        clock: seconds since the epoch.
        revocations: where withdrawn tokens are looked up.
        reconnection_life_s: life of a reconnection token.
        root_token: the operator's root token (server §4.8).

    Attributes:
        hooks: functions of the operator that know other tokens (server §4.6).
    """

    def __init__(
        self,
        keys: Secrets,
        *,
        issuer: str = "https://amun.ai/",
        audience: str = "https://amun-ai.eu.auth0.com/api/v2/",
        namespace: str = "https://amun.ai/",
        clock: Callable[[], float] = time.time,
        revocations: Revocations | None = None,
        reconnection_life_s: float = 172_800.0,
        root_token: str | None = None,
    ) -> None:
        self._keys = [OctKey.import_key(key) for key in (keys.current, keys.previous) if key is not None]
        self._issuer = issuer
        self._audience = audience
        self._namespace = namespace
        self._clock = clock
        self.revocations: Revocations = revocations if revocations is not None else MemoryRevocations(clock=clock)
        self.reconnection_life_s = reconnection_life_s
        self._root_token = root_token.encode() if root_token is not None else None
        self._root_id = _ROOT_TOKEN_ID + fingerprint(root_token or "")
        self.hooks = AuthHooks()
        # Users of tokens of others, and until when they count; by fingerprints, which are no credentials.
        self._learnt: OrderedDict[str, tuple[User, float]] = OrderedDict()

    # ------------------------------------------------------------------ mint

    def mint(self, grant: Grant) -> str:
        """Sign what *grant* says. Decides nothing: the caller has checked that it may be said.

        Raises:
            ValueError: the token would be too long to be accepted back.
        """
        now = int(self._clock())
        life = grant.expires_in
        if life > MAX_LIFE_S:
            _logger.warning("A token was asked for %.0f s; its life is cut to 365 days", life)
            life = MAX_LIFE_S
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "sub": grant.user_id,
            "aud": self._audience,
            "iat": now,
            "exp": now + math.ceil(life),
            "scope": format_scope(grant.scope),
            "gty": "client-credentials",
            f"{self._namespace}roles": list(grant.roles),
            f"{self._namespace}email": grant.email,
            f"{self._namespace}email_verified": grant.email_verified,
            "jti": secrets.token_urlsafe(16),
            "anc": list(grant.ancestors),
        }
        if grant.parent is not None:
            claims[f"{self._namespace}parent"] = grant.parent
        if grant.use is not None:
            claims["use"] = grant.use
        token = jwt.encode({"alg": "HS256"}, claims, self._keys[0], algorithms=_ALGORITHMS)
        if len(token) > _MAX_TOKEN_LENGTH:
            raise ValueError(f"Token is too long: {len(token)} bytes of {_MAX_TOKEN_LENGTH}")
        if grant.use is None:
            # Every connection gets a reconnection token: no grant of anything new.
            who = {"user": grant.user_id, "parent": grant.parent}
            audit("mint", jti=claims["jti"], **who, scope=claims["scope"], seconds=claims["exp"] - now)
        return token

    def reconnection_token(self, user: User, workspace: str, client_id: str) -> str:
        """A token with which *client_id* resumes in *workspace* as *user*, and that does nothing else (S20).

        It rests on the tokens of *user*: revoking one of them ends it, their
        expiry does not (S17).
        """
        words = user.scope.workspaces.items()
        rights: dict[str, Right] = {name: right for name, right in words if name not in user.by_ownership}
        return self.mint(
            Grant(
                user_id=user.id,
                scope=ParsedScope(rights, client_id, workspace, user.scope.extra_scopes or ()),
                expires_in=self.reconnection_life_s,
                roles=user.roles,
                email=user.email,
                email_verified=user.email_verified,
                parent=user.parent,
                ancestors=user.token_ids,
                use=_RECONNECT,
            )
        )

    async def issue(self, grant: Grant) -> str:
        """Sign what *grant* says, by the operator's function where there is one (server §4.6)."""
        if not self.hooks.generates:
            return self.mint(grant)
        scope = grant.scope
        user = User(
            id=grant.user_id,
            roles=tuple(grant.roles),
            scope=Scope(scope.workspaces, scope.current_workspace, scope.client_id, scope.extra_scopes),
            email=grant.email,
            parent=grant.parent,
            expires_at=self._clock() + min(grant.expires_in, MAX_LIFE_S),
            current_workspace=scope.current_workspace,
        )
        return await self.hooks.sign(user, min(grant.expires_in, MAX_LIFE_S))

    # ----------------------------------------------------------------- parse

    def authenticate(self, token: str, *, root: bool = True) -> User:
        """The user of a credential from a first frame or an HTTP header: the root token or a token (S19).

        Args:
            token: the text presented.
            root: whether the root token counts here; elsewhere it is no credential (S21).

        Raises:
            AuthenticationError: it cannot be believed.
        """
        # hmac compares in constant time, so that an answer's delay tells nothing about the secret.
        if (
            root
            and self._root_token is not None
            and hmac.compare_digest(token.encode(errors="replace"), self._root_token)
        ):
            return root_user(token_id=self._root_id)
        try:
            return self.parse(token)
        except TokenRevoked:
            raise
        except AuthenticationError:
            user = self._learnt_user(token) if self._learnt else None
            if user is None:
                raise
            return user

    async def learn(self, token: object) -> None:
        """Let `authenticate` know *token* for a minute if it is one of others.

        To be awaited before `authenticate` wherever a token comes in. Never raises:
        what nobody knows is refused there.
        """
        if not self.hooks.parses or not isinstance(token, str) or not token:
            return
        try:
            self.authenticate(token)
        except TokenRevoked:
            return
        except AuthenticationError:
            await self._ask_hooks(token)

    async def _ask_hooks(self, token: str) -> None:
        try:
            user = await self.hooks.user(token)
        except AuthenticationError as error:
            _logger.info("a token was not known to the operator's function: %.200s", error)
            return
        now = self._clock()
        until = now + _LEARNT_S if user.expires_at is None else min(user.expires_at, now + _LEARNT_S)
        self._learnt[fingerprint(token)] = (user, until)
        if len(self._learnt) > _MAX_LEARNT:
            self._learnt.popitem(last=False)

    def _learnt_user(self, token: str) -> User | None:
        found = self._learnt.get(fingerprint(token))
        if found is None or found[1] <= self._clock():
            return None
        if self.revocations.is_revoked(found[0].token_ids[-1]):
            raise TokenRevoked
        return found[0]

    def parse(self, token: str) -> User:
        """The user a token makes.

        Raises:
            TokenRevoked: it, or one it descends from, was revoked.
            AuthenticationError: it is malformed, forged, expired, not ours, or
                good for reconnecting only.
        """
        claims = self._verified(token)
        if claims.get("use") == _RECONNECT:
            raise AuthenticationError("A reconnection token cannot be used as an access token")
        return self._user(claims, token)

    def parse_reconnection(self, token: str, client_id: str, workspace: str | None) -> User:
        """The user who resumes with a reconnection token.

        Args:
            token: the text presented.
            client_id: the client that presents it.
            workspace: the workspace it asks for, or None.

        Returns:
            The user; ``user.current_workspace`` is where it resumes.

        Raises:
            AuthenticationError: the token cannot be believed.
            PermissionError: it is for another client or workspace, or no
                reconnection token.
        """
        claims = self._verified(token)
        user = self._user(claims, token)
        refuse_specialised(user)
        if user.current_workspace is None:
            raise PermissionError("Invalid scope, current_workspace is required")
        if user.scope.client_id is None:
            raise PermissionError("Invalid scope, client_id is required")
        # Tokens without `use` and `jti` are from servers that knew neither; ours say what they are for (S20).
        if claims.get("use") != _RECONNECT and "jti" in claims:
            raise PermissionError("Invalid scope, an access token cannot be used to reconnect")
        if user.scope.client_id != client_id:
            raise PermissionError("Client id mismatch, disconnecting")
        if workspace and workspace != user.current_workspace:
            raise PermissionError(f"Invalid scope, workspace mismatch: {workspace} != {user.current_workspace}")
        return user

    def inspect(self, token: str) -> User:
        """The user of any token that verifies, reconnection tokens included.

        For decisions *about* a token, such as revoking it; never to admit anybody.

        Raises:
            AuthenticationError: it cannot be believed.
        """
        claims = self._verified(token)
        user = self._user(claims, token)
        # A reconnection token is not part of what it makes, but is what is inspected here.
        token_ids = tuple(dict.fromkeys((*user.token_ids, token_id(claims, token))))
        return replace(user, token_ids=token_ids)

    def revoke(self, target: User, *, by: str = "") -> asyncio.Future[None] | None:
        """Withdraw the token that `inspect` returned *target* for, at once.

        Args:
            target: whom the token makes.
            by: the user who withdraws it, if another one.

        Returns:
            Done when it would survive a restart; None when nothing does.
        """
        done = self.revocations.revoke(target.token_ids[-1])
        audit("revoke", jti=target.token_ids[-1], user=target.id, by=by or target.id)
        return done

    # --------------------------------------------------------------- private

    def _verified(self, token: str) -> dict[str, Any]:
        """The claims of a token whose form, signature, issuer and time are right."""
        if not token or len(token) > _MAX_TOKEN_LENGTH or not token.isascii():
            raise AuthenticationError(_BAD_FORM)
        decoded = self._decode(token)
        if _FORBIDDEN_HEADERS & decoded.header.keys():
            raise AuthenticationError(_BAD_FORM)
        claims: dict[str, Any] = decoded.claims
        if claims.get("iss") != self._issuer:
            raise AuthenticationError("Invalid issuer")
        audience = claims.get("aud")
        if audience != self._audience and not (isinstance(audience, list) and self._audience in audience):
            raise AuthenticationError("Invalid audience")
        self._check_times(claims)
        return claims

    def _decode(self, token: str) -> jwt.Token:
        for key in self._keys:
            try:
                return jwt.decode(token, key, algorithms=_ALGORITHMS)
            except BadSignatureError:
                continue
            except UnsupportedAlgorithmError as error:
                raise AuthenticationError("Invalid algorithm: only HS256 is accepted") from error
            except (JoseError, ValueError, RecursionError) as error:
                raise AuthenticationError(_BAD_FORM) from error
        raise AuthenticationError("Signature verification failed.")

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now = self._clock()
        if seconds(claims, "exp") <= now - _LEEWAY_S:
            raise AuthenticationError("The token has expired. Please fetch a new one")
        begin = max(seconds(claims, "iat"), seconds(claims, "nbf") if "nbf" in claims else -math.inf)
        if begin > now + _LEEWAY_S:
            raise AuthenticationError("The token is not valid yet")

    def _user(self, claims: Mapping[str, Any], token: str) -> User:
        user_id = claims.get("sub")
        if not isinstance(user_id, str) or not is_valid_user_id(user_id):
            raise AuthenticationError("Invalid subject")
        token_ids = self._token_ids(claims, token)
        scope = parse_scope(claims.get("scope"))
        roles = texts(claims.get(f"{self._namespace}roles"), "roles")
        parent = text(claims.get(f"{self._namespace}parent"), "parent")
        rights = dict(scope.workspaces)
        if parent is None:
            # Children hold exactly the words of their token (security S16).
            rights[home_of(user_id)] = "a"
            if "admin" in roles:
                rights["*"] = stronger(rights.get("*"), "a") or "a"
        return User(
            id=user_id,
            roles=roles,
            scope=Scope(rights, scope.current_workspace, scope.client_id, scope.extra_scopes),
            email=text(claims.get(f"{self._namespace}email"), "email"),
            parent=parent,
            expires_at=seconds(claims, "exp"),
            current_workspace=scope.current_workspace,
            # Tokens that do not say come from whoever holds the key, who vouches for the address.
            email_verified=claims.get(f"{self._namespace}email_verified", True) is True,
            token_ids=token_ids,
        )

    def _token_ids(self, claims: Mapping[str, Any], token: str) -> tuple[str, ...]:
        """Ids the identity rests on, none of them revoked."""
        ancestors = texts(claims.get("anc"), "anc")
        own = token_id(claims, token)
        if len(ancestors) > MAX_ANCESTORS:
            raise AuthenticationError("Invalid claim: anc")
        if self.revocations.is_revoked(own, ancestors):
            raise TokenRevoked
        if any(name.startswith(_ROOT_TOKEN_ID) and name != self._root_id for name in ancestors):
            # It descends from a root token that is no longer configured.
            raise TokenRevoked
        # Each refresh makes a new reconnection token; none is part of the chain, which would grow without end.
        return ancestors if claims.get("use") == _RECONNECT else (*ancestors, own)


def refuse_specialised(user: User) -> None:
    """Refuse a token minted for one purpose (server §4.1).

    Raises:
        PermissionError: an extra scope contains a colon.
    """
    special = [scope for scope in user.scope.extra_scopes or () if ":" in scope]
    if special:
        raise PermissionError(
            f"Specialized token with scopes [{', '.join(special)}] cannot be used for general workspace access. "
            "This token can only be used for its intended purpose."
        )
