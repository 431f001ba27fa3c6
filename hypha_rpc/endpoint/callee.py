"""The serving half: calls in, answers out.

A call is looked up, checked, decoded, started, and answered once. Whatever is
wrong with it becomes a rejection; without a promise it is dropped.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final

from hypha_rpc.addresses import workspace_of
from hypha_rpc.endpoint import builtin
from hypha_rpc.endpoint.core import Core
from hypha_rpc.endpoint.exports import Service, Target
from hypha_rpc.endpoint.options import LEVEL
from hypha_rpc.endpoint.references import Outgoing
from hypha_rpc.endpoint.running import Running, RunningTable
from hypha_rpc.endpoint.sealed import ENVELOPE, SealedRunning, open_payload, sealed_frame
from hypha_rpc.endpoint.transfers import MessageStore, Transfers
from hypha_rpc.errors import (
    AnswerLost,
    CallbackExpired,
    MethodNotFound,
    RemoteException,
    SerializationError,
)
from hypha_rpc.wire.bulk import Frame
from hypha_rpc.wire.forms.errors import encode_error
from hypha_rpc.wire.frame import FrameError
from hypha_rpc.wire.sealing import SealingError
from hypha_rpc.wire.values import ATOMS, Decoder, is_plain

__all__ = ["Callee"]

_CONTEXT_KEYS: Final = ("type", "from", "to", "method", "session", "ws", "user", "parent")


def _nothing() -> None:
    """Stands for a function that was not found."""


_NOTHING: Final = Target(_nothing, "")


class Callee:
    """Serves calls.

    Args:
        core: the shared state.
        transfers: for answers that are too big for one frame.
    """

    def __init__(self, core: Core, transfers: Transfers) -> None:
        self._core = core
        self._transfers = transfers
        self.running = RunningTable()
        self.messages = MessageStore(core.options, core.storage)

    def offer_builtin(self, host: builtin.Host) -> None:
        """Register the built-in service."""
        self._core.exports.add(builtin.service(host))

    def serve(
        self, method: str, caller: str, header: dict[str, Any], extra: dict[str, Any], key: bytes | None = None
    ) -> None:
        """Take one call; *key* is the public key of who encrypted it."""
        core = self._core
        if ENVELOPE in extra and key is None:
            self._serve_sealed(method, caller, header, extra)
            return
        target, refusal = core.lookup(method, caller, key)
        session = header.get("session")
        if type(session) is not str:
            session = None
        elif self.running.jobs and self.running.find(caller, session) is not None:
            core.port.dropped("a call that is running already")
            return
        elif self._transfers.chunks.active and self._transfers.chunks.has_answer(caller, session):
            core.port.dropped("a call whose answer is on its way")
            return
        if "x" in extra:
            core.levels[caller] = LEVEL
        me = core.address if header.get("to") == core.address else self._called_at(header)
        job = Running(caller, me, session, target or _NOTHING, extra.get("promise"), extra.get("t"))
        if key is not None:
            job = SealedRunning(job, target or _NOTHING, key)
        if target is None:
            self.fail(job, _not_found(refusal or method), may_have_run=False)
        elif (refusal := self.astray(header) or refusal) is not None:
            self.fail(job, PermissionError(refusal), may_have_run=False)
        elif "d" in extra and not self._in_time(job, extra["d"]):
            self.fail(job, TimeoutError("The deadline of the call had passed"), may_have_run=False)
        else:
            self._begin(job, target, header, extra)

    def _serve_sealed(self, method: str, caller: str, header: dict[str, Any], extra: dict[str, Any]) -> None:
        """Open an encrypted call and take it (protocol §9)."""
        try:
            opened, key = open_payload(self._core, header, extra)
        except (SealingError, FrameError) as error:
            text = f"Decryption failed for method {caller}:{method}. Invalid key or tampered data. ({error})"
            self.refuse_unread(header, caller, SealingError(text))
            return
        self.serve(method, caller, header, opened, key)

    def _in_time(self, job: Running, left: Any) -> bool:
        """Note until when the caller waits (extensions §2); False when it does not any more."""
        if type(left) not in (int, float) or left != left:
            return True
        began = self._core.began
        until = (self._core.now if began is None else began) + left
        job.deadline = job.until = until
        return bool(until > self._core.now)

    def _called_at(self, header: dict[str, Any]) -> str:
        """The address a call came to; the manager answers from whatever address it was called at (protocol §1.8)."""
        own, to = self._core.address, header.get("to")
        return to if isinstance(to, str) and own.startswith("*/") and to.startswith("*/") else own

    def astray(self, header: Mapping[str, Any]) -> str | None:
        """Why a call that was sent to another workspace is refused, or None (protocol §4.5)."""
        own, to = self._core.address, header.get("to")
        if to == own or not isinstance(to, str) or own.startswith("*/") or workspace_of(to) == workspace_of(own):
            return None
        return f"Access denied: a call to {to:.200} reached {own}"

    def _begin(self, job: Running, target: Target, header: dict[str, Any], extra: dict[str, Any]) -> None:
        args: Any = extra.get("args") or []
        kwargs: dict[str, Any] = {}
        try:
            if not isinstance(args, list):
                raise SerializationError("the arguments must be an array", "args")
            if not ATOMS.issuperset(map(type, args)):
                args = self._core.decoder(job.caller, job.session, job.key).decode_arguments(args)
            if extra.get("with_kwargs"):
                args, kwargs = _split_keywords(args)
            if target.needs_context:
                kwargs["context"] = self._context(header, job)
        except (SerializationError, PermissionError) as error:
            self.fail(job, error, may_have_run=False)
            return
        self._core.port.start(job, args, kwargs)

    def _context(self, header: dict[str, Any], job: Running) -> Any:
        """What a function with ``require_context`` is told (protocol §4.6); identity from segment 1 only."""
        options = self._core.options
        context: dict[str, Any] = {name: header[name] for name in _CONTEXT_KEYS if name in header}
        if job.until is not None:
            context["deadline"] = job.until - self._core.now
        context["connection_type"] = options.connection_type
        if job.key is not None:
            context.update(encryption=True, caller_public_key=job.key.hex())
        if isinstance(context.get("user"), dict):
            context["user"] = Decoder(self._core.forms, None, options.wire, options.mapping).decode(context["user"])
        return options.mapping(context)

    def refuse_unread(self, header: dict[str, Any], caller: str, error: FrameError | SealingError) -> None:
        """The payload makes no sense, so its promise is unknown; the compact form is what peers use."""
        session = header.get("session")
        if not isinstance(session, str):
            self._core.port.dropped(str(error))
            return
        job = Running(caller, self._called_at(header), session, _NOTHING, "*", None)
        self.fail(job, error, may_have_run=False)

    def track(self, job: Running) -> None:
        """The function of *job* goes on: give signs of life until it is answered."""
        if job.answered:
            return
        self.running.add(job)
        if job.interval and job.method("heartbeat") is not None:
            job.next_beat = self._core.now + job.interval / 2
            self._core.port.wake(job.next_beat)
        if job.deadline is not None:
            self._core.port.wake(job.deadline)

    def reply(self, job: Running, value: Any) -> None:
        """Answer *job* with a result; one that has no wire form becomes a rejection."""
        resolve = job.method("resolve")
        if self._settled(job) or resolve is None:
            return
        core = self._core
        header = _answer_header(job, resolve, core.address)
        try:
            if job.key is None and is_plain(value):
                frame = core.compose(header, {"args": [value], "x": LEVEL}, [value], "result")
            else:
                frame = self._encoded_reply(job, header, value)
        except SerializationError as error:
            self._reject(job, error, may_have_run=True)
            return
        self._send(job, frame, value)

    def _encoded_reply(self, job: Running, header: dict[str, Any], value: Any) -> Frame:
        core = self._core
        exporter = Outgoing(core, core.new_id(), job.caller, me=job.me, keeps=True, key=job.key)
        try:
            extra = {"args": core.encode([value], exporter, "result"), "x": LEVEL}
            if job.key is not None:
                return sealed_frame(core, header, extra, job.key, "result")
            return core.compose(header, extra, [value], "result")
        except BaseException:
            exporter.discard()
            raise

    def prepare(self, value: Any) -> bytes:
        """Pack a plain result once, for `reply_prepared` to send many times.

        Raises:
            SerializationError: it cannot be packed.
        """
        # Without the empty header, which is one byte.
        return self._core.write({}, {"args": [value], "x": LEVEL}, [value], "result")[1:]

    def reply_prepared(self, job: Running, prepared: bytes) -> None:
        """Answer *job* with what `prepare` returned."""
        resolve = job.method("resolve")
        if self._settled(job) or resolve is None:
            return
        header = _answer_header(job, resolve, self._core.address)
        self._send(job, self._core.write(header, {}, []) + prepared)

    def fail(self, job: Running, error: BaseException, *, may_have_run: bool = True) -> None:
        """Answer *job* with an error."""
        if not self._settled(job):
            self._reject(job, error, may_have_run=may_have_run)

    def _settled(self, job: Running) -> bool:
        """Mark *job* as answered; True when it was already."""
        before, job.answered = job.answered, True
        if job.tracked:
            self.running.remove(job)
        return before

    def _reject(self, job: Running, error: BaseException, *, may_have_run: bool) -> None:
        reject = job.method("reject")
        if reject is None:
            return
        core = self._core
        with_trace = core.options.share_traces and may_have_run
        described = encode_error(error, with_trace=with_trace, may_have_run=may_have_run)
        header = _answer_header(job, reject, core.address)
        extra = {"args": [described], "x": LEVEL}
        frame = core.write(header, extra, []) if job.key is None else sealed_frame(core, header, extra, job.key)
        self._send(job, frame)

    def _send(self, job: Running, frame: Frame, value: Any = None) -> None:
        chunks = self._transfers.chunks
        if chunks.active and job.session is not None and chunks.busy_with(job.caller, job.session):
            # An answer would overtake a callback that is still on its way, and end its life (extensions §3).
            chunks.after(job.caller, job.session, functools.partial(self._send, job, frame, value))
            return
        if type(frame) is bytes and len(frame) <= self._transfers.whole:
            self._core.port.send(frame)
            return
        # An answer restarts the caller's clock with every piece; without a session there is no clock.
        key = job.session if job.session is not None else self._core.new_id()
        self._transfers.send(job.caller, frame, key=key, answers=job.session is not None, call=None, pins=value)

    def beat(self) -> None:
        """Send the heartbeats that are due; stop what is overdue or runs for callers that are gone for good."""
        core = self._core
        for job in self.running:
            if core.now >= job.doomed_at:
                self.stop(job)
            elif job.deadline is not None and core.now >= job.deadline:
                job.deadline = None
                core.port.cancel(job)
            elif core.now >= job.next_beat:
                job.next_beat = core.now + job.interval / 2
                self._sign_of_life(job)

    def _sign_of_life(self, job: Running) -> None:
        heartbeat = job.method("heartbeat")
        if heartbeat is not None:
            self._core.send(_answer_header(job, heartbeat, self._core.address))

    def stop(self, job: Running) -> None:
        """Cancel *job* without an answer."""
        self._settled(job)
        self._core.port.cancel(job)

    def cancel(self, caller: str, session: str) -> None:
        """*caller* no longer wants call *session*: cancel it; it rejects as usual (extensions §3)."""
        job = self.running.find(caller, session)
        if job is not None:
            self._core.port.cancel(job)
        else:
            self._transfers.cancel_answer(caller, session)

    def query(self, caller: str, session: str) -> None:
        """*caller* asks what became of call *session* (extensions §3)."""
        job = self.running.find(caller, session)
        lost = Running(caller, self._core.address, session, _NOTHING, "*", None)
        if job is not None:
            # Whoever asks is back, though nobody said so: the server says it to other clients only.
            job.doomed_at = float("inf")
        if job is not None or self._transfers.under_way(caller, session):
            self._sign_of_life(job or lost)
            return
        self.fail(lost, AnswerLost("The answer to this call was lost"))

    def renew(self, holder: str, ids: list[Any]) -> None:
        """*holder* still refers to *ids* (extensions §3)."""
        exports = self._core.exports
        for name in ids:
            service = exports.services.get(name) if isinstance(name, str) else None
            if service is not None and service.allowed_caller == holder:
                service.used = self._core.now
            session = exports.sessions.get(name.partition(".")[0]) if isinstance(name, str) else None
            if session is not None and session.peer == holder:
                session.used = self._core.now

    def release(self, holder: str, ids: list[Any]) -> None:
        """*holder* no longer refers to *ids*: withdraw them, end generators, dispose of interfaces."""
        for name in ids:
            if not isinstance(name, str):
                continue
            service = self._core.exports.services.get(name)
            if service is not None and service.allowed_caller == holder:
                self.dispose_of(service)
                continue
            session_id, _, object_id = name.partition(".")
            session = self._core.exports.sessions.get(session_id)
            if session is None or session.peer != holder or not session.keeps:
                continue
            close = session.objects.get(f"{object_id}:close")
            if close is not None:
                self._start_unasked(holder, close)
                continue
            session.objects.pop(object_id, None)
            if not session.objects:
                self._core.exports.close_session(session_id)

    def dispose_of(self, interface: Service) -> None:
        """Withdraw an interface as if its holder had asked for that."""
        dispose = self._core.exports.find_service_method(f"services.{interface.id}._dispose")
        if dispose is not None:
            self._start_unasked(interface.allowed_caller or "", dispose)

    def _start_unasked(self, holder: str, target: Target) -> None:
        core = self._core
        core.port.start(Running(holder, core.address, None, target, None, None), [], {})

    def peer_gone(self, address: str, *, may_resume: bool) -> None:
        """A caller has left: its pieces are freed, its interfaces disposed of, what runs for it ends after a grace."""
        core = self._core
        for service in () if may_resume else core.exports.interfaces_of(address):
            self.dispose_of(service)
        self.messages.forget_sender(address)
        for job in self.running.of_caller(address):
            job.doomed_at = core.now + core.options.orphan_grace_s
            core.port.wake(job.doomed_at)

    def peer_resumed(self, address: str) -> None:
        """A lost caller is back before its grace ended: what runs for it goes on."""
        for job in self.running.of_caller(address):
            job.doomed_at = float("inf")

    def close(self) -> None:
        """Stop everything without an answer."""
        for job in self.running:
            self.stop(job)
        self.messages.clear()


def _split_keywords(args: list[Any]) -> tuple[list[Any], dict[str, Any]]:
    """Separate the map of keyword arguments that ends *args* (protocol §3.9)."""
    if not args or not isinstance(args[-1], dict):
        raise SerializationError("keyword arguments must be a map", "args")
    return args[:-1], {str(key): value for key, value in dict.items(args[-1])}


def _answer_header(job: Running, method: str, own_address: str) -> dict[str, Any]:
    header: dict[str, Any] = {"type": "method", "to": job.caller, "method": method}
    if job.session is not None:
        header["parent"] = job.session
    if job.me != own_address:
        header["from"] = job.me
    return header


def _not_found(text: str) -> RemoteException:
    """The error for a method that is not there, in the words that callers match on (protocol §4.7)."""
    kind = CallbackExpired if text.startswith("Session not found") else MethodNotFound
    error = kind(text)
    error.remote_type, error.remote_message = kind.__name__, text
    return error
