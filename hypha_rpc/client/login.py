"""Logging in and out through a server's login service (python-client §3.8)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from hypha_rpc.client.connect import connect_to_server

__all__ = ["login", "logout"]

_PASSED_ON = ("server_url", "ssl", "additional_headers", "transport")


async def _tell(callback: Callable[[Any], Any] | None, context: Any, line: str) -> None:
    """Call *callback*, plain or async (X31); without one, print *line* for the person at the terminal."""
    if callback is None:
        print(line)  # noqa: T201 - the one thing a user must see
        return
    outcome = callback(context)
    if inspect.isawaitable(outcome):
        await outcome


async def login(config: Mapping[str, Any]) -> Any:
    """Ask a person to log in in a browser and return the token.

    Args:
        config: ``server_url``; optional ``login_callback`` (plain or async function of the
            context with ``login_url``, ``report_url``, ``key``), ``login_timeout`` (seconds, 60),
            ``login_service_id``, ``workspace``, ``expires_in``, ``profile`` (True: return the
            profile with the token in it), ``ssl``, ``additional_headers``, ``transport``.

    Returns:
        The token, or the profile.

    Raises:
        RemoteException: ``Login timeout`` when nobody logs in.
        ConnectionError: the server cannot be reached.
    """
    timeout = config.get("login_timeout", 60)
    options = {key: config[key] for key in _PASSED_ON if key in config}
    async with connect_to_server(options, name="initial login client", method_timeout=max(timeout, 1) + 5) as server:
        service = await server.get_service(config.get("login_service_id", "public/hypha-login"))
        wishes = {}
        if config.get("workspace"):
            wishes = {"workspace": config["workspace"], "expires_in": config.get("expires_in")}
        context = await service.start(**wishes)
        line = f"Please open your browser and login at {context['login_url']}"
        await _tell(config.get("login_callback"), context, line)
        return await service.check(context["key"], timeout=timeout, profile=config.get("profile", False))


async def logout(config: Mapping[str, Any]) -> Any:
    """Ask a person to log out in a browser.

    Args:
        config: ``server_url``; optional ``logout_callback``, ``login_service_id``, ``ssl``,
            ``additional_headers``, ``transport``.

    Returns:
        The context, with ``logout_url``.

    Raises:
        RuntimeError: the server offers no logout.
    """
    options = {key: config[key] for key in _PASSED_ON if key in config}
    async with connect_to_server(options, name="logout client") as server:
        service = await server.get_service(config.get("login_service_id", "public/hypha-login"))
        if "logout" not in service:
            raise RuntimeError("Logout is not supported by this server.")
        context = await service.logout()
        line = f"Please open your browser to logout at {context['logout_url']}"
        await _tell(config.get("logout_callback"), context, line)
        return context
