"""An operator's own authentication: ``server.register_auth_service`` of start-up functions (server §4.6).

The functions given run on the loop they were given from, never on the switch's,
and are waited for within bounds. Which user a token makes is still decided by
`hypha.auth.tokens`, which asks here when a token is none of this server.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final

from hypha.auth.claims import fingerprint
from hypha.auth.errors import AuthenticationError
from hypha.auth.identity import User
from hypha.auth.userinfo import from_user, to_user

__all__ = ["AuthHooks", "ForeignFunction"]

_PATIENCE_S: Final = 10.0
_HANDLERS: Final = ("index", "start", "check", "report")


class ForeignFunction:
    """A function of another loop as a coroutine function of this one.

    Args:
        function: plain or async.
        loop: where it runs.
    """

    def __init__(self, function: Callable[..., Any], loop: asyncio.AbstractEventLoop) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._loop = loop
        parameters = inspect.signature(function).parameters.values()
        self._takes_context = any(one.name == "context" or one.kind is one.VAR_KEYWORD for one in parameters)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it; it gets ``context`` if it has a parameter for it."""
        if not self._takes_context:
            kwargs.pop("context", None)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._run(args, kwargs), self._loop))

    async def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = self._function(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result


class AuthHooks:
    """What was registered.

    Attributes:
        handlers: functions of the login service by their names, in place of or besides the usual ones.
    """

    def __init__(self) -> None:
        self._parse: ForeignFunction | None = None
        self._generate: ForeignFunction | None = None
        self._find: ForeignFunction | None = None
        self.handlers: dict[str, ForeignFunction] = {}

    async def register(
        self,
        *,
        parse_token: Callable[..., Any] | None = None,
        generate_token: Callable[..., Any] | None = None,
        get_token: Callable[..., Any] | None = None,
        login_service: Mapping[str, Any] | None = None,
        index_handler: Callable[..., Any] | None = None,
        start_handler: Callable[..., Any] | None = None,
        check_handler: Callable[..., Any] | None = None,
        report_handler: Callable[..., Any] | None = None,
        **extra: Any,
    ) -> None:
        """Take part in authentication (``register_auth_service``). Functions may be plain or async.

        Args:
            parse_token: the user of a token that is none of this server: ``(token) -> UserInfo``.
            generate_token: signs in place of this server: ``(user_info, expires_in) -> str``.
            get_token: finds the token of an HTTP request: ``(asgi scope) -> str | None``; after None the usual
                places are looked at.
            login_service: functions of the login service by their names.
            index_handler: its page.
            start_handler: its ``start``.
            check_handler: its ``check``.
            report_handler: its ``report``.
            extra: more functions of it.

        Raises:
            TypeError: something given is no function.
        """
        loop = asyncio.get_running_loop()
        given = (index_handler, start_handler, check_handler, report_handler)
        named = {name: handler for name, handler in zip(_HANDLERS, given, strict=True) if handler is not None}
        served = {name: value for name, value in (login_service or {}).items() if callable(value)}
        for name, handler in {**served, **named, **extra}.items():
            self.handlers[name] = _there(name, handler, loop)
        if parse_token is not None:
            self._parse = _there("parse_token", parse_token, loop)
        if generate_token is not None:
            self._generate = _there("generate_token", generate_token, loop)
        if get_token is not None:
            self._find = _there("get_token", get_token, loop)

    # -- used by the server ------------------------------------------------------------

    @property
    def parses(self) -> bool:
        """Whether tokens of others can be read."""
        return self._parse is not None

    @property
    def generates(self) -> bool:
        """Whether tokens are signed elsewhere."""
        return self._generate is not None

    async def user(self, token: str) -> User:
        """The user of a token of others.

        Raises:
            AuthenticationError: it makes none.
        """
        if self._parse is None:
            raise AuthenticationError("Error decoding token headers.")
        try:
            async with asyncio.timeout(_PATIENCE_S):
                info = await self._parse(token)
        except Exception as error:  # supervision boundary: whatever the operator's function raises refuses the token
            raise AuthenticationError(f"{error}"[:500] or "Invalid token") from error
        return to_user(info, fingerprint(token))

    async def sign(self, user: User, expires_in: float) -> str:
        """A token of *user* by the operator's function.

        Raises:
            TypeError: it returned none.
        """
        assert self._generate is not None
        async with asyncio.timeout(_PATIENCE_S):
            token = await self._generate(from_user(user), expires_in)
        if not isinstance(token, str):
            raise TypeError(f"generate_token must return text, not {type(token).__name__}")
        return token

    async def find_token(self, scope: MutableMapping[str, Any]) -> str | None:
        """The token of an HTTP request, or None for the usual places."""
        if self._find is None:
            return None
        async with asyncio.timeout(_PATIENCE_S):
            token = await self._find(scope)
        return token if isinstance(token, str) and token else None


def _there(name: str, function: Any, loop: asyncio.AbstractEventLoop) -> ForeignFunction:
    if not callable(function):
        raise TypeError(f"{name} must be a function, not {type(function).__name__}")
    return ForeignFunction(function, loop)
