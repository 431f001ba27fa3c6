"""A web application of one's own as a service: every ASGI framework, behind the server's URL (python-client §17.4).

``python -m hypha_rpc.utils.serve module:app --id ID --server-url URL`` does it
from the command line. Knows ASGI's three parts and no framework.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import inspect
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

from hypha_rpc.client.connect import connect_to_server
from hypha_rpc.client.login import login
from hypha_rpc.objects import ObjectProxy
from hypha_rpc.utils.chat import create_openai_chat_server

__all__ = ["create_openai_chat_server", "main", "main_entry", "register_asgi_service", "serve_app"]

_log = logging.getLogger("hypha_rpc.serve")

App = Callable[[dict[str, Any], Callable[..., Any], Callable[..., Any]], Awaitable[None]]
CheckContext = Callable[[Any], Any]


class _AsgiService:
    """The function ``serve`` of an ASGI service.

    Args:
        app: the application.
        check_context: called with the context before the application; what it raises refuses the request.
    """

    def __init__(self, app: App, check_context: CheckContext | None) -> None:
        self._app = app
        self._check_context = check_context

    async def serve(self, args: Mapping[str, Any], context: Any = None) -> None:
        """Serve one request.

        Args:
            args: scope, receive and send.
            context: who asks, where the service requires it.
        """
        if self._check_context is not None:
            outcome = self._check_context(context)
            if inspect.isawaitable(outcome):
                await outcome
        await self._app(_scope(args["scope"]), args["receive"], args["send"])


def _scope(given: Mapping[str, Any]) -> dict[str, Any]:
    """The scope as frameworks expect it: pairs are tuples, which the wire does not keep."""
    scope = given.toDict() if isinstance(given, ObjectProxy) else dict(given)
    scope["headers"] = [tuple(pair) for pair in scope.get("headers") or ()]
    for key in ("client", "server"):
        if scope.get(key) is not None:
            scope[key] = tuple(scope[key])
    return scope


async def register_asgi_service(
    server: Any, service_id: str, app: App, check_context: CheckContext | None = None, **kwargs: Any
) -> Any:
    """Register an ASGI application; it is at ``<server>/<workspace>/apps/<service_id>``.

    Args:
        server: the connected object.
        service_id: id of the service.
        app: any ASGI application.
        check_context: plain or async function of the context of a request; what it raises refuses the request.
        **kwargs: ``service_name``, ``visibility`` (public), and members that replace those of the service.

    Returns:
        The service as the server knows it.
    """
    config: dict[str, Any] = {"visibility": kwargs.pop("visibility", None) or "public"}
    if check_context is not None:
        config["require_context"] = True
    service = {
        "id": service_id,
        "name": kwargs.pop("service_name", None) or service_id,
        "type": "asgi",
        "serve": _AsgiService(app, check_context).serve,
        "config": config,
    }
    return await server.register_service({**service, **kwargs}, overwrite=True)


async def serve_app(  # noqa: PLR0917 - existing programs call it so
    app: App,
    server_url: str,
    service_id: str,
    workspace: str | None = None,
    token: str | None = None,
    disable_ssl: bool = False,
    service_name: str | None = None,
    check_context: CheckContext | None = None,
) -> None:
    """Connect, register an ASGI application, print its address, and serve until disconnected for good.

    Args:
        app: any ASGI application.
        server_url: the server.
        service_id: id of the service.
        workspace: where it shall live; the token's own by default.
        token: who serves it.
        disable_ssl: do not verify the server's certificate.
        service_name: a name for people.
        check_context: see `register_asgi_service`.
    """
    options: dict[str, Any] = {"server_url": server_url, "workspace": workspace, "token": token}
    if disable_ssl:
        options["ssl"] = False
    chosen = {key: value for key, value in options.items() if value is not None}
    async with connect_to_server(chosen) as server:
        await register_asgi_service(server, service_id, app, check_context, service_name=service_name)
        address = f"{server_url.rstrip('/')}/{server.config['workspace']}/apps/{service_id}"
        print(f"Access your app at: {address}", flush=True)  # noqa: T201 - what its user waits for
        await server.serve()


def _load(path: str) -> App:
    """The application that ``module:attribute`` names.

    Raises:
        ValueError: it has another form.
        TypeError: what it names is no application.
    """
    module, _, name = path.partition(":")
    if not module or not name:
        raise ValueError(f"The app is given as module:app, not {path!r}.")
    # As `python -m` does it for modules; a script of the package may be started otherwise.
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    app: Any = importlib.import_module(module)
    for part in name.split("."):
        app = getattr(app, part)
    if not callable(app):
        raise TypeError(f"{path} is no ASGI application")
    return cast("App", app)


async def main(args: argparse.Namespace) -> None:
    """Serve what the command line names.

    Raises:
        ValueError: neither a token nor the wish to log in, or both.
        TypeError: what it names is no application.
    """
    if args.login and args.token:
        raise ValueError("Cannot use --token when --login is enabled.")
    if not args.login and not args.token:
        raise ValueError("Either --token or --login must be provided.")
    app = _load(args.app)
    token = args.token
    if args.login:
        options: dict[str, Any] = {"server_url": args.server_url}
        if args.disable_ssl:
            options["ssl"] = False
        token = await login(options)
    await serve_app(
        app,
        args.server_url,
        args.id,
        workspace=args.workspace,
        token=token,
        disable_ssl=args.disable_ssl,
        service_name=args.name,
    )


def main_entry(argv: Sequence[str] | None = None) -> None:
    """Entry of ``python -m hypha_rpc.utils.serve``."""
    parser = argparse.ArgumentParser(
        prog="python -m hypha_rpc.utils.serve", description="Serve an ASGI application through a Hypha server."
    )
    parser.add_argument("app", metavar="MODULE:APP", help="the application, for instance main:app")
    parser.add_argument("--id", required=True, help="id of the service, the last part of its address")
    parser.add_argument("--server-url", required=True, help="the server")
    parser.add_argument("--name", help="a name for people")
    parser.add_argument("--workspace", help="where it shall live; the token's own by default")
    parser.add_argument("--token", help="who serves it")
    parser.add_argument("--login", action="store_true", help="log in in a browser instead")
    parser.add_argument("--disable-ssl", action="store_true", help="do not verify the server's certificate")
    try:
        asyncio.run(main(parser.parse_args(argv)))
    except KeyboardInterrupt:
        _log.info("stopped")


if __name__ == "__main__":
    main_entry()
