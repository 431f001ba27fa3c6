"""One endpoint for all HTTP calls: a request becomes one routed call with its caller's identity.

No client object is made for a request. Every caller (identity and workspace) has an
address that routes back here; the endpoint speaks as whichever caller it acts for at
the moment. It knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from hypha.auth.identity import User
from hypha.broker.origin import Origin
from hypha.broker.router import Router
from hypha_rpc.areas import area
from hypha_rpc.client.runner import Runner
from hypha_rpc.client.ticker import Ticker
from hypha_rpc.endpoint import Endpoint, EndpointOptions, Reference, Running
from hypha_rpc.endpoint.leases import LeaseKey
from hypha_rpc.errors import TooManyPending
from hypha_rpc.wire.forms.generators import STOP
from hypha_rpc.wire.frame import read_header
from hypha_rpc.wire.values import FormTable, default_forms

__all__ = ["Gateway", "GatewayCall", "GatewayStream", "RemoteReference", "Speaker"]

_MAX_SPEAKERS: Final = 1024
_MAX_PENDING: Final = 100_000
_MOST_ITEMS: Final = 64
# Data stays as it travelled: whether it is an array or a set only matters to who asked.
_CONVERSATION: Final = ("method", "generator", "stop_iteration", "error")


class Speaker:
    """A caller: its identity, ready to be put on frames, and how much it has under way.

    Attributes:
        origin: address and identity as stamped.
        uses: calls and streams that need it.
        remote: the network address of its requests, where it was told.
    """

    __slots__ = ("key", "origin", "remote", "uses")

    def __init__(self, origin: Origin, key: tuple[Any, ...], remote: str | None = None) -> None:
        self.origin = origin
        self.key = key
        self.remote = remote
        self.uses = 0


class GatewayCall(asyncio.Future[Any]):
    """A call under way: the future of its result. Cancelling it stops the remote function."""

    def __init__(self, gateway: Gateway, speaker: Speaker, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._gateway = gateway
        self._speaker = speaker
        self.call_id: str | None = None

    def cancel(self, msg: Any = None) -> bool:
        """Stop waiting; the callee is told."""
        cancelled = super().cancel(msg)
        if cancelled:
            self._speaker.uses -= 1
            if self.call_id is not None:
                self._gateway.abandon(self._speaker, self.call_id)
        return cancelled

    def set_result(self, result: Any, /) -> None:
        """Settle with a result (`Waiter`)."""
        self._speaker.uses -= 1
        super().set_result(result)

    def set_exception(self, exception: BaseException | type[BaseException], /) -> None:
        """Settle with an error (`Waiter`)."""
        self._speaker.uses -= 1
        super().set_exception(exception)


class Gateway:
    """`Port` and `LocalPeer` of the endpoint behind the web routes.

    Args:
        router: forwards its frames.
        server_url: public URL, for references.
        max_pending: calls that one caller may have under way (security §8).
    """

    def __init__(self, router: Router, server_url: str, *, max_pending: int = 10_000) -> None:
        self._router = router
        self._loop = asyncio.get_running_loop()
        self._max_pending = max_pending
        self._speakers: OrderedDict[tuple[Any, ...], Speaker] = OrderedDict()
        self._by_address: dict[str, Speaker] = {}
        self._speaker: Speaker | None = None
        self._holders: dict[LeaseKey, Speaker] = {}
        self._runner = Runner()
        self._home = f"ws-anonymous/gateway-{secrets.token_hex(8)}"
        options = EndpointOptions(share_traces=False, connection_type="http", max_pending=_MAX_PENDING, areas=area)
        self.endpoint = Endpoint(
            self, self._home, secrets.token_hex(14), forms=_forms(), options=options, server_url=server_url
        )
        self._answers = cast("Endpoint", _Answers(self))
        self._ticker = Ticker(self.endpoint.tick)

    # -- what routes use -----------------------------------------------------------

    def speaker(self, user: User, workspace: str, *, shown: str | None = None, remote: str | None = None) -> Speaker:
        """The caller *user* in *workspace*.

        Args:
            user: the authenticated identity.
            workspace: where it calls from; decides who lets it in.
            shown: the workspace that contexts name, if it is another one (server §9.1).
            remote: the network address it calls from, if the service has to tell callers apart by it.
        """
        key = (*_identity(user, workspace, shown), remote)
        speaker = self._speakers.get(key)
        if speaker is None:
            address = f"{workspace}/client-{secrets.token_hex(8)}"
            speaker = self._speakers[key] = Speaker(Origin(address, shown or workspace, user), key, remote)
            self._router.locals[address] = _Ear(self, speaker)
            self._by_address[address] = speaker
            self._evict()
        else:
            self._speakers.move_to_end(key)
        return speaker

    def remote_of(self, address: str) -> str | None:
        """The network address behind the stamped sender *address*; None if it is no caller of this gateway."""
        speaker = self._by_address.get(address)
        return None if speaker is None else speaker.remote or ""

    def call(
        self,
        speaker: Speaker,
        target: tuple[str, str] | Reference,
        args: list[Any],
        kwargs: dict[str, Any] | None = None,
    ) -> GatewayCall:
        """Call a function of a client.

        Args:
            speaker: who calls.
            target: address of the provider, and the method id.
            args: positional arguments; functions among them can be called until the result is there.
            kwargs: keyword arguments.

        Raises:
            TooManyPending: the caller has too many calls under way.
            SerializationError: an argument has no wire form.
        """
        if speaker.uses >= self._max_pending:
            raise TooManyPending(f"{speaker.uses} calls are unanswered")
        call = GatewayCall(self, speaker, self._loop)
        reference = target if isinstance(target, Reference) else Reference(*target)
        speaker.uses += 1
        former = self._speak_as(speaker)
        try:
            call.call_id = self.endpoint.call(reference, args, kwargs, call, self._loop.time())
        except BaseException:
            speaker.uses -= 1
            raise
        finally:
            self._speak_as(former)
        return call

    def abandon(self, speaker: Speaker, call_id: str) -> None:
        """Nobody waits for this call any more; its callee is told to stop."""
        former = self._speak_as(speaker)
        try:
            self.endpoint.abandon(call_id)
        finally:
            self._speak_as(former)

    def peer_gone(self, address: str) -> None:
        """A client has left: calls to it fail."""
        self.endpoint.peer_gone(address, self._loop.time())

    def stats(self) -> dict[str, int]:
        """Sizes of every table."""
        return {**self.endpoint.stats(), "callers": len(self._speakers), "tasks": len(self._runner)}

    # -- speaking for callers --------------------------------------------------------

    def _speak_as(self, speaker: Speaker | None) -> Speaker | None:
        """Act for *speaker* until the next change; returns for whom it did so far."""
        former, self._speaker = self._speaker, speaker
        self.endpoint.core.address = self._home if speaker is None else speaker.origin.address
        return former

    def _evict(self) -> None:
        """Forget the callers that were idle for longest, when there are many."""
        if len(self._speakers) <= _MAX_SPEAKERS:
            return
        for speaker in list(self._speakers.values()):
            if speaker.uses == 0:
                del self._speakers[speaker.key]
                del self._by_address[speaker.origin.address]
                del self._router.locals[speaker.origin.address]
                return

    # -- LocalPeer -----------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take one stamped frame that came to no caller in particular."""
        self.receive_as(None, data)

    def receive_as(self, speaker: Speaker | None, data: bytes) -> None:
        """Take one stamped frame; what it causes to be sent is sent by whom it came to."""
        former = self._speak_as(speaker)
        try:
            self.endpoint.receive(data, self._loop.time())
        finally:
            self._speak_as(former)

    # -- Port ------------------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        """Forward a frame as the caller it belongs to."""
        speaker = self._speaker
        if speaker is None:
            header, _ = read_header(frame)
            speaker = self._by_address.get(str(header.get("from")))
        if speaker is not None:
            self._router.send_from_local(frame, speaker.origin, self._router.locals[speaker.origin.address])

    def start(self, job: Running, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Serve the built-in service, and the functions that were sent along with a call."""
        self._runner.start(self._answers, job, args, kwargs)

    def answer(self, job: Running, give: Callable[..., None], *args: Any) -> None:
        """Let the endpoint answer *job* in the name of whom it was called at."""
        former = self._speak_as(self._by_address.get(job.me))
        try:
            give(job, *args)
        finally:
            self._speak_as(former)

    def cancel(self, job: Running) -> None:
        """Stop a function of ours."""
        self._runner.cancel(job)

    def wake(self, at: float) -> None:
        """Tick at about *at*."""
        self._ticker.wake(at)

    def event(self, header: dict[str, Any], extra: dict[str, Any]) -> None:
        """Events are not for the gateway."""

    def proxy(self, reference: Reference) -> Callable[..., Any]:
        """A function in a result: shown by its description, not callable over one HTTP call."""
        self._note_holder(reference)
        return RemoteReference(reference)

    def stream(self, pull: Reference, close: Reference | None) -> Any:
        """A generator of a client."""
        self._note_holder(pull)
        return RemoteReference(pull) if self._speaker is None else GatewayStream(self, self._speaker, pull, close)

    def _note_holder(self, reference: Reference) -> None:
        if reference.lease is not None and self._speaker is not None:
            self._holders[reference.lease.key] = self._speaker

    def unused(self, key: LeaseKey) -> None:
        """Something in a result is not referred to any more: its owner is told in the name of the caller."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._release, key)

    def _release(self, key: LeaseKey) -> None:
        former = self._speak_as(self._holders.pop(key, None))
        try:
            self.endpoint.release([key], self._loop.time())
        finally:
            self._speak_as(former)

    def dropped(self, reason: str) -> None:
        """A frame was refused."""

    async def close(self, error: BaseException) -> None:
        """Fail what is under way, end our functions; bounded in time."""
        self._ticker.close()
        self.endpoint.close(error)
        tasks = self._runner.close()
        if tasks:
            await asyncio.wait(tasks, timeout=2.0)


class _Ear:
    """What comes to the address of one caller (`LocalPeer`)."""

    __slots__ = ("_gateway", "_speaker")

    def __init__(self, gateway: Gateway, speaker: Speaker) -> None:
        self._gateway = gateway
        self._speaker = speaker

    def receive(self, data: bytes) -> None:
        """Take one stamped frame."""
        self._gateway.receive_as(self._speaker, data)


class GatewayStream:
    """A generator of a client: an async iterator that pulls items when somebody wants one (protocol §3.5).

    A public peer gives one a call, ours up to 64, so that no more than these are
    produced ahead of who reads them. Left early it closes the producer's
    generator, by `aclose` or when it is collected.
    """

    def __init__(self, gateway: Gateway, speaker: Speaker, pull: Reference, close: Reference | None) -> None:
        self._gateway = gateway
        self._speaker = speaker
        self._pull: Reference | None = pull
        self._close: Reference | None = close
        self._pending: GatewayCall | None = None
        self._ended = False
        self._ready: deque[Any] = deque()
        self._most = 1
        speaker.uses += 1

    def __aiter__(self) -> GatewayStream:
        return self

    async def __anext__(self) -> Any:
        """The next item.

        Raises:
            StopAsyncIteration: there is none.
        """
        while not self._ready:
            if self._pull is None:
                raise StopAsyncIteration
            await self._fetch(self._pull)
        return self._ready.popleft()

    async def _fetch(self, pull: Reference) -> None:
        """Ask for the next items."""
        # Between our own peers one answer brings several items; more of them for who keeps on asking.
        asked = [self._most] if pull.level else []
        self._most = min(2 * self._most, _MOST_ITEMS)
        try:
            pending = self._pending = self._gateway.call(self._speaker, pull, asked)
            answer = await pending
        except asyncio.CancelledError:
            if self._ended:
                return
            raise
        except Exception:
            self._end()
            raise
        finally:
            self._pending = None
        if isinstance(answer, dict) and answer.get("_rtype") == "items" and isinstance(answer.get("_rvalue"), list):
            self._ready.extend(answer["_rvalue"])
            if answer.get("_rend"):
                self._end()
        elif answer is STOP:
            self._end()
        else:
            self._ready.append(answer)

    async def aclose(self) -> None:
        """Close the producer's generator; does not wait until it has ended."""
        self.stop()

    def stop(self) -> None:
        """End here and at the producer; who waits for an item learns that there is none."""
        close, pending = self._close, self._pending
        self._ready.clear()
        self._end()
        if pending is not None:
            pending.cancel()
        if close is not None and self._gateway.endpoint.closed is None:
            self._gateway.call(self._speaker, close._replace(promise=False), [])

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._pull = self._close = None
            self._speaker.uses -= 1

    def __del__(self) -> None:
        loop = self._gateway._loop
        if self._pull is not None and not loop.is_closed():
            # May run at any moment, inside any call: the producer is told a little later.
            loop.call_soon_threadsafe(GatewayStream(self._gateway, self._speaker, self._pull, self._close).stop)
            self._end()


class RemoteReference:
    """A remote function as it appears in a result: a name, with what is known about it."""

    def __init__(self, reference: Reference) -> None:
        self.__rpc_object__ = dict(reference.wire)
        self._lease = reference.lease

    def __call__(self) -> None:
        """Refuse: there is no connection over which it could be called.

        Raises:
            TypeError: always.
        """
        raise TypeError("a function in the result of an HTTP call cannot be called")

    @property
    def schema(self) -> Mapping[str, Any] | None:
        """Its JSON schema, if it has one."""
        found = self.__rpc_object__.get("_rschema")
        return found if isinstance(found, dict) else None


class _Answers:
    """What the runner answers to: the endpoint, speaking as the caller that was called."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.core = gateway.endpoint.core
        self.track = gateway.endpoint.track

    def reply(self, job: Running, value: Any, now: float) -> None:
        self._gateway.answer(job, self._gateway.endpoint.reply, value, now)

    def fail(self, job: Running, error: BaseException, now: float) -> None:
        self._gateway.answer(job, self._gateway.endpoint.fail, error, now)


def _forms() -> FormTable:
    """The forms of a conversation; values of all others are passed on as they came."""
    forms = default_forms().copy()
    forms.decoders = {name: form for name, form in forms.decoders.items() if name in _CONVERSATION}
    return forms


def _identity(user: User, workspace: str, shown: str | None) -> tuple[Any, ...]:
    """Everything that makes two callers different."""
    scope = user.scope
    return (
        *(user.id, user.token_ids, user.roles, user.email, user.parent, user.expires_at, user.current_workspace),
        *(workspace, shown, tuple(scope.workspaces.items()), scope.current_workspace, scope.client_id),
        scope.extra_scopes,
    )
