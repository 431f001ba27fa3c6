"""The producing end of a generator (protocol §3.5, extensions §3 ``pull``).

`Flow` decides which items go into which answer and when the next step is wanted; it
is told what happens and knows no clock. `PlainProducer` steps a plain iterator inside
the pull itself; sources that wait are stepped by the driver, which has tasks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from hypha_rpc.endpoint.ports import Waiter
from hypha_rpc.errors import CallbackExpired, SerializationError

__all__ = [
    "BATCH_BYTES",
    "BATCH_S",
    "MOST_ITEMS",
    "Flow",
    "PlainProducer",
    "Producer",
    "ProducerFactory",
    "plain_producer",
    "rough_size",
]

BATCH_BYTES: Final = 256 * 1024
BATCH_S: Final = 0.001
MOST_ITEMS: Final = 512
BIG_ANSWERS: Final = 2
_DEPTH: Final = 6
_STOP: Final = "stop_iteration"


class Producer(Protocol):
    """Serves the items of one source."""

    def pull(self, most: Any = None) -> Any:
        """Up to *most* items; without it one item, as public peers ask. Awaitable if they are not there yet."""

    def close(self) -> Any:
        """End the source; its ``finally`` runs. Awaitable if that may wait."""

    def abandon(self) -> None:
        """The call in whose arguments the source travelled is over: waiting pulls are rejected."""


ProducerFactory = Callable[[Any, Callable[[], None]], Producer]
"""Makes the producer of a source; the second argument is called once when it is exhausted or closed."""


class _Pull:
    """One pull that waits."""

    __slots__ = ("most", "single", "waiter")

    def __init__(self, most: int, waiter: Waiter | None, *, single: bool) -> None:
        self.most = most
        self.waiter = waiter
        self.single = single


class Flow:
    """Items on their way from a source to pulls.

    Args:
        forget: called once when nothing more will come.

    Attributes:
        over: the source has ended, failed, or was closed.
    """

    def __init__(self, forget: Callable[[], None]) -> None:
        self._forget: Callable[[], None] | None = forget
        self._items: deque[tuple[Any, int]] = deque()
        self._bytes = 0
        self._pulls: deque[_Pull] = deque()
        self._most = 1
        self._big = 0
        self._since = 0.0
        self._error: BaseException | None = None
        self.over = False

    # -- pulls -----------------------------------------------------------------------

    def pull(self, most: Any, waiter: Waiter | None, now: float) -> tuple[bool, Any]:
        """Somebody wants items.

        Args:
            most: how many at most; None: one, in the form that public peers expect.
            waiter: gets them if they are not there yet.
            now: the time.

        Returns:
            Whether the answer is there, and the answer; if not, *waiter* gets it later.

        Raises:
            BaseException: the source has failed, after all its items.
        """
        single = most is None
        count = 1 if single else min(max(int(most), 1), MOST_ITEMS)
        self._most, self._big = count, 0
        wanted = _Pull(count, waiter, single=single)
        if self._pulls or not (self._items or self.over):
            if not self._pulls:
                self._since = now
            self._pulls.append(wanted)
            return False, None
        return True, self._answer(wanted)

    def next_waiting(self) -> Any:
        """The answer to the pull that waits without a waiter (`PlainProducer`)."""
        return self._answer(self._pulls.popleft())

    def _answer(self, pull: _Pull) -> Any:
        """What *pull* gets now; raises the source's error when it is its turn."""
        if not self._items and self._error is not None:
            error, self._error = self._error, None
            self._done()
            raise error
        items, size = self._take(pull.most)
        if size > BATCH_BYTES:
            self._big += 1
        end = self.over and not self._items and self._error is None
        if pull.single:
            # The end is told by a pull of its own.
            end = end and not items
        if end:
            self._done()
        if pull.single:
            return items[0] if items else {"_rtype": _STOP}
        return {"_rtype": "items", "_rvalue": items, "_rend": end}

    def _take(self, most: int) -> tuple[list[Any], int]:
        """The next items: at most *most*, and no more than 256 KiB unless the first alone is larger."""
        taken: list[Any] = []
        size = 0
        while self._items and len(taken) < most:
            item, weight = self._items[0]
            if taken and size + weight > BATCH_BYTES:
                break
            self._items.popleft()
            taken.append(item)
            size += weight
        self._bytes -= size
        return taken, size

    # -- the source --------------------------------------------------------------------

    def wants_step(self) -> bool:
        """Whether the next item is to be made: somebody waits for it, or it is made ahead."""
        if self.over:
            return False
        if self._big >= BIG_ANSWERS:
            # Answers of any size: their consumer shows that it goes on by a new pull.
            return False
        if self._pulls:
            return True
        return self._most >= 2 and len(self._items) < self._most and self._bytes < BATCH_BYTES

    def add(self, item: Any, began: float, now: float) -> int:
        """The source gave *item* in a step that began at *began*; returns its size."""
        size = rough_size(item)
        if not self._items:
            self._since = now
        self._items.append((item, size))
        self._bytes += size
        if self._pulls and self._is_full(began, now):
            self.flush()
        return size

    def _is_full(self, began: float, now: float) -> bool:
        """Whether a batch ends here: a ready item waits for no more than a millisecond."""
        full = len(self._items) >= self._pulls[0].most or self._bytes >= BATCH_BYTES
        return full or now - began > BATCH_S or now - self._since >= BATCH_S

    def flush(self) -> None:
        """Answer waiting pulls with what is there: a step suspends, or a batch is full."""
        while self._pulls and (self._items or self.over) and self._pulls[0].waiter is not None:
            if self._big >= BIG_ANSWERS and not self.over:
                return
            pull = self._pulls.popleft()
            if pull.waiter is None or pull.waiter.done():
                # Nobody waits for it any more; its items go to the next.
                continue
            try:
                answer = self._answer(pull)
            except BaseException as error:  # noqa: BLE001 - the source's own error, passed to who waits for it
                pull.waiter.set_exception(error)
            else:
                pull.waiter.set_result(answer)

    def finish(self, error: BaseException | None = None) -> None:
        """The source has ended, or failed with *error*: items first, then that."""
        if not self.over:
            self.over, self._error = True, error
            self.flush()

    def close(self) -> None:
        """Nothing more is wanted: waiting pulls are told the end."""
        self.over, self._error = True, None
        self._items.clear()
        self._bytes = 0
        self.flush()
        self._done()

    def abandon(self) -> None:
        """Nothing more is allowed: waiting pulls are rejected."""
        self.over, self._error = True, None
        self._items.clear()
        self._bytes = 0
        while self._pulls:
            waiter = self._pulls.popleft().waiter
            if waiter is not None and not waiter.done():
                waiter.set_exception(CallbackExpired("The generator ended with its call"))
        self._done()

    def _done(self) -> None:
        forget, self._forget = self._forget, None
        if forget is not None:
            forget()


