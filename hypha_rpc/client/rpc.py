"""Class `RPC`: the conversation of one client, with the names that programs use.

Joins an `Endpoint` (what is said), a `Link` (over what) and a `Session` (what the
server must know) on one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Literal

from hypha_rpc.addresses import ServiceId, absolute, workspace_of
from hypha_rpc.areas import area
from hypha_rpc.client import services
from hypha_rpc.client.codecs import Codecs, client_forms
from hypha_rpc.client.driver import Driver
from hypha_rpc.client.events import Handler
from hypha_rpc.client.fetching import split_options
from hypha_rpc.client.legacy import LegacyConnection, LegacyViews
from hypha_rpc.client.link import Link
from hypha_rpc.client.logs import pick
from hypha_rpc.client.options import ABSENT, DEFAULT_METHOD_TIMEOUT_S, DEFAULT_RINTF_TIMEOUT_S
from hypha_rpc.client.outbox import Outbox
from hypha_rpc.client.producing import Producers
from hypha_rpc.client.proxies import CoroutineCall, PendingCall, RemoteFunction, RemoteGenerator, RemoteService
from hypha_rpc.client.pump import Pump
from hypha_rpc.client.server_events import ClientEvents
from hypha_rpc.client.session import Session
from hypha_rpc.endpoint import Endpoint, EndpointOptions, Reference, Service
from hypha_rpc.endpoint.options import CHUNK_SIZE
from hypha_rpc.endpoint.ports import Sealer
from hypha_rpc.endpoint.references import Outgoing
from hypha_rpc.errors import ConnectionLost, HyphaError
from hypha_rpc.objects import ObjectProxy
from hypha_rpc.schemas import service_schema
from hypha_rpc.transports.base import Buffer, Closed
from hypha_rpc.wire.values import Decoder, Encoder

__all__ = ["RPC", "State"]

State = Literal["connecting", "connected", "ready", "lost", "closed"]
"""Of a connection: being made; made, with services being registered; usable; broken; ended for good."""

_log = logging.getLogger("hypha_rpc.client")

_FRESH_S: Final = 10.0


class RPC(LegacyViews):
    """One client.

    Args:
        connection: None for encoding and decoding only; an object with ``emit_message``,
            ``on_message``, ``on_connected``, ``manager_id`` (existing programs bring their own).
        client_id: own client id; random if not given.
        workspace: own workspace, if known already.
        method_timeout, rintf_timeout: longest silence of a call, in seconds.
        silent: announce nothing to the server.
        logger: where it reports to; None for nowhere.
        app_id: recorded with every service.
        server_base_url: the server's public URL.
        long_message_chunk_size: bytes of a piece of a big message.
        sealer: keys for end-to-end encryption.
        writable_arrays: copy received arrays that would be read-only.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the signature that existing programs call
        self,
        connection: Any = None,
        client_id: str | None = None,
        default_context: Mapping[str, Any] | None = None,
        name: str | None = None,
        codecs: Mapping[str, Any] | None = None,
        method_timeout: float | None = None,
        rintf_timeout: float | None = None,
        max_message_buffer_size: int = 0,
        loop: asyncio.AbstractEventLoop | None = None,
        workspace: str | None = None,
        silent: bool = False,
        logger: Any = ABSENT,
        app_id: str | None = None,
        server_base_url: str | None = None,
        long_message_chunk_size: int | None = None,
        sealer: Sealer | None = None,
        writable_arrays: bool = False,
    ) -> None:
        options = EndpointOptions(
            method_timeout_s=method_timeout or DEFAULT_METHOD_TIMEOUT_S,
            rintf_timeout_s=rintf_timeout or DEFAULT_RINTF_TIMEOUT_S,
            # More than this ends public Python peers (protocol §5).
            chunk_size=min(long_message_chunk_size or CHUNK_SIZE, 490_000),
            mapping=ObjectProxy,
            areas=area,
            producer=Producers(self._spawn),
        )
        self.name = name
        self.log = pick(logger, _log)
        self.app_id = app_id or "*"
        self._loop = loop
        self._link: Link | None = None
        self.port = Driver(self)
        address = f"{workspace or 'local'}/{client_id or os.urandom(12).hex()}"
        self.endpoint = Endpoint(
            self.port,
            address,
            os.urandom(14).hex(),
            forms=client_forms(writable_arrays=writable_arrays),
            options=options,
            server_url=server_base_url,
            sealer=sealer,
        )
        self.pump = Pump(self.endpoint)
        self.outbox = Outbox(self)
        self.events = ClientEvents(self)
        self.session = Session(self, silent=silent)
        self.state: State = "connecting"
        self.server_level = 0
        self.manager_address = "*/"
        self._codecs = Codecs(self.endpoint.core.forms)
        for codec in (codecs or {}).values():
            self.register_codec(codec)
        self._legacy = LegacyConnection(self, connection) if connection is not None else None

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self.port.runner.spawn(coroutine)

    # -- link --------------------------------------------------------------------

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop this client lives in."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    @property
    def bound_loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop this client lives in, if there is one yet; usable in any thread."""
        return self._loop

    @property
    def connection_info(self) -> dict[str, Any]:
        """What the server said at the latest connection."""
        return self._link.info if self._link is not None else {}

    async def open(self, link: Link) -> None:
        """Connect over *link* for the first time.

        Raises:
            ConnectionFailed: not reachable, or refused; nothing is left behind.
        """
        self._link = link
        self._loop = asyncio.get_running_loop()
        try:
            await link.open()
        except BaseException as error:
            self._finish(ConnectionLost(f"Connection is closed: {error}"))
            raise

    @property
    def receive(self) -> Callable[[Buffer, float], None]:
        """Takes the frames that arrive (`LinkListener`)."""
        return self.endpoint.receive

    async def link_up(self, info: dict[str, Any]) -> None:
        """A connection is open (`LinkListener`)."""
        core = self.endpoint.core
        self.state = "connected"
        core.address = f"{info['workspace']}/{core.address.partition('/')[2]}"
        if isinstance(info.get("public_base_url"), str):
            core.server_url = info["public_base_url"]
        self.server_level = info["x"] if isinstance(info.get("x"), int) else 0
        self.manager_address = f"*/{info['manager_id']}"
        if self._link is not None and self._link.transport is not None:
            self.port.connect(self._link.transport)
            core.server_level = self.server_level
            self.pump.connect(self._link.transport)
        await self.session.start(info)
        self.state = "ready"
        self.events.emit_local("connected", self.as_mapping(info))
        self.events.emit_local("ready", self.as_mapping(info))
        self.log.info("connected to %s as %s", info.get("public_base_url", "the server"), core.address)
        self.events.emit_local("manager_refreshed", {"workspace": info["workspace"]})

    def link_writable(self) -> None:
        """The transport has room again (`LinkListener`)."""
        self.pump.wake()

    def link_down(self, closed: Closed) -> None:
        """The connection broke; the link redials (`LinkListener`)."""
        self.outbox.hold()
        self.port.pipe = None
        self.pump.disconnect()
        self.endpoint.link_down(self.loop.time())
        self.state = "lost"
        self.log.warning("connection lost (%s %.100s); connecting again", closed.code, closed.reason)
        self.events.emit_local("lost", ObjectProxy({"code": closed.code, "reason": closed.reason}))
        self.state = "connecting"
        self.events.emit_local("connecting", None)

    def link_gave_up(self, error: BaseException) -> None:
        """The server refused for good (`LinkListener`)."""
        self.log.warning("Server refused reconnection: %s", error)
        self._finish(ConnectionLost(f"Connection is closed: Server refused reconnection: {error}"))

    # -- calls -------------------------------------------------------------------

    def call(
        self, reference: Reference, args: tuple[Any, ...], kwargs: dict[str, Any], kind: type[PendingCall] = PendingCall
    ) -> PendingCall:
        """Call a function of a peer; what goes wrong is in the future."""
        return self.outbox.call(reference, args, kwargs, kind)

    async def call_now(self, reference: Reference, *args: Any, **kwargs: Any) -> Any:
        """Call without waiting for the session to be ready."""
        call = PendingCall(self, (reference, args, kwargs), self.loop)
        self.outbox.make(call)
        return await call

    def freshly_reconnected(self) -> bool:
        """Whether our link came back a moment ago, so that other peers may still be coming back."""
        reconnects = self._link.reconnects if self._link is not None else 0
        return bool(reconnects) and self.loop.time() - self.session.ready_since < _FRESH_S

    def tell(self, reference: Reference, *args: Any) -> None:
        """Call without interest in the outcome."""
        if self.endpoint.closed is None:
            self.call(reference, args, {}).add_done_callback(_retrieve)

    def abandon(self, call_id: str) -> None:
        """Nobody waits for a call any more."""
        self.endpoint.abandon(call_id)

    def expire(self, now: float) -> float | None:
        """Let time pass for calls that wait for the link; returns when to look again."""
        return self.outbox.expire(now)

    def current_target(self, target: str) -> str:
        """Where calls to *target* go now; the manager may have moved."""
        return self.manager_address if target.startswith("*/") else target

    def manager_reference(self, method: str) -> Reference:
        """A method of the workspace manager, wherever it lives."""
        return Reference("*/", f"services.default.{method}")

    # -- services ----------------------------------------------------------------

    def add_service(self, api: Any, overwrite: bool = False, *, announce: bool = False) -> ObjectProxy:
        """Make a service callable without telling the server.

        Args:
            api: a dictionary or an object.
            overwrite: replace one of the same id.
            announce: tell the server at the next reconnection.

        Returns:
            The stored service.

        Raises:
            ValueError: ``Service already exists: <id>``, or something is wrong with it.
        """
        service = services.build_service(api, workspace_of(self.endpoint.address), announce=announce)
        if service.id in self.endpoint.exports.services and not overwrite:
            advice = f"please specify a different id (not {service.id}) or overwrite=True"
            raise ValueError(f"Service already exists: {service.id}, {advice}")
        if service.trusted_keys and self.endpoint.core.sealer is None:
            self.log.warning("%s cannot be called: it has trusted_keys, this client no encryption", service.id)
        self.endpoint.exports.add(service)
        return self._stored(service)

    async def register_service(self, api: Any, config: Mapping[str, Any] | None = None, **options: Any) -> ObjectProxy:
        """Register a service (python-client §5.1).

        Args:
            api: a dictionary with an ``id``, or an object.
            config: options as a dictionary; keywords win.
            **options: ``overwrite``, ``notify`` (tell the server; default True), ``check_type``.

        Returns:
            The service info, with its absolute ``id``.

        Raises:
            ValueError: the id is taken, or something is wrong with the service.
            ConnectionError: the connection is closed.
            RuntimeError: the server refuses; nothing is registered then.
        """
        chosen = {**(config or {}), **options}
        notify = chosen.get("notify", True)
        if self.endpoint.closed is not None:
            raise ConnectionLost("Connection is closed")
        before = self.endpoint.exports.services.get(_id_of(api))
        stored = self.add_service(api, bool(chosen.get("overwrite", False)), announce=notify)
        service = self.endpoint.exports.services[str(stored["id"])]
        if notify:
            try:
                await self._announce(service)
            except (HyphaError, ConnectionError, TimeoutError, PermissionError) as error:
                self._undo(service, before)
                if self.endpoint.closed is not None:
                    raise ConnectionLost("Connection is closed") from error
                raise _Refused(f"Failed to notify workspace manager: {error}") from error
        return self.as_mapping(self._info(service))

    def _undo(self, service: Service, before: Service | None) -> None:
        if self.endpoint.exports.services.get(service.id) is service:
            self.endpoint.exports.remove(service.id)
            if before is not None:
                self.endpoint.exports.add(before)

    async def _announce(self, service: Service) -> None:
        description = services.announcement(service, self.endpoint.address, self.app_id)
        await self.call(self.manager_reference("register_service"), (description,), {})

    async def unregister_service(self, service: Any, notify: bool = True) -> None:
        """Withdraw a service.

        Args:
            service: its id in any form, or something with an ``id``.
            notify: tell the server.

        Raises:
            ValueError: it is not a service of this client.
            KeyError: ``Service not found: <id>``.
        """
        name = services.local_id(service, self.endpoint.address)
        removed = self.endpoint.exports.remove(name)
        if removed is None:
            raise _NoSuchService(f"Service not found: {name}")
        if notify and removed.announce and not name.startswith("_rintf_"):
            full = f"{self.endpoint.address}:{name}"
            await self.call(self.manager_reference("unregister_service"), (full,), {})

    def get_local_service(self, service_id: str, context: Mapping[str, Any] | None = None) -> ObjectProxy:
        """Return a registered service to a caller that may have it.

        Raises:
            KeyError: there is none.
            PermissionError: the caller in *context* may not have it.
        """
        service = self.endpoint.exports.services.get(service_id)
        if service is None:
            raise KeyError(f"Service not found: {service_id}")
        if context is not None:
            caller = f"{context.get('ws')}/{str(context.get('from', '')).rpartition('/')[2]}"
            verb = f"getting protected service: {service_id}"
            refusal = service.refusal(caller, workspace_of(self.endpoint.address), verb)
            if refusal is not None:
                raise PermissionError(refusal)
        return self._stored(service)

    def get_all_local_services(self) -> dict[str, ObjectProxy]:
        """Every registered service by its local id."""
        return {name: self._stored(service) for name, service in list(self.endpoint.exports.services.items())}

    def get_client_info(self) -> dict[str, Any]:
        """Own id and the info of every announced service; callable from any thread."""
        own = list(self.endpoint.exports.services.values())
        return {
            "id": self.endpoint.address.partition("/")[2],
            "services": [self._info(service) for service in own if service.announce],
        }

    async def get_service_schema(self, service: Mapping[str, Any]) -> Any:
        """The schema of a service: its functions, values and nested members."""
        return service_schema(dict(service))

    def _stored(self, service: Service) -> ObjectProxy:
        own = {"id": service.id, **service.info, "config": ObjectProxy(service.config), **service.members}
        return ObjectProxy.fromDict(own)

    def _info(self, service: Service) -> dict[str, Any]:
        info = services.announcement(service, self.endpoint.address, self.app_id)
        return {**info, "config": dict(service.config)}

    async def get_remote_service(
        self, service_uri: str | None = None, config: Mapping[str, Any] | None = None, **options: Any
    ) -> RemoteService:
        """Fetch a service from its provider, without asking the server.

        Args:
            service_uri: ``[workspace/]client:service[@app]``; the workspace manager if None.
            config: options as a dictionary: ``timeout``, ``case_conversion``, ``encryption_public_key``.
            **options: the same as keywords.
        """
        wanted, chosen = split_options({**(config or {}), **options})
        query = ServiceId.parse(service_uri or f"{self.manager_address}:default")
        if query.client is None:
            raise ValueError(f"a service is fetched from a client: 'client:{query.name}'")
        owner = f"{query.workspace}/{query.client}" if query.workspace else query.client
        target = absolute(owner, workspace_of(self.endpoint.address))
        promise = Reference(target, "services.built-in.get_service", promise=True)
        call = self.call(promise, (query.name,), {})
        found = await asyncio.wait_for(call, chosen.get("timeout"))
        found = RemoteService(found)
        found["id"] = f"{target}:{query.name}"
        return wanted.shape(self, found)

    async def get_manager_service(
        self, config: Mapping[str, Any] | None = None, max_retries: int = 20
    ) -> RemoteService:
        """The workspace manager of the server."""
        return await self.get_remote_service(None, config)

    # -- values ------------------------------------------------------------------

    def register_codec(self, codec: Mapping[str, Any]) -> None:
        """Encode and decode values of a type of your own (python-client §8.1)."""
        self._codecs.register(codec)

    def encode(self, obj: Any, session_id: str | None = None) -> Any:
        """The wire form of *obj*; functions need a session, so only values can be encoded here."""
        core = self.endpoint.core
        exporter = Outgoing(core, session_id or core.new_id(), core.address, me=core.address, keeps=True)
        return Encoder(core.forms, exporter, core.options.wire).encode(obj)

    def decode(self, obj: Any) -> Any:
        """The value of a wire form."""
        core = self.endpoint.core
        return Decoder(core.forms, _LocalImporter(self), core.options.wire, core.options.mapping).decode(obj)

    def as_mapping(self, value: Mapping[str, Any]) -> ObjectProxy:
        """*value* with attribute access at every depth."""
        return ObjectProxy.fromDict(value)

    # -- events ------------------------------------------------------------------

    def on(self, event: str, handler: Handler) -> None:
        """Call *handler* for every *event*."""
        self.events.on(event, handler)

    def once(self, event: str, handler: Handler) -> None:
        """Call *handler* for the next *event*."""
        self.events.once(event, handler)

    def off(self, event: str | None = None, handler: Handler | None = None) -> None:
        """Remove a handler, all of an event, or all."""
        self.events.off(event, handler)

    def emit(self, message: Mapping[str, Any]) -> asyncio.Future[None]:
        """Deliver *message* locally, or send it to where its ``to`` says."""
        return self.events.emit(message)

    async def wait_for(self, event: str, timeout: float | None = None) -> Any:
        """Wait for the next *event*; returns its data."""
        return await self.events.wait_for(event, timeout)

    async def ping(self, client_id: str, timeout: float = 1) -> None:
        """Ask a client whether it lives.

        Raises:
            TimeoutError: it does not answer in *timeout* seconds.
        """
        target = absolute(client_id, workspace_of(self.endpoint.address))
        reference = Reference(target, "services.built-in.ping", promise=True)
        await asyncio.wait_for(self.call(reference, ("ping",), {}), timeout)

    # -- end ---------------------------------------------------------------------

    def leave(self, reason: str) -> None:
        """The server asked this client to leave for good."""
        self.log.info("leaving: %s", reason)
        self.close()

    def close(self) -> None:
        """Tear down at once: fail pending calls, cancel what runs, forget everything; idempotent."""
        if self._link is not None:
            self._link.abort()
        self._finish(ConnectionLost("RPC connection closed"))

    async def disconnect(self) -> None:
        """Disconnect for good; waits until nothing is left. Idempotent."""
        tasks = self._finish(ConnectionLost("RPC connection closed"))
        current = asyncio.current_task()
        if tasks := [task for task in tasks if task is not current]:
            await asyncio.wait(tasks, timeout=5.0)
        if self._link is not None:
            await self._link.close()
        if self._legacy is not None:
            await self._legacy.close()

    def _finish(self, error: BaseException) -> list[asyncio.Task[Any]]:
        """Fail and forget everything; returns tasks that are being cancelled."""
        if self.endpoint.closed is not None:
            return []
        self.pump.disconnect()
        self.outbox.close(error)
        self.endpoint.close(error)
        tasks: list[asyncio.Task[Any]] = list(self.port.close())
        self.state = "closed"
        self.events.emit_local("disconnected", None)
        self.events.emit_local("closed", None)
        tasks.extend(self.events._stop_handlers())
        return tasks

    def stats(self) -> dict[str, int]:
        """Sizes of everything that must be empty when nothing is under way."""
        return {
            **self.endpoint.stats(),
            "waiting": len(self.outbox),
            "tasks": len(self.port.runner),
            "reconnects": self._link.reconnects if self._link is not None else 0,
        }


class _Refused(HyphaError, RuntimeError):
    """The server did not take a registration."""


class _NoSuchService(HyphaError, KeyError):
    """No service of that id is registered here."""

    __str__ = Exception.__str__


class _LocalImporter:
    """Makes proxies of functions in values that were decoded outside of a call."""

    def __init__(self, rpc: RPC) -> None:
        self._rpc = rpc

    def import_function(self, reference: dict[str, Any]) -> Any:
        """A proxy of what *reference* names."""
        return RemoteFunction(self._rpc, self._named(reference, "_rmethod"), CoroutineCall)

    def import_generator(self, reference: dict[str, Any]) -> Any:
        """An async iterator of what *reference* names."""
        close = self._named(reference, "_rclose_method") if reference.get("_rclose_method") else None
        return RemoteGenerator(self._rpc, self._named(reference, "_rmethod"), close)

    def _named(self, reference: dict[str, Any], key: str) -> Reference:
        target = absolute(reference["_rtarget"], workspace_of(self._rpc.endpoint.address))
        wire = {**reference, "_rtarget": target}
        return Reference(
            target, reference[key], reference.get("_rpromise"), None, 1 if reference.get("_rx") else 0, wire
        )


def _retrieve(call: asyncio.Future[Any]) -> None:
    """Look at an outcome that nobody wants, so that its error is no news."""
    if not call.cancelled():
        call.exception()


def _id_of(api: Any) -> str:
    given = api.get("id") if isinstance(api, Mapping) else getattr(api, "id", "default")
    return ServiceId.parse(given).name if isinstance(given, str) and given.count("/") < 2 else ""
