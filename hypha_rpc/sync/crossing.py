"""What blocking programs hand to the async API: their functions and iterators become async on the way.

Registered as forms of one connection, so it holds wherever the encoder meets them:
in arguments, results, maps, lists, what codecs return. Services are converted when
they are registered. The way back is `proxies.to_blocking`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hypha_rpc.client import services
from hypha_rpc.endpoint.leases import Kept
from hypha_rpc.sync.functions import Place, ThreadedFunction, ThreadedHandler, ThreadedIterator, is_async
from hypha_rpc.sync.proxies import BlockingFunction, BlockingGenerator, Host, to_blocking
from hypha_rpc.sync.threads import Slots
from hypha_rpc.wire.forms.generators import is_stream

if TYPE_CHECKING:
    from hypha_rpc.endpoint.exports import ExportTable
    from hypha_rpc.sync.portal import Portal
    from hypha_rpc.wire.values import Encoder, FormTable

__all__ = ["Crossing", "handed_over"]

# Functions that are called while somebody here waits for it: limiting them would bring the deadlock (X18).
_UNCOUNTED = Slots(2**31)


class Crossing:
    """Makes a user's functions async for one connection.

    Args:
        portal: the loop and its threads.
        host: the connection, for what arrives in arguments.
        limit: how many functions of its services may run at once.
        failed: told what an event handler raised.
    """

    def __init__(self, portal: Portal, host: Host, *, limit: int, failed: Callable[[BaseException], None]) -> None:
        self._portal = portal
        self._unwrap = functools.partial(to_blocking, host)
        self._slots = Slots(limit)
        self._failed = failed
        self._mapping: Callable[[Any, Encoder], Any] | None = None

    def install(self, forms: FormTable) -> None:
        """Convert everything that is encoded with *forms*."""
        self._mapping = forms.find({})
        forms.encode(dict, self._encode_mapping)
        forms.encode_if(_is_blocking, self._encode_blocking, first=True)

    def service(self, source: Any) -> dict[str, Any]:
        """A service definition (a map or an object) with functions that the async API can call."""
        members = services._members(source)
        members.setdefault("id", None if isinstance(source, Mapping) else "default")
        if members["id"] is None:
            del members["id"]
        return {key: value if key == "config" else self._tree(value, self._slots) for key, value in members.items()}

    def handler(self, function: Any) -> Any:
        """An event handler; async ones run in the loop."""
        if not callable(function) or is_async(function):
            return function
        if isinstance(function, BlockingFunction):
            return function.aio
        return ThreadedHandler(self._portal, function, self._unwrap, self._failed)

    def _encode_blocking(self, value: Any, encoder: Encoder) -> Any:
        return encoder.encode(self._converted(value, _UNCOUNTED))

    def _encode_mapping(self, value: dict[Any, Any], encoder: Encoder) -> Any:
        encode = self._mapping
        if encode is None:
            raise TypeError("not installed")
        if dict.get(value, "_rintf") is not True:
            return encode(value, encoder)
        # The functions of an interface are exported by name, past the forms.
        interface = {key: self._tree(item, _UNCOUNTED) for key, item in dict.items(value)}
        encoded = encode(interface, encoder)
        if "_rintf_service_id" in interface:
            dict.__setitem__(value, "_rintf_service_id", interface["_rintf_service_id"])
        return encoded

    def _tree(self, node: Any, slots: Slots) -> Any:
        if isinstance(node, dict):
            return {key: self._tree(value, slots) for key, value in dict.items(node)}
        if type(node) in (list, tuple):
            return [self._tree(value, slots) for value in node]
        return self._converted(node, slots) if _is_blocking(node) and callable(node) else node

    def _converted(self, value: Any, slots: Slots) -> Any:
        if isinstance(value, (BlockingFunction, BlockingGenerator)):
            return value.aio
        if isinstance(value, Kept):
            return _ThreadedKept(value, ThreadedFunction(Place(self._portal, slots), value.function, self._unwrap))
        if callable(value):
            return ThreadedFunction(Place(self._portal, slots), value, self._unwrap)
        return ThreadedIterator(Place(self._portal, slots), value)


def _is_blocking(value: Any) -> bool:
    """Whether *value* is something that the loop must not call itself."""
    if isinstance(value, (BlockingFunction, BlockingGenerator)):
        return True
    if isinstance(value, Kept):
        return not is_async(value) and not is_async(value.function)
    if callable(value):
        return not is_async(value) and not isinstance(getattr(value, "__rpc_object__", None), dict)
    return is_stream(value) and not hasattr(type(value), "__anext__")


class _ThreadedKept(Kept):
    """A kept plain function; what is done to it later is done to the user's own."""

    def __init__(self, kept: Kept, function: ThreadedFunction) -> None:
        super().__init__(kept.function)
        self._kept = kept
        self._threaded = function

    async def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return await self._threaded(*args, **kwargs)

    def sent_as(self, session_id: str, exports: ExportTable) -> None:
        """Remembered by the user's own, for its `dispose`."""
        self._kept.sent_as(session_id, exports)


def handed_over(portal: Portal, config: Mapping[str, Any]) -> dict[str, Any]:
    """*config* with the plain functions in it, such as ``login_callback``, run in threads."""
    converted: dict[str, Any] = {}
    for key, value in config.items():
        plain = callable(value) and not isinstance(value, type) and not is_async(value)
        converted[key] = ThreadedFunction(Place(portal, _UNCOUNTED), value, _as_it_is) if plain else value
    return converted


def _as_it_is(value: Any) -> Any:
    return value