class PlainProducer:
    """Steps a plain iterator in the stack of each pull.

    Args:
        source: the iterator.
        forget: called once when it is exhausted or closed.
        clock: seconds.
    """

    def __init__(self, source: Any, forget: Callable[[], None], clock: Callable[[], float]) -> None:
        self._source = source
        self._flow = Flow(forget)
        self._clock = clock

    def pull(self, most: Any = None) -> Any:
        """See `Producer.pull`."""
        flow, clock = self._flow, self._clock
        first = clock()
        there, answer = flow.pull(most, None, first)
        if there:
            return answer
        count = 1 if most is None else min(max(int(most), 1), MOST_ITEMS)
        size = made = 0
        while made < count and size < BATCH_BYTES and not flow.over:
            began = clock()
            if made and began - first >= BATCH_S:
                break
            size += self._step(began)
            made += 1
        return flow.next_waiting()

    def _step(self, began: float) -> int:
        try:
            item = next(self._source)
        except StopIteration:
            self._flow.finish()
        except Exception as error:  # noqa: BLE001 - supervision boundary: user code, its error is the consumer's
            self._flow.finish(error)
        else:
            return self._flow.add(item, began, self._clock())
        return 0

    def close(self) -> bool:
        """See `Producer.close`."""
        self._flow.close()
        close = getattr(self._source, "close", None)
        if close is not None:
            close()
        return True

    def abandon(self) -> None:
        """See `Producer.abandon`."""
        self._flow.abandon()
        close = getattr(self._source, "close", None)
        if close is not None:
            close()


def plain_producer(source: Any, forget: Callable[[], None]) -> Producer:
    """The `ProducerFactory` of those who have no tasks.

    Raises:
        SerializationError: the source waits.
    """
    if hasattr(type(source), "__anext__"):
        raise SerializationError("an asynchronous generator cannot be sent from here")
    # Without a clock a batch ends by its size alone.
    return PlainProducer(source, forget, float)


def rough_size(value: Any, depth: int = _DEPTH) -> int:
    """About as many bytes as *value* has on the wire; never much too small for what is big."""
    kind = type(value)
    if kind is int or kind is float or value is None or kind is bool:
        return 9
    if kind is bytes or kind is str or kind is bytearray:
        return len(value) + 5
    if depth > 0:
        if isinstance(value, dict):
            return 5 + sum(rough_size(key, 0) + rough_size(item, depth - 1) for key, item in dict.items(value))
        if isinstance(value, (list, tuple, set, frozenset)):
            return 5 + sum(rough_size(item, depth - 1) for item in value)
    size = getattr(value, "nbytes", None)
    return size + 64 if isinstance(size, int) else 64
