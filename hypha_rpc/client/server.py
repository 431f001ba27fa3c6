"""The class of the connected object: for checkers and editors what it offers, at run time a service like any other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from hypha_rpc.client.help import RemoteDoc
from hypha_rpc.client.proxies import RemoteService

if TYPE_CHECKING:
    import asyncio

    from hypha_rpc.client.events import Handler
    from hypha_rpc.client.rpc import RPC, State
    from hypha_rpc.objects import ObjectProxy

__all__ = ["Server"]

P = TypeVar("P")


class Server(RemoteService):
    """The connected object: functions of this client, and those that the server's workspace manager offers.

    Its members are set when it is built (`hypha_rpc.client.workspace`); what is declared here is what every
    server has. A class given to ``get_service`` types the result::

        class Calculator(Protocol):
            async def add(self, a: int, b: int) -> int: ...

        calculator = await server.get_service("calculator", Calculator)
    """

    if TYPE_CHECKING:
        id: str
        config: ObjectProxy
        rpc: RPC

        @overload
        async def get_service(self, service_id: str, config: Callable[..., P], **options: Any) -> P: ...
        @overload
        async def get_service(
            self, service_id: str, config: Mapping[str, Any] | None = None, **options: Any
        ) -> RemoteService: ...
        async def get_service(self, service_id: str, config: Any = None, **options: Any) -> Any:
            """Find a service and return its proxy."""

        async def register_service(
            self, service: Any, config: Mapping[str, Any] | None = None, **options: Any
        ) -> ObjectProxy:
            """Register a service."""

        async def unregister_service(self, service: Any, notify: bool = True) -> None:
            """Withdraw a service."""

        async def disconnect(self) -> None:
            """Disconnect for good."""

        async def serve(self) -> None:
            """Wait until this client is disconnected for good."""

        def export(self, api: Any) -> asyncio.Task[ObjectProxy]:
            """Register an object or dictionary as the service 'default'."""

        async def get_app(self, client_id: str) -> RemoteService:
            """Return the service 'default' of a client."""

        async def list_apps(self, workspace: str | None = None) -> list[Any]:
            """List the services 'default' of a workspace."""

        def register_codec(self, codec: Mapping[str, Any]) -> None:
            """Encode and decode values of a type of your own."""

        async def register_probes(self, probes: Mapping[str, Any]) -> ObjectProxy:
            """Register functions as the public service 'probes'."""

        async def get_service_schema(self, service: Mapping[str, Any]) -> Any:
            """Describe a service."""

        def emit(self, message: Mapping[str, Any]) -> asyncio.Future[None]:
            """Deliver a message to local handlers, or send it."""

        def on(self, event: str, handler: Handler) -> None:
            """Call a handler for every event of a type."""

        def once(self, event: str, handler: Handler) -> None:
            """Call a handler for the next event of a type."""

        def off(self, event: str | None = None, handler: Handler | None = None) -> None:
            """Remove handlers."""

    @property
    def state(self) -> State:
        """Of the connection: ``connecting``, ``connected`` (registering services), ``ready``, ``lost``, ``closed``.

        Every change but ``connected`` is an event of the same name, too.
        """
        rpc: RPC = self["rpc"]
        return rpc.state


# `help(server)` shows what it offers.
setattr(Server, "__doc__", RemoteDoc(Server.__doc__))  # noqa: B010 - checkers know it as a text
