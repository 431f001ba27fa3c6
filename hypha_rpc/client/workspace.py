"""The connected object: what `connect_to_server` gives (python-client §4)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hypha_rpc.client.fetching import split_options
from hypha_rpc.client.help import LocalSignature, Routine
from hypha_rpc.client.proxies import RemoteFunction, RemoteService
from hypha_rpc.client.server import Server
from hypha_rpc.errors import ConnectionLost, ServiceNotFound
from hypha_rpc.objects import ObjectProxy
from hypha_rpc.schemas import function_schema

if TYPE_CHECKING:
    from hypha_rpc.client.events import Handler
    from hypha_rpc.client.rpc import RPC

__all__ = ["build_server"]

_RETRY_S = 0.2
_PATIENCE_S = 6.0


class LocalFunctions:
    """The functions of the connected object that run here."""

    def __init__(self, rpc: RPC, description: str | None) -> None:
        self._rpc = rpc
        self._description = description
        self._exports: set[asyncio.Task[ObjectProxy]] = set()

    async def register_service(
        self, /, service: Any, config: Mapping[str, Any] | None = None, **options: Any
    ) -> ObjectProxy:
        """Register a service.

        Args:
            service: a dictionary with an id, or an object.
            config: options: overwrite, notify, check_type.
            options: the same as keywords.
        """
        return await self._rpc.register_service(service, config, **options)

    async def unregister_service(self, service: Any, notify: bool = True) -> None:
        """Withdraw a service.

        Args:
            service: its id, or something with an id.
            notify: tell the server.
        """
        await self._rpc.unregister_service(service, notify)

    async def get_service(
        self, service_id: str, config: Mapping[str, Any] | type[Any] | None = None, **options: Any
    ) -> RemoteService:
        """Find a service and return its proxy.

        Args:
            service_id: [workspace/][client:]name[@app].
            config: options: mode, timeout, case_conversion, select_timeout, encryption_public_key. Or a Protocol
                class whose members the service must have.
            options: the same as keywords.
        """
        if not isinstance(service_id, str):
            raise TypeError(f"service_id must be a string, not {type(service_id).__name__}")
        protocol = config if isinstance(config, type) else None
        given = {} if config is None or isinstance(config, type) else config
        wanted, chosen = split_options({**given, **options}, protocol)
        reference = self._rpc.manager_reference("get_service")
        give_up_at = self._rpc.loop.time() + _PATIENCE_S
        while True:
            try:
                found = await self._rpc.call(reference, (service_id,), {"config": chosen})
                return wanted.shape(self._rpc, RemoteService(found))
            except ServiceNotFound:
                # After a reconnection of our own the providers may still be coming back.
                if not self._rpc.freshly_reconnected() or self._rpc.loop.time() > give_up_at:
                    raise
                await asyncio.sleep(_RETRY_S)

    async def disconnect(self) -> None:
        """Disconnect for good."""
        await self._rpc.disconnect()

    async def serve(self) -> None:
        """Wait until this client is disconnected for good."""
        if self._rpc.endpoint.closed is None:
            await self._rpc.wait_for("disconnected")

    def export(self, api: Any) -> asyncio.Task[ObjectProxy]:
        """Register an object or dictionary as the service 'default'.

        Args:
            api: what to export.
        """
        task = self._rpc.loop.create_task(
            self._rpc.register_service(_default_api(api, self._description), overwrite=True)
        )
        self._exports.add(task)
        task.add_done_callback(self._exports.discard)
        return task

    async def get_app(self, client_id: str) -> RemoteService:
        """Return the service 'default' of a client.

        Args:
            client_id: its id, with or without the workspace.
        """
        if ":" in client_id:
            raise ValueError("a client id has no ':'")
        return await self.get_service(f"{client_id}:default")

    async def list_apps(self, workspace: str | None = None) -> list[Any]:
        """List the services 'default' of a workspace.

        Args:
            workspace: own workspace if not given.
        """
        reference = self._rpc.manager_reference("list_services")
        entries = await self._rpc.call(reference, (), {"query": workspace} if workspace else {})
        return [entry for entry in entries if str(entry["id"]).endswith(":default")]

    def register_codec(self, codec: Mapping[str, Any]) -> None:
        """Encode and decode values of a type of your own.

        Args:
            codec: name, type, encoder, decoder.
        """
        self._rpc.register_codec(codec)

    async def register_probes(self, probes: Mapping[str, Any]) -> ObjectProxy:
        """Register functions as the public service 'probes'.

        Args:
            probes: functions by name, such as readiness and liveness.
        """
        config = {"visibility": "public"}
        service = {"id": "probes", "name": "Probes", "type": "probes", "config": config, **probes}
        return await self._rpc.register_service(service, overwrite=True)

    async def get_service_schema(self, service: Mapping[str, Any]) -> Any:
        """Describe a service.

        Args:
            service: what get_service returned, or a definition.
        """
        return await self._rpc.get_service_schema(service)

    def emit(self, message: Mapping[str, Any]) -> asyncio.Future[None]:
        """Deliver a message to local handlers, or send it.

        Args:
            message: type, and optionally to and data.
        """
        return self._rpc.emit(message)

    def on(self, event: str, handler: Handler) -> None:
        """Call a handler for every event of a type.

        Args:
            event: the type.
            handler: a function of the message.
        """
        self._rpc.on(event, handler)

    def once(self, event: str, handler: Handler) -> None:
        """Call a handler for the next event of a type.

        Args:
            event: the type.
            handler: a function of the message.
        """
        self._rpc.once(event, handler)

    def off(self, event: str | None = None, handler: Handler | None = None) -> None:
        """Remove handlers.

        Args:
            event: the type; all if not given.
            handler: this one only.
        """
        self._rpc.off(event, handler)

    async def subscribe(self, event_type: Any) -> Any:
        """Receive broadcasts of these types; restored after a reconnection.

        Args:
            event_type: a name, or a list of names.
        """
        result = await self._rpc.call(self._rpc.manager_reference("subscribe"), (event_type,), {})
        self._rpc.session.subscribed(event_type, add=True)
        return result

    async def unsubscribe(self, event_type: Any) -> Any:
        """Receive broadcasts of these types no more.

        Args:
            event_type: a name, or a list of names.
        """
        result = await self._rpc.call(self._rpc.manager_reference("unsubscribe"), (event_type,), {})
        self._rpc.session.subscribed(event_type, add=False)
        return result


_LOCAL = (
    "register_service",
    "unregister_service",
    "get_service",
    "disconnect",
    "serve",
    "export",
    "get_app",
    "list_apps",
    "register_codec",
    "register_probes",
    "get_service_schema",
    "emit",
    "on",
    "once",
    "off",
    "subscribe",
    "unsubscribe",
)


class LocalFunction(Routine):
    """A function of the connected object, with the name and schema that all its members have."""

    __signature__ = LocalSignature()

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self._function = function
        self.__wrapped__ = function
        self.__name__ = name
        self.__doc__ = function.__doc__
        self.__schema__ = function_schema(function, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<function {self.__name__} of the connection>"


def build_server(rpc: RPC, *, description: str | None = None) -> Server:
    """Make the connected object of *rpc*, whose session must be ready.

    Whatever the manager offers is there under its own schema; the functions of
    `LocalFunctions` replace theirs. ``config`` is what the manager declares plus
    what the server said at the connection.
    """
    manager = rpc.session.manager
    if manager is None:
        raise ConnectionLost("Connection is closed")
    server = Server({key: _callable_twice(value) for key, value in dict.items(manager)})
    local = LocalFunctions(rpc, description)
    for name in _LOCAL:
        if name.endswith("subscribe") and name not in server:
            continue
        server[name] = LocalFunction(getattr(local, name), name)
    config = ObjectProxy(dict.get(server, "config") or {})
    config.update(rpc.as_mapping(rpc.connection_info))
    server["config"] = config
    server["id"] = f"{rpc.manager_address}:default"
    server["rpc"] = rpc
    rpc.on("connected", _ConfigRefresh(server))
    return server


def _callable_twice(value: Any) -> Any:
    return value.as_coroutine() if isinstance(value, RemoteFunction) else value


class _ConfigRefresh:
    """Keeps ``server.config`` current over reconnections."""

    def __init__(self, server: RemoteService) -> None:
        self._server = server

    def __call__(self, info: Mapping[str, Any]) -> None:
        dict.update(dict.__getitem__(self._server, "config"), info)


def _default_api(api: Any, description: str | None) -> dict[str, Any]:
    if isinstance(api, Mapping):
        members = dict(api)
    else:
        instance = api() if isinstance(api, type) else api
        members = {name: getattr(instance, name) for name in dir(instance) if not name.startswith("_")}
    members["id"] = "default"
    if not members.get("description") and description:
        members["description"] = description
    return members
