"""What stands for remote things in blocking programs, and the one place where async things become blocking.

Everything is wrapped around what the async API gives; nothing is done twice. `aio`
always leads back to the async thing.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, Self, TypeVar, overload

from hypha_rpc.client.files import RemoteFile
from hypha_rpc.client.help import Routine
from hypha_rpc.client.proxies import RemoteFunction, RemoteService
from hypha_rpc.client.settings import Progress
from hypha_rpc.client.streams import RemoteGenerator
from hypha_rpc.client.workspace import LocalFunctions
from hypha_rpc.sync.direct import DirectFunction
from hypha_rpc.sync.functions import ThreadedFunction
from hypha_rpc.wire.values import ATOMS

__all__ = [
    "BlockingFile",
    "BlockingFunction",
    "BlockingGenerator",
    "Host",
    "SyncHyphaServer",
    "SyncService",
    "to_blocking",
]

P = ParamSpec("P")
R = TypeVar("R")


class Host(Protocol):
    """The connection behind the proxies."""

    def run(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call an async function in the loop, wait, and return its result as a blocking program gets it."""

    def disconnect(self) -> None:
        """Disconnect for good."""

    def handler(self, function: Any) -> Any:
        """A user's function that is told about events, one at a time and in order."""


class BlockingFunction(Routine):
    """An async function of a connection that waits for its result.

    Attributes:
        aio: the async function, for use in async functions, which run in the loop.
    """

    def __init__(self, host: Host, function: Callable[..., Any]) -> None:
        self._host = host
        self.aio = function
        self._called = _direct(function)
        self.__name__: str = getattr(function, "__name__", "function")
        self.__doc__ = getattr(function, "__doc__", None)
        self.__schema__: dict[str, Any] | None = getattr(function, "__schema__", None)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the function and wait for its result."""
        __tracebackhide__ = True  # notebooks and pytest show the caller's line, not this one
        return self._host.run(self._called, *args, **kwargs)

    def options(
        self, *, timeout: float | None = None, silence: float | None = None, progress: Progress | None = None
    ) -> BlockingFunction:
        """The same function with settings for its calls; see `RemoteFunction.options`.

        Args:
            timeout: seconds until a call fails.
            silence: longest time in seconds without a sign of life of the callee.
            progress: called with ``(done, total)`` bytes while a big argument or result moves, in a thread.

        Raises:
            TypeError, ValueError: a setting makes no sense, or this is a function of the connection itself.
        """
        if not isinstance(self.aio, RemoteFunction):
            raise TypeError(f"{self.__name__} is a function of the connection and has no options")
        told = self._host.handler(progress) if progress is not None else None
        return BlockingFunction(self._host, self.aio.options(timeout=timeout, silence=silence, progress=told))

    def dispose(self) -> None:
        """Tell the owner that this function will not be called any more; see `RemoteFunction.dispose`."""
        if isinstance(self.aio, RemoteFunction):
            self._host.run(self.aio.dispose)

    def __getattr__(self, name: str) -> Any:
        # The wire reference, the signature, what notebooks show: as the async function has them.
        if name in ("aio", "_called"):
            raise AttributeError(name)
        return getattr(self.aio, name)

    def __repr__(self) -> str:
        return f"<blocking {repr(self.aio).strip('<>')}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BlockingFunction) and self.aio == other.aio

    def __hash__(self) -> int:
        return hash(self.aio)

    def __reduce__(self) -> Any:
        raise TypeError("a remote function cannot be pickled: it belongs to a connection; pass the service id instead")


def _direct(function: Callable[..., Any]) -> Callable[..., Any]:
    """The shorter way, for functions of which nothing more is known."""
    if isinstance(function, RemoteFunction) and type(function) is RemoteFunction:
        return DirectFunction(function)
    return function


class BlockingGenerator(Generator[Any, None, None]):
    """A generator of a peer as a plain one.

    Attributes:
        aio: the async generator.
    """

    def __init__(self, host: Host, source: AsyncIterator[Any]) -> None:
        self._host = host
        self.aio = source

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: None) -> Any:
        """The next item."""
        if value is not None:
            raise TypeError("nothing can be sent to a remote generator")
        try:
            return self._host.run(self.aio.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None

    def throw(self, kind: Any, value: Any = None, traceback: TracebackType | None = None, /) -> Any:
        """Close the generator and raise the exception."""
        self.close()
        if isinstance(kind, BaseException):
            raise kind
        raise value if isinstance(value, BaseException) else kind()

    def close(self) -> None:
        """Close the peer's generator; its ``finally`` has run when this returns."""
        close = getattr(self.aio, "aclose", None)
        if close is not None:
            self._host.run(close)


