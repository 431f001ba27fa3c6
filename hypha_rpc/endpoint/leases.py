"""How long functions of others are held here, and how one's own are kept (extensions §3: ``release``, ``lease``).

A function in a result, one sent with `keep`, a generator and an interface live for
their one holder. The holder counts what refers to each; when the count of one falls
to zero its owner is told, and every `RENEW_S` owners are told what is still held.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from hypha_rpc.endpoint.exports import ExportTable

if TYPE_CHECKING:
    from hypha_rpc.endpoint.core import Core

__all__ = ["MAX_IDS", "Holdings", "Kept", "Lease", "LeaseKey", "keep", "leased_id"]

LeaseKey = tuple[str, str]
"""The address of an owner, and the id there."""

RENEW_S: Final = 200.0
MAX_IDS: Final = 1000
_INTERFACE: Final = "services._rintf_"
_MAX_SEARCHED: Final = 10_000


class Lease:
    """One reference to something that is held; its end, in any thread, is reported."""

    __slots__ = ("_ended", "key")

    def __init__(self, key: LeaseKey, ended: Callable[[LeaseKey], None]) -> None:
        self.key = key
        self._ended = ended

    def __del__(self) -> None:
        self._ended(self.key)


def leased_id(method: str) -> str | None:
    """What is released to let go of *method*: itself, its interface, or nothing for a method of a service."""
    if not method.startswith("services."):
        return method.removesuffix(":close")
    if method.startswith(_INTERFACE):
        return method.split(".", 2)[1]
    return None


class Holdings:
    """What one endpoint holds of others.

    Args:
        core: whose endpoint this is.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._counts: dict[LeaseKey, int] = {}
        self._renew_at = float("inf")

    def __len__(self) -> int:
        return len(self._counts)

    def take(self, owner: str, held: str) -> Lease:
        """Hold *held* of *owner* once more."""
        core, key = self._core, (owner, held)
        self._counts[key] = self._counts.get(key, 0) + 1
        if len(self._counts) == 1 and self._renew_at == float("inf"):
            self._renew_at = core.now + RENEW_S
            core.port.wake(self._renew_at)
        return Lease(key, core.port.unused)

    def ended(self, keys: Iterable[LeaseKey]) -> None:
        """References have gone; owners of what nothing refers to any more are told."""
        free: dict[str, list[str]] = {}
        for key in keys:
            count = self._counts.get(key, 0) - 1
            if count > 0:
                self._counts[key] = count
            elif count == 0:
                del self._counts[key]
                free.setdefault(key[0], []).append(key[1])
        self._tell("release", free)

    def give_up(self, key: LeaseKey) -> None:
        """Let go of something at once, whatever still refers to it."""
        if self._counts.pop(key, None) is not None:
            self._tell("release", {key[0]: [key[1]]})

    def refuse(self, owner: str, value: Any) -> None:
        """Let go of everything in a *value* of *owner* that nobody will look at."""
        ids = list(dict.fromkeys(_leased_in(value, owner)))
        if ids:
            self._tell("release", {owner: ids})

    def tick(self, now: float) -> None:
        """Tell owners what is still held, when it is time."""
        if now < self._renew_at:
            return
        held: dict[str, list[str]] = {}
        for owner, name in self._counts:
            held.setdefault(owner, []).append(name)
        self._renew_at = now + RENEW_S if held else float("inf")
        self._tell("lease", held)

    def next_tick(self) -> float | None:
        """When `tick` has something to do, or None."""
        return self._renew_at if self._counts else None

    def clear(self) -> None:
        """Forget everything; nobody is told."""
        self._counts.clear()

    def _tell(self, kind: str, ids: dict[str, list[str]]) -> None:
        core = self._core
        if core.closed is not None:
            return
        for owner, names in ids.items():
            for start in range(0, len(names), MAX_IDS):
                core.send({"type": kind, "to": owner}, {"ids": names[start : start + MAX_IDS]})


def _leased_in(value: Any, owner: str) -> Iterable[str]:
    """The ids of what *owner* would keep for us, in wire forms that were not decoded."""
    waiting, seen = [value], 0
    while waiting and seen < _MAX_SEARCHED:
        seen += 1
        node = waiting.pop()
        if isinstance(node, list):
            waiting.extend(node)
        elif isinstance(node, dict):
            waiting.extend(node.values())
            method = node.get("_rmethod")
            if node.get("_rx") and node.get("_rtarget") == owner and isinstance(method, str):
                name = leased_id(method)
                if name is not None:
                    yield name


class Kept:
    """A function that outlives the call it is sent with; see `keep`."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._sent: dict[str, ExportTable] = {}
        self._prune_at = 16
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function here."""
        return self.function(*args, **kwargs)

    def dispose(self) -> None:
        """Withdraw the function from all who hold it; sent again, it lives again. Idempotent."""
        sent, self._sent = self._sent, {}
        for session_id, exports in sent.items():
            exports.close_session(session_id)

    def sent_as(self, session_id: str, exports: ExportTable) -> None:
        """Remember where this was exported, for `dispose`."""
        if len(self._sent) >= self._prune_at:
            self._sent = {name: table for name, table in self._sent.items() if name in table.sessions}
            self._prune_at = max(16, 2 * len(self._sent))
        self._sent[session_id] = exports


def keep(function: Callable[..., Any]) -> Kept:
    """Mark a callback that its receiver may keep after the call it was sent with (extensions §3).

    Without it a function in an argument can be called only while that call runs. A kept
    one lives as long as its receiver holds its proxy (a receiver of the public package:
    until it has not called it for ten minutes), or until ``dispose()``::

        listener = keep(on_event)
        await service.subscribe(listener)
        ...
        listener.dispose()

    Args:
        function: plain or async.

    Returns:
        A callable to be sent in place of *function*.

    Raises:
        TypeError: *function* cannot be called.
    """
    if isinstance(function, Kept):
        return function
    if not callable(function):
        raise TypeError(f"keep() takes a function, not {type(function).__name__}")
    return Kept(function)
