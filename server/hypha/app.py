"""The server as one object: every room built and joined, started and stopped in order (server §1.3)."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from starlette.routing import Route

from hypha import __version__
from hypha.audit import AuditFile, audit
from hypha.auth.admission import Admission, Workspaces
from hypha.auth.revocation import KeptRevocations
from hypha.auth.secret import load_secrets, load_server_id
from hypha.auth.tokens import TokenService
from hypha.broker.connections import Connection
from hypha.broker.pacing import Pacer
from hypha.broker.presence import Presence
from hypha.broker.router import Router
from hypha.doors.handshake import DoorContext
from hypha.doors.inproc import InprocDoor
from hypha.doors.rpc import RpcDoor
from hypha.doors.sites import SiteRule
from hypha.gateway import Gateway
from hypha.login import LOGIN_ID, Callers, LoginRoom, Surroundings
from hypha.manager.core import ManagerCore
from hypha.manager.manager import Manager
from hypha.manager.peer import ManagerPeer
from hypha.manager.workspaces import WorkspaceTable
from hypha.residents import Residents
from hypha.settings import Settings
from hypha.startup import StartupFunctions
from hypha.store import MemoryStore, Store
from hypha.store.sqlite import SqliteStore
from hypha.store.state import StateDirectory
from hypha.web.addresses import ClientAddress
from hypha.web.application import web_application
from hypha.web.context import App, Counters, WebContext
from hypha_rpc.errors import ConnectionLost

__all__ = ["HyphaServer"]

_log = logging.getLogger("hypha.server")

SWEEP_S = 2.0
STOP_PATIENCE_S = 4.0
_LOOK_S = 0.05


class HyphaServer:
    """One server process.

    Args:
        settings: the operator's decisions.
        port: the port really bound.
    """

    def __init__(self, settings: Settings, port: int) -> None:
        self.settings = settings
        self.port = port
        self.ready = False
        self.reason = "Server is starting"
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._audit_file = AuditFile(settings.audit_log) if settings.audit_log else None
        directory = settings.resolved_state_dir()
        state = StateDirectory(directory) if directory is not None else None
        self.server_id = load_server_id(settings, state)
        self.store: Store = SqliteStore(state) if state is not None else MemoryStore()
        limits = settings.limits
        self.tokens = TokenService(
            load_secrets(settings, state),
            issuer=settings.auth0_issuer,
            audience=settings.auth0_audience,
            namespace=settings.auth0_namespace,
            revocations=KeptRevocations(self.store, limit=limits.max_revoked_tokens),
            reconnection_life_s=limits.reconnection_token_life_time,
            root_token=settings.root_token,
        )
        self.router = Router(limits, loop.time, Pacer(limits.send_pause, loop.time, loop.call_later).pause)
        self.presence = Presence(self.router, limits, loop.time, self._left)
        self.workspaces = WorkspaceTable()
        core = ManagerCore(
            settings=settings,
            server_id=self.server_id,
            tokens=self.tokens,
            router=self.router,
            presence=self.presence,
            workspaces=self.workspaces,
            clock=loop.time,
            store=self.store,
        )
        core.public_url = settings.public_url(port)
        manager_id = f"manager-{self.server_id}"
        peer = ManagerPeer(f"*/{manager_id}", self.router, limits, core.public_url)
        self.router.manager = peer
        self.manager = Manager(core, peer, self._config())
        self.gateway = Gateway(self.router, core.public_url, max_pending=limits.max_pending_calls)
        self._counters = Counters()
        self.doors = DoorContext(
            limits=limits,
            tokens=self.tokens,
            router=self.router,
            presence=self.presence,
            workspaces=Workspaces(self.workspaces.exists, self.workspaces.owners),
            enter=self._enter,
            info=self._info(manager_id),
            clock=loop.time,
            now=time.time,
            sites=SiteRule.of(settings, core.public_url),
        )
        self._startup = StartupFunctions(
            InprocDoor(self.doors),
            loop,
            client_id=self.server_id,
            url=settings.local_url(port),
            extras={"register_auth_service": self.tokens.hooks.register},
        )
        self._residents = Residents(
            InprocDoor(self.doors), client_id=f"{self.server_id}-services", url=settings.local_url(port)
        )
        self.login = LoginRoom(settings, self._surroundings())
        self._sweeper: asyncio.Task[None] | None = None
        self._frames_swept = 0

    def _surroundings(self) -> Surroundings:
        """What the login room needs of the others."""
        return Surroundings(
            public_url=self.settings.public_url(self.port),
            tokens=self.tokens,
            workspaces=self.doors.workspaces,
            store=self.store,
            callers=Callers(self._remote_of, self.gateway.remote_of),
            clock=self._loop.time,
            now=time.time,
        )

    def _remote_of(self, address: str) -> str | None:
        connection = self.router.connections.get(address)
        return None if connection is None else connection.remote

    # -- what others see ---------------------------------------------------------------

    def _info(self, manager_id: str) -> dict[str, Any]:
        """The constant part of ``connection_info``."""
        return {
            "hypha_version": __version__,
            "public_base_url": self.settings.public_url(self.port),
            "local_base_url": self.settings.local_url(self.port),
            "manager_id": manager_id,
        }

    def _config(self) -> dict[str, Any]:
        """What the manager service declares about this server (server §1.5)."""
        public = self.settings.public_url(self.port)
        return {
            "server_id": self.server_id,
            "hypha_version": __version__,
            "public_base_url": public,
            "local_base_url": self.settings.local_url(self.port),
            "login_service_url": f"{public}/public/services/hypha-login",
            "auth0_client_id": self.settings.auth0_client_id,
            "auth0_domain": self.settings.auth0_domain,
            "auth0_audience": self.settings.auth0_audience,
            "auth0_issuer": self.settings.auth0_issuer,
        }

    def asgi(self) -> App:
        """The web application."""
        public = self.settings.public_url(self.port)
        context = WebContext(
            settings=self.settings,
            manager=self.manager,
            gateway=self.gateway,
            version=__version__,
            info=self._config(),
            public_url=public,
            local_url=self.settings.local_url(self.port),
            not_ready=self._not_ready,
            counters=self._counters,
            find_token=self.tokens.hooks.find_token,
        )
        addresses = ClientAddress(self.settings.trusted_proxies)
        return web_application(context, [Route("/rpc", RpcDoor(self.doors, addresses.of))])

    def _not_ready(self) -> str | None:
        return None if self.ready else self.reason

    # -- news from the broker ------------------------------------------------------------

    def _enter(self, admission: Admission) -> None:
        self._counters.connected += 1
        created = self.workspaces.enter(admission)
        if created is not None:
            self.manager.core.keeper.note(created)
            _log.info("workspace %s was created", admission.workspace)
            audit("workspace_created", workspace=admission.workspace, user=admission.user.id)

    def _left(self, connection: Connection) -> None:
        self._counters.left += 1
        self._counters.frames += connection.frames
        self.manager.left(connection)
        self.gateway.peer_gone(connection.address)

    # -- life ------------------------------------------------------------------------------

    async def start(self) -> None:
        """Become ready: run the start-up functions; the port is open already.

        Raises:
            StartupError: a start-up function failed.
        """
        self._sweeper = self._loop.create_task(self._sweep(), name="hypha-sweep")
        await self._startup.run(self.settings.startup_functions)
        if not self.manager.core.directory.named(LOGIN_ID, "public"):
            await self._residents.offer({**self.login.service(), **self.tokens.hooks.handlers})
        self.ready = True

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self._frames_swept = self._frames()
            try:
                self.presence.sweep()
            except Exception:  # noqa: BLE001 - supervision boundary: the sweep must go on
                _log.exception("sweeping failed")

    def _frames(self) -> int:
        """How many frames clients have sent."""
        return self._counters.frames + sum(connection.frames for connection in self.router.connections.values())

    async def drain(self) -> None:
        """Let nobody in any more; calls under way have a grace, if there may be any.

        The switch does not know which calls are open. Without a frame since the last
        sweep there is none that was begun lately, and others would outlast the grace.
        """
        self.ready, self.reason = False, "Server is shutting down"
        self.doors.draining = True
        busy = self._frames() != self._frames_swept
        until = self._loop.time() + self.settings.limits.stop_grace
        # Two tables that nobody watches at other times.
        while self._loop.time() < until and self._in_use(busy=busy):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)

    def _in_use(self, *, busy: bool) -> bool:
        """Whether calls may be under way: those of HTTP are known, those of clients guessed."""
        return bool(self.gateway.stats()["calls"] or (busy and self.doors.sockets))

    async def stop(self) -> None:
        """Say good-bye to everybody and end; bounded in time, idempotent."""
        self.ready, self.reason = False, "Server is shutting down"
        self.doors.draining = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.wait([self._sweeper])
            self._sweeper = None
        await self._startup.leave()
        await self._residents.close()
        good_bye = self.doors.close_all(1001, "Server is shutting down", STOP_PATIENCE_S)
        await asyncio.gather(good_bye, self._startup.close())
        await self.gateway.close(ConnectionLost("Server is shutting down"))
        await self.manager.close(ConnectionLost("Server is shutting down"))
        self.login.close()
        await self.store.close()
        if self._audit_file is not None:
            self._audit_file.close()