class BlockingFile(RemoteFile):
    """A file of a peer: its functions block, it gives its lines, ``with`` closes it.

    ``name``, ``closed`` and ``size`` are what they were when it was sent.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if "close" in dict.keys(self):
            self["close"]()

    def __iter__(self) -> Iterator[Any]:
        source: RemoteFile = self.__dict__["_file"]
        return BlockingGenerator(self.__dict__["_host"], source.__aiter__())

    @classmethod
    def _of(cls, host: Host, file: RemoteFile) -> BlockingFile:
        made = cls({key: to_blocking(host, value) for key, value in dict.items(file)})
        made.__dict__.update(file.__dict__, _file=file, _host=host)
        return made


def to_blocking(host: Host, value: Any) -> Any:
    """*value*, which came from the loop, with everything async in it blocking.

    Maps and lists are changed in place: they were made for this receiver.
    """
    kind = type(value)
    if kind in ATOMS:
        return value
    if kind is list:
        if not ATOMS.issuperset(map(type, value)):
            _change_items(host, value, enumerate(value), list.__setitem__)
    elif not isinstance(value, dict):
        return _single(host, value)
    elif isinstance(value, RemoteFile):
        return value if isinstance(value, BlockingFile) else BlockingFile._of(host, value)
    elif not ATOMS.issuperset(map(type, dict.values(value))):
        _change_items(host, value, dict.items(value), dict.__setitem__)
    return value


def _change_items(
    host: Host, owner: Any, items: Iterable[tuple[Any, Any]], assign: Callable[[Any, Any, Any], None]
) -> None:
    for key, item in items:
        if type(item) not in ATOMS and (changed := to_blocking(host, item)) is not item:
            assign(owner, key, changed)


def _single(host: Host, value: Any) -> Any:
    if isinstance(value, RemoteFunction):
        return BlockingFunction(host, value)
    if isinstance(value, RemoteGenerator):
        return BlockingGenerator(host, value)
    if isinstance(value, ThreadedFunction):
        return value.function  # one of our own that comes back
    return value


class SyncService(RemoteService):
    """A service whose connection was opened for it; ``with`` disconnects."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._host().disconnect()

    def _host(self) -> Host:
        host: Host = self.__dict__["_connection"]
        return host

    @classmethod
    def _of(cls, host: Host, members: dict[str, Any]) -> Self:
        made = cls(members)
        made.__dict__["_connection"] = host
        return made


def blocking(
    function: Callable[Concatenate[LocalFunctions, P], Awaitable[R]],
) -> Callable[Concatenate[SyncHyphaServer, P], R]:
    """The blocking twin of a function of the connected object; the arguments are the same."""

    @functools.wraps(function)
    def call(self: SyncHyphaServer, /, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = dict.__getitem__(self, function.__name__)(*args, **kwargs)
        return result

    return call


def same(function: Callable[Concatenate[LocalFunctions, P], R]) -> Callable[Concatenate[SyncHyphaServer, P], R]:
    """The twin of a function that does not wait in the async API either."""

    @functools.wraps(function)
    def call(self: SyncHyphaServer, /, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = dict.__getitem__(self, function.__name__)(*args, **kwargs)
        return result

    return call


class SyncHyphaServer(SyncService):
    """The connected object of a blocking program; ``with`` disconnects.

    Its members are items, as in the async API. The names here tell editors and type
    checkers what the functions are that every connection has; what the manager of the
    server offers beyond that is there as well.
    """

    if TYPE_CHECKING:
        # The one whose type depends on its arguments: a Protocol class of blocking functions types the service.
        @overload
        def get_service(self, service_id: str, config: Callable[..., R], **options: Any) -> R: ...
        @overload
        def get_service(
            self, service_id: str, config: Mapping[str, Any] | None = None, **options: Any
        ) -> RemoteService: ...
        def get_service(self, service_id: str, config: Any = None, **options: Any) -> Any:
            """Find a service and return its proxy."""
    else:
        get_service = blocking(LocalFunctions.get_service)

    register_service = blocking(LocalFunctions.register_service)
    unregister_service = blocking(LocalFunctions.unregister_service)
    disconnect = blocking(LocalFunctions.disconnect)
    serve = blocking(LocalFunctions.serve)
    export = blocking(LocalFunctions.export)
    get_app = blocking(LocalFunctions.get_app)
    list_apps = blocking(LocalFunctions.list_apps)
    register_probes = blocking(LocalFunctions.register_probes)
    get_service_schema = blocking(LocalFunctions.get_service_schema)
    emit = blocking(LocalFunctions.emit)
    subscribe = blocking(LocalFunctions.subscribe)
    unsubscribe = blocking(LocalFunctions.unsubscribe)
    register_codec = same(LocalFunctions.register_codec)
    on = same(LocalFunctions.on)
    once = same(LocalFunctions.once)
    off = same(LocalFunctions.off)
